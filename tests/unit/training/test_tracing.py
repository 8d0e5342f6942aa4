"""One traced step against what torch itself says of a real one."""

import gc
from typing import Any

import pytest

from pipeline import models
from pipeline.errors import Refused
from pipeline.settings import ROOT
from pipeline.training import head, recipe
from pipeline.training.tracing import Shape, Tracer, Untraceable
from pipeline.usecase import Training

pytestmark = [
    pytest.mark.unit,
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),  # PEFT asks for it
    pytest.mark.filterwarnings("ignore:.gradient_checkpointing. is deprecated:FutureWarning"),
]
FLOAT32 = Training(dtype="float32")


def config(name: str = "", **changes: Any) -> Any:
    """Returns tiny's configuration, or a small one of another family."""
    from transformers import AutoConfig

    if not name:
        return AutoConfig.from_pretrained(ROOT / "models" / "tiny")
    small = {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 4}
    return AutoConfig.for_model(name, **small, num_key_value_heads=2, vocab_size=512, **changes)


FAMILIES = {
    "tiny": config(),
    "llama": config("llama"),
    "qwen2": config("qwen2", tie_word_embeddings=True),
    "qwen3": config("qwen3", head_dim=16),
    "gemma3": config("gemma3_text", head_dim=16, sliding_window=32),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_saved_for_the_backward_pass_is_what_autograd_saves(family: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    chosen, shape = FAMILIES[family], Shape(1, 256, 40, masked=False)
    base = AutoModelForCausalLM.from_config(chosen)  # type: ignore[no-untyped-call]
    model = recipe.with_adapter(base, FLOAT32.sft).train()
    ids = torch.zeros(1, 256, dtype=torch.long)
    own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    saved: dict[int, int] = {}

    def keep(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = head.loss_at(torch.arange(40), model, {"input_ids": ids, "labels": ids})
    traced = Tracer(chosen, FLOAT32, "cpu").cost("sft", shape, False)
    assert sum(saved.values()) < traced.passing < 1.35 * sum(saved.values())
    loss.backward()
    del loss, model
    gc.collect()


def test_weights_and_parameters_are_the_models() -> None:
    model, _ = models.load(ROOT / "models" / "tiny", trainable=True)
    total = sum(weight.numel() for weight in model.parameters())
    with_adapter = recipe.with_adapter(model, FLOAT32.sft)
    tracer = Tracer(config(), FLOAT32, "cpu")
    assert tracer.parameters == total
    assert tracer.trainable == sum(weight.numel() for weight in with_adapter.parameters() if weight.requires_grad)
    assert tracer.cost("sft", Shape(1, 64, 8, masked=False), False).weights == 4 * (total + tracer.trainable)


def test_operations_are_those_of_the_formula() -> None:
    """4 per linear weight and token, 6 per weight of the adapter, as the base model needs no gradient of its own; and
    attention: 2 products forward and 5 backward, over all positions."""
    import torch

    tracer = Tracer(config(), FLOAT32, "cpu")
    linear = sum(
        module.weight.numel()
        for name, module in tracer._whole.named_modules()
        if isinstance(module, torch.nn.Linear) and "lora" not in name and not name.endswith("lm_head")
    )
    short, long = (tracer.cost("sft", Shape(1, n, 1, masked=False), False).operations for n in (64, 65))
    attention = (2 + 5) * 2 * tracer.layers * config().hidden_size * (65**2 - 64**2)
    assert long - short == pytest.approx(4 * linear + 6 * tracer.trainable + attention, rel=0.05)


def test_many_layers_are_a_few_and_what_each_adds() -> None:
    from dataclasses import asdict

    many, shape = config("llama"), Shape(2, 128, 20, masked=True)
    many.num_hidden_layers = 14
    extended = Tracer(many, FLOAT32, "cpu")
    whole = Tracer(many, FLOAT32, "cpu")
    whole._models = {14: whole._whole}
    assert set(extended._models) == {4, 8}
    for name, value in asdict(whole.cost("sft", shape, False)).items():
        assert asdict(extended.cost("sft", shape, False))[name] == pytest.approx(value, rel=0.02), name


def test_a_configuration_with_an_entry_a_layer_is_shortened_whole() -> None:
    tracer = Tracer(config("gemma3_text", head_dim=16), FLOAT32, "cpu")
    assert tracer.layers == 2
    deep = config("gemma3_text", head_dim=16)
    deep.num_hidden_layers, deep.layer_types = 12, deep.layer_types[:1] * 12
    assert Tracer(deep, FLOAT32, "cpu").cost("dpo", Shape(1, 64, 8, masked=False), False).passing > 0


def test_checkpointing_keeps_less_and_computes_more() -> None:
    tracer, shape = Tracer(config(), FLOAT32, "cpu"), Shape(4, 512, 100, masked=True)
    kept, again = (tracer.cost("sft", shape, checkpointing) for checkpointing in (False, True))
    assert again.passing < 0.5 * kept.passing
    assert again.operations > 1.2 * kept.operations
    assert tracer._extended("sft", shape, False) == kept  # and nothing of it stays switched on


def test_four_bits_take_an_eighth_of_the_linear_weights() -> None:
    tracer = Tracer(config(), FLOAT32, "cpu")
    four = Tracer(config(), FLOAT32.model_copy(update={"quantize": "nf4"}), "cpu")
    shape = Shape(1, 64, 8, masked=False)
    saved = tracer.cost("sft", shape, False).weights - four.cost("sft", shape, False).weights
    assert saved == pytest.approx(tracer.saved_by_nf4())
    assert 0.3 < saved / (4 * tracer.parameters) < 0.9


@pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys:RuntimeWarning")  # PEFT's own
@pytest.mark.parametrize(
    ("family", "keys"),
    [
        ("mixtral", {"num_local_experts": 4}),
        ("qwen2_moe", {"num_experts": 4, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 64}),
    ],
)
def test_a_mixture_of_experts_cannot_be_followed_and_says_so(
    family: str, keys: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    tracer = Tracer(config(family, **keys), FLOAT32, "cpu")
    with pytest.raises(Untraceable, match="Error: "):
        tracer.cost("sft", Shape(1, 64, 8, masked=False), True)
    assert not caplog.records
    assert tracer.parameters > 0


def test_a_model_that_makes_its_masks_itself_is_followed_without_any() -> None:
    from transformers import AutoConfig

    keys = {"hidden_size": 64, "ffn_dim": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 512}
    opt = AutoConfig.for_model("opt", **keys, word_embed_proj_dim=64, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    tracer = Tracer(opt, FLOAT32, "cpu")
    assert tracer.cost("sft", Shape(2, 64, 8, masked=True), False) == tracer.cost("sft", Shape(2, 64, 8, False), False)


def test_a_model_that_peft_puts_no_adapter_on_is_refused() -> None:
    from transformers import AutoConfig

    mamba = AutoConfig.for_model("mamba", hidden_size=64, num_hidden_layers=2, vocab_size=512)
    with pytest.raises(Refused, match="PEFT puts no adapter"):
        Tracer(mamba, FLOAT32, "cpu")


def test_layers_that_are_not_there_are_refused() -> None:
    wrong = FLOAT32.sft.model_copy(update={"target_modules": ("query",)})
    with pytest.raises(Refused, match="no layer of the model is called so"):
        Tracer(config(), FLOAT32.model_copy(update={"sft": wrong}), "cpu")
