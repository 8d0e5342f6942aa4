"""The chain from corpus to live index, on the tests' own vectors."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pytest

from pipeline import retrieval, search
from pipeline.context import Context
from pipeline.errors import NotAvailable
from pipeline.records import plain
from pipeline.retrieval.records import DocumentChanges, SyncedChunks
from pipeline.steps import Origin
from tests.pg.retrieval.conftest import DOCUMENTS, Doc, Library, changed

pytestmark = [pytest.mark.pg, pytest.mark.usefixtures("hashed")]


def found(library: Library, text: str, principal: str, k: int = 10) -> list[str]:
    answer = search.search(library.settings, library.usecase, text, principal, k)
    return [hit.document for hit in answer.results]


def test_the_first_sync_makes_an_index_live(library: Library, origin: Origin, hashed: list[int]) -> None:
    library.commit(DOCUMENTS)
    told = retrieval.sync(Context(library.settings, library.usecase, origin))
    assert told.documents == DocumentChanges(4, 0, 0, 0)
    assert told.chunks == SyncedChunks(4, 0, 0)
    assert told.swapped is True
    assert {name: gate["passed"] for name, gate in plain(told.gates).items()} == {
        "counts": True,
        "recall": True,
        "leaks": True,
        "loss": True,
    }
    assert found(library, "leave granted request", "clerk")[0] == "leave"
    assert set(found(library, "leave", "clerk")) == {"leave", "notice"}
    assert set(found(library, "leave", "inspector")) == {"leave", "notice", "hazard"}
    assert found(library, "leave", "stranger") == ["rival"]
    assert hashed[0] == 4


def test_an_unchanged_night_reads_no_text_and_loads_no_model(
    library: Library, origin: Origin, hashed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    library.commit(DOCUMENTS)
    first = retrieval.sync(Context(library.settings, library.usecase, origin))
    hashed.clear()

    def refuse(*_: object) -> None:
        raise AssertionError("no text should have been read")

    monkeypatch.setattr("pipeline.retrieval.loading.documents", refuse)
    second = retrieval.sync(Context(library.settings, library.usecase, origin))
    assert second.unchanged is True
    assert second.swapped is False
    assert second.generation == first.generation
    assert second.documents == DocumentChanges(0, 0, 0, 4)
    assert hashed == []


def test_what_changed_is_embedded_and_nothing_else(library: Library, origin: Origin, hashed: list[int]) -> None:
    library.commit(DOCUMENTS)
    retrieval.sync(Context(library.settings, library.usecase, origin))
    hashed.clear()
    documents = changed(DOCUMENTS, "notice", text="The office is open on Friday.")
    del documents["rival"]
    library.commit(documents)
    told = retrieval.sync(Context(library.settings, library.usecase, origin))
    assert told.documents == DocumentChanges(0, 1, 1, 2)
    assert told.chunks == SyncedChunks(1, 2, 2)
    assert hashed == [1]
    assert found(library, "leave", "stranger") == []


def test_a_change_of_rights_embeds_nothing(library: Library, origin: Origin, hashed: list[int]) -> None:
    library.commit(DOCUMENTS)
    retrieval.sync(Context(library.settings, library.usecase, origin))
    hashed.clear()
    library.commit(changed(DOCUMENTS, "leave", groups=("safety",)))
    told = retrieval.sync(Context(library.settings, library.usecase, origin))
    assert told.swapped is True
    assert told.chunks.embedded == 0
    assert hashed == []
    assert found(library, "leave", "clerk") == ["notice"]


@pytest.mark.parametrize(("day", "expected"), [(date(2000, 1, 1), ["notice"]), (date(2999, 1, 1), ["leave", "notice"])])
def test_a_document_is_served_while_it_is_fresh(
    library: Library, origin: Origin, day: date, expected: list[str]
) -> None:
    library.commit(changed(DOCUMENTS, "leave", fresh_until=day))
    assert retrieval.sync(Context(library.settings, library.usecase, origin)).swapped is True
    assert sorted(found(library, "leave", "clerk")) == expected


def test_content_that_comes_back_is_not_built_again(library: Library, origin: Origin) -> None:
    library.commit(DOCUMENTS)
    first = retrieval.sync(Context(library.settings, library.usecase, origin))
    library.commit(changed(DOCUMENTS, "notice", text="Something else."))
    retrieval.sync(Context(library.settings, library.usecase, origin))
    library.commit({**DOCUMENTS, "draft": changed(DOCUMENTS, "notice", status="withdrawn")["notice"]})
    third = retrieval.sync(Context(library.settings, library.usecase, origin))
    assert third.generation == first.generation
    assert third.swapped is True


def test_a_corpus_that_comes_back_is_read_as_it_is_now(library: Library, origin: Origin) -> None:
    """A, B, and A again: the first and the third version are one artifact, and are indexed once."""
    library.commit(DOCUMENTS)
    first = retrieval.sync(Context(library.settings, library.usecase, origin))
    library.commit({"leave": DOCUMENTS["leave"]})
    retrieval.sync(Context(library.settings, library.usecase, origin))
    library.commit(DOCUMENTS)
    third = retrieval.sync(Context(library.settings, library.usecase, origin))
    assert third.generation == first.generation
    assert third.documents == DocumentChanges(3, 0, 0, 1)
    assert set(found(library, "leave", "clerk")) == {"leave", "notice"}


def test_without_documents_it_says_what_to_do(library: Library, origin: Origin) -> None:
    with pytest.raises(NotAvailable, match="nightshift data commit demo"):
        retrieval.sync(Context(library.settings, library.usecase, origin))


def test_an_empty_corpus_is_an_index_of_nothing(library: Library, origin: Origin) -> None:
    library.commit({})
    told = retrieval.sync(Context(library.settings, library.usecase, origin))
    assert told.swapped is True
    assert found(library, "leave", "clerk") == []


def test_status_names_what_is_live(library: Library, origin: Origin) -> None:
    assert retrieval.status(library.settings, library.usecase) == {"live": None, "generations": []}
    library.commit(DOCUMENTS)
    told = retrieval.sync(Context(library.settings, library.usecase, origin))
    status = retrieval.status(library.settings, library.usecase)
    assert status["live"]["generation_id"] == told.generation
    assert status["live"]["gates"]["leaks"]["leaks"] == 0


def test_a_corpus_that_was_there_before_is_indexed_once(library: Library, origin: Origin) -> None:
    """A, B, and A again are two versions of one artifact: its documents must not come twice."""
    library.commit(DOCUMENTS)
    retrieval.sync(Context(library.settings, library.usecase, origin))
    library.commit({key: doc for key, doc in DOCUMENTS.items() if key != "notice"})
    retrieval.sync(Context(library.settings, library.usecase, origin))
    library.commit(DOCUMENTS)
    told = retrieval.sync(Context(library.settings, library.usecase, origin))
    assert told.passed is True
    assert sorted(found(library, "leave", "inspector")) == ["hazard", "leave", "notice"]


def many(count: int) -> dict[str, Doc]:
    """Returns so many documents of one tenant."""
    return {f"page-{number}": Doc(f"Page {number} is about things.", title="T") for number in range(count)}


@pytest.mark.parametrize(("left", "swaps"), [(20, True), (16, True), (9, False), (0, False)])
def test_an_index_that_lost_most_of_its_documents_waits_for_a_person(
    library: Library, origin: Origin, left: int, swaps: bool
) -> None:
    library.commit(many(20))
    assert retrieval.sync(Context(library.settings, library.usecase, origin)).swapped is True
    library.commit(many(left))
    synced = retrieval.sync(Context(library.settings, library.usecase, origin))
    if left == 20:
        assert synced.unchanged is True
        return
    assert (synced.swapped, synced.passed) == (swaps, swaps)
    assert synced.gates is not None
    assert synced.gates.loss.lost == 20 - left
    if swaps:
        return
    assert len(found(library, "things", "clerk", 100)) == 20, "the old index serves on"
    again = retrieval.sync(Context(library.settings, library.usecase, origin), accept_loss="the handbook was split up")
    assert again.swapped is True
    assert again.gates is not None
    assert again.gates.loss.accepted == {"by": "tester", "reason": "the handbook was split up"}
    assert len(found(library, "things", "clerk", 100)) == left


def test_a_second_sync_has_nothing_to_do_and_says_so(library: Library, origin: Origin) -> None:
    library.commit(DOCUMENTS)
    retrieval.sync(Context(library.settings, library.usecase, origin))
    again = retrieval.sync(Context(library.settings, library.usecase, origin))
    assert (again.unchanged, again.passed, again.swapped, again.gates) == (True, True, False, None)


def test_two_syncs_at_once_embed_once(library: Library, origin: Origin, hashed: list[int]) -> None:
    library.commit(DOCUMENTS)
    hashed.clear()
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: retrieval.sync(Context(library.settings, library.usecase, origin)), range(2))
    assert sorted([first.unchanged, second.unchanged]) == [False, True]
    assert sum(hashed) == 4
