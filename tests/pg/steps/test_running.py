"""Steps against a real database: fencing, reuse, and outputs that come into being with success alone."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pipeline import database, steps
from pipeline.artifacts import ArtifactStore
from pipeline.errors import Interrupted, NotAvailable, Refused
from pipeline.interruption import interruptible
from pipeline.settings import Settings
from pipeline.steps import Attempt, Origin, Output, Result, Step, Version, running

pytestmark = pytest.mark.pg

TASK = Origin("airflow", "engineer", "demo_data", "manual__1", "commit")
SPEC = Step("demo", "data.commit", "pipeline", ("pipeline.canonical",), params={"n": 1})


@pytest.fixture(autouse=True)
def work_of_the_tests(attacker: psycopg.Connection[Any]) -> None:
    """Every job of these tests may make a card as `pipeline`: what is tested here is not who may do what."""
    attacker.execute("update lineage.permission set kinds = kinds || '{card}' where login = 'pipeline'")
    attacker.execute(
        "insert into lineage.permission (login, job, kinds)"
        " select 'pipeline', 'x.' || n, '{card}' from unnest('{a,b,c,d,e,both}'::text[]) n"
    )


def writes(content: bytes) -> Callable[[Attempt], Result]:
    """Returns work that makes a card of this content."""

    def work(attempt: Attempt) -> Result:
        stored = attempt.store.put("card", {"card.md": content})
        return Result({"card": Output.of(stored, "card", private=False)}, {"bytes": len(content)})

    return work


def never(attempt: Attempt) -> Result:
    """Work that must not be reached."""
    raise AssertionError(f"run {attempt.run_id} should have been reused")


def rows(settings: Settings, statement: str) -> list[dict[str, object]]:
    with database.connect(settings, "pipeline") as connection:
        return connection.execute(statement.encode()).fetchall()


def test_a_second_run_with_the_same_key_is_reused(settings: Settings, origin: Origin) -> None:
    first = steps.run(settings, origin, SPEC, writes(b"hello"))
    second = steps.run(settings, origin, SPEC, never)
    assert not first.reused
    assert second.reused
    assert second.outputs == first.outputs
    assert second.facts == {"bytes": 5}
    (run,) = rows(settings, f"select state, reused_from from lineage.run where run_id = '{second.run_id}'")
    assert run == {"state": "reused", "reused_from": first.run_id}


def test_reuse_never_runs_again(settings: Settings, origin: Origin) -> None:
    steps.run(settings, origin, SPEC, writes(b"hello"))
    again = steps.run(settings, origin, replace(SPEC, reuse="never"), writes(b"hello"))
    assert not again.reused


@pytest.mark.parametrize("change", [{"params": {"n": 2}}, {"modules": ("pipeline.sql",)}, {"job": "data.card"}])
def test_another_key_misses(settings: Settings, origin: Origin, change: dict[str, object]) -> None:
    steps.run(settings, origin, SPEC, writes(b"hello"))
    assert not steps.run(settings, origin, replace(SPEC, **change), writes(b"hello")).reused  # type: ignore[arg-type]


def test_another_input_misses_and_is_pinned(settings: Settings, origin: Origin) -> None:
    made = [steps.run(settings, origin, replace(SPEC, params={"n": n}), writes(b"%d" % n)) for n in range(2)]
    users = [
        steps.run(
            settings, origin, replace(SPEC, job="data.card", inputs={"source": outcome.outputs["card"]}), writes(b"x")
        )
        for outcome in made
    ]
    assert not users[1].reused
    pinned = rows(settings, f"select version_id from lineage.run_input where run_id = '{users[1].run_id}'")
    assert pinned == [{"version_id": made[1].outputs["card"].version_id}]


@pytest.mark.parametrize("damage", ["delete", "alter", "manifest"])
def test_a_hit_is_verified(settings: Settings, origin: Origin, damage: str) -> None:
    first = steps.run(settings, origin, SPEC, writes(b"hello"))
    digest = first.outputs["card"].digest
    folder = Path(settings.artifacts) / "card" / digest[:2] / digest
    if damage == "delete":
        (folder / "card.md").unlink()
    elif damage == "alter":
        (folder / "card.md").write_bytes(b"HELLO")
    else:
        (folder / "manifest.json").unlink()
    again = steps.run(settings, origin, SPEC, writes(b"hello"))
    assert not again.reused
    assert again.outputs["card"].digest == digest
    assert ArtifactStore(settings.artifacts).verify("card", digest) == []


def test_clearing_a_finished_run_makes_a_new_one_that_names_it(settings: Settings) -> None:
    first = steps.run(settings, TASK, SPEC, writes(b"hello"))
    second = steps.run(settings, TASK, replace(SPEC, reuse="never"), writes(b"hello"))
    third = steps.run(settings, TASK, replace(SPEC, reuse="never"), writes(b"hello"))
    assert first.run_id == TASK.run_id(SPEC.job)
    found = rows(settings, "select run_id, previous_run_id, state from lineage.run order by started_at")
    assert [(row["run_id"], row["previous_run_id"], row["state"]) for row in found] == [
        (first.run_id, None, "succeeded"),
        (second.run_id, first.run_id, "succeeded"),
        (third.run_id, second.run_id, "succeeded"),
    ]


def test_a_failure_is_recorded_without_its_message_and_retried_as_a_new_attempt(settings: Settings) -> None:
    def fails(attempt: Attempt) -> Result:
        raise ValueError("text of a row, which no log may hold")

    with pytest.raises(ValueError, match="text of a row"):
        steps.run(settings, TASK, SPEC, fails)
    done = steps.run(settings, TASK, SPEC, writes(b"hello"))
    found = rows(settings, "select fence, state, error_class, error, login from lineage.attempt order by fence")
    assert found == [
        {"fence": 1, "state": "failed", "error_class": "ValueError", "error": None, "login": "pipeline"},
        {"fence": 2, "state": "succeeded", "error_class": None, "error": None, "login": "pipeline"},
    ]
    assert done.run_id == TASK.run_id(SPEC.job)


class AirflowTaskTimeout(BaseException):
    """Of the name and kind that Airflow raises: no `Exception`."""


class AirflowTaskTerminated(BaseException):
    """The same."""


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (AirflowTaskTimeout(), "failed"),
        (MemoryError(), "failed"),
        (RecursionError(), "failed"),
        (AirflowTaskTerminated(), "interrupted"),
        (KeyboardInterrupt(), "interrupted"),
        (SystemExit(1), "interrupted"),
        (Interrupted("told to stop"), "interrupted"),
    ],
)
def test_whatever_ends_an_attempt_is_recorded(settings: Settings, error: BaseException, state: str) -> None:
    def ends(attempt: Attempt) -> Result:
        raise error

    with pytest.raises(type(error)):
        steps.run(settings, TASK, SPEC, ends)
    assert rows(
        settings,
        "select r.state as run, a.state, a.error_class from lineage.attempt a join lineage.run r using (run_id)",
    ) == [{"run": state, "state": state, "error_class": type(error).__name__}]
    with database.connect(settings, "trainer") as connection:
        failures = steps.failed_attempts(connection, "demo_data", "manual__1", "commit", -1)
        assert failures == (1 if state == "failed" else 0)
        assert steps.failed_attempts(connection, "demo_data", "manual__2", "commit", -1) == 0
    # The next attempt does the work.
    assert not steps.run(settings, TASK, SPEC, writes(b"hello")).reused
    assert not list(settings.scratch.iterdir()), "no scratch is left"


def test_a_failure_while_an_earlier_run_is_verified_is_recorded_too(
    settings: Settings, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checking a large artifact may take longer than the task may."""
    steps.run(settings, origin, SPEC, writes(b"hello"))
    beats: list[str] = []
    monkeypatch.setattr(running, "HEARTBEAT_SECONDS", 0.05)

    def slow(store: ArtifactStore, kind: str, digest: str) -> list[str]:
        deadline = time.monotonic() + 30
        while not beats and time.monotonic() < deadline:
            beats.extend(
                str(row["run_id"])
                for row in rows(
                    settings,
                    "select run_id from lineage.attempt where state = 'running'"
                    " and heartbeat_at > started_at + interval '40 ms'",
                )
            )
        raise AirflowTaskTimeout

    monkeypatch.setattr(ArtifactStore, "verify", slow)
    with pytest.raises(AirflowTaskTimeout):
        steps.run(settings, TASK, SPEC, never)
    assert beats == [str(TASK.run_id(SPEC.job))], "it beat while it verified"
    assert rows(settings, "select state from lineage.run where task_id = 'commit'") == [{"state": "failed"}]


def test_sigterm_interrupts_and_a_second_one_does_not_stop_the_recording(settings: Settings) -> None:
    def ends(attempt: Attempt) -> Result:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("unreachable")

    def stopped_twice() -> None:
        with interruptible():
            try:
                steps.run(settings, TASK, SPEC, ends)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted):
        stopped_twice()
    assert signal.getsignal(signal.SIGTERM) == before
    assert rows(settings, "select state from lineage.attempt") == [{"state": "interrupted"}]


def test_our_own_errors_keep_their_message(settings: Settings) -> None:
    def fails(attempt: Attempt) -> Result:
        raise Refused("the file is mostly malformed", found="text that stays out")

    with pytest.raises(Refused):
        steps.run(settings, TASK, SPEC, fails)
    assert rows(settings, "select error_class, error from lineage.attempt") == [
        {"error_class": "Refused", "error": "the file is mostly malformed"}
    ]


def test_domain_rows_and_success_are_one_transaction(settings: Settings) -> None:
    def fails_late(connection: database.Connection, outputs: object) -> None:
        connection.execute("insert into catalog.dataset (use_case, kind) values ('demo', 'examples')")
        raise RuntimeError("stopped between the row and the commit")

    with pytest.raises(RuntimeError):
        steps.run(settings, TASK, SPEC, lambda attempt: replace(writes(b"hello")(attempt), write=fails_late))
    assert rows(settings, "select * from catalog.dataset") == []
    assert rows(settings, "select * from lineage.artifact_version") == []
    assert rows(settings, "select state from lineage.run") == [{"state": "failed"}]


def test_purged_outputs_are_not_reused(
    settings: Settings, origin: Origin, attacker: psycopg.Connection[object]
) -> None:
    steps.run(settings, origin, SPEC, writes(b"hello"))
    attacker.execute("update lineage.artifact_version set purged_at = now()")
    again = steps.run(settings, origin, SPEC, writes(b"hello"))
    assert not again.reused
    assert rows(settings, "select purged_at from lineage.artifact_version") == [{"purged_at": None}]


def test_scratch_is_empty_and_removed(settings: Settings, origin: Origin) -> None:
    seen: list[Path] = []

    def work(attempt: Attempt) -> Result:
        assert list(attempt.scratch.iterdir()) == []
        seen.append(attempt.scratch)
        return writes(b"hello")(attempt)

    steps.run(settings, origin, SPEC, work)
    assert not seen[0].exists()


WORKER = """
import sys, time
from pathlib import Path
from pipeline import settings, steps
from pipeline.errors import FencedOut
from pipeline.steps import Origin, Output, Result, Step

home, url, logins, name, flag = sys.argv[1:]
installed = settings.from_environment(
    {"NIGHTSHIFT_HOME": home, "NIGHTSHIFT_DATABASE_URL": url, "NIGHTSHIFT_LOGINS": logins}
)

def work(attempt):
    print("working", flush=True)
    while flag != "-" and not Path(flag).exists():
        time.sleep(0.02)
    stored = attempt.store.put("card", {"card.md": name.encode()})
    def write(connection, outputs):
        connection.execute("insert into catalog.dataset (use_case, kind) values (%s, 'examples')", [name])
    return Result({"card": Output.of(stored, "card", private=False)}, write=write)

task = Origin("airflow", "engineer", "demo_data", "manual__1", "commit")
spec = Step("demo", "data.commit", "pipeline", ("pipeline.canonical",))
try:
    steps.run(installed, task, spec, work)
except FencedOut as error:
    print("fenced", error, flush=True)
    sys.exit(1)
print("done", flush=True)
"""


Start = Callable[[str, Path | None], "subprocess.Popen[str]"]


@pytest.fixture
def start(settings: Settings) -> Iterator[Start]:
    """A function that starts an attempt of one and the same task in a process of its own and returns once it works. It
    goes on when the flag's file exists; without a flag at once."""
    children: list[subprocess.Popen[str]] = []

    def begin(name: str, flag: Path | None) -> "subprocess.Popen[str]":
        arguments = [str(settings.home), str(settings.database_url), str(settings.logins), name, str(flag or "-")]
        child = subprocess.Popen([sys.executable, "-c", WORKER, *arguments], stdout=subprocess.PIPE, text=True)
        children.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == "working\n"
        return child

    yield begin
    for child in children:
        child.kill()
        child.communicate()


def test_a_stopped_attempt_that_wakes_up_late_is_refused(settings: Settings, start: Start, tmp_path: Path) -> None:
    flag = tmp_path / "go"
    first = start("first", flag)
    os.kill(first.pid, signal.SIGSTOP)
    second = start("second", None)
    assert second.wait(60) == 0
    flag.touch()
    os.kill(first.pid, signal.SIGCONT)
    assert first.wait(60) == 1
    assert first.stdout is not None
    assert "fenced" in first.stdout.read()
    assert rows(settings, "select use_case from catalog.dataset") == [{"use_case": "second"}]
    assert rows(settings, "select fence, state from lineage.attempt order by fence") == [
        {"fence": 1, "state": "superseded"},
        {"fence": 2, "state": "succeeded"},
    ]
    assert len(rows(settings, "select * from lineage.run_output")) == 1


def test_a_killed_attempt_leaves_nothing_and_the_retry_completes(
    settings: Settings, start: Start, tmp_path: Path
) -> None:
    killed = start("same", tmp_path / "never")
    killed.kill()
    killed.wait(60)
    assert rows(settings, "select * from catalog.dataset") == []
    retried = start("same", None)
    assert retried.wait(60) == 0
    assert rows(settings, "select use_case from catalog.dataset") == [{"use_case": "same"}]


def test_lost_attempts_are_swept(
    settings: Settings, start: Start, attacker: psycopg.Connection[object], tmp_path: Path
) -> None:
    killed = start("same", tmp_path / "never")
    killed.kill()
    killed.wait(60)
    with database.connect(settings, "pipeline") as connection:
        assert database.call(connection, "lineage.sweep_lost", "1 hour") == [{"sweep_lost": 0}]
        attacker.execute("update lineage.attempt set heartbeat_at = now() - interval '2 hours'")
        assert database.call(connection, "lineage.sweep_lost", "1 hour") == [{"sweep_lost": 1}]
    assert rows(settings, "select state from lineage.run") == [{"state": "lost"}]


def test_sweeping_and_beginning_do_not_wait_for_each_other(
    settings: Settings, attacker: psycopg.Connection[object]
) -> None:
    """A sweep that locked attempts before runs would deadlock with an attempt that takes a run over."""
    for number in range(8):
        with database.connect(settings, "pipeline") as connection, suppress(Refused):
            running._begin(connection, replace(TASK, task_id=f"t{number}"), SPEC, {"part": str(number)})
    attacker.execute("update lineage.attempt set heartbeat_at = now() - interval '2 hours'")
    problems: list[BaseException] = []

    def sweep() -> None:
        try:
            with database.connect(settings, "pipeline") as connection:
                for _ in range(40):
                    database.call(connection, "lineage.sweep_lost", "1 hour")
                    attacker.execute("update lineage.attempt set heartbeat_at = now() - interval '2 hours'")
        except BaseException as error:
            problems.append(error)

    def begin() -> None:
        try:
            with database.connect(settings, "pipeline") as connection:
                for turn in range(40):
                    origin = replace(TASK, task_id=f"t{turn % 8}")
                    running._begin(connection, origin, SPEC, {"part": str(turn)})
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work) for work in (sweep, begin, begin)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert problems == []


def test_a_heartbeat_is_written_while_work_lasts(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "HEARTBEAT_SECONDS", 0.05)

    def work(attempt: Attempt) -> Result:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            (row,) = rows(
                settings, "select heartbeat_at > started_at + interval '40 ms' as beating from lineage.attempt"
            )
            if row["beating"]:
                return writes(b"hello")(attempt)
        raise AssertionError("no heartbeat in 30 s")

    steps.run(settings, TASK, SPEC, work)


def test_nobody_writes_lineage_but_through_its_functions(settings: Settings) -> None:
    for role in database.ROLES:
        with database.connect(settings, role) as connection:
            for table in ("run", "attempt", "artifact", "artifact_version", "run_input", "run_output", "deployment"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(f"delete from lineage.{table}".encode())


def test_a_missing_login_says_how_to_get_it(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(NotAvailable, match="no login for the role trainer") as caught:
        database.connect(replace(settings, logins=tmp_path), "trainer")
    assert "nightshift db upgrade" in str(caught.value)


def test_diamonds_end(settings: Settings, origin: Origin) -> None:
    """a → b, a → c, b + c → d: each stands once in d's ancestry and once in a's descendants."""

    def make(name: str, **inputs: Version) -> Version:
        outcome = steps.run(settings, origin, replace(SPEC, job=name, inputs=inputs), writes(name.encode()))
        return outcome.outputs["card"]

    a = make("x.a")
    b, c = make("x.b", a=a), make("x.c", a=a)
    d = make("x.d", b=b, c=c)
    with database.connect(settings, "reader") as connection:
        up = database.call(connection, "lineage.ancestry", d.version_id)
        down = database.call(connection, "lineage.descendants", a.version_id)
    everything = sorted(version.version_id for version in (a, b, c, d))
    assert sorted(row["version_id"] for row in up) == everything
    assert sorted(row["version_id"] for row in down) == everything


def test_an_output_descends_from_what_it_was_made_of_alone(settings: Settings, origin: Origin) -> None:
    sources = {
        name: steps.run(settings, origin, replace(SPEC, job=f"x.{name}"), writes(name.encode())).outputs["card"]
        for name in ("a", "b")
    }
    spec = replace(SPEC, job="x.both", inputs=sources)

    def work(attempt: Attempt) -> Result:
        made = {"neither": (), "one": ("a",), "all": None}
        return Result(
            {
                name: Output.of(
                    attempt.store.put("card", {"card.md": name.encode()}), name, private=False, made_of=roles
                )
                for name, roles in made.items()
            }
        )

    outputs = steps.run(settings, origin, spec, work).outputs
    assert steps.run(settings, origin, spec, never).outputs == outputs, "a reused run knows it too"
    a, b = sources["a"].version_id, sources["b"].version_id
    with database.connect(settings, "reader") as connection:
        for name, wanted in (("neither", set()), ("one", {a}), ("all", {a, b})):
            up = database.call(connection, "lineage.ancestry", outputs[name].version_id)
            assert {row["version_id"] for row in up} - {outputs[name].version_id} == wanted
        down = database.call(connection, "lineage.descendants", b)
    assert {row["version_id"] for row in down} == {b, outputs["all"].version_id}


def test_an_output_cannot_be_made_of_what_the_run_does_not_have(settings: Settings, origin: Origin) -> None:
    def work(attempt: Attempt) -> Result:
        stored = attempt.store.put("card", {"card.md": b"x"})
        return Result({"card": Output.of(stored, "card", private=False, made_of=("nothing",))})

    with pytest.raises(psycopg.errors.RaiseException, match="made of an input"):
        steps.run(settings, origin, SPEC, work)
    assert rows(settings, "select * from lineage.artifact_version") == []
