"""The rules of retrieval that stand in the database: who may read, what a refused caller gets, the second wall, and
withdrawals that meet a build or a swap half-way."""

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pgvector import HalfVector

from pipeline import canonical, database, retrieval
from pipeline.context import Context
from pipeline.errors import Refused
from pipeline.results import Check
from pipeline.retrieval import access, building, pruning
from pipeline.retrieval.access import UNKNOWN, Caller, may_read
from pipeline.retrieval.chunking import Chunk
from pipeline.retrieval.loading import Chunked, Document, Right
from pipeline.steps import Origin
from pipeline.usecase import CLASSIFICATIONS, PURPOSES, USES, narrowed
from tests.pg.retrieval.conftest import DOCUMENTS, Doc, Library, changed, hashed_vectors, rows

pytestmark = pytest.mark.pg

QUERY = HalfVector(hashed_vectors(["leave is granted"])[0])
SEARCH = b"select * from rag.search(%s, %s, 'leave is granted', %s)"
READ = b"select * from rag.read_hits(%s, %s, %s)"
GROUPS = st.lists(st.sampled_from(["staff", "safety", "sales"]), max_size=3, unique=True).map(sorted).map(tuple)
RIGHTS = st.builds(
    Right,
    st.sampled_from(["acme", "other"]),
    st.sampled_from(CLASSIFICATIONS),
    GROUPS.filter(lambda groups: groups != ()),
    st.sets(st.sampled_from(USES)).map(lambda uses: narrowed(USES, uses)),
)
CALLERS = st.builds(
    Caller,
    st.sampled_from(["acme", "other", UNKNOWN]),
    GROUPS,
    st.sampled_from([*CLASSIFICATIONS, UNKNOWN, ""]),
    st.sampled_from(PURPOSES),
)


@pytest.fixture
def retriever(live: Library) -> Iterator[psycopg.Connection[Any]]:
    with database.connect(live.settings, "retriever") as connection:
        yield connection


def token(library: Library, principal: str, lifetime: str = "1 minute") -> str:
    with database.connect(library.settings, "pipeline") as connection:
        (row,) = database.call(connection, "rag.open_session", "demo", principal, lifetime)
    return str(row["open_session"])


def keys(found: list[Any]) -> list[str]:
    return sorted(row["document_key"] for row in found)


def last_audit(attacker: psycopg.Connection[Any]) -> Any:
    return rows(
        attacker,
        "select route, reason, principal, cardinality(chunk_ids), query_digest from rag.retrieval_audit"
        " order by audit_id desc limit 1",
    )[0]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(RIGHTS, max_size=8, unique=True), CALLERS)
def test_the_rule_in_sql_is_the_rule_in_python(library: Library, given_rights: list[Right], caller: Caller) -> None:
    with database.connect(library.settings, "pipeline") as connection, connection.transaction(force_rollback=True):
        for right in given_rights:
            database.execute(
                connection,
                "retrieval",
                "add_acl_set",
                use_case="demo",
                tenant=right.tenant,
                classification=right.classification,
                groups=list(right.groups),
                uses=list(right.uses),
            )
        asking = (caller.tenant, list(caller.groups), caller.clearance, caller.purpose)
        (row,) = database.call(connection, "rag.acl_ids", "demo", *asking)
        named = {
            entry["acl_id"]: Right.of(entry)
            for entry in database.fetch(connection, "retrieval", "acl_sets", use_case="demo")
        }
    assert {named[acl] for acl in row["acl_ids"]} == {right for right in given_rights if may_read(caller, right)}


def test_what_each_principal_gets(live: Library, retriever: psycopg.Connection[Any]) -> None:
    for principal, expected in {
        "clerk": ["leave", "notice"],
        "inspector": ["hazard", "leave", "notice"],
        "stranger": ["rival"],
    }.items():
        assert keys(rows_of(retriever, token(live, principal), 10)) == expected


def test_a_search_finds_what_may_be_used_for_its_purpose(library: Library, origin: Origin) -> None:
    library.commit(
        {
            "anything": Doc("Leave is granted on request."),
            "served": Doc("Leave is granted within a week.", uses=("rag", "log")),
            "tested": Doc("Leave is granted by the lead.", uses=("evaluate",)),
            "kept": Doc("Leave is granted in summer.", uses=("log",)),
            "unused": Doc("Leave is granted to nobody.", uses=()),
        }
    )
    retrieval.sync(Context(library.settings, library.usecase, origin))
    for login, gateway, purpose, expected in (
        ("retriever", "pipeline", "rag", ["anything", "served"]),
        ("evaluator", "evaluator", "evaluate", ["anything", "tested"]),
        ("evaluator", "pipeline", "train", ["anything"]),
    ):
        with database.connect(library.settings, cast(database.Role, gateway)) as connection:
            (opened,) = database.call(connection, "rag.open_session", "demo", "clerk", "1 minute", purpose)
        with database.connect(library.settings, cast(database.Role, login)) as connection:
            assert keys(rows_of(connection, opened["open_session"], 10)) == expected
    with database.connect(library.settings, "evaluator") as connection, pytest.raises(Refused, match="to evaluate"):
        database.call(connection, "rag.open_session", "demo", "clerk", "1 minute", "rag")
    for wrong in ("log", "serve", "", None):
        with database.connect(library.settings, "pipeline") as connection, pytest.raises(Refused, match="is for rag"):
            database.call(connection, "rag.open_session", "demo", "clerk", "1 minute", wrong)
    with database.connect(library.settings, "reader") as connection:
        rows_read = connection.execute("select document_key from rag.access where principal = 'clerk' order by 1")
        assert [row["document_key"] for row in rows_read] == ["anything", "served"]


def found(connection: psycopg.Connection[Any], given_token: str | None, k: int | None = 10) -> Any:
    """Returns what a search says: one row of ids, whatever came of it."""
    (row,) = connection.execute(SEARCH, [given_token, QUERY, k]).fetchall()
    return row


def rows_of(connection: psycopg.Connection[Any], given_token: str | None, k: int | None) -> list[Any]:
    """Returns the chunks that a search and the reading after it give."""
    search = found(connection, given_token, k)
    if not search["chunk_ids"]:
        return []
    return connection.execute(READ, [given_token, search["audit_id"], QUERY]).fetchall()


def expire(attacker: psycopg.Connection[Any]) -> None:
    """Lets every session that is open be over."""
    attacker.execute(
        "update rag.session set opened_at = opened_at - interval '2 hours', expires_at = opened_at - interval '1 h'"
    )


@pytest.mark.parametrize("wrong", ["", "nobody", r"\x41", "\\", "'; drop table rag.chunk; --", "é", None])
def test_a_refused_caller_gets_nothing_and_is_written_down(
    retriever: psycopg.Connection[Any], attacker: psycopg.Connection[Any], wrong: str | None
) -> None:
    assert rows_of(retriever, wrong, 10) == []
    route, reason, principal, returned, query_digest = last_audit(attacker)
    assert (route, reason, principal, returned) == ("refused", "unknown token", None, 0)
    assert len(query_digest) == 64


def test_an_expired_session_gets_nothing_and_is_written_down(
    live: Library, retriever: psycopg.Connection[Any], attacker: psycopg.Connection[Any]
) -> None:
    opened = token(live, "clerk")
    expire(attacker)
    assert rows_of(retriever, opened, 10) == []
    assert last_audit(attacker)[:4] == ("refused", "expired token", "clerk", 0)


def test_sessions_that_expired_are_pruned(live: Library, attacker: psycopg.Connection[Any]) -> None:
    token(live, "clerk")
    expire(attacker)
    keep = token(live, "inspector", "1 hour")
    retrieval.maintain(live.settings)
    assert rows(attacker, "select count(*) from rag.session where expires_at < clock_timestamp()") == [(0,)]
    with database.connect(live.settings, "retriever") as connection:
        assert len(rows_of(connection, keep, 10)) == 3


@pytest.mark.parametrize(
    ("k", "expected"), [(0, 0), (-1, 0), (1, 1), (10, 3), (100, 3), (101, 0), (10**6, 0), (None, 0)]
)
def test_k_is_bounded(live: Library, retriever: psycopg.Connection[Any], k: int | None, expected: int) -> None:
    assert len(rows_of(retriever, token(live, "inspector"), k)) == expected


def test_every_search_is_written_down_without_its_text(
    live: Library, retriever: psycopg.Connection[Any], attacker: psycopg.Connection[Any]
) -> None:
    (before,) = rows(attacker, "select count(*) from rag.retrieval_audit")[0]
    for principal in ("clerk", "inspector", "stranger"):
        rows_of(retriever, token(live, principal), 2)
    written = rows(
        attacker,
        "select principal, route, visible, cardinality(chunk_ids), deployment_id is not null, generation_id is not null"
        " from rag.retrieval_audit order by audit_id offset %s",
        before,
    )
    assert written == [
        ("clerk", "exact", 2, 2, True, True),
        ("inspector", "exact", 3, 2, True, True),
        ("stranger", "exact", 1, 1, True, True),
    ]
    (text,) = rows(attacker, "select string_agg(a::text, '') from rag.retrieval_audit a")[0]
    assert "leave is granted" not in text


def test_nothing_live_is_an_empty_answer(library: Library, attacker: psycopg.Connection[Any]) -> None:
    attacker.execute(
        "insert into rag.principal (use_case, name, tenant, groups, clearance)"
        " values ('demo', 'clerk', 'acme', '{staff}', 'internal')"
    )
    with database.connect(library.settings, "retriever") as connection:
        assert rows_of(connection, token(library, "clerk"), 10) == []
    assert last_audit(attacker)[:2] == ("empty", "no such index generation")


def test_a_principal_that_left_gets_no_session(live: Library, origin: Origin) -> None:
    principals = {name: entry for name, entry in live.usecase.principals.items() if name != "clerk"}
    smaller = live.usecase.model_copy(update={"principals": principals})
    assert retrieval.plan(Context(live.settings, smaller, origin)).unchanged is True
    with pytest.raises(Refused, match="no principal clerk"):
        token(live, "clerk")
    token(live, "inspector")


def relations(attacker: psycopg.Connection[Any]) -> list[str]:
    return [name for (name,) in rows(attacker, "select relname from pg_class where relnamespace = 'rag'::regnamespace"
                                               " and relkind in ('r', 'p') order by relname")]  # fmt: skip


def test_the_retriever_may_search_and_nothing_else(
    retriever: psycopg.Connection[Any], attacker: psycopg.Connection[Any]
) -> None:
    for name in relations(attacker):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            retriever.execute(f"select 1 from rag.{name} limit 1".encode())
    allowed = rows(
        attacker,
        "select proname from pg_proc where pronamespace = 'rag'::regnamespace"
        " and has_function_privilege('retriever', oid, 'execute') order by proname",
    )
    assert allowed == [("read_hits",), ("search",), ("token_acl_ids",), ("token_tenant",)]


def test_no_role_is_granted_chunks_on_any_level(live: Library, attacker: psycopg.Connection[Any]) -> None:
    assert (
        rows(
            attacker,
            "select c.relname, r.rolname from pg_class c cross join unnest(%s::text[]) r (rolname)"
            " where c.relnamespace = 'rag'::regnamespace and (c.relname = 'chunk' or c.relname ~ '^(chunk|stage)_g')"
            " and c.relkind in ('r', 'p')"
            " and has_table_privilege(r.rolname, c.oid, 'select, insert, update, delete, truncate')",
            list(database.ROLES),
        )
        == []
    )


def test_every_level_has_forced_row_security(live: Library, attacker: psycopg.Connection[Any]) -> None:
    found = rows(
        attacker,
        "select relname, relrowsecurity and relforcerowsecurity from pg_class"
        " where relnamespace = 'rag'::regnamespace and relkind in ('r', 'p') and relname ~ '^chunk'",
    )
    assert len(found) == 4  # the table, the generation, two tenants
    assert all(forced for _, forced in found)


def test_a_grant_by_mistake_shows_what_the_token_shows(live: Library, attacker: psycopg.Connection[Any]) -> None:
    attacker.execute("grant select on rag.chunk to reader")
    with database.connect(live.settings, "reader") as connection:
        seen = "select document_key from rag.chunk"
        assert rows(connection, seen) == []
        connection.execute("select set_config('nightshift.token', %s, false)", [token(live, "clerk")])
        assert keys(rows(connection, seen)) == ["leave", "notice"]
        connection.execute("select set_config('nightshift.token', 'made up', false)")
        assert rows(connection, seen) == []
        connection.execute("select set_config('nightshift.token', %s, false)", [token(live, "clerk")])
        expire(attacker)
        assert rows(connection, seen) == []


def test_the_second_wall_hides_what_was_withdrawn(live: Library, attacker: psycopg.Connection[Any]) -> None:
    attacker.execute("grant select on rag.chunk to reader")
    with database.connect(live.settings, "pipeline") as connection:
        database.call(connection, "rag.withdraw", "demo", "leave", "wrong")
    with database.connect(live.settings, "reader") as connection:
        connection.execute("select set_config('nightshift.token', %s, false)", [token(live, "clerk")])
        assert keys(rows(connection, "select document_key from rag.chunk")) == ["notice"]


def test_a_grant_on_a_partition_shows_nothing(live: Library, attacker: psycopg.Connection[Any]) -> None:
    parts = [name for name in relations(attacker) if name.startswith("chunk_g")]
    assert len(parts) == 3
    for name in parts:
        attacker.execute(f"grant select on rag.{name} to reader".encode())
    with database.connect(live.settings, "reader") as connection:
        connection.execute("select set_config('nightshift.token', %s, false)", [token(live, "inspector")])
        for name in parts:
            assert rows(connection, f"select 1 from rag.{name}") == []


def test_functions_that_run_as_their_owner_pin_their_search_path(attacker: psycopg.Connection[Any]) -> None:
    loose = rows(
        attacker,
        "select p.oid::regprocedure::text, p.proconfig from pg_proc p"
        " where p.pronamespace = any (%s::text[]::regnamespace[]) and p.prosecdef and not exists ("
        "  select from unnest(p.proconfig) c where c in"
        "  ('search_path=pg_catalog, pg_temp', 'search_path=pg_catalog, public, pg_temp'))",
        ["lineage", "catalog", "rag", "eval", "release", "audit"],
    )
    assert loose == []
    assert rows(attacker, "select has_schema_privilege('pipeline', 'public', 'create')") == [(False,)]


def test_nobody_else_makes_up_callers(live: Library) -> None:
    for role in database.ROLES:
        if role == "pipeline":
            continue
        with database.connect(live.settings, role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            database.call(connection, "rag.open_session_as", "demo", "acme", ["staff"], "restricted")


def test_a_withdrawal_takes_effect_at_commit(live: Library, retriever: psycopg.Connection[Any]) -> None:
    clerk = token(live, "clerk")
    with database.connect(live.settings, "pipeline") as connection:
        with connection.transaction():
            (row,) = database.call(connection, "rag.withdraw", "demo", "leave", "wrong")
            assert row["withdraw"] == 1
            assert keys(rows_of(retriever, clerk, 10)) == ["leave", "notice"], "nothing is withdrawn before it commits"
        assert keys(rows_of(retriever, clerk, 10)) == ["notice"]


def test_a_withdrawn_document_comes_back_by_a_new_version_alone(live: Library, origin: Origin) -> None:
    with database.connect(live.settings, "pipeline") as connection:
        database.call(connection, "rag.withdraw", "demo", "leave", "wrong")
    told = retrieval.sync(Context(live.settings, live.usecase, origin))
    assert told.documents.removed == 1
    assert told.chunks.deleted == 1
    live.commit(changed(DOCUMENTS, "leave", text="Leave is granted at once."))
    told = retrieval.sync(Context(live.settings, live.usecase, origin))
    assert told.documents.added == 1
    with database.connect(live.settings, "retriever") as connection:
        assert keys(rows_of(connection, token(live, "clerk"), 10)) == ["leave", "notice"]


def aside(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def waits(attacker: psycopg.Connection[Any]) -> None:
    """Returns when some session waits for an advisory lock."""
    for _ in range(400):
        if rows(attacker, "select 1 from pg_locks where locktype = 'advisory' and not granted"):
            return
        threading.Event().wait(0.05)
    raise AssertionError("nobody waits")


def test_a_withdrawal_during_a_build_is_not_resurrected(
    live: Library, origin: Origin, attacker: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The withdrawal commits after the builder has read the document and before it attaches."""
    live.commit(changed(DOCUMENTS, "notice", text="The office is open."))
    planned = retrieval.plan(Context(live.settings, live.usecase, origin))
    for batch in range(planned.batches):
        retrieval.embed(Context(live.settings, live.usecase, origin), planned, batch)
    load = building._load

    def slow(*arguments: Any) -> int:
        generation = load(*arguments)
        with database.connect(live.settings, "pipeline") as connection:
            database.call(connection, "rag.withdraw", "demo", "leave", "wrong")
        return generation

    monkeypatch.setattr(building, "_load", slow)
    built = retrieval.build(Context(live.settings, live.usecase, origin), planned)
    checked = retrieval.check(Context(live.settings, live.usecase, origin), built)
    assert checked.passed, checked.gates
    assert retrieval.swap(Context(live.settings, live.usecase, origin), built, checked).swapped is True
    assert rows(attacker, "select count(*) from rag.chunk where document_key = 'leave' and status = 1") == [(0,)]
    monkeypatch.undo()


def test_a_withdrawal_that_is_open_during_a_swap_is_waited_for(
    live: Library, origin: Origin, attacker: psycopg.Connection[Any]
) -> None:
    live.commit(changed(DOCUMENTS, "notice", text="The office is open."))
    planned = retrieval.plan(Context(live.settings, live.usecase, origin))
    retrieval.embed(Context(live.settings, live.usecase, origin), planned, 0)
    built = retrieval.build(Context(live.settings, live.usecase, origin), planned)
    checked = retrieval.check(Context(live.settings, live.usecase, origin), built)
    told: list[retrieval.Swapped] = []
    with database.connect(live.settings, "pipeline") as connection:
        with connection.transaction():
            database.call(connection, "rag.withdraw", "demo", "leave", "wrong")
            thread = aside(
                lambda: told.append(retrieval.swap(Context(live.settings, live.usecase, origin), built, checked))
            )
            waits(attacker)
        thread.join(60)
    assert told[0].swapped is True
    assert rows(attacker, "select count(*) from rag.chunk where document_key = 'leave' and status = 1") == [(0,)]


def test_a_generation_begins_after_the_withdrawals_it_counts(live: Library, attacker: psycopg.Connection[Any]) -> None:
    """A withdrawal that has its number and has not committed is waited for, so that no later one hides it."""
    told: list[Any] = []

    def begin() -> None:
        with database.connect(live.settings, "pipeline") as other:
            told.extend(database.call(other, "rag.create_version", "demo", "e", "{}", ["acme"]))

    with database.connect(live.settings, "pipeline") as connection:
        with connection.transaction():
            database.call(connection, "rag.withdraw", "demo", "leave", "wrong")
            thread = aside(begin)
            waits(attacker)
        thread.join(60)
    (mark,) = rows(
        attacker, "select tombstone_mark from rag.generation where generation_id = %s", told[0]["generation_id"]
    )
    assert mark == rows(attacker, "select max(seq) from rag.withdrawal")[0]


def test_readers_go_on_while_an_index_is_attached(live: Library, origin: Origin) -> None:
    """An open reading transaction does not keep an index from going live, nor the other way round."""
    live.commit(changed(DOCUMENTS, "notice", text="The office is open."))
    with database.connect(live.settings, "retriever") as reader, reader.transaction():
        clerk = token(live, "clerk")
        assert len(found(reader, clerk)["chunk_ids"]) == 2
        assert retrieval.sync(Context(live.settings, live.usecase, origin)).swapped is True
        assert len(found(reader, clerk)["chunk_ids"]) == 2


def test_an_erased_document_is_gone_from_every_generation(
    live: Library, origin: Origin, attacker: psycopg.Connection[Any]
) -> None:
    live.commit(changed(DOCUMENTS, "notice", text="The office is open."))
    retrieval.sync(Context(live.settings, live.usecase, origin))
    with database.connect(live.settings, "pipeline") as connection:
        (row,) = database.call(connection, "rag.erase", "demo", "leave", "a person asked")
    assert row == {"chunks": 2, "embeddings": 1}
    assert rows(attacker, "select count(*) from rag.chunk where document_key = 'leave'") == [(0,)]


def test_an_embedding_that_another_document_shares_stays(live: Library, origin: Origin) -> None:
    live.commit({**DOCUMENTS, "copy": DOCUMENTS["leave"]})
    retrieval.sync(Context(live.settings, live.usecase, origin))
    with database.connect(live.settings, "pipeline") as connection:
        (row,) = database.call(connection, "rag.erase", "demo", "leave", "a person asked")
    assert row == {"chunks": 2, "embeddings": 0}


def test_the_live_generation_cannot_be_dropped(live: Library) -> None:
    with database.connect(live.settings, "pipeline") as connection, pytest.raises(Refused, match="is live"):
        database.call(connection, "rag.drop_version", 1)


def test_the_last_two_that_were_live_stay(live: Library, origin: Origin, attacker: psycopg.Connection[Any]) -> None:
    for text in ("Second.", "Third.", "Fourth."):
        live.commit(changed(DOCUMENTS, "notice", text=text))
        retrieval.sync(Context(live.settings, live.usecase, origin))
    with database.connect(live.settings, "pipeline") as connection:
        assert pruning.drop_superseded(connection, "demo") == pruning.Dropped([2, 1], [], [])
        assert pruning.drop_superseded(connection, "demo") == pruning.Dropped([], [], [])
    assert [name for name in relations(attacker) if name.startswith("chunk_g")] == [
        f"chunk_g{generation}{part}" for generation in (3, 4) for part in ("", "_t1", "_t2")
    ]


def test_a_long_reader_is_not_waited_for(live: Library, origin: Origin) -> None:
    for text in ("Second.", "Third."):
        live.commit(changed(DOCUMENTS, "notice", text=text))
        retrieval.sync(Context(live.settings, live.usecase, origin))
    with database.connect(live.settings, "pipeline") as connection:
        with database.connect(live.settings, "evaluator") as reader, reader.transaction():
            database.fetch(
                reader,
                "retrieval",
                "search_generation",
                token=token(live, "clerk"),
                generation=1,
                embedding=QUERY,
                text="",
                k=1,
            )
            assert pruning.drop_superseded(connection, "demo").busy == [1]
        assert pruning.drop_superseded(connection, "demo").dropped == [1]


def test_a_rollback_is_followed_by_the_generation(
    live: Library, origin: Origin, attacker: psycopg.Connection[Any]
) -> None:
    from pipeline import deployments

    with database.connect(live.settings, "pipeline") as connection:
        first = deployments.live(connection, "demo")
        live.commit(changed(DOCUMENTS, "notice", text="Second."))
        retrieval.sync(Context(live.settings, live.usecase, origin))
        assert first is not None
    checks = [Check("registry.to_nothing", "pass", "it was asked for")]
    with database.connect(live.settings, "approver") as connection:
        decided = deployments.decide_rollback(
            connection, first.deployment_id, "engineer", "the new one was worse", checks
        )
        database.call(connection, "release.answer", decided, "approve", "reviewer", "agreed", "demo")
        deployments.promote(connection, decided)
    assert rows(attacker, "select generation_id, state from rag.generation order by 1") == [(1, "live"), (2, "retired")]


def test_a_staging_table_that_was_not_sealed_is_not_attached(live: Library) -> None:
    with database.connect(live.settings, "pipeline") as connection:
        (row,) = database.call(connection, "rag.create_version", "demo", "e", "{}", ["acme"])
        with pytest.raises(Refused, match="was not sealed"):
            database.call(connection, "rag.attach", row["generation_id"], "0" * 64, 1, 1)
        database.call(connection, "rag.seal_version", row["generation_id"])
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(f"insert into {row['staging']} select".encode())


def many(library: Library, connection: database.Connection, chunks: int) -> int:
    """Returns a generation whose one tenant has so many chunks, half of them secret, in clusters."""
    (row,) = database.call(connection, "rag.create_version", "demo", "e", "{}", ["acme"])
    generator = np.random.default_rng(5)
    centres = generator.normal(size=(60, 384))
    noise = generator.normal(size=(chunks, 384)) * 0.5
    vectors = centres[generator.integers(60, size=chunks)] + noise
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = {
        group: database.call(connection, "rag.acl_ids", "demo", "acme", [group], "restricted", "rag")[0]["acl_ids"][0]
        for group in ("staff", "safety")
    }
    entries = [
        Chunked(
            Document(f"d{n}", n, "", "", "", Right("acme", "internal", ("staff" if n % 4 else "safety",)), None),
            [Chunk(0, f"text {n}", canonical.digest_text(str(n)))],
        )
        for n in range(chunks)
    ]
    acl = {entry.document.right: ids[entry.document.right.groups[0]] for entry in entries}
    found = {entry.chunks[0].digest: HalfVector(vectors[n]) for n, entry in enumerate(entries)}
    pairs = [(entry.document, entry.chunks[0]) for entry in entries]
    building._copy(connection, row["staging"], building._rows(row["generation_id"], 0, pairs, acl, found))
    database.call(connection, "rag.seal_version", row["generation_id"])
    return int(row["generation_id"])


def test_many_visible_chunks_are_searched_by_the_graph(library: Library, attacker: psycopg.Connection[Any]) -> None:
    """A tenant of 6,000 chunks: who may see 4,500 goes by the graph, who may see 1,500 is scanned exactly; both get
    what an exact scan gives, and neither sees the other's."""
    rights = [Right("acme", "internal", ("staff",)), Right("acme", "internal", ("safety",))]
    with database.connect(library.settings, "pipeline") as connection:
        access.acl_ids(connection, "demo", rights)
        generation = many(library, connection, 6000)
        corpus_version = library.commit({}).version_id
        database.call(connection, "rag.attach", generation, "0" * 64, corpus_version, corpus_version)
        held = rows(attacker, "select chunk_id, acl_id, embedding::text from rag.chunk order by chunk_id")
        vectors = np.array([json.loads(text) for _, _, text in held], dtype=np.float32)
        for group, route in (("staff", "hnsw"), ("safety", "exact")):
            (opened,) = database.call(connection, "rag.open_session_as", "demo", "acme", [group], "restricted")
            allowed = np.array([(chunk % 4 != 0) is (group == "staff") for chunk, _, _ in held])
            recalls = []
            for place in range(0, 6000, 200):
                query = vectors[place].astype(np.float16).astype(np.float32)
                given = {"token": opened["open_session_as"], "embedding": HalfVector(query)}
                search = database.fetch_one(
                    connection, "retrieval", "search_generation", generation=generation, text="", k=10, **given
                )
                assert search is not None
                hits = database.fetch(connection, "retrieval", "read_hits", audit=search["audit_id"], **given)
                best = set(np.argsort(np.where(allowed, -(vectors @ query), np.inf))[:10].tolist())
                assert search["route"] == route
                assert all(allowed[row["chunk_id"]] for row in hits)
                assert [row["score"] for row in hits] == sorted((row["score"] for row in hits), reverse=True)
                recalls.append(len(best & {row["chunk_id"] for row in hits}) / 10)
            assert np.mean(recalls) >= 0.99, (group, route, recalls)
