"""The losses of preference tuning, with the output layer run on the answers' positions and nowhere else (head.py)."""

from collections.abc import Mapping
from typing import Any

from pipeline.training import head
from pipeline.usecase import PreferenceLoss


def dpo(beta: float, model: Any, inputs: Mapping[str, Any]) -> tuple[Any, Any]:
    """Returns (loss, margins) of a batch of pairs: how much likelier than the reference the model finds the chosen side
    (https://arxiv.org/abs/2305.18290, equation 7). Margins are a tensor of shape (pairs,), in nats times beta."""
    import torch

    own = head.log_probs(model, inputs["input_ids"], inputs["attention_mask"], inputs["completion_mask"])
    chosen, rejected = own.chunk(2)
    margins = beta * (chosen - inputs["ref_chosen_logps"]) - beta * (rejected - inputs["ref_rejected_logps"])
    return -torch.nn.functional.logsigmoid(margins).mean(), margins.detach()


def orpo(beta: float, model: Any, inputs: Mapping[str, Any]) -> tuple[Any, Any]:
    """Returns (loss, margins) of a batch of pairs, without a reference: how likely the chosen side is, and how much
    larger its odds are than the rejected side's (https://arxiv.org/abs/2403.07691, equations 6 and 7). Likelihoods are
    means over an answer's tokens."""
    import torch

    answered = inputs["completion_mask"]
    sums = head.log_probs(model, inputs["input_ids"], inputs["attention_mask"], answered)
    tokens = answered[:, 1:].sum(dim=1)
    chosen, rejected = (sums / tokens).chunk(2)
    odds = chosen - rejected - (_log_complement(chosen) - _log_complement(rejected))
    half = len(chosen)
    likelihood = -sums[:half].sum() / tokens[:half].sum()
    margins = beta * (chosen - rejected)
    return likelihood - beta * torch.nn.functional.logsigmoid(odds).mean(), margins.detach()


def _log_complement(log_prob: Any) -> Any:
    """Returns log(1 - p) of a tensor of log p, none of which is 0."""
    import torch

    return torch.log(-torch.expm1(log_prob.clamp(max=-1e-7)))


_LOSSES = {"dpo": dpo, "orpo": orpo}


def trainer(kind: PreferenceLoss = "dpo") -> Any:
    """Returns the class of a DPOTrainer that takes rows which are tokens already, with the reference's values; TRL 1.16
    has a setting for the one in SFT alone, and for the other none. On a GPU the loss of DPO is TRL's own."""
    from trl.trainer.dpo_trainer import DPOTrainer

    class Preferring(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

        def _precompute_ref_logps(self, dataset: Any, *_: Any) -> Any:
            return dataset

        def _compute_loss(self, model: Any, inputs: Any, return_outputs: bool) -> Any:
            theirs = (
                return_outputs or self.aux_loss_enabled or not head.scores_itself(model, inputs["input_ids"].device)
            )
            if theirs and kind == "dpo":
                return super()._compute_loss(model, inputs, return_outputs)  # type: ignore[no-untyped-call]
            loss, margins = _LOSSES[kind](self.beta, model, inputs)
            measured = self._metrics["train" if model.training else "eval"]
            measured["rewards/margins"].append(margins.mean().item())
            measured["rewards/accuracies"].append((margins > 0).float().mean().item())
            return loss

    return Preferring
