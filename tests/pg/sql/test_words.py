"""Search by words beside search by meaning: what it finds, what it must not tell, and how the two orders become one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pgvector import HalfVector
from psycopg import sql

from pipeline import database, retrieval
from pipeline.context import Context
from pipeline.search import search
from pipeline.steps import Origin
from tests.pg.retrieval.conftest import DOCUMENTS, Doc, Library, rows, with_retrieval

pytestmark = pytest.mark.pg

ORDERS = st.lists(st.integers(0, 30), unique=True, max_size=12)


def fused(connection: psycopg.Connection[Any], first: Sequence[int], second: Sequence[int], k: int) -> list[int]:
    ((chunks,),) = rows(connection, "select rag.fused(%s::bigint[], %s::bigint[], %s)", list(first), list(second), k)
    return list(chunks)


def by_hand(first: Sequence[int], second: Sequence[int], k: int) -> list[int]:
    """Returns the fused order, computed here."""
    places = {chunk: place for place, chunk in enumerate(first)}
    scores = {
        chunk: sum(1 / (61 + order.index(chunk)) for order in (first, second) if chunk in order)
        for chunk in {*first, *second}
    }
    return sorted(scores, key=lambda chunk: (-round(scores[chunk], 12), places.get(chunk, 10**6), chunk))[:k]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ORDERS, ORDERS, st.integers(1, 12))
def test_two_orders_become_one(attacker: psycopg.Connection[Any], first: list[int], second: list[int], k: int) -> None:
    assert fused(attacker, first, second, k) == by_hand(first, second, k)


def test_one_order_alone_stays_as_it_is(attacker: psycopg.Connection[Any]) -> None:
    assert fused(attacker, [5, 3, 9], [], 2) == [5, 3]
    assert fused(attacker, [], [4, 1], 9) == [4, 1]
    assert fused(attacker, [], [], 3) == []


FORMS = {
    f"form{n}": Doc(f"Form KX-{n} is used for matter {n}. The desk signs it. The desk keeps it.", groups=("staff",))
    for n in range(1, 30)
}
HIDDEN = {
    f"hidden{n}": Doc(f"Zirconium report {n}. The desk keeps it.", groups=("safety",), classification="restricted")
    for n in range(5)
}


@pytest.fixture
def forms(library: Library, origin: Origin, hashed: list[int]) -> Library:
    """A live index of thirty papers that differ in a number, for vectors that know nothing of numbers."""
    library.commit({**DOCUMENTS, **FORMS, **HIDDEN})
    assert retrieval.sync(Context(library.settings, library.usecase, origin)).swapped
    return library


@pytest.mark.parametrize("question", ["what is KX-{} for?", "kx {}", "Is form KX/{} signed by the desk?"])
@pytest.mark.parametrize("number", [2, 7, 19, 29])
def test_the_rarest_word_decides(forms: Library, attacker: psycopg.Connection[Any], question: str, number: int) -> None:
    assert by_words(attacker, "english", question.format(number))[0] == f"form{number}"


def by_words(attacker: psycopg.Connection[Any], language: str, text: str) -> list[str]:
    """Returns the documents of the first tenant's newest partition, with every right, in the order of their words."""
    ((part, acl),) = rows(
        attacker,
        "select format('chunk_g%%s_t1', max(generation_id)), (select array_agg(acl_id) from rag.acl_set)"
        " from rag.generation",
    )
    found = rows(
        attacker,
        f"select c.document_key from unnest(rag.nearest_words('{part}', %s, 40, %s, %s, 50)) with ordinality"
        f" as n (chunk_id, place) join rag.{part} c using (chunk_id) order by n.place",
        acl,
        language,
        text,
    )
    return [key for (key,) in found]


def asked(library: Library, text: str, principal: str, *, k: int = 3, direction: int = 0) -> list[str]:
    """Returns the documents that a search gives, best first, for a vector that says nothing about the text."""
    vector = HalfVector(np.eye(1, 384, direction)[0])
    with database.connect(library.settings, "pipeline") as gateway:
        (opened,) = database.call(gateway, "rag.open_session", "demo", principal, "1 minute")
    given = {"token": opened["open_session"], "embedding": vector}
    with database.connect(library.settings, "retriever") as connection:
        found = database.fetch_one(connection, "retrieval", "search", text=text, k=k, **given)
        assert found is not None
        if not found["chunk_ids"]:
            return []
        hits = database.fetch(connection, "retrieval", "read_hits", audit=found["audit_id"], **given)
        return [row["document_key"] for row in hits]


def test_words_give_nobody_what_he_may_not_read(forms: Library) -> None:
    assert not [name for name in asked(forms, "zirconium report", "clerk", k=100) if name.startswith("hidden")]
    assert asked(forms, "zirconium report", "inspector")[0].startswith("hidden")
    assert set(asked(forms, "zirconium KX-7 desk leave", "stranger", k=100)) == {"rival"}


def test_what_a_caller_may_not_see_does_not_move_his_order(forms: Library, origin: Origin, hashed: list[int]) -> None:
    questions = ["which desk keeps form KX-11", "zirconium for matter 4", "leave on Friday"]
    before = [asked(forms, question, "clerk", k=30) for question in questions]
    more = {f"more{n}": Doc(f"KX-11 matter 4 {n}", groups=("safety",), classification="restricted") for n in range(40)}
    forms.commit({**DOCUMENTS, **FORMS, **HIDDEN, **more})
    assert retrieval.sync(Context(forms.settings, forms.usecase, origin)).swapped
    assert [asked(forms, question, "clerk", k=30) for question in questions] == before


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "the of and", "?!", "it's", "O'Neil's \\ back\\slash", "a & b | !c <-> (d", "-5 %", ":*",
        "日本語 ÄÖÜ ﬁ", "'; drop table rag.chunk; --", "https://example.org/a?b=c&d=e\\f", "x" * 3000,
        " ".join(f"word{n}" for n in range(900)),
    ],
)  # fmt: skip
def test_any_text_is_a_question(forms: Library, text: str) -> None:
    assert len(asked(forms, text, "clerk", k=5)) == 5


def test_a_question_of_a_book_is_refused(forms: Library, attacker: psycopg.Connection[Any]) -> None:
    assert asked(forms, "x" * 10_001, "clerk") == []
    ((reason,),) = rows(attacker, "select reason from rag.retrieval_audit order by audit_id desc limit 1")
    assert reason == "a text of more than 10,000 characters"


def test_words_are_those_of_the_language(
    library: Library, origin: Origin, hashed: list[int], attacker: psycopg.Connection[Any]
) -> None:
    papers = {
        "fees": Doc("Die Gebühren betragen zehn Euro."),
        **{f"other{n}": Doc(f"Ein Satz über Nummer {n}.") for n in range(12)},
    }
    library.commit(papers)
    for language, expected in (("german", ["fees"]), ("simple", [])):
        library.usecase = with_retrieval(library.usecase, text_search=language)
        assert retrieval.sync(Context(library.settings, library.usecase, origin)).swapped
        assert by_words(attacker, language, "welche Gebühr") == expected


def test_an_index_by_vectors_alone_has_no_words(
    library: Library, origin: Origin, hashed: list[int], attacker: psycopg.Connection[Any]
) -> None:
    library.usecase = with_retrieval(library.usecase, text_search=None)
    library.commit({**DOCUMENTS, **FORMS})
    assert retrieval.sync(Context(library.settings, library.usecase, origin)).passed
    assert rows(attacker, "select count(*) from rag.chunk where words is not null") == [(0,)]
    found = search(library.settings, library.usecase, "leave is granted", "clerk", 1)
    assert found.results[0].document == "leave"


def test_words_cannot_be_loaded_by_the_builder(library: Library, attacker: psycopg.Connection[Any]) -> None:
    with database.connect(library.settings, "pipeline") as connection:
        (made,) = database.call(connection, "rag.create_version", "demo", "e", "{}", ["acme"], "english")
        statement = sql.SQL(
            "insert into {} values (%s, 'acme', 1, 'd', 1, 0, 1, 1, 'infinity', 't', 'its own body', %s, 'other:1')"
        ).format(sql.Identifier(*made["staging"].split(".")))
        connection.execute(statement, [made["generation_id"], HalfVector(np.eye(1, 384)[0])])
    assert rows(attacker, f"select tsvector_to_array(words) from {made['staging']}") == [(["bodi"],)]


def test_an_unknown_language_is_refused_by_the_database(library: Library) -> None:
    with (
        database.connect(library.settings, "pipeline") as connection,
        pytest.raises(Exception, match="no text search configuration klingon"),
    ):
        database.call(connection, "rag.create_version", "demo", "e", "{}", ["acme"], "klingon")
