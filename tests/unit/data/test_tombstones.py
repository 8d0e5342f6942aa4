"""Tombstones recognise what was erased, and say nothing of it."""

from dataclasses import replace

import pytest

from pipeline.data import tombstones
from pipeline.data.documents import Document
from pipeline.data.formats import Example
from pipeline.data.rows import Problem
from pipeline.data.tombstones import Tombstones

pytestmark = pytest.mark.unit

KEY = b"a key of the tests"
TURNS = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ada."}]
ROW = Example("f", 1, "sft", {"messages": TURNS}, subject="p-1")
TEXT = Document("f", 1, "note", "Note", "Ada said so.", "main", "internal", ("staff",), "someone")


def graves(*digests: str, kind: tombstones.RowKind = "example", use_case: str = "demo") -> Tombstones:
    return Tombstones(KEY, "demo", frozenset(tombstones.mark(KEY, use_case, kind, digest) for digest in digests))


def test_a_row_is_recognised_by_its_identity_and_by_its_content() -> None:
    assert graves(ROW.digest).holds(ROW)
    assert graves(ROW.content_digest).holds(replace(ROW, subject=None, documents=("a",)))
    assert not graves(ROW.digest).holds(replace(ROW, subject=None))
    assert not graves().holds(ROW)


@pytest.mark.parametrize("answer", ["Ada. ", "A\u00adda.", "\u200bAda.", "Ada.\ufe0f"])
def test_another_way_to_write_the_same_does_not_come_back(answer: str) -> None:
    """Whatever of a row its erasure left a mark of: each of its identities."""
    other = replace(ROW, content={"messages": [TURNS[0], {"role": "assistant", "content": answer}]}, subject=None)
    marked = [digest for _, digest in tombstones.identities(ROW)]
    assert graves(*marked).holds(other)
    spoken = [digest for _, digest in tombstones.identities(TEXT)]
    assert graves(*spoken, kind="document").holds(replace(TEXT, key="new", text=f"{TEXT.text}\u00a0\n"))


def test_a_document_is_recognised_by_its_version_and_by_its_text() -> None:
    assert graves(TEXT.digest, kind="document").holds(TEXT)
    assert graves(TEXT.text_digest, kind="document").holds(replace(TEXT, key="renamed", title="Other"))
    assert not graves(TEXT.text_digest, kind="document").holds(replace(TEXT, text="Nobody said so."))


def test_use_cases_kinds_and_keys_keep_apart() -> None:
    assert not graves(ROW.digest, use_case="other").holds(ROW)
    assert not graves(ROW.digest, kind="document").holds(ROW)
    assert not replace(graves(ROW.digest), key=b"another").holds(ROW)


def test_a_row_that_could_not_be_read_is_not_looked_up() -> None:
    assert not graves(ROW.digest).holds(replace(ROW, content=None, problem=Problem("malformed", "not JSON")))


def test_the_digest_of_the_list_changes_with_it() -> None:
    assert graves("a" * 64).digest != graves("b" * 64).digest
    assert graves("a" * 64, "b" * 64).digest == graves("b" * 64, "a" * 64).digest
