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
    text = b"# A heading\n\nText."
    found = documents.markdown(text, "documents/Leave Policy.md", DEFAULTS, required=False)
    assert (found.key, found.title, found.tenant, found.groups) == ("leave-policy", "A heading", "main", ("staff",))
    assert (found.classification, found.status, found.retain_until) == ("restricted", "approved", "2030-01-01")


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
    first, second, third, broken = documents.lines(data + b"caf\xe9", "texts/Wiki articles.txt", DEFAULTS)
    assert [row.line for row in (first, second, third)] == [1, 3, 4]
    assert second.text == "État: the state"
    for row in (first, second, third):
        assert row.key == row.title == f"wiki-articles-{row.text_digest[:16]}"
    assert broken.problem is not None
    assert (broken.problem.rule, broken.line) == ("not_utf8", 5)


LINES = st.lists(
    st.text("abc É漢", min_size=1, max_size=30).filter(str.strip), min_size=1, max_size=6, unique_by=str.strip
)


@given(LINES)
def test_no_name_of_a_line_holds_a_word_of_it_and_no_two_collide(texts: list[str]) -> None:
    """Ids and titles are readable by whoever sees a view; the salary of somebody is not."""
    found = documents.lines("\n".join(texts).encode(), "x.txt", DEFAULTS)
    assert len({row.key for row in found}) == len(found)
    for row in found:
        assert re.fullmatch(r"x-[0-9a-f]{16}", row.key or "")
        assert row.title == row.key


SECRET = b"classification: confidential\ngroups: [board]\n"
# What somebody wrote who meant front matter, in the ways that were once taken for text that everyone may read.
MEANT = {
    "two hyphens": b"--\n" + SECRET + b"--\nText.",
    "four hyphens": b"----\n" + SECRET + b"----\nText.",
    "a blank before": b" ---\n" + SECRET + b"---\nText.",
    "a tab before": b"\t---\n" + SECRET + b"---\nText.",
    "a blank line": b"\n---\n" + SECRET + b"---\nText.",
    "blank lines": b"\r\n \r\n---\r\n" + SECRET + b"---\r\nText.",
    "zero width before": "\u200b---\n".encode() + SECRET + b"---\nText.",
    "zero width after": "---\u200b\n".encode() + SECRET + b"---\nText.",
    "no-break before": "\u00a0---\n".encode() + SECRET + b"---\nText.",
    "no-break after": "---\u00a0\n".encode() + SECRET + b"---\nText.",
    "two byte order marks": b"\xef\xbb\xbf\xef\xbb\xbf---\n" + SECRET + b"---\nText.",
    "soft hyphen": "\u00ad---\n".encode() + SECRET + b"---\nText.",
    "word joiner": "\u2060---\n".encode() + SECRET + b"---\nText.",
    "line separator": "---\u2028".encode() + SECRET + b"---\nText.",
    "next line": "---\u0085".encode() + SECRET + b"---\nText.",
    "form feed": b"\x0c---\n" + SECRET + b"---\nText.",
    "TOML": b'+++\nclassification = "confidential"\n+++\nText.',
    "JSON": b'{"classification": "confidential"}\nText.',
    "dashes of a word processor": "———\n".encode() + SECRET + "———\nText.".encode(),
    "no fence": SECRET + b"\nText.",
    "a heading first": b"# Salaries\n\n---\n" + SECRET + b"---\nText.",
    "a comment first": b"<!-- x -->\n---\n" + SECRET + b"---\nText.",
    "quoted": b"> ---\n> classification: confidential\n> ---\nText.",
    "in a code fence": b"```yaml\n" + SECRET + b"```\nText.",
    "unclosed": b"---\n" + SECRET + b"\nText.",
    "closed by dots": b"---\n" + SECRET + b"...\nText.",
    "empty": b"---\n---\nText.",
    "a comment alone": b"---\n# classification: confidential\n---\nText.",
    "repeated": b"---\nclassification: restricted\nclassification: public\n---\nText.",
    "repeated in quotes": b'---\nclassification: restricted\n"classification": public\n---\nText.',
    "unknown": b"---\ngroup: [board]\n---\nText.",
    "unknown by case": b"---\nClassification: restricted\n---\nText.",
    "look-alike letter": "---\nсlassification: restricted\n---\nText.".encode(),
    "merged": b"---\na: &a {classification: restricted}\n<<: *a\n---\nText.",
    "endless groups": b"---\ngroups: &a [*a]\n---\nText.",
    "nested": b"---\nid: " + b"[" * 5_000 + b"]" * 5_000 + b"\n---\nText.",
    "levels": b"---\n" + b"".join(b" " * n + b"a:\n" for n in range(200)) + b"---\nText.",
    "a number of many digits": b"---\nid: " + b"9" * 10_000 + b"\n---\nText.",
    "not a mapping": b"---\nconfidential\n---\nText.",
}


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize("data", MEANT.values(), ids=MEANT.keys())
def test_rights_that_cannot_be_read_are_nobodys(data: bytes, required: bool) -> None:
    found = documents.markdown(data, "documents/salaries.md", DEFAULTS, required=required)
    assert found.problem is not None
    assert found.problem.rule == "front_matter"
    assert (found.text, found.classification, found.groups, found.key) == (None, "", (), "salaries")


def test_line_ends_of_an_old_machine_are_line_ends() -> None:
    assert documents.markdown(FULL.replace(b"\n", b"\r"), "documents/a.md", DEFAULTS) == (
        documents.markdown(FULL, "documents/a.md", DEFAULTS)
    )


@given(st.text(max_size=80))
def test_without_front_matter_nothing_is_accepted_where_it_is_required(text: str) -> None:
    found = documents.markdown(text.encode("utf-8", "surrogatepass"), "a.md", DEFAULTS)
    assert found.problem is not None or text.removeprefix("\ufeff").startswith("---")


def test_defaults_let_nobody_read() -> None:
    found = documents.markdown(b"---\nid: a\n---\nText.", "a.md", DocumentDefaults())
    assert (found.classification, found.groups) == ("restricted", ("nobody",))


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


@pytest.mark.parametrize(
    ("source", "front", "expected"),
    [
        (("rag", "train", "evaluate", "log"), "", ("rag", "train", "evaluate", "log")),
        (("rag",), "", ("rag",)),
        (("rag", "log"), "uses: [train, rag]\n", ("rag",)),
        (("rag", "train", "evaluate", "log"), "uses: [log, rag]\n", ("rag", "log")),
        (("rag", "train", "evaluate", "log"), "uses: []\n", ()),
        (("rag",), "uses: [train]\n", ()),
    ],
)
def test_front_matter_narrows_what_its_source_may_be_used_for(
    source: tuple[str, ...], front: str, expected: tuple[str, ...]
) -> None:
    found = documents.markdown(f"---\nid: a\n{front}---\nText.".encode(), "a.md", DEFAULTS, uses=source)
    assert (found.problem, found.uses) == (None, expected)
    assert Document.from_dict(found.as_dict()) == found


@pytest.mark.parametrize("uses", ["rag", "[serve]", "[rag, 3]", "{rag: true}", "true"])
def test_an_unknown_use_leaves_the_document_out(uses: str) -> None:
    found = documents.markdown(f"---\nid: a\nuses: {uses}\n---\nText.".encode(), "a.md", DEFAULTS)
    assert found.problem is not None
    assert found.problem.rule == "front_matter"


def test_a_document_for_anything_has_the_digest_that_it_had_before_uses() -> None:
    plain = documents.markdown(b"---\nid: a\n---\nText.", "a.md", DEFAULTS)
    said = documents.markdown(b"---\nid: a\nuses: [log, rag, evaluate, train]\n---\nText.", "a.md", DEFAULTS)
    limited = documents.markdown(b"---\nid: a\nuses: [rag]\n---\nText.", "a.md", DEFAULTS)
    old = {name: value for name, value in plain.__dict__.items() if name != "uses"}
    kept = documents.metadata_digest({**old, "document_key": plain.key, "text_digest": plain.text_digest})
    assert plain.digest == said.digest == kept
    assert limited.digest != plain.digest
