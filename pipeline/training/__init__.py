"""The training stage: what cannot work is refused first, then LoRA adapters by pretraining, SFT and DPO, and models for
others to open, in a process of its own that holds the trainer's login and no other."""

from pipeline.training.dpo import dpo
from pipeline.training.export import export
from pipeline.training.preflight import preflight
from pipeline.training.pretrain import pretrain
from pipeline.training.records import Exported, Format, Prepared, Tuned
from pipeline.training.sft import sft
from pipeline.training.sweep import Swept, sweep

__all__ = ["Exported", "Format", "Prepared", "Swept", "Tuned", "dpo", "export", "preflight", "pretrain", "sft", "sweep"]
