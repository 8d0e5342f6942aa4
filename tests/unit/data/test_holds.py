"""Nothing is dropped or widened in silence."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data import holds
from pipeline.data.catalog import Current, Place
from pipeline.data.documents import Document
from pipeline.data.holds import Catalogue
from pipeline.data.rows import Problem
from pipeline.usecase import CLASSIFICATIONS, Checks

pytestmark = pytest.mark.unit
SEEN = datetime(2026, 1, 1, tzinfo=UTC)
ROW = Document("documents/limits.md", 1, "limits", "Limits", "10 EUR", "main", "confidential", ("staff", "risk"), "x")


def version(row: Document) -> Current:
    """Returns a committed version of a document."""
    return Current(row.digest, row.digest, row.status, row.tenant, row.classification, row.groups, None, SEEN)


def catalogue(*rows: Document, accepted: dict[str, datetime] | None = None) -> Catalogue:
    """Returns a catalogue whose current corpus holds these documents."""
    current = {row.key or "": version(row) for row in rows}
    places = {row.key or "": Place("documents", row.file) for row in rows}
    return Catalogue(current, current, places, accepted or {})


def document(key: str, **keys: object) -> Document:
    """Returns a document of its own file."""
    return replace(ROW, key=key, file=f"documents/{key}.md", **keys)  # type: ignore[arg-type]


def rejected(file: str, key: str | None, rule: str = "front_matter") -> Document:
    """Returns the place of a document that the checks left out."""
    return Document(file, 1, key, problem=Problem(rule, "x"))


def text_waits(row: Document) -> Document:
    """Returns the place of a document whose text a rule left out."""
    return row.place(Problem("credentials", "x"), rights=True)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"classification": "internal"}, ["classification confidential → internal"]),
        ({"classification": "public"}, ["classification confidential → public"]),
        ({"groups": ("staff", "risk", "everyone")}, ["groups staff, risk → staff, risk, everyone"]),
        ({"groups": ("everyone",)}, ["groups staff, risk → everyone"]),
        ({"tenant": "other"}, ["tenant main → other"]),
        ({"classification": "restricted"}, []),
        ({"groups": ("staff",)}, []),
        ({"text": "20 EUR"}, []),
    ],
)
def test_what_is_a_widening(change: dict[str, object], says: list[str]) -> None:
    assert holds.widening(version(ROW), replace(ROW, **change)) == says  # type: ignore[arg-type]


@given(
    st.sampled_from(CLASSIFICATIONS),
    st.sets(st.sampled_from("ab"), min_size=1),
    st.sampled_from(["main", "other"]),
    st.sampled_from(CLASSIFICATIONS),
    st.sets(st.sampled_from("ab")),
    st.sampled_from(["main", "other"]),
)
def test_nobody_reads_more_than_before_without_a_person(
    classification: str, groups: set[str], tenant: str, clearance: str, own: set[str], callers_tenant: str
) -> None:
    """The law, over every change of rights and every caller: by the rule of rag.acl_ids."""

    def reads(row: Document) -> bool:
        enough = CLASSIFICATIONS.index(row.classification) <= CLASSIFICATIONS.index(clearance)
        return (
            row.tenant == callers_tenant and enough and (row.classification == "public" or bool(set(row.groups) & own))
        )

    old = replace(ROW, groups=("a",))
    new = replace(ROW, classification=classification, groups=tuple(sorted(groups)), tenant=tenant)
    held = holds.hold(catalogue(old), [new], [], ["documents"], Checks())
    served = [row for row in held.texts if row.key == "limits"] + ([old] if "limits" in held.kept else [])
    assert not any(reads(row) for row in served) or reads(old)
    # Nor does a person who lost the right keep it because others were to gain it.
    if reads(old) and not reads(new):
        assert not any(reads(row) for row in served)


def test_above_the_limit_all_wait_and_below_it_they_are_findings() -> None:
    old = [document(key) for key in ("a", "b")]
    new = [replace(row, classification="internal") for row in old]
    waits = holds.hold(catalogue(*old), new, [], ["documents"], Checks(max_widened=1))
    assert (list(waits.texts), set(waits.kept), waits.waiting) == ([], {"a", "b"}, 2)
    passes = holds.hold(catalogue(*old), new, [], ["documents"], Checks(max_widened=2))
    assert (list(passes.texts), set(passes.kept), passes.waiting) == (new, set(), 0)
    assert [finding.severity for finding in passes.findings] == ["warning", "warning"]


@pytest.mark.parametrize(("days", "taken"), [(1, True), (-1, False)])
def test_an_acceptance_counts_for_what_came_before_it_alone(days: int, taken: bool) -> None:
    new = replace(ROW, classification="internal")
    accepted = {new.digest: SEEN + timedelta(days=days)}
    held = holds.hold(catalogue(ROW, accepted=accepted), [new], [], ["documents"], Checks())
    assert (list(held.texts) == [new]) is taken


def test_an_acceptance_is_of_this_text_with_these_rights() -> None:
    new = replace(ROW, classification="internal")
    accepted = {new.digest: SEEN + timedelta(days=1)}
    for other in (replace(new, classification="public"), replace(new, text="20 EUR"), replace(new, groups=("x",))):
        assert holds.hold(catalogue(ROW, accepted=accepted), [other], [], ["documents"], Checks()).waiting == 1


def test_what_was_taken_away_comes_back_wider_only_through_a_person() -> None:
    gone = Catalogue({}, {"limits": version(ROW)}, {}, {})
    held = holds.hold(gone, [replace(ROW, classification="public")], [], ["documents"], Checks())
    assert (list(held.texts), set(held.kept), held.waiting) == ([], set(), 1)
    assert list(holds.hold(gone, [ROW], [], ["documents"], Checks()).texts) == [ROW]


@pytest.mark.parametrize(
    ("row", "kept"),
    [
        (rejected("documents/limits.md", "limits"), {"limits"}),
        (rejected("documents/limits.md", None), {"limits"}),
        (rejected("documents/limits.md", "another-id"), {"limits"}),
        (rejected("documents/moved.md", "limits"), {"limits"}),
        (rejected("documents/limits.md", "limits", "outside"), {"limits"}),
        (rejected("documents/limits.md", "limits", "classification"), {"limits"}),
        (rejected("documents/limits.md", "limits", "erased"), set()),
        (rejected("documents/other.md", "other"), set()),
    ],
)
def test_a_rejected_document_stays_served_as_it_was(row: Document, kept: set[str]) -> None:
    others = [document(f"n{number}") for number in range(3)]
    held = holds.hold(catalogue(ROW, *others), others, [row], ["documents"], Checks())
    assert held.kept == kept


def test_a_rejected_file_does_not_keep_what_another_has_by_now() -> None:
    moved = replace(ROW, file="documents/new.md")
    held = holds.hold(catalogue(ROW), [moved], [rejected("documents/limits.md", "limits")], ["documents"], Checks())
    assert (list(held.texts), set(held.kept)) == ([moved], set())


def test_a_document_that_waits_for_its_text_stays_served_as_it_was() -> None:
    held = holds.hold(catalogue(ROW), [], [text_waits(ROW)], ["documents"], Checks())
    assert (set(held.kept), held.waiting) == ({"limits"}, 0)
    assert [finding.rule for finding in held.findings] == ["served_as_before"]


@pytest.mark.parametrize(
    "change", [{"classification": "restricted"}, {"groups": ("staff",)}, {"tenant": "other"}, {"uses": ("train",)}]
)
def test_nobody_keeps_a_right_because_the_text_waits(change: dict[str, object]) -> None:
    held = holds.hold(catalogue(ROW), [], [text_waits(replace(ROW, **change))], ["documents"], Checks())  # type: ignore[arg-type]
    assert not held.kept
    assert not held.texts
    assert not held.findings


def test_a_waiting_document_says_nothing_of_another_that_was_read_from_its_file() -> None:
    other = text_waits(replace(ROW, key="other", classification="restricted"))
    assert holds.hold(catalogue(ROW), [], [other], ["documents"], Checks()).kept == {"limits"}


@pytest.mark.parametrize(
    ("rule", "digest", "kept"),
    [
        ("credentials", ROW.digest, set()),
        ("personal_data", ROW.digest, {"limits"}),
        ("credentials", replace(ROW, text="20 EUR").digest, {"limits"}),
    ],
)
def test_a_version_that_a_person_said_stays_out_is_served_no_longer(rule: str, digest: str, kept: set[str]) -> None:
    confirmed = replace(catalogue(ROW), confirmed=frozenset({(rule, digest)}))
    assert holds.hold(confirmed, [], [text_waits(ROW)], ["documents"], Checks()).kept == kept


@pytest.mark.parametrize(
    ("had", "left", "kept"), [(1, 0, 1), (5, 0, 5), (30, 0, 30), (30, 14, 16), (30, 20, 0), (5, 1, 0), (5, 5, 0)]
)
def test_a_source_that_is_suddenly_empty_withdraws_nothing(had: int, left: int, kept: int) -> None:
    rows = [document(f"n{number}") for number in range(had)]
    held = holds.hold(catalogue(*rows), rows[:left], [], ["documents"], Checks())
    assert (len(held.kept), held.waiting) == (kept, int(kept > 0))
    if kept:
        (finding,) = held.findings
        accepted = {finding.digest or "": SEEN}
        assert not holds.hold(catalogue(*rows, accepted=accepted), rows[:left], [], ["documents"], Checks()).kept


def test_a_source_that_the_yaml_gave_up_is_given_up() -> None:
    held = holds.hold(catalogue(ROW), [], [], ["elsewhere"], Checks())
    assert (set(held.kept), held.findings) == (set(), [])


class _Walked(dict[str, Current]):
    """A corpus that counts how often somebody goes through all of it."""

    walks = 0

    def keys(self) -> Any:
        self.walks += 1
        return super().keys()


def test_a_rejected_document_is_looked_up_and_the_corpus_not_gone_through_for_each() -> None:
    rows = [document(f"d{number}") for number in range(20)]
    walks = []
    for broken in (1, 20):
        known = catalogue(*rows)
        corpus = _Walked(known.current)
        held = holds.hold(
            replace(known, current=corpus),
            rows[broken:],
            [rejected(row.file, None) for row in rows[:broken]],
            ["documents"],
            Checks(),
        )
        assert held.kept == {row.key for row in rows[:broken]}
        walks.append(corpus.walks)
    assert walks[0] == walks[1]
