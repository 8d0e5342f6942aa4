"""Steps: every unit of work pins its inputs, may be answered by an earlier run, and records its outputs in the
transaction that marks success. Attempts are fenced: only the newest of a run may write."""

import logging
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from pipeline import database
from pipeline.artifacts import ArtifactStore
from pipeline.database import Connection, Role
from pipeline.errors import FencedOut, NightshiftError
from pipeline.interruption import heard, is_interruption
from pipeline.records import plain
from pipeline.settings import Settings
from pipeline.steps import cachekey, environment
from pipeline.steps.records import Attempt, Origin, Outcome, Result, Step
from pipeline.steps.versions import outputs_of

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 20.0


def run(settings: Settings, origin: Origin, spec: Step, work: Callable[[Attempt], Result]) -> Outcome:
    """Runs `work` unless an earlier run with the same key stands and its outputs hash as recorded.

    Returns the outcome. Raises FencedOut where a newer attempt of the run took over meanwhile; whatever `work` raises
    is recorded (its class, and its message where it is one of ours) and raised again.
    """
    store = ArtifactStore(settings.artifacts, spec.role)
    digests = {role: version.digest for role, version in spec.inputs.items()}
    parts = cachekey.parts(job=spec.job, modules=spec.modules, files=spec.files, params=spec.params, inputs=digests)
    key = cachekey.key(parts)
    with database.connect(settings, spec.role) as connection:
        run_id, fence = _begin(connection, origin, spec, parts)
        # Both last until the attempt has ended: verifying what an earlier run made may take long, and can fail too.
        with _recorded(settings, spec.role, run_id, fence), _heartbeat(settings, spec.role, run_id, fence):
            earlier = _reusable(connection, store, spec, key) if spec.reuse == "auto" else None
            if earlier is not None:
                return _finish(connection, run_id, fence, Result({}, earlier["facts"]), earlier["run_id"])
            with _scratch(settings, run_id, fence) as scratch:
                result = work(Attempt(run_id, fence, key, connection, store, scratch))
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
        heard()
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
    facts = plain(result.facts)
    with connection.transaction():
        database.call(connection, "lineage.finish_run", run_id, fence, Jsonb(outputs), Jsonb(facts), reused_from)
        versions = outputs_of(connection, run_id)
        written = None if result.write is None else result.write(connection, versions)
    return Outcome(run_id, reused_from is not None, versions, facts, written)


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
