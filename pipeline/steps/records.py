"""What a step is, and what comes of it, as values."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline.artifacts import ArtifactStore, Stored
from pipeline.database import Connection, Role

Reuse = Literal["auto", "never"]
_NAMESPACE = uuid.UUID("6f0c1a52-3c4e-5b7e-9d3e-9a1b6f0e7c11")


@dataclass(frozen=True)
class Origin:
    """Who asked for a step, and where. The run's id follows from it."""

    orchestrator: Literal["airflow", "cli"]
    requested_by: str
    dag_id: str | None = None
    dag_run_id: str | None = None
    task_id: str | None = None
    map_index: int = -1

    def run_id(self, job: str) -> uuid.UUID:
        """Returns the run's id: the same for every try of the same task, another for every call by hand."""
        if self.orchestrator == "cli":
            return uuid.uuid4()
        return uuid.uuid5(_NAMESPACE, f"{self.dag_id}|{self.dag_run_id}|{self.task_id}|{self.map_index}|{job}")


@dataclass(frozen=True)
class Version:
    """One artifact version, as an input that is pinned or an output that is recorded."""

    version_id: int
    kind: str
    name: str
    digest: str


@dataclass(frozen=True)
class Output:
    """What a step made. `private` says that it holds text which an erasure must reach; `made_of` names the roles of the
    inputs that it was made of (None: all of them)."""

    kind: str
    name: str
    digest: str
    uri: str | None
    size_bytes: int
    private: bool
    meta: Mapping[str, Any] = field(default_factory=dict)
    made_of: tuple[str, ...] | None = None

    @classmethod
    def of(
        cls,
        stored: Stored,
        name: str,
        *,
        private: bool,
        meta: Mapping[str, Any] | None = None,
        made_of: tuple[str, ...] | None = None,
    ) -> "Output":
        """Returns the output for something that stands in the artifact store."""
        return cls(stored.kind, name, stored.digest, stored.uri, stored.size_bytes, private, meta or {}, made_of)


@dataclass(frozen=True)
class Step:
    """What a step is, before it runs. Everything that its result depends on is here."""

    use_case: str
    job: str  # "<stage>.<verb>", such as "training.sft"
    role: Role
    modules: tuple[str, ...]  # entry modules; what they import is found
    params: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Version] = field(default_factory=dict)
    files: tuple[str, ...] = ()  # further files that count, relative to the repository root
    reuse: Reuse = "auto"


@dataclass(frozen=True)
class Attempt:
    """What the work is handed."""

    run_id: uuid.UUID
    fence: int
    key: str  # the digest of all that the result depends on
    connection: Connection  # autocommit, logged in as the step's role; for reading
    store: ArtifactStore
    scratch: Path  # an empty folder of this attempt's own, removed afterwards


@dataclass(frozen=True)
class Result:
    """What the work returns."""

    outputs: Mapping[str, Output]
    facts: Any = field(default_factory=dict)  # a record, or a mapping: ids, digests, counts and measures
    # Runs in the transaction that marks success, with the recorded outputs. What it returns is the outcome's `written`.
    write: Callable[[Connection, Mapping[str, Version]], Any] | None = None


@dataclass(frozen=True)
class Outcome:
    """How a step ended."""

    run_id: uuid.UUID
    reused: bool
    outputs: Mapping[str, Version]
    facts: Mapping[str, Any]  # as JSON holds them
    written: Any = None  # what `write` returned; None where an earlier run answered
