"""Steps: every unit of work pins its inputs, may be answered by an earlier run, and records its outputs in the
transaction that marks success. Attempts are fenced: only the newest of a run may write."""

import logging
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psycopg
from psycopg.types.json import Jsonb

from pipeline import cachekey, database, environment
from pipeline.artifacts import ArtifactStore, Stored
from pipeline.database import Connection, Role
from pipeline.errors import FencedOut, NightshiftError, NotAvailable
from pipeline.interruption import is_interruption
from pipeline.settings import Settings

log = logging.getLogger(__name__)

Reuse = Literal["auto", "never"]
HEARTBEAT_SECONDS = 20.0
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

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values, fit for XCom."""
        return {"version_id": self.version_id, "kind": self.kind, "name": self.name, "digest": self.digest}


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
    connection: Connection  # autocommit, logged in as the step's role; for reading
    store: ArtifactStore
    scratch: Path  # an empty folder of this attempt's own, removed afterwards


@dataclass(frozen=True)
class Result:
    """What the work returns. `write` runs in the transaction that marks success, with the recorded outputs."""

    outputs: Mapping[str, Output]
    facts: Mapping[str, Any] = field(default_factory=dict)
    write: Callable[[Connection, Mapping[str, Version]], None] | None = None


@dataclass(frozen=True)
class Outcome:
    """How a step ended."""

    run_id: uuid.UUID
    reused: bool
    outputs: Mapping[str, Version]
    facts: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values, fit for XCom: ids, digests and counts."""
        outputs = {role: version.as_dict() for role, version in self.outputs.items()}
        return {"run": str(self.run_id), "reused": self.reused, "outputs": outputs, "facts": dict(self.facts)}


def step(settings: Settings, origin: Origin, spec: Step, work: Callable[[Attempt], Result]) -> Outcome:
    """Runs `work` unless an earlier run with the same key stands and its outputs hash as recorded.

    Returns the outcome. Raises FencedOut where a newer attempt of the run took over meanwhile; whatever `work` raises
    is recorded (its class, and its message where it is one of ours) and raised again.
    """
    store = ArtifactStore(settings.artifacts, spec.role)
    digests = {role: version.digest for role, version in spec.inputs.items()}
    parts = cachekey.parts(job=spec.job, modules=spec.modules, files=spec.files, params=spec.params, inputs=digests)
    with database.connect(settings, spec.role) as connection:
        run_id, fence = _begin(connection, origin, spec, parts)
        # Both last until the attempt has ended: verifying what an earlier run made may take long, and can fail too.
        with _recorded(settings, spec.role, run_id, fence), _heartbeat(settings, spec.role, run_id, fence):
            earlier = _reusable(connection, store, spec, cachekey.key(parts)) if spec.reuse == "auto" else None
            if earlier is not None:
                return _finish(connection, run_id, fence, Result({}, earlier["facts"]), earlier["run_id"])
            with _scratch(settings, run_id, fence) as scratch:
                result = work(Attempt(run_id, fence, connection, store, scratch))
                return _finish(connection, run_id, fence, result, None)


@contextmanager
def _scratch(settings: Settings, run_id: uuid.UUID, fence: int) -> Iterator[Path]:
    scratch = settings.scratch / f"{run_id}.{fence}"
    scratch.mkdir(parents=True)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _recorded(settings: Settings, role: Role, run_id: uuid.UUID, fence: int) -> Iterator[None]:
    """Writes down how the attempt ended, whatever ended it: a time-out and a stop are no `Exception`."""
    try:
        yield
    except FencedOut:
        raise
    except BaseException as error:
        message = error.what if isinstance(error, NightshiftError) else None
        _record_failure(settings, role, run_id, fence, type(error).__name__, message, is_interruption(error))
        raise


def _begin(connection: Connection, origin: Origin, spec: Step, parts: dict[str, str]) -> tuple[uuid.UUID, int]:
    inputs = [{"role": role, "version_id": version.version_id} for role, version in spec.inputs.items()]
    (row,) = database.call(
        connection,
        "lineage.begin_run",
        origin.run_id(spec.job),
        spec.use_case,
        spec.job,
        origin.orchestrator,
        origin.dag_id,
        origin.dag_run_id,
        origin.task_id,
        origin.map_index,
        origin.requested_by,
        Jsonb(dict(spec.params)),
        Jsonb(inputs),
        cachekey.key(parts),
        Jsonb(parts),
        Jsonb(environment.describe()),
    )
    return row["run_id"], row["fence"]


def _reusable(connection: Connection, store: ArtifactStore, spec: Step, key: str) -> dict[str, Any] | None:
    """Returns the run that can answer for this key: its outputs exist, were not purged, and hash as recorded."""
    for run in database.fetch(connection, "lineage", "runs_by_key", use_case=spec.use_case, job=spec.job, key=key):
        outputs = database.fetch(connection, "lineage", "run_outputs", run=run["run_id"])
        damaged = [
            f"{row['kind']} {row['digest'][:12]}: {problem}"
            for row in outputs
            for problem in (
                ["purged"] if row["purged_at"] else store.verify(row["kind"], row["digest"]) if row["uri"] else []
            )
        ]
        if not damaged:
            return run
        log.warning("run %s cannot be reused: %s", run["run_id"], "; ".join(damaged))
    return None


def _finish(
    connection: Connection, run_id: uuid.UUID, fence: int, result: Result, reused_from: uuid.UUID | None
) -> Outcome:
    outputs = [
        {
            "role": role,
            "kind": output.kind,
            "name": output.name,
            "digest": output.digest,
            "uri": output.uri,
            "size_bytes": output.size_bytes,
            "private": output.private,
            "meta": dict(output.meta),
            "made_of": output.made_of,
        }
        for role, output in result.outputs.items()
    ]
    with connection.transaction():
        database.call(
            connection, "lineage.finish_run", run_id, fence, Jsonb(outputs), Jsonb(dict(result.facts)), reused_from
        )
        versions = outputs_of(connection, run_id)
        if result.write is not None:
            result.write(connection, versions)
    return Outcome(run_id, reused_from is not None, versions, result.facts)


def outputs_of(connection: Connection, run_id: uuid.UUID | str) -> dict[str, Version]:
    """Returns a run's outputs by role."""
    rows = database.fetch(connection, "lineage", "run_outputs", run=str(run_id))
    return {row["role"]: Version(row["version_id"], row["kind"], row["name"], row["digest"]) for row in rows}


def latest(connection: Connection, use_case: str, kind: str, name: str) -> Version | None:
    """Returns the newest standing version of an artifact, or None."""
    row = database.fetch_one(connection, "lineage", "latest_version", use_case=use_case, kind=kind, name=name)
    return None if row is None else Version(row["version_id"], kind, name, row["digest"])


def version(connection: Connection, version_id: int) -> Version:
    """Returns the version with this id, which must exist."""
    row = database.fetch_one(connection, "lineage", "version_by_id", version_id=version_id)
    if row is None:
        raise NotAvailable(f"there is no artifact version {version_id}")
    return Version(row["version_id"], row["kind"], row["name"], row["digest"])


def failed_attempts(connection: Connection, dag_id: str, dag_run_id: str, task_id: str, map_index: int) -> int:
    """Returns how many attempts at the runs of one task failed by themselves: not interrupted, lost or superseded."""
    row = database.fetch_one(
        connection, "lineage", "failed_attempts", dag=dag_id, dag_run=dag_run_id, task=task_id, map_index=map_index
    )
    assert row is not None
    return int(row["failures"])


def _record_failure(
    settings: Settings,
    role: Role,
    run_id: uuid.UUID,
    fence: int,
    error_class: str,
    message: str | None,
    interrupted: bool,
) -> None:
    """Writes the failure down on a connection of its own: the step's may be what failed."""
    try:
        with database.connect(settings, role) as connection:
            database.call(connection, "lineage.fail_run", run_id, fence, error_class, message, interrupted)
    except (NightshiftError, psycopg.Error) as error:
        log.error("the failure of run %s could not be recorded: %s", run_id, error)


@contextmanager
def _heartbeat(settings: Settings, role: Role, run_id: uuid.UUID, fence: int) -> Iterator[None]:
    """Shows that the attempt is alive, from a thread with a connection of its own, until the block ends."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(HEARTBEAT_SECONDS):
            try:
                with database.connect(settings, role) as connection:
                    database.call(connection, "lineage.heartbeat", run_id, fence)
            except (NightshiftError, psycopg.Error) as error:
                log.warning("no heartbeat for run %s: %s", run_id, error)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
