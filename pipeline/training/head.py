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
    # The score at a position is of the token after it. A batch of several rows scores what any of them needs.
    places = (inputs["labels"][:, 1:] != IGNORED).any(dim=0).nonzero().squeeze(-1)
    return loss_at(places, model, inputs, items)


def loss_at(places: Any, model: Any, inputs: Mapping[str, Any], items: Any = None) -> Any:
    """Returns what `loss` returns, scored at these places, a tensor of them."""
    import torch

    wanted = inputs["labels"][:, places + 1]
    given = {name: value for name, value in inputs.items() if name != "labels"}
    scores = _scores(model, given, places)
    total = torch.nn.functional.cross_entropy(
        scores.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    count = (wanted != IGNORED).sum() if items is None else torch.as_tensor(items, device=total.device)
    return total / count.clamp(min=1)


def log_probs(model: Any, input_ids: Any, attention_mask: Any, answered: Any) -> Any:
    """Returns the log-probability of each row's answer, a tensor of shape (rows,): the sum over its tokens, in nats.

    `answered` marks the answer's tokens. All three are tensors of shape (rows, length).
    """
    places = (answered[:, 1:] != 0).any(dim=0).nonzero().squeeze(-1)
    return log_probs_at(places, model, input_ids, attention_mask, answered)


def log_probs_at(places: Any, model: Any, input_ids: Any, attention_mask: Any, answered: Any) -> Any:
    """Returns what `log_probs` returns, scored at these places, a tensor of them."""
    import torch

    scores = _scores(model, {"input_ids": input_ids, "attention_mask": attention_mask}, places)
    own = torch.log_softmax(scores, dim=-1).gather(-1, input_ids[:, places + 1].unsqueeze(-1)).squeeze(-1)
    return (own * answered[:, places + 1]).sum(dim=1)


def _scores(model: Any, given: Mapping[str, Any], places: Any) -> Any:
    """Returns the scores at these places in float32, a tensor of shape (rows, places, vocabulary)."""
    if keeps_logits(model):
        return model(**given, logits_to_keep=places, use_cache=False).logits.float()
    return model(**given, use_cache=False).logits[:, places].float()


def scores_itself(model: Any, device: Any) -> bool:
    """Returns whether the loss is taken here and not by TRL: on a GPU its own kernel scores what counts and no more."""
    return device.type == "cpu" and keeps_logits(model)


def trainer() -> Any:
    """Returns the class of an SFTTrainer that takes this loss. TRL's own stands in on a GPU, for mixtures of experts,
    whose routers add to it, and for the few models that score all positions or none."""
    from trl.trainer.sft_trainer import SFTTrainer

    class Supervised(SFTTrainer):
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            device = inputs["input_ids"].device
            if return_outputs or self.aux_loss_enabled or not scores_itself(model, device):
                return super().compute_loss(  # type: ignore[no-untyped-call]
                    model, inputs, return_outputs, num_items_in_batch
                )
            return loss(model, inputs, num_items_in_batch)

    return Supervised
