"""Builds: killed and run again, adopted where the content stands, refused where embeddings are missing."""

import signal
import subprocess
import sys
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from pipeline import database, retrieval
from pipeline.context import Context
from pipeline.errors import NotAvailable, Refused
from pipeline.records import plain
from pipeline.retrieval import Planned
from pipeline.retrieval.pruning import Dropped
from pipeline.steps import Origin
from tests.pg.retrieval.conftest import DOCUMENTS, Library, changed, rows

pytestmark = [pytest.mark.pg, pytest.mark.usefixtures("hashed")]

TASK = Origin("airflow", "engineer", "demo_reindex", "manual__1", "build")
# Stops for ever inside the build, at the place that it is told.
WORKER = """
import json, sys, time
from pathlib import Path
from pipeline import records, retrieval, settings, usecase
from pipeline.context import Context
from pipeline.steps import Origin
from pipeline.retrieval import building

home, url, logins, path, place, planned = sys.argv[1:]
installed = settings.from_environment(
    {"NIGHTSHIFT_HOME": home, "NIGHTSHIFT_DATABASE_URL": url, "NIGHTSHIFT_LOGINS": logins}
)

def stop(*_):
    print("stopped", flush=True)
    time.sleep(600)

if place == "copy":
    rows = building._rows
    def some(*arguments):
        made = rows(*arguments)
        yield next(made)
        stop()
    building._rows = some
elif place == "loaded":
    load = building._load
    building._load = lambda *arguments: (load(*arguments), stop())
elif place == "write":
    call = building.database.call
    def attach(connection, function, *arguments):
        made = call(connection, function, *arguments)
        if function == "rag.attach":
            stop()
        return made
    building.database.call = attach
task = Origin("airflow", "engineer", "demo_reindex", "manual__1", "build")
plan = records.load(retrieval.Planned, json.loads(planned))
retrieval.build(Context(installed, usecase.load(Path(path)), task), plan)
"""


def embedded(library: Library, origin: Origin) -> Planned:
    """Returns a plan whose chunks are all embedded."""
    planned = retrieval.plan(Context(library.settings, library.usecase, origin))
    for batch in range(planned.batches):
        retrieval.embed(Context(library.settings, library.usecase, origin), planned, batch)
    return planned


def tables(attacker: psycopg.Connection[Any]) -> list[str]:
    found = rows(
        attacker,
        "select relname from pg_class where relnamespace = 'rag'::regnamespace and relkind in ('r', 'p')"
        " and relname ~ '^(stage|chunk)_g' order by relname",
    )
    return [name for (name,) in found]


@pytest.mark.parametrize("place", ["copy", "loaded", "write"])
def test_a_killed_build_leaves_nothing_half_written(
    library: Library, origin: Origin, attacker: psycopg.Connection[Any], place: str
) -> None:
    import json

    library.commit(DOCUMENTS)
    planned = embedded(library, origin)
    settings = library.settings
    path = settings.usecases / "demo" / "usecase.yaml"
    arguments = [str(settings.home), str(settings.database_url), str(settings.logins), str(path), place]
    child = subprocess.Popen(
        [sys.executable, "-c", WORKER, *arguments, json.dumps(plain(planned))], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "stopped\n"
    child.send_signal(signal.SIGKILL)
    child.wait(60)
    child.stdout.close()
    assert [name for name in tables(attacker) if name.startswith("chunk")] == []
    built = retrieval.build(Context(settings, library.usecase, TASK), planned)
    assert built.version.digest == planned.generation
    assert tables(attacker) == ["chunk_g2", "chunk_g2_t1", "chunk_g2_t2"]
    assert rows(attacker, "select generation_id, state from rag.generation order by 1") == [
        (1, "dropped"),
        (2, "attached"),
    ]
    checked = retrieval.check(Context(settings, library.usecase, origin), built)
    assert checked.passed, checked.gates


def test_maintenance_drops_what_a_killed_build_left(library: Library, attacker: psycopg.Connection[Any]) -> None:
    with database.connect(library.settings, "pipeline") as connection:
        database.call(connection, "rag.create_version", "demo", "e", "{}", ["acme"])
    assert tables(attacker) == ["stage_g1_t1"]
    assert retrieval.maintain(library.settings).generations == {"demo": Dropped([], [1], [])}
    assert tables(attacker) == []


def test_maintenance_leaves_a_running_build_alone(library: Library, attacker: psycopg.Connection[Any]) -> None:
    with database.connect(library.settings, "pipeline") as builder:
        database.execute(builder, "retrieval", "lock_build", use_case="demo")
        database.call(builder, "rag.create_version", "demo", "e", "{}", ["acme"])
        assert retrieval.maintain(library.settings).generations["demo"].unfinished == []
    assert tables(attacker) == ["stage_g1_t1"]


def test_two_places_build_the_same_generation(library: Library, origin: Origin) -> None:
    library.commit(DOCUMENTS)
    planned = embedded(library, origin)
    first = retrieval.build(Context(library.settings, library.usecase, origin, "never"), planned)
    second = retrieval.build(Context(library.settings, library.usecase, origin, "never"), planned)
    assert (first.adopted, second.adopted) == (False, True)
    assert second == replace(first, adopted=True, run=second.run)


def test_a_finished_build_answers_only_while_its_partition_stands(
    library: Library, origin: Origin, attacker: psycopg.Connection[Any]
) -> None:
    library.commit(DOCUMENTS)
    planned = embedded(library, origin)
    first = retrieval.build(Context(library.settings, library.usecase, origin), planned)
    again = retrieval.build(Context(library.settings, library.usecase, origin), planned)
    assert again.reused is True
    assert again.generation == first.generation
    with database.connect(library.settings, "pipeline") as connection:
        database.call(connection, "rag.drop_version", first.generation)
    anew = retrieval.build(Context(library.settings, library.usecase, origin), planned)
    assert anew.reused is False
    assert anew.generation != first.generation
    assert anew == replace(first, generation=anew.generation, run=anew.run)


def test_a_partition_that_was_dropped_by_hand_is_built_again(
    library: Library, origin: Origin, attacker: psycopg.Connection[Any]
) -> None:
    library.commit(DOCUMENTS)
    retrieval.sync(Context(library.settings, library.usecase, origin))
    attacker.execute("drop table rag.chunk_g1")
    told = retrieval.sync(Context(library.settings, library.usecase, origin))
    assert told.passed is True
    assert rows(attacker, "select generation_id, state from rag.generation order by 1") == [(1, "dropped"), (2, "live")]


def test_a_missing_embedding_stops_the_build(
    library: Library, origin: Origin, attacker: psycopg.Connection[Any]
) -> None:
    library.commit(DOCUMENTS)
    planned = embedded(library, origin)
    attacker.execute(
        "delete from rag.embedding_cache where text_digest = (select min(text_digest) from rag.embedding_cache)"
    )
    with pytest.raises(NotAvailable, match="have no embedding"):
        retrieval.build(Context(library.settings, library.usecase, origin), planned)
    planned = embedded(library, origin)
    assert planned.chunks.embed == 1
    assert retrieval.build(Context(library.settings, library.usecase, origin), planned).adopted is False


def test_an_embed_task_that_is_run_again_embeds_nothing(library: Library, origin: Origin, hashed: list[int]) -> None:
    library.commit(DOCUMENTS)
    planned = retrieval.plan(Context(library.settings, library.usecase, origin))
    first = retrieval.embed(Context(library.settings, library.usecase, origin), planned, 0)
    second = retrieval.embed(Context(library.settings, library.usecase, origin), planned, 0)
    assert (first.embedded, second.embedded, second.cached) == (4, 0, 4)
    assert hashed == [4]


def test_chunks_lie_together_by_right(library: Library, origin: Origin, attacker: psycopg.Connection[Any]) -> None:
    library.commit({**DOCUMENTS, "again": changed(DOCUMENTS, "leave", text="More. " * 40)["leave"]})
    retrieval.sync(Context(library.settings, library.usecase, origin))
    found = [acl for (acl,) in rows(attacker, "select acl_id from rag.chunk where tenant = 'acme' order by chunk_id")]
    assert found == sorted(found)
    assert (
        rows(attacker, "select count(*), count(distinct chunk_id), max(chunk_id) - min(chunk_id) + 1 from rag.chunk")[
            0
        ][0]
        > 4
    )


def test_the_logs_and_returned_values_hold_no_text(library: Library, origin: Origin) -> None:
    library.commit(DOCUMENTS)
    told = str(retrieval.sync(Context(library.settings, library.usecase, origin)))
    assert "granted" not in told
    with database.connect(library.settings, "auditor") as connection:
        facts = rows(connection, "select facts, params from lineage.run")
    assert "granted" not in str(facts)


def test_a_generation_that_does_not_stand_is_not_adopted(library: Library) -> None:
    with database.connect(library.settings, "pipeline") as connection, pytest.raises(Refused, match="does not stand"):
        database.call(connection, "rag.adopt", 7, 1)
