"""The training stage: what cannot work is refused first, then LoRA adapters by SFT and DPO, in a process of its own
that holds the trainer's login and no other."""

from pipeline.training.dpo import dpo
from pipeline.training.preflight import preflight
from pipeline.training.records import Prepared, Tuned
from pipeline.training.sft import sft

__all__ = ["Prepared", "Tuned", "dpo", "preflight", "sft"]
