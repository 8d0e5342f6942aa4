"""Packing: rows laid end to end, so that no position is padding, and none of them attends to another.

A packed batch has no attention mask: position ids begin anew with each row, from which transformers makes a mask by
blocks. A model whose attention looks past it would mix up the rows, and no library would say so: that is tried first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipeline.errors import Refused
from pipeline.training.rows import Kept

_TRIED = 48  # tokens of a row in the trial
_LEAK = 1e-2  # of the scores' own spread: what two ways of summing up differ by in bfloat16 is a tenth of it


def packed(kept: Kept, max_length: int) -> Kept:
    """Returns the rows in packs of at most `max_length` tokens, as {"input_ids", "labels", "seq_lengths"}. Packs are
    filled best fit first (https://arxiv.org/abs/2404.10830), each row in one of them."""
    from datasets import Dataset
    from trl.data_utils import pack_dataset

    packs = pack_dataset(Dataset.from_list(kept.rows), max_length, strategy="bfd")
    return replace(kept, rows=list(packs))


def collator(tokenizer: Any) -> Any:
    """Returns what makes a batch of packs, or of rows, one sequence without padding."""
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    return DataCollatorForLanguageModeling(pad_token_id=tokenizer.pad_token_id or 0, padding_free=True)


def require_apart(model: Any, rows: Sequence[Mapping[str, Sequence[int]]]) -> None:
    """Raises Refused where a row's scores are others behind another row of its pack than alone."""
    import torch

    first, second = (torch.tensor([row["input_ids"][:_TRIED]]) for row in (rows[0], rows[-1]))
    ids = torch.cat([first, second], dim=1).to(model.device)
    places = torch.cat([torch.arange(one.shape[1]) for one in (first, second)])[None].to(model.device)
    with torch.no_grad():
        together = model(input_ids=ids, position_ids=places, use_cache=False).logits[:, first.shape[1] :].float()
        alone = model(input_ids=second.to(model.device), use_cache=False).logits.float()
    difference = float((together - alone).abs().max() / alone.std())
    if difference > _LEAK:
        raise Refused(
            "rows of a pack would attend to each other in this model",
            where="training.sft.packing",
            found=f"scores that differ by {difference:.1%} of their spread behind another row",
            allowed=f"up to {_LEAK:.0%}",
            next_step="set packing: false",
        )
