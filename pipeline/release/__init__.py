"""The release stage: thresholds sealed before training, their application with error bars, persons' answers, and what
is live."""

from pipeline.release.approval import Answer, Question, answer, ask, check, choose, decision_of, supersede, waiting
from pipeline.release.gate import gate
from pipeline.release.policy import seal
from pipeline.release.promotion import history, promote, rollback, unchanged
from pipeline.release.records import Chosen, Gated, Promoted, RollbackWaits, Sealed

__all__ = [
    "Answer",
    "Chosen",
    "Gated",
    "Promoted",
    "Question",
    "RollbackWaits",
    "Sealed",
    "answer",
    "ask",
    "check",
    "choose",
    "decision_of",
    "gate",
    "history",
    "promote",
    "rollback",
    "seal",
    "supersede",
    "unchanged",
    "waiting",
]
