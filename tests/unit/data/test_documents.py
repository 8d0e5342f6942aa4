"""Documents from Markdown files with front matter and from lines."""

import json
import re
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data import documents
from pipeline.data.documents import Document
from pipeline.usecase import DocumentDefaults

pytestmark = pytest.mark.unit

DEFAULTS = DocumentDefaults(tenant="main", groups=("staff",), owner="someone", retain_until=date(2030, 1, 1))
FULL = b"""---
id: card-limits
title: Limits of cards
tenant: northbank
classification: confidential
groups: [risk, legal]
owner: risk-office
status: withdrawn
fresh_until: 2027-06-30
retain_until: "2033-12-31"
source: Handbook, chapter 3
---

# Limits

The limit is 10 EUR.
"""


def test_front_matter_says_what_a_document_is() -> None:
    found = documents.markdown(FULL, "documents/a.md", DEFAULTS)
    assert found == Document(
        file="documents/a.md",
        line=1,
        key="card-limits",
        title="Limits of cards",
        text="# Limits\n\nThe limit is 10 EUR.",
        tenant="northbank",
        classification="confidential",
        groups=("risk", "legal"),
        owner="risk-office",
        source="Handbook, chapter 3",
        status="withdrawn",
        fresh_until="2027-06-30",
        retain_until="2033-12-31",
    )


def test_what_a_document_does_not_say_the_use_case_does() -> None:
    found = documents.markdown(b"# A heading\n\nText.", "documents/Leave Policy.md", DEFAULTS)
    assert (found.key, found.title, found.tenant, found.groups) == ("leave-policy", "A heading", "main", ("staff",))
    assert (found.classification, found.status, found.retain_until) == ("internal", "approved", "2030-01-01")


def test_windows_line_ends_and_a_byte_order_mark_change_nothing() -> None:
    assert documents.markdown(b"\xef\xbb\xbf" + FULL.replace(b"\n", b"\r\n"), "documents/a.md", DEFAULTS) == (
        documents.markdown(FULL, "documents/a.md", DEFAULTS)
    )


@pytest.mark.parametrize(
    ("front", "rule"),
    [
        ("id: a\nclasification: restricted", "front_matter"),  # a misspelt key must not give the default
        ("id: [", "front_matter"),
        ("- a\n- b", "front_matter"),
        ("id: 7", "front_matter"),
        ("id: a\ngroups: staff", "front_matter"),
        ("id: a\ngroups: [1]", "front_matter"),
        ("id: a\nfresh_until: soon", "front_matter"),
        ("id: a\nfresh_until: 2026-02-30", "front_matter"),
        ("id: a\nfresh_until: 2026-02-03 10:00:00", "front_matter"),
        ("id: !!python/object/apply:os.system [ls]", "front_matter"),
        ('id: a\ntitle: "a\\0b"', "not_storable"),
    ],
)
def test_front_matter_that_cannot_be_meant(front: str, rule: str) -> None:
    found = documents.markdown(f"---\n{front}\n---\nText.".encode(), "documents/a.md", DEFAULTS)
    assert found.text is None
    assert found.problem is not None
    assert found.problem.rule == rule


def test_front_matter_without_an_end() -> None:
    found = documents.markdown(b"---\nid: a\n\nText.", "documents/a.md", DEFAULTS)
    assert found.problem is not None
    assert found.problem.rule == "front_matter"


def test_bytes_that_are_not_utf8_are_told_with_their_line() -> None:
    found = documents.markdown(b"---\nid: a\n---\nA caf\xe9.", "documents/a.md", DEFAULTS)
    assert found.problem is not None
    assert (found.problem.rule, found.line, found.key) == ("not_utf8", 4, "a")


def test_one_document_a_line() -> None:
    data = "Anarchism is a political philosophy that is sceptical of all authority.\n\nÉtat: the state\n漢字\n".encode()
    first, second, third, broken = documents.lines(data + b"caf\xe9", "wiki.txt", DEFAULTS)
    assert (first.key, first.line) == ("anarchism-is-a-political-philosophy-that-is-sceptical", 1)
    assert first.title == "Anarchism is a political philosophy that is sceptical"
    assert (second.key, second.line, second.text) == ("etat-the-state", 3, "État: the state")
    assert third.key is not None
    assert third.key.startswith("text-")
    assert broken.problem is not None
    assert (broken.problem.rule, broken.line) == ("not_utf8", 5)


@given(st.text(max_size=60))
def test_a_slug_can_be_cited(text: str) -> None:
    found = documents.slug(text)
    assert found == "" or re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", found)


@given(st.binary(max_size=120))
def test_any_bytes_are_read_without_an_exception(data: bytes) -> None:
    for front in (b"", b"---\n"):
        documents.markdown(front + data, "documents/a.md", DEFAULTS)
    documents.lines(data, "wiki.txt", DEFAULTS)


def test_a_snapshot_gives_the_document_back() -> None:
    found = documents.markdown(FULL, "documents/a.md", DEFAULTS)
    again = Document.from_dict(json.loads(json.dumps(found.as_dict())))
    assert again == found
    assert again.digest == found.digest


def test_the_digest_is_of_text_and_metadata_and_not_of_the_place() -> None:
    found = documents.markdown(FULL, "documents/a.md", DEFAULTS)
    assert found.digest == documents.markdown(FULL, "elsewhere/b.md", DEFAULTS).digest
    for change in (b"10 EUR", b"confidential", b"[risk, legal]", b"withdrawn", b"2027-06-30", b"risk-office"):
        other = {b"confidential": b"public", b"[risk, legal]": b"[risk]", b"withdrawn": b"approved"}
        changed = FULL.replace(change, other.get(change, b"2029-01-01"), 1)
        assert documents.markdown(changed, "documents/a.md", DEFAULTS).digest != found.digest
