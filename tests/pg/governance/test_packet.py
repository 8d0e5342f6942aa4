"""Packets of real decisions: what they state, that they are the same for the same state, and what they leave out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pipeline import governance, usecase
from pipeline.context import Context
from pipeline.errors import BadInput, Refused
from pipeline.operations import maintenance
from pipeline.steps import Origin, Reuse
from pipeline.usecase import UseCase

if TYPE_CHECKING:
    from tests.pg.conftest import World

pytestmark = pytest.mark.pg


@pytest.fixture
def demo(usecase_folder: Callable[..., Path]) -> UseCase:
    """The use case of the world."""
    return usecase.load(usecase_folder("demo") / "usecase.yaml")


def build(
    world: "World", demo: UseCase, night: str, reuse: Reuse = "auto", final: bool | None = None
) -> governance.Packet:
    context = Context(world.settings, demo, Origin("cli", "engineer"), reuse)
    return governance.packet(context, world.decisions[night], final)


def test_a_packet_proves_itself_offline_and_online(world: "World", demo: UseCase) -> None:
    made = build(world, demo, "night-1")
    assert made.final
    for path in (Path(made.path), Path(made.zip)):
        found = governance.verify(path)
        assert found.problems == []
        assert found.verified
        assert found.digest == made.digest
        assert found.checked["figures"] > 100
    online = governance.verify(Path(made.zip), world.settings)
    assert online.verified, online.problems
    assert online.online is not None
    assert online.online.registered_at
    assert online.online.changed_since == []


def test_what_cannot_be_proven_is_said(own_world: "World", demo: UseCase) -> None:
    unproven = governance.verify(Path(build(own_world, demo, "night-1").path)).unproven
    told = " ".join(f"{entry.what}: {entry.why}" for entry in unproven)
    assert "snapshot documents" in told
    assert "it is private" in told
    assert "that this packet is the one that was issued" in told


def test_the_same_state_gives_the_same_packet(world: "World", demo: UseCase) -> None:
    first = build(world, demo, "night-1", reuse="never")
    second = build(world, demo, "night-1", reuse="never")
    assert (first.digest, first.reused, second.reused) == (second.digest, False, False)
    assert build(world, demo, "night-1").reused


def test_the_evidence_packet_is_the_same_before_and_after_the_approval(world: "World", demo: UseCase) -> None:
    evidence = build(world, demo, "night-1", final=False)
    final = build(world, demo, "night-1")
    assert evidence.digest != final.digest
    assert "Nobody has answered" in (Path(evidence.path) / "approvals.md").read_text()
    found = governance.diff(Path(evidence.path), Path(final.zip))
    assert found.documents == ["approvals.md"]
    assert {entry.source for entry in found.figures} == {"approvals", "deployment"}
    assert not found.artifacts.only_before


def test_it_states_what_the_database_says(world: "World", demo: UseCase) -> None:
    folder = Path(build(world, demo, "night-1").path)
    stated = {path.name: path.read_text() for path in folder.glob("*.md")}
    assert "0.900 (0.800 to 1.000, n = 40)" in stated["experiment_report.md"]
    assert "+0.600 (+0.500 to +0.700, n = 40)" in stated["experiment_report.md"]
    assert "reviewed the report" in stated["approvals.md"]
    assert "refused" in stated["approvals.md"]
    assert "thresholds › 0 › minimum" in stated["gate_report.md"]
    assert world.versions["night-1.sft.adapter"].digest[:16] in stated["model_card.md"]
    assert "trainer" in stated["lineage.md"]
    assert "answer\\_present" in stated["data_card.md"]


def test_no_text_of_documents_or_examples_is_in_it(world: "World", demo: UseCase) -> None:
    made = build(world, demo, "night-1")
    assert b"secret" not in Path(made.zip).read_bytes()


def test_a_blocked_decision_has_an_evidence_packet_and_no_final_one(world: "World", demo: UseCase) -> None:
    made = build(world, demo, "night-2")
    assert not made.final
    assert "block" in (Path(made.path) / "gate_report.md").read_text()
    with pytest.raises(Refused, match="not been carried out"):
        build(world, demo, "night-2", final=True)


def test_the_newest_decision_is_the_default(world: "World", demo: UseCase) -> None:
    made = governance.packet(Context(world.settings, demo, Origin("cli", "engineer")))
    assert made.decision_id == world.decisions["night-2"]
    found = governance.diff(Path(made.path), Path(build(world, demo, "night-1").path))
    assert not found.same
    assert any(entry.after == "approve\\_with\\_conditions" for entry in found.figures)
    assert any(kind == "adapter" for kind, _, _ in found.artifacts.only_after)


def test_unknown_decisions_are_refused(world: "World", demo: UseCase) -> None:
    with pytest.raises(BadInput, match="no such decision"):
        governance.packet(Context(world.settings, demo, Origin("cli", "engineer")), 999)


def test_later_events_do_not_change_an_old_packet(world: "World", demo: UseCase) -> None:
    before = build(world, demo, "night-1", final=False)
    files = {"card": ("card", "late", b"a card about the same dataset, made later", False)}
    world.run("late", "data.card", files, inputs={"dataset": world.versions["dataset-2.dataset"]})
    assert build(world, demo, "night-1", final=False).digest == before.digest


def test_a_packet_that_was_not_issued_is_found_online(world: "World", demo: UseCase) -> None:
    folder = Path(build(world, demo, "night-1").path)
    forge(folder, "no reason at all")
    found = governance.verify(folder, world.settings)
    assert not found.verified
    assert "registered no packet" in found.problems[-1].problem


@pytest.mark.parametrize(
    "forgery",
    [
        "update eval.evaluation set metrics = jsonb_set(metrics, '{correct,value}', '0.99')",
        "update catalog.dataset_version set counts = '{}'",
        "insert into catalog.split_assignment (use_case, group_digest, split) values ('demo', 'a', 'train')",
        "update release.approval set person = 'auditor' where answer = 'approve'",
        "update lineage.run set facts = '{}'",
        "delete from release.approval where answer = 'refused'",
    ],
)
@pytest.mark.parametrize("sealed", [True, False])
def test_rows_that_were_changed_are_found_online(
    world: "World", demo: UseCase, attacker: psycopg.Connection[Any], forgery: str, sealed: bool
) -> None:
    folder = Path(build(world, demo, "night-1").path)
    if sealed:
        maintenance.seal_and_verify(world.settings)
    assert governance.verify(folder, world.settings).verified
    attacker.execute("set session_replication_role = 'replica'")
    table = forgery.split()[2 if forgery.startswith(("insert", "delete")) else 1]
    attacker.execute(f"alter table {table} disable trigger user".encode())
    assert attacker.execute(forgery.encode()).rowcount > 0, "the forgery changed nothing"
    result = governance.verify(folder, world.settings)
    assert not result.verified
    assert result.online is not None
    assert any(table in what for what in result.online.audit), result.online


def forge(folder: Path, reason: str) -> None:
    """Rewrites a packet from a forged record: its own figures, documents and digests are consistent."""
    from pipeline import canonical
    from pipeline.artifacts import ArtifactStore
    from pipeline.governance import cards, evidence

    listing = json.loads((folder / "evidence.json").read_text())
    records = {name: json.loads((folder / evidence.record_path(name)).read_text()) for name in listing["records"]}
    records["approvals"][-1]["reason"] = reason
    digests = {name: canonical.digest(content) for name, content in records.items()}
    documents, figures = cards.render(records, digests)
    listing |= {"records": digests, "figures": [figure.as_dict(digests[figure.source]) for figure in figures]}
    changed = {evidence.record_path(name): evidence.readable(content) for name, content in records.items()}
    changed |= {name: text.encode() for name, text in documents.items()}
    changed["evidence.json"] = evidence.readable(listing)
    contents: dict[str, bytes | Path] = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path != folder / "manifest.json"
    }
    contents |= changed
    store = ArtifactStore(str(folder.parent / "forged"))
    digest = store.put("packet", contents).digest
    for name, data in changed.items():
        (folder / name).write_bytes(data)
    (folder / "manifest.json").write_bytes(canonical.dumps(store.manifest("packet", digest)).encode())
    assert governance.verify(folder).verified, "offline, a consistent forgery differs by its digest alone"
