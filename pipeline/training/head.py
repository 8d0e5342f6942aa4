"""The loss of supervised fine-tuning, with the output layer run where it counts and nowhere else.

A row of a document assistant is a long prompt and a short answer: one token in twenty is supervised. TRL's fused head
(1.16, `add_fused_lm_head`) scores those alone where Triton runs, and every position elsewhere. Here the model is asked
for the scores of those positions (`logits_to_keep`), so that whatever an architecture does to its scores is done, and
the loss is taken on them.
"""

import inspect
from collections.abc import Mapping
from typing import Any

IGNORED = -100  # the label of a token that no loss is taken on, to torch and TRL


def keeps_logits(model: Any) -> bool:
    """Returns whether a model, with an adapter or without, can be asked for the scores of some positions; nearly every
    one can."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in inspect.signature(base.forward).parameters


def loss(model: Any, inputs: Mapping[str, Any], items: Any = None) -> Any:
    """Returns the cross-entropy of the supervised tokens: their mean, or their sum over `items`, the supervised tokens
    of all batches that make one step.

    `inputs` hold "input_ids", "attention_mask" and "labels", tensors of shape (rows, length).
    """
    import torch

    labels = inputs["labels"]
    # The score at a position is of the token after it. A batch of several rows scores what any of them needs.
    places = (labels[:, 1:] != IGNORED).any(dim=0).nonzero().squeeze(-1)
    wanted = labels[:, places + 1]
    given = {name: value for name, value in inputs.items() if name != "labels"}
    scores = model(**given, logits_to_keep=places, use_cache=False).logits
    total = torch.nn.functional.cross_entropy(
        scores.float().flatten(0, 1), wanted.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    count = (wanted != IGNORED).sum() if items is None else torch.as_tensor(items, device=total.device)
    return total / count.clamp(min=1)


def trainer() -> Any:
    """Returns the class of an SFTTrainer that takes this loss. TRL's own stands in for mixtures of experts, whose
    routers add to it, and for the few models that score all positions or none."""
    from trl.trainer.sft_trainer import SFTTrainer

    class Supervised(SFTTrainer):
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            if return_outputs or self.aux_loss_enabled or not keeps_logits(model):
                return super().compute_loss(  # type: ignore[no-untyped-call]
                    model, inputs, return_outputs, num_items_in_batch
                )
            return loss(model, inputs, num_items_in_batch)

    return Supervised
