"""The loss of preference tuning on a CPU, beside TRL's own over all positions."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline import models
from pipeline.settings import ROOT
from pipeline.training import head, preference, recipe
from pipeline.usecase import SftRecipe

pytestmark = [
    pytest.mark.unit,
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),  # PEFT asks for it
    pytest.mark.filterwarnings("ignore:.gradient_checkpointing. is deprecated:FutureWarning"),  # and TRL
]


def pairs() -> list[dict[str, Any]]:
    return [
        {
            "prompt_ids": list(range(20, 30 + n)),
            "chosen_ids": [40 + n, 41, 2],
            "rejected_ids": [50, 51 + n, 52, 53, 2],
            "ref_chosen_logps": -3.0 - n,
            "ref_rejected_logps": -4.0,
        }
        for n in range(3)
    ]


def test_loss_gradient_and_margins_are_trls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from datasets import Dataset
    from trl.trainer.dpo_config import DPOConfig

    torch.manual_seed(3)
    base, tokenizer = models.load(ROOT / "models" / "tiny", trainable=True)
    model = recipe.with_adapter(base, SftRecipe(lora_rank=4))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
    rows = pairs()
    args = DPOConfig(str(tmp_path), use_cpu=True, bf16=False, report_to="none", beta=0.3, precompute_ref_log_probs=True)
    data = Dataset.from_list(rows)
    trainer = preference.trainer()(model=model, args=args, train_dataset=data, processing_class=tokenizer)
    batch = trainer.data_collator(rows)

    def measured(ours: bool) -> tuple[float, Any, dict[str, list[float]]]:
        monkeypatch.setattr(head, "scores_itself", lambda *_: ours)
        trainer._metrics["train"].clear()
        trainer.model.zero_grad()
        trainer.model.train()
        loss = trainer.compute_loss(trainer.model, batch)
        loss.backward()
        gradients = [weight.grad.flatten() for weight in trainer.model.parameters() if weight.grad is not None]
        return float(loss.detach()), torch.cat(gradients), dict(trainer._metrics["train"])

    (own, gradient, metrics), (other, expected, theirs) = measured(True), measured(False)
    assert own == pytest.approx(other, rel=1e-5)
    assert float((gradient - expected).norm() / expected.norm()) < 1e-4
    for name in ("rewards/margins", "rewards/accuracies"):
        assert metrics[name] == pytest.approx(theirs[name], rel=1e-4)


@pytest.mark.filterwarnings("ignore:You are importing from .trl.experimental.")
def test_orpo_is_trls_over_answers() -> None:
    import torch
    from trl.experimental.orpo import ORPOTrainer
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    model, tokenizer = models.load(ROOT / "models" / "tiny")
    batch = DataCollatorForPreference(pad_token_id=tokenizer.pad_token_id or 0)(pairs())
    loss, margins = preference.orpo(0.3, model, batch)

    labels = torch.where(batch["completion_mask"] == 1, batch["input_ids"], head.IGNORED)
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    theirs: Any = ORPOTrainer
    means = theirs.get_batch_logps(logits, labels, average_log_prob=True)
    given = SimpleNamespace(beta=0.3, accelerator=SimpleNamespace(device="cpu"))
    weighed, chosen, rejected, *_ = theirs.odds_ratio_loss(given, *means.chunk(2))
    likelihood = torch.nn.functional.cross_entropy(
        logits[:3, :-1].flatten(0, 1), labels[:3, 1:].flatten(), ignore_index=head.IGNORED
    )
    assert float(loss.detach()) == pytest.approx(float((likelihood - weighed.mean()).detach()), rel=1e-5)
    assert margins.tolist() == pytest.approx((chosen - rejected).tolist(), rel=1e-4)


def test_orpo_of_a_certain_answer_is_a_number() -> None:
    import torch

    assert preference._log_complement(torch.tensor([0.0, -1e-9, -50.0])).isfinite().all()
