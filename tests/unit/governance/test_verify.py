"""`packet verify` against whoever changes a byte, a figure, a file or a digest, and makes the digests fit again."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import canonical
from pipeline.digests import content_digest
from pipeline.errors import BadInput, NotAvailable
from pipeline.governance import cards, diff, verify

pytestmark = pytest.mark.unit


def names(contents: dict[str, bytes]) -> list[str]:
    return sorted(contents)


def test_a_sound_packet(folder: Path, zipped: Path) -> None:
    found = verify(folder)
    assert found.problems == []
    assert found.verified
    assert found.checked["figures"] > 50
    assert found.checked["recomputed"] == 2
    assert verify(zipped) == found
    told = {entry.what.split(" ")[0]: entry.why for entry in found.unproven}
    assert told["base_model"] == "it stands outside the artifact store"
    assert told["snapshot"] == "it is private"
    assert told["adapter"] == "it is not text"


# Which file and which byte of it, as shares, so that what is drawn does not depend on how long the files are.
SHARE = st.integers(0, 999_999)
FLIPS = {"share": SHARE, "place": SHARE, "flip": st.integers(1, 255)}
PROPERTY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def flipped(data: bytes, place: int, flip: int) -> bytes:
    changed = bytearray(data)
    changed[place * len(data) // 1_000_000] ^= flip
    return bytes(changed)


@PROPERTY
@given(**FLIPS)
def test_any_flipped_byte_of_any_file_is_found(
    folder: Path, contents: dict[str, bytes], share: int, place: int, flip: int
) -> None:
    name = names(contents)[share * len(contents) // 1_000_000]
    (folder / name).write_bytes(flipped(contents[name], place, flip))
    try:
        assert not verify(folder).verified
    finally:
        (folder / name).write_bytes(contents[name])


@PROPERTY
@given(place=FLIPS["place"], flip=FLIPS["flip"])
def test_any_flipped_byte_of_the_zip_file_is_found(zipped: Path, place: int, flip: int) -> None:
    whole = zipped.read_bytes()
    zipped.write_bytes(flipped(whole, place, flip))
    try:
        assert not verify(zipped).verified
    finally:
        zipped.write_bytes(whole)


def test_a_missing_and_an_added_file_are_found(folder: Path, contents: dict[str, bytes]) -> None:
    for name in names(contents):
        (folder / name).unlink()
        assert not verify(folder).verified, name
        (folder / name).write_bytes(contents[name])
    (folder / "extra.md").write_text("one more")
    assert not verify(folder).verified


def sealed_again(folder: Path) -> None:
    """Makes the manifest fit whatever the files are now, as a forger would."""
    entries: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and name != "manifest.json":
            data = path.read_bytes()
            import hashlib

            raw = hashlib.sha256(data).hexdigest()
            entries[name] = {"content": content_digest(name, data), "sha256": raw, "size": len(data)}
    digest = canonical.digest({"kind": "packet", "files": {name: told["content"] for name, told in entries.items()}})
    manifest = {"kind": "packet", "digest": digest, "meta": {}, "files": entries}
    (folder / "manifest.json").write_bytes(canonical.dumps(manifest).encode())


def in_text(old: str, new: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return change


def in_json(change: Callable[[Any], None]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False) + "\n")

    return apply


FORGERIES: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "a better score in the report": ("experiment_report.md", in_text("0.750", "0.950"), "not stated as"),
    "a figure without a source": (
        "gate_report.md",
        in_text("## Checks", "## Checks\n\nPassed 99 of 99.\n"),
        "without evidence",
    ),
    "prose that nobody wrote": (
        "approvals.md",
        in_text("## Waivers", "All is well.\n\n## Waivers"),
        "not what the evidence",
    ),
    "a longer number": ("experiment_report.md", in_text("0.750", "10.750"), "without evidence"),
    "another footnote": ("gate_report.md", in_text("sha256 ", "sha256 0"), "footnotes"),
    "a score in the record": (
        "sources/records/evaluations.json",
        in_json(lambda rows: rows[0]["metrics"]["correct"].update(value=0.95)),
        "does not hash to the digest",
    ),
    "an outcome in the record": (
        "sources/records/decision.json",
        in_json(lambda row: row.update(outcome="block")),
        "does not hash to the digest",
    ),
    "a figure's text": (
        "evidence.json",
        in_json(lambda listing: listing["figures"][0].update(text="other")),
        "the evidence",
    ),
    "a figure's pointer": (
        "evidence.json",
        in_json(lambda listing: listing["figures"][0].update(pointer="/nowhere")),
        "nothing at /nowhere",
    ),
    "a record's digest": (
        "evidence.json",
        in_json(lambda listing: listing["records"].update(decision="0" * 64)),
        "does not hash to the digest",
    ),
    "an artifact left out": (
        "evidence.json",
        in_json(lambda listing: listing["artifacts"].pop()),
        "not those of the lineage",
    ),
    "another decision": ("evidence.json", in_json(lambda listing: listing.update(decision=8)), "another decision"),
    "a document left out": ("evidence.json", in_json(lambda listing: listing["documents"].pop()), "no such document"),
    "a key slipped in": ("evidence.json", in_json(lambda listing: listing.update(note="fine")), "it has the keys"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forger_who_makes_the_manifest_fit_is_found(folder: Path, name: str) -> None:
    file, change, told = FORGERIES[name]
    change(folder / file)
    sealed_again(folder)
    found = verify(folder)
    assert not found.verified
    assert told in str(found.problems)


def test_a_forged_evaluation_file_does_not_fit_its_artifact(folder: Path) -> None:
    path = sorted(folder.glob("sources/artifacts/evaluation/*/files/evaluation.json"))[0]
    path.write_text(path.read_text().replace('"correct":0.0', '"correct":1.0'))
    sealed_again(folder)
    assert "does not hash as the artifact's manifest says" in str(verify(folder).problems)


def test_a_forged_artifact_manifest_does_not_give_its_digest(folder: Path) -> None:
    (path,) = folder.glob("sources/artifacts/adapter/*/manifest.json")
    content = json.loads(path.read_text())
    content["files"]["weights.dat"]["content"] = "0" * 64
    path.write_text(canonical.dumps(content))
    sealed_again(folder)
    assert "does not give the artifact's digest" in str(verify(folder).problems)


Change = Callable[[dict[str, Any]], None]
LIES: dict[str, tuple[Change, str, str]] = {
    "a score": (
        lambda records: records["evaluations"][0]["metrics"]["correct"].update(value=0.95),
        "evaluations",
        "correct is not what its 40 cases give",
    ),
    "an interval": (
        lambda records: records["evaluations"][0]["metrics"]["correct"].update(low=0.74),
        "evaluations",
        "correct is not what its 40 cases give",
    ),
    "a difference": (
        lambda records: records["comparisons"][0].update(difference=0.9),
        "comparisons",
        "40 cases that both",
    ),
    "a threshold": (lambda records: records["policy"]["content"].update(min_cases=1), "policy", "sealed"),
    "another model": (lambda records: records["decision"].update(model_digest="9" * 64), "decision", "rests on 9999"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_forger_who_writes_everything_again_is_held_against_the_artifacts(folder: Path, name: str) -> None:
    """Record, figures, documents and manifest agree with one another; the artifacts do not bear them out."""
    change, record, told = LIES[name]
    listing = json.loads((folder / "evidence.json").read_text())
    records = {name: json.loads((folder / f"sources/records/{name}.json").read_text()) for name in listing["records"]}
    change(records)
    digests = {name: canonical.digest(content) for name, content in records.items()}
    documents, figures = cards.render(records, digests)
    listing |= {"records": digests, "figures": [figure.as_dict(digests[figure.source]) for figure in figures]}
    (folder / "evidence.json").write_text(json.dumps(listing))
    (folder / f"sources/records/{record}.json").write_text(json.dumps(records[record]))
    for document, text in documents.items():
        (folder / document).write_text(text)
    sealed_again(folder)
    found = verify(folder)
    assert [entry.file for entry in found.problems] == [f"sources/records/{record}.json"]
    assert told in found.problems[0].problem


def test_a_picture_that_was_drawn_otherwise_is_found(folder: Path) -> None:
    picture = next(folder.glob("curve_*.svg"))
    report = (folder / "experiment_report.md").read_text()
    assert f"({picture.name})" in report
    assert "163840" in report
    assert "EUR" in report
    picture.write_text(picture.read_text().replace('r="3"', 'r="2"'))
    sealed_again(folder)
    problems = verify(folder).problems
    assert [(entry.file, entry.problem) for entry in problems] == [(picture.name, "it is not what the evidence gives")]


def test_another_installation_says_what_it_cannot_write_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "renderer", lambda: "another")
    found = verify(folder)
    assert found.verified
    assert "the prose and the pictures of the documents" in [entry.what for entry in found.unproven]


def test_random_bytes_are_no_packet(tmp_path: Path) -> None:
    path = tmp_path / "packet.zip"
    path.write_bytes(random.Random(1).randbytes(500))
    assert not verify(path).verified
    other = tmp_path / "notes.txt"
    other.write_text("hello")
    with pytest.raises(BadInput, match="a folder or a zip file"):
        verify(other)
    with pytest.raises(BadInput, match="this folder is not a packet"):
        verify(tmp_path)
    with pytest.raises(NotAvailable):
        verify(tmp_path / "nowhere")


def test_diff_names_the_figures(folder: Path, zipped: Path) -> None:
    assert diff(folder, zipped).same
    in_json(lambda listing: listing["figures"][0].update(text="other"))(folder / "evidence.json")
    found = diff(folder, zipped)
    assert not found.same
    (figure,) = found.figures
    assert figure.before == "other"
    assert found.documents == []
    with pytest.raises(BadInput, match="is not a packet"):
        diff(folder.parent / "store", zipped)


def places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Returns the path of every value inside a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(path for key, part in inner for path in places(part, (*here, key)))]


ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, 7, -1, 1.5, True, "", "x", "../../x", [], {}, [[]], {"x": {}}, ["x"], 10**30]
)


@PROPERTY
@given(share=SHARE, odd=ODD)
def test_any_other_value_anywhere_in_the_evidence_is_a_problem_and_no_crash(
    folder: Path, contents: dict[str, bytes], share: int, odd: Any
) -> None:
    listing = json.loads(contents["evidence.json"])
    paths = places(listing)
    path = paths[share * len(paths) // 1_000_000]
    if not path:
        listing = odd
    else:
        at = listing
        for key in path[:-1]:
            at = at[key]
        if at[path[-1]] == odd and type(at[path[-1]]) is type(odd):
            return
        at[path[-1]] = odd
    (folder / "evidence.json").write_text(json.dumps(listing))
    try:
        assert not verify(folder).verified
    finally:
        (folder / "evidence.json").write_bytes(contents["evidence.json"])


@pytest.mark.parametrize(
    "text", ['{"format": 1}', "{}", "[]", "null", "7", '"x"', "{", "", "[" * 5_000, '{"a": 1, "a": 2}']
)
@pytest.mark.parametrize("name", ["evidence.json", "manifest.json"])
def test_what_is_no_evidence_is_a_problem(folder: Path, contents: dict[str, bytes], name: str, text: str) -> None:
    (folder / name).write_text(text)
    found = verify(folder)
    assert not found.verified
    assert any(problem.file == name for problem in found.problems)


def test_a_record_in_the_place_of_another_is_a_problem(folder: Path) -> None:
    records = sorted((folder / "sources").glob("*.json")) or sorted(folder.rglob("lineage.json"))
    lineage = next(path for path in folder.rglob("lineage.json"))
    for other in [path for path in lineage.parent.glob("*.json") if path != lineage]:
        before = lineage.read_bytes()
        lineage.write_bytes(other.read_bytes())
        found = verify(folder)
        assert not found.verified, other.name
        assert found.problems
        lineage.write_bytes(before)
    assert records
