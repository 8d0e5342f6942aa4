"""Steps: every unit of work pins its inputs, may be answered by an earlier run, and records its outputs in the
transaction that marks success. Attempts are fenced: only the newest of a run may write."""

from pipeline.steps.records import Attempt, Origin, Outcome, Output, Result, Reuse, Step, Version
from pipeline.steps.running import HEARTBEAT_SECONDS, run
from pipeline.steps.versions import failed_attempts, latest, outputs_of, version

__all__ = [
    "HEARTBEAT_SECONDS",
    "Attempt",
    "Origin",
    "Outcome",
    "Output",
    "Result",
    "Reuse",
    "Step",
    "Version",
    "failed_attempts",
    "latest",
    "outputs_of",
    "run",
    "version",
]
