"""Search as its users call it: by principal, through the gateway, over what is live or one generation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pipeline import retrieval
from pipeline import usecase as usecase_module
from pipeline.context import Context
from pipeline.errors import BadInput, NotAvailable
from pipeline.search import Searcher, search
from pipeline.steps import Origin, Version
from tests.pg.retrieval.conftest import DOCUMENTS, PRINCIPALS, Doc, Library, changed, rows

pytestmark = pytest.mark.pg


def test_results_name_their_documents(live: Library, attacker: psycopg.Connection[Any]) -> None:
    told = search(live.settings, live.usecase, "leave is granted", "clerk", 1)
    (hit,) = told.results
    assert hit.document == "leave"
    assert hit.text.startswith("# Title\n\nLeave is granted on request.")
    assert 0 < hit.score <= 1
    assert told.route == "exact"
    ((audit, principal),) = rows(
        attacker, "select audit_id, principal from rag.retrieval_audit order by 1 desc limit 1"
    )
    assert (told.audit_id, principal) == (audit, "clerk")


def test_an_empty_answer_names_its_audit_row(live: Library, origin: Origin, attacker: psycopg.Connection[Any]) -> None:
    live.commit({"leave": DOCUMENTS["leave"]})
    retrieval.sync(Context(live.settings, live.usecase, origin))
    told = search(live.settings, live.usecase, "leave", "stranger", 3)
    assert told.results == []
    assert told.route == "empty"
    assert rows(attacker, "select principal from rag.retrieval_audit where audit_id = %s", told.audit_id) == [
        ("stranger",)
    ]


def test_an_unknown_principal_is_told_the_nearest(live: Library) -> None:
    with pytest.raises(BadInput, match="did you mean inspector"):
        search(live.settings, live.usecase, "leave", "inspektor", 3)


def test_nothing_live_yet_is_an_empty_answer(library: Library, origin: Origin, hashed: list[int]) -> None:
    library.commit(DOCUMENTS)
    retrieval.plan(Context(library.settings, library.usecase, origin))
    told = search(library.settings, library.usecase, "leave", "clerk", 3)
    assert (told.results, told.route) == ([], "empty")


def test_a_searcher_embeds_its_questions_together(live: Library, hashed: list[int]) -> None:
    hashed.clear()
    with Searcher(live.settings, live.usecase, "inspector") as searcher:
        answers = searcher.search_all(["leave is granted", "the press has a guard"], 1)
    assert [answer.results[0].document for answer in answers] == ["leave", "hazard"]
    assert [passage.document for passage in answers[1].passages] == ["hazard"]
    assert hashed == [2]


def test_a_searcher_can_ask_an_older_generation(
    live: Library, origin: Origin, attacker: psycopg.Connection[Any]
) -> None:
    (found,) = rows(attacker, "select index_version_id, index_digest from lineage.live")
    older = Version(found[0], "index_generation", "index", found[1])
    live.commit(changed(DOCUMENTS, "leave", groups=("safety",)))
    retrieval.sync(Context(live.settings, live.usecase, origin))
    with Searcher(live.settings, live.usecase, "clerk", index=older) as searcher:
        assert "leave" in [hit.document for hit in searcher.search("leave", 5).results]
    with Searcher(live.settings, live.usecase, "clerk") as searcher:
        assert "leave" not in [hit.document for hit in searcher.search("leave", 5).results]
    with pytest.raises(NotAvailable, match="no longer exists"):
        Searcher(live.settings, live.usecase, "clerk", index=Version(10**6, "index_generation", "index", "0" * 64))


def test_with_the_real_model_a_question_finds_its_answer(
    settings: Any, usecase_folder: Callable[..., Path], origin: Origin
) -> None:
    folder = usecase_folder(principals=PRINCIPALS)
    library = Library(settings, usecase_module.load(folder / "usecase.yaml"))
    pages = {
        "vacation": "Every employee may take thirty days off a year.",
        "parking": "Cars are left behind the building.",
        "lunch": "The canteen serves a hot meal at noon.",
    }
    library.commit({key: Doc(text, title="Handbook") for key, text in pages.items()})
    told = retrieval.sync(Context(library.settings, library.usecase, origin))
    assert told.swapped is True, told.gates
    assert told.chunks.embedded == 3
    for question, expected in {
        "How much holiday do I get?": "vacation",
        "Where do I put my vehicle?": "parking",
        "When can I eat?": "lunch",
    }.items():
        found = search(library.settings, library.usecase, question, "clerk", 2).results
        assert found[0].document == expected
        assert found[0].score > found[1].score
