"""The loss of preference tuning, with the output layer run on the answers' positions and nowhere else (head.py)."""

from typing import Any

from pipeline.training import head


def trainer() -> Any:
    """Returns the class of a DPOTrainer that takes rows which are tokens already, with the reference's values; TRL 1.16
    has a setting for the one in SFT alone, and for the other none. On a GPU the loss is TRL's own."""
    import torch
    from trl.trainer.dpo_trainer import DPOTrainer

    class Preferring(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

        def _precompute_ref_logps(self, dataset: Any, *_: Any) -> Any:
            return dataset

        def _compute_loss(self, model: Any, inputs: Any, return_outputs: bool) -> Any:
            if return_outputs or self.aux_loss_enabled or not head.scores_itself(model, inputs["input_ids"].device):
                return super()._compute_loss(model, inputs, return_outputs)  # type: ignore[no-untyped-call]
            own = head.log_probs(model, inputs["input_ids"], inputs["attention_mask"], inputs["completion_mask"])
            chosen, rejected = own.chunk(2)
            # How much likelier each side became (https://arxiv.org/abs/2305.18290, equation 7).
            gains = (
                self.beta * (chosen - inputs["ref_chosen_logps"]),
                self.beta * (rejected - inputs["ref_rejected_logps"]),
            )
            margins = (gains[0] - gains[1]).detach()
            measured = self._metrics["train" if model.training else "eval"]
            measured["rewards/margins"].append(margins.mean().item())
            measured["rewards/accuracies"].append((margins > 0).float().mean().item())
            return -torch.nn.functional.logsigmoid(gains[0] - gains[1]).mean()

    return Preferring
