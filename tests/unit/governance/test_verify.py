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
from pipeline.artifacts import content_digest
from pipeline.errors import BadInput, NotAvailable
from pipeline.governance import cards, diff, verify

pytestmark = pytest.mark.unit


def names(contents: dict[str, bytes]) -> list[str]:
    return sorted(contents)


def test_a_sound_packet(folder: Path, zipped: Path) -> None:
    found = verify(folder)
    assert found["problems"] == []
    assert found["verified"]
    assert found["checked"]["figures"] > 50
    assert found["checked"]["recomputed"] == 1
    assert verify(zipped) == found
    told = {entry["what"].split(" ")[0]: entry["why"] for entry in found["unproven"]}
    assert told["base_model"] == "it stands outside the artifact store"
    assert told["snapshot"] == "it is private"
    assert told["adapter"] == "it is not text"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_byte_of_any_file_is_found(folder: Path, contents: dict[str, bytes], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(names(contents)))
    place = data.draw(st.integers(0, len(contents[name]) - 1))
    flip = data.draw(st.integers(1, 255))
    changed = bytearray(contents[name])
    changed[place] ^= flip
    (folder / name).write_bytes(bytes(changed))
    try:
        assert not verify(folder)["verified"]
    finally:
        (folder / name).write_bytes(contents[name])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_byte_of_the_zip_file_is_found(zipped: Path, data: st.DataObject) -> None:
    whole = zipped.read_bytes()
    changed = bytearray(whole)
    changed[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    zipped.write_bytes(bytes(changed))
    try:
        assert not verify(zipped)["verified"]
    finally:
        zipped.write_bytes(whole)


def test_a_missing_and_an_added_file_are_found(folder: Path, contents: dict[str, bytes]) -> None:
    for name in names(contents):
        (folder / name).unlink()
        assert not verify(folder)["verified"], name
        (folder / name).write_bytes(contents[name])
    (folder / "extra.md").write_text("one more")
    assert not verify(folder)["verified"]


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
    assert not found["verified"]
    assert told in str(found["problems"])


def test_a_forged_evaluation_file_does_not_fit_its_artifact(folder: Path) -> None:
    (path,) = folder.glob("sources/artifacts/evaluation/*/files/evaluation.json")
    path.write_text(path.read_text().replace("0.75", "0.95"))
    sealed_again(folder)
    assert "does not hash as the artifact's manifest says" in str(verify(folder)["problems"])


def test_a_forged_artifact_manifest_does_not_give_its_digest(folder: Path) -> None:
    (path,) = folder.glob("sources/artifacts/adapter/*/manifest.json")
    content = json.loads(path.read_text())
    content["files"]["weights.dat"]["content"] = "0" * 64
    path.write_text(canonical.dumps(content))
    sealed_again(folder)
    assert "does not give the artifact's digest" in str(verify(folder)["problems"])


def test_a_record_that_says_other_scores_than_its_artifact(folder: Path) -> None:
    """A forger who rewrites record, figures, documents and manifest is held against the evaluation's own file."""
    path = folder / "sources/records/evaluations.json"
    in_json(lambda rows: rows[0]["metrics"]["correct"].update(value=0.95))(path)
    listing = json.loads((folder / "evidence.json").read_text())
    records = {name: json.loads((folder / f"sources/records/{name}.json").read_text()) for name in listing["records"]}
    digests = {name: canonical.digest(content) for name, content in records.items()}
    documents, figures = cards.render(records, digests)
    listing |= {"records": digests, "figures": [figure.as_dict(digests[figure.source]) for figure in figures]}
    (folder / "evidence.json").write_text(json.dumps(listing))
    for name, text in documents.items():
        (folder / name).write_text(text)
    sealed_again(folder)
    found = verify(folder)
    assert [entry["file"] for entry in found["problems"]] == ["sources/records/evaluations.json"]
    assert "other scores" in found["problems"][0]["problem"]


def test_another_installation_says_what_it_cannot_write_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "renderer", lambda: "another")
    found = verify(folder)
    assert found["verified"]
    assert "the prose of the documents" in [entry["what"] for entry in found["unproven"]]


def test_random_bytes_are_no_packet(tmp_path: Path) -> None:
    path = tmp_path / "packet.zip"
    path.write_bytes(random.Random(1).randbytes(500))
    assert not verify(path)["verified"]
    other = tmp_path / "notes.txt"
    other.write_text("hello")
    with pytest.raises(BadInput, match="a folder or a zip file"):
        verify(other)
    with pytest.raises(NotAvailable):
        verify(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert not verify(tmp_path / "empty")["verified"]


def test_diff_names_the_figures(folder: Path, zipped: Path) -> None:
    assert diff(folder, zipped)["same"]
    in_json(lambda listing: listing["figures"][0].update(text="other"))(folder / "evidence.json")
    found = diff(folder, zipped)
    assert not found["same"]
    (figure,) = found["figures"]
    assert figure["before"] == "other"
    assert found["documents"] == []
    with pytest.raises(BadInput, match="this is no packet"):
        diff(folder.parent / "store", zipped)
