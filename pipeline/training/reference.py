"""The reference of preference tuning: how likely the SFT adapter finds both answers of a pair, before the first step.

The values are kept by row in a private artifact, addressed by what they depend on: the adapter, the base model, what is
computed in, and the row as tokens, in which the chat template and the cut stand. On a CPU each pair is a batch of its
own, so that a value does not depend on which rows were kept and which were not.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline import canonical, steps
from pipeline.artifacts import Stored
from pipeline.models import Device
from pipeline.progress import Progress
from pipeline.steps import Attempt
from pipeline.training import head

log = logging.getLogger(__name__)

KIND, NAME = "reference_log_probs", "reference"
_FILE = "values.json"
_ROWS = 2  # pairs in a batch on a GPU
Values = dict[str, tuple[float, float]]  # by key of a pair: of chosen and rejected, in nats


def key(pair: Mapping[str, Sequence[int]], addressed: Mapping[str, Any]) -> str:
    """Returns what the value of a pair is addressed by."""
    return canonical.digest({**addressed, **{side: list(ids) for side, ids in pair.items()}})


def earlier(attempt: Attempt, use_case: str) -> Values:
    """Returns the values that the last preference tuning kept; none where its artifact is gone or not as recorded."""
    version = steps.latest(attempt.connection, use_case, KIND, NAME)
    if version is None or attempt.store.verify(KIND, version.digest):
        return {}
    loaded = json.loads(attempt.store.read(KIND, version.digest, _FILE))
    return {name: (chosen, rejected) for name, (chosen, rejected) in loaded.items()}


def keep(attempt: Attempt, values: Values) -> Stored:
    """Returns the artifact of these values."""
    return attempt.store.put(KIND, {_FILE: json.dumps(values, sort_keys=True).encode()})


def complete(
    model: Any, tokenizer: Any, pairs: Sequence[Mapping[str, Any]], keys: Sequence[str], known: Values, device: Device
) -> Values:
    """Returns the value of each pair, those that are known as they are; the others as the model, with its adapter as it
    is, finds them."""
    import torch

    values = {name: known[name] for name in keys if name in known}
    missing = {name: pair for name, pair in zip(keys, pairs, strict=True) if name not in values}
    log.info("reference: %d of %d pairs known", len(values), len(keys))
    progress = Progress(log, "reference", len(missing), "pairs")
    size = _ROWS if device == "cuda" else 1
    names = sorted(missing, key=lambda name: (len(missing[name]["prompt_ids"]), name))
    was_training = model.training
    model.eval()
    try:
        for begin in range(0, len(names), size):
            own = names[begin : begin + size]
            batch = collate([missing[name] for name in own], tokenizer, model.device)
            with torch.no_grad():
                sums = head.log_probs(model, batch["input_ids"], batch["attention_mask"], batch["completion_mask"])
            chosen, rejected = sums.tolist()[: len(own)], sums.tolist()[len(own) :]
            values |= {name: pair for name, *pair in zip(own, chosen, rejected, strict=True)}  # type: ignore[misc]
            progress.advance(len(own))
    finally:
        model.train(was_training)
    return values


def collate(pairs: Sequence[Mapping[str, Any]], tokenizer: Any, device: Any) -> dict[str, Any]:
    """Returns pairs as one batch: chosen sides first, then rejected ones, padded on the right."""
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    batch = DataCollatorForPreference(pad_token_id=tokenizer.pad_token_id or 0)([dict(pair) for pair in pairs])
    return {name: tensor.to(device) for name, tensor in batch.items()}
