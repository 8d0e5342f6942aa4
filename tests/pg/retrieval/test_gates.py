"""The gates notice what they are there for: a wrong right, a missing row, a wrong vector, a wrong text."""

from typing import Any

import psycopg
import pytest

from pipeline import retrieval
from pipeline.context import Context
from pipeline.records import plain
from pipeline.retrieval import Built
from pipeline.steps import Origin
from tests.pg.retrieval.conftest import DOCUMENTS, Doc, Library, rows, with_retrieval

pytestmark = [pytest.mark.pg, pytest.mark.usefixtures("hashed")]

MANY = {
    **DOCUMENTS,
    **{
        f"page{n}": Doc(f"Page {n} speaks of subject {n * 7} and of matter {n * 11}.", groups=("staff",))
        for n in range(20)
    },
    **{
        f"secret{n}": Doc(f"Secret {n} is {n * 13}.", groups=("safety",), classification="restricted") for n in range(5)
    },
}


@pytest.fixture
def built(library: Library, origin: Origin) -> Built:
    """A generation that is built and not yet checked."""
    library.commit(MANY)
    planned = retrieval.plan(Context(library.settings, library.usecase, origin))
    retrieval.embed(Context(library.settings, library.usecase, origin), planned, 0)
    return retrieval.build(Context(library.settings, library.usecase, origin), planned)


def gates(library: Library, origin: Origin, built: Built) -> dict[str, Any]:
    checked = retrieval.check(Context(library.settings, library.usecase, origin), built)
    found: dict[str, Any] = plain(checked.gates)
    assert checked.passed is all(gate["passed"] for gate in found.values())
    return found


def test_a_sound_index_passes(library: Library, origin: Origin, built: Built) -> None:
    found = gates(library, origin, built)
    assert found["counts"] == {"expected": 29, "found": 29, "rights": 4, "differing": 0, "passed": True}
    assert found["recall"]["value"] == 1.0
    assert found["recall"]["queries"] > 5
    assert found["leaks"]["callers"] == 40
    assert found["leaks"]["rows"] > 40


def test_the_number_of_callers_is_the_use_cases(library: Library, origin: Origin, built: Built) -> None:
    library.usecase = with_retrieval(library.usecase, leak_principals=7)
    assert gates(library, origin, built)["leaks"]["callers"] == 7


@pytest.mark.parametrize(
    ("damage", "failing"),
    [
        ("update rag.chunk set acl_id = (select acl_id from rag.acl_set where groups = '{staff}' and tenant = 'acme')"
         " where document_key ~ 'secret'", {"counts", "leaks"}),
        ("update rag.chunk set acl_id = (select acl_id from rag.acl_set where groups = '{safety}')"
         " where document_key ~ 'page'", {"counts", "leaks", "recall"}),
        ("delete from rag.chunk where document_key = 'hazard'", {"counts", "leaks"}),
        ("update rag.chunk set status = 2 where document_key ~ 'page'", {"leaks", "recall"}),
        ("update rag.chunk set body = 'Another text.' where document_key ~ 'page'", {"leaks", "recall"}),
        ("update rag.chunk c set embedding = (select embedding from rag.chunk d where d.document_key = 'rival')"
         " where document_key ~ 'page.'", {"recall"}),
        ("update catalog.document_version set status = 'withdrawn' where title = 'Title' and groups = '{staff}'"
         " and tenant = 'acme'", {"leaks"}),
    ],
)  # fmt: skip
def test_damage_is_noticed(
    library: Library,
    origin: Origin,
    built: Built,
    attacker: psycopg.Connection[Any],
    damage: str,
    failing: set[str],
) -> None:
    attacker.execute(damage.encode())
    found = gates(library, origin, built)
    assert {name for name, gate in found.items() if not gate["passed"]} >= failing


def test_a_failed_gate_blocks_the_swap_and_says_so(
    library: Library, origin: Origin, built: Built, attacker: psycopg.Connection[Any]
) -> None:
    attacker.execute("delete from rag.chunk where document_key = 'hazard'")
    checked = retrieval.check(Context(library.settings, library.usecase, origin), built)
    swapped = retrieval.swap(Context(library.settings, library.usecase, origin), built, checked)
    assert swapped.swapped is False
    assert rows(attacker, "select outcome from release.decision") == [("block",)]
    assert rows(attacker, "select count(*) from lineage.deployment") == [(0,)]
    (recorded,) = rows(attacker, "select gates from rag.generation")[0]
    assert recorded["counts"]["passed"] is False


def test_generated_callers_are_in_the_audit_under_their_own_name(
    library: Library, origin: Origin, built: Built, attacker: psycopg.Connection[Any]
) -> None:
    gates(library, origin, built)
    assert rows(attacker, "select principal, count(*) from rag.retrieval_audit group by 1") == [("leak test", 80)]
