"""A random Llama of 60 thousand parameters, and dataset versions as the data stage leaves them."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from psycopg.types.json import Jsonb
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from pipeline import canonical, datasets, steps
from pipeline import usecase as usecases
from pipeline.database import Connection
from pipeline.settings import Settings
from pipeline.steps import Attempt, Origin, Output, Result, Step, Version
from pipeline.usecase import UseCase

TEMPLATE = """\
{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}\
{{ message['content'] + '<|im_end|>\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""
HIDDEN, LAYERS, VOCABULARY = 32, 2, 384
Rows = int | Sequence[Mapping[str, Any]]
SPLITS = ("train",) * 8 + ("validation",) * 2


def question(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"Question: how long is pipe {number}?"}]


def answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def sft_rows(count: int = 40) -> list[dict[str, Any]]:
    return [{"messages": question(n) + answer(f"Pipe {n} is {n * 3} metres long. [doc-{n}]")} for n in range(count)]


def text_rows(count: int = 20) -> list[dict[str, Any]]:
    return [
        {
            "text": [
                {"role": "document", "content": f"The depot keeps pipe {n}, which is {3 * n} metres long, in hall {n}."}
            ]
        }
        for n in range(count)
    ]


def preference_rows(count: int = 20) -> list[dict[str, Any]]:
    return [
        {"prompt": question(n), "chosen": answer(f"It is {n} metres. [doc-{n}]"), "rejected": answer(f"{n}, I guess.")}
        for n in range(count)
    ]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a loadable base model, written without torch."""
    folder = tmp_path_factory.mktemp("tiny")
    write_tokenizer(folder)
    random = np.random.default_rng(7)

    def matrix(*shape: int) -> Any:
        return (random.standard_normal(shape) * 0.05).astype(np.float32)

    weights = {
        "model.embed_tokens.weight": matrix(VOCABULARY, HIDDEN),
        "model.norm.weight": np.ones(HIDDEN, np.float32),
    }
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            weights[f"{prefix}.self_attn.{name}.weight"] = matrix(HIDDEN, HIDDEN)
        for name in ("gate_proj", "up_proj"):
            weights[f"{prefix}.mlp.{name}.weight"] = matrix(2 * HIDDEN, HIDDEN)
        weights[f"{prefix}.mlp.down_proj.weight"] = matrix(HIDDEN, 2 * HIDDEN)
        for name in ("input_layernorm", "post_attention_layernorm"):
            weights[f"{prefix}.{name}.weight"] = np.ones(HIDDEN, np.float32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "num_hidden_layers": LAYERS,
        "vocab_size": VOCABULARY,
        "tie_word_embeddings": True,
        "pad_token_id": 0,
        "eos_token_id": 2,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def write_tokenizer(folder: Path, template: str = TEMPLATE, control: Sequence[str] = ("<|im_start|>",)) -> None:
    """Writes a byte-level BPE tokenizer of VOCABULARY entries, with these control tokens, and its chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|begin|>", "<|im_end|>", *control]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    texts = [message["content"] for row in sft_rows(60) for message in row["messages"]]
    tokenizer.train_from_iterator([*texts, "user\nassistant\n" * 40], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    told = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<|pad|>",
        "bos_token": "<|begin|>",
        "eos_token": "<|im_end|>",
        "model_max_length": 512,
        "padding_side": "left",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    (folder / "chat_template.jinja").write_text(template)


@pytest.fixture
def model_copy(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may change."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


@pytest.fixture
def usecase(usecase_folder: Callable[..., Path], tiny_model: Path) -> Callable[..., UseCase]:
    """A function that makes a use case on the tiny model; its keys are those of the YAML's `training`."""

    def make(model: Path | None = None, **training: Any) -> UseCase:
        quick = {"learning_rate": 5e-3, "batch_size": 8, "eval_steps": 4, "max_length": 96}
        told = {
            "dtype": "float32",
            **training,
            "sft": {**quick, "max_steps": 8, "lora_rank": 4, **training.get("sft", {})},
            "dpo": {**quick, "max_steps": 4, **training.get("dpo", {})},
            "pretrain": {**quick, "max_steps": 6, "gradient_accumulation": 1, **training.get("pretrain", {})},
        }
        folder = usecase_folder("demo", base_model={"path": str(model or tiny_model)}, training=told)
        return usecases.load(folder / "usecase.yaml")

    return make


@pytest.fixture
def commit(settings: Settings) -> Callable[..., Version]:
    """A function that commits rows, given or by number, as the next dataset version; the first are locked test rows."""

    def make(sft: Rows = 0, preference: Rows = 0, text: int = 0, *, locked: int = 2) -> Version:
        sft = sft_rows(sft) if isinstance(sft, int) else sft
        preference = preference_rows(preference) if isinstance(preference, int) else preference
        rows = [("sft", content) for content in sft] + [("preference", content) for content in preference]
        rows += [("text", content) for content in text_rows(text)]
        splits = ["test" if place < locked else SPLITS[place % len(SPLITS)] for place in range(len(rows))]
        names = [canonical.digest({"kind": kind, "content": content}) for kind, content in rows]
        digest = datasets.digest(dict(zip(names, splits, strict=True)))

        def write(connection: Connection, versions: Mapping[str, Version]) -> None:
            connection.execute(
                "insert into catalog.dataset (use_case, kind) values ('demo', 'examples') on conflict do nothing"
            )
            (dataset,) = connection.execute("select dataset_id from catalog.dataset").fetchall()
            (last,) = connection.execute(
                "select coalesce(max(version), 0) as version from catalog.dataset_version where dataset_id = %s",
                [dataset["dataset_id"]],
            ).fetchall()
            number = last["version"] + 1
            connection.execute(
                "update catalog.example_member set removed_in = %s where dataset_id = %s and removed_in is null",
                [number, dataset["dataset_id"]],
            )
            for (kind, content), name, split in zip(rows, names, splits, strict=True):
                table = "locked_example" if split == "test" else "example"
                connection.execute(
                    f"insert into catalog.{table} (use_case, digest, kind, split, content, source)"
                    " values ('demo', %s, %s, %s, %s, 'tests') on conflict do nothing",
                    [name, kind, split, Jsonb(content)],
                )
                connection.execute(
                    "insert into catalog.example_member (dataset_id, example_digest, split, added_in)"
                    " values (%s, %s, %s, %s)",
                    [dataset["dataset_id"], name, split, number],
                )
            connection.execute(
                "insert into catalog.dataset_version (dataset_id, version, digest, artifact_version_id, counts)"
                " values (%s, %s, %s, %s, '{}')",
                [dataset["dataset_id"], number, digest, versions["dataset"].version_id],
            )

        def work(attempt: Attempt) -> Result:
            return Result({"dataset": Output("dataset", "examples", digest, None, 0, private=True)}, write=write)

        spec = Step("demo", "data.commit", "pipeline", ("pipeline.canonical",), reuse="never")
        return steps.run(settings, Origin("cli", "tester"), spec, work).outputs["dataset"]

    return make
