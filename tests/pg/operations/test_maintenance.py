"""The daily round, against an attacker who owns the database and one who owns the disk."""

import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pipeline import anchors, database, steps
from pipeline.artifacts import MANIFEST
from pipeline.errors import NotAvailable, Refused
from pipeline.operations import maintenance
from pipeline.settings import Settings
from pipeline.steps import Attempt, Origin, Result, Step

if TYPE_CHECKING:
    from tests.pg.conftest import World

pytestmark = pytest.mark.pg

# What an owner of the database would run after changing an event: every block hashed again.
RECHAIN = """
do $$
declare
    b record;
    v_previous bytea := sha256(''::bytea);
    v_hash bytea;
begin
    for b in select block_no from audit.block order by block_no loop
        v_hash := audit.block_hash(v_previous, (select array_agg(event_id) from audit.block_member m
                                                where m.block_no = b.block_no));
        update audit.block set previous_hash = v_previous, hash = v_hash where block_no = b.block_no;
        v_previous := v_hash;
    end loop;
end $$
"""


def test_the_round_of_a_sound_installation(own_world: "World") -> None:
    first = maintenance.seal_and_verify(own_world.settings)
    assert first.block == 1
    assert first.sealed > 20
    second = maintenance.seal_and_verify(own_world.settings)
    assert (second.sealed, second.block, second.hash) == (0, 1, first.hash)
    file = anchors.path(own_world.settings)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [json.loads(line)["block_no"] for line in file.read_text().splitlines()] == [1, 1]
    assert maintenance.verify_artifacts(own_world.settings).verified > 10


def test_an_empty_installation_has_what_it_came_with_alone_to_seal(settings: Settings) -> None:
    maintenance.seal_and_verify(settings)
    with database.connect(settings, "auditor") as connection:
        sealed = connection.execute("select distinct object from audit.event").fetchall()
    assert {row["object"] for row in sealed} <= {
        "release.person",
        "release.person_alias",
        "lineage.permission",
        "audit.covered",
    }
    assert maintenance.seal_and_verify(settings).sealed == 0
    assert maintenance.verify_artifacts(settings) == maintenance.VerifiedArtifacts(0, 0)
    assert maintenance.sweep_lost(settings) == maintenance.Swept(0, 0, 0)


@pytest.mark.parametrize("how", ["moved", "unmounted", "lost", "forged"])
def test_a_store_that_is_not_as_the_lineage_says_is_an_error(own_world: "World", tmp_path: Path, how: str) -> None:
    """Nothing verified is no success where something should stand."""
    root = Path(own_world.settings.artifacts)
    standing = maintenance.verify_artifacts(own_world.settings).verified
    settings = own_world.settings
    if how == "moved":  # the setting names another place; the artifacts stand where they were recorded
        settings = replace(settings, artifacts=str(tmp_path / "new"))
        assert maintenance.verify_artifacts(settings) == maintenance.VerifiedArtifacts(standing, standing)
        root.rename(tmp_path / "gone")
        with pytest.raises(NotAvailable, match="the artifact store is not there"):
            maintenance.verify_artifacts(settings)
        return
    if how == "unmounted":
        root.rename(tmp_path / "gone")
        root.mkdir()
        with pytest.raises(NotAvailable, match="the artifact store is not there"):
            maintenance.verify_artifacts(settings)
        return
    manifest = next(root.glob(f"card/*/*/{MANIFEST}"))
    if how == "lost":
        manifest.unlink()
    else:
        manifest.write_bytes(next(root.glob(f"dataset/*/*/{MANIFEST}")).read_bytes())
    with pytest.raises(Refused, match="1 artifacts are not what the lineage says"):
        maintenance.verify_artifacts(settings)


def test_a_store_that_was_moved_with_its_content_is_verified_there(own_world: "World", tmp_path: Path) -> None:
    standing = maintenance.verify_artifacts(own_world.settings).verified
    Path(own_world.settings.artifacts).rename(tmp_path / "new")
    moved = replace(own_world.settings, artifacts=str(tmp_path / "new"))
    assert maintenance.verify_artifacts(moved) == maintenance.VerifiedArtifacts(standing, 0)


@pytest.mark.parametrize(
    "tampering",
    [
        "update audit.event set login = 'somebody' where event_id = 3",
        'update audit.event set key = key || \'{"promoted_by": "nobody"}\' where event_id = 3',
        "delete from audit.block_member where event_id = 3; delete from audit.event where event_id = 3",
        "delete from audit.block_member; delete from audit.block",
        "update audit.event set at = at - interval '1 day' where event_id = 3",
    ],
)
def test_a_change_after_the_sealing_is_found(world: "World", attacker: psycopg.Connection[Any], tampering: str) -> None:
    maintenance.seal_and_verify(world.settings)
    attacker.execute(tampering.encode())
    with pytest.raises(Refused, match="behind the audit trail's back"):
        maintenance.seal_and_verify(world.settings)


def test_a_rewritten_chain_that_agrees_with_itself_is_found_by_its_anchor(
    world: "World", attacker: psycopg.Connection[Any]
) -> None:
    maintenance.seal_and_verify(world.settings)
    attacker.execute("update audit.event set login = 'somebody' where event_id = 3")
    attacker.execute(RECHAIN)
    assert attacker.execute("select * from audit.verify()").fetchall() == [], "the chain alone cannot tell"
    with pytest.raises(Refused, match="not the block that was anchored"):
        maintenance.seal_and_verify(world.settings)


def test_a_suffix_rewritten_together_with_the_home_folder_is_found_by_anchors_elsewhere(
    world: "World", attacker: psycopg.Connection[Any], tmp_path: Path
) -> None:
    """Whoever owns the database and its home folder rewrites the last block, and the anchors that he can reach."""
    apart = replace(world.settings, anchors_folder=tmp_path / "share" / "anchors")
    maintenance.seal_and_verify(world.settings)
    assert maintenance.seal_and_verify(world.settings).warning is not None, "they stand beside the database"
    with database.connect(world.settings, "pipeline") as connection:
        database.call(connection, "rag.withdraw", "demo", "leave", "replaced")
    maintenance.seal_and_verify(world.settings)
    assert maintenance.seal_and_verify(apart).warning is None
    attacker.execute(
        "update audit.event set login = 'somebody' where event_id = (select max(event_id) from audit.event)"
    )
    attacker.execute(RECHAIN)
    file = anchors.path(world.settings)
    first = file.read_bytes().splitlines()[0]
    file.write_bytes(first + b"\n")
    with database.connect(world.settings, "auditor") as connection:
        assert anchors.verify(world.settings, connection) == [], "nothing that he can reach tells of it"
        anchors.anchor(world.settings, connection)
        assert anchors.verify(world.settings, connection) == []
        assert any("not the block that was anchored" in what for what in anchors.verify(apart, connection))
    with pytest.raises(Refused, match="not the block that was anchored"):
        maintenance.seal_and_verify(apart)


@pytest.mark.parametrize("place", ["anchors", "deep/in/the/home", ".", "link"])
def test_anchors_in_the_home_folder_are_warned_of(settings: Settings, tmp_path: Path, place: str) -> None:
    folder = settings.home / place
    if place == "link":
        folder = tmp_path / "link"
        folder.symlink_to(settings.home)
    assert "beside what they are to vouch for" in (anchors.warning(replace(settings, anchors_folder=folder)) or "")
    assert anchors.warning(replace(settings, anchors_folder=tmp_path / "elsewhere")) is None


def test_a_row_that_was_changed_behind_the_trail_stops_the_sealing(
    world: "World", attacker: psycopg.Connection[Any]
) -> None:
    maintenance.seal_and_verify(world.settings)
    attacker.execute("alter table release.approval disable trigger user")
    attacker.execute("update release.approval set person = 'auditor'")
    before = anchors.path(world.settings).read_bytes()
    with pytest.raises(Refused, match=r"release.approval \{.*not as it was written"):
        maintenance.seal_and_verify(world.settings)
    assert anchors.path(world.settings).read_bytes() == before


@pytest.mark.parametrize("line", [0, 1])
def test_a_rewritten_anchor_is_found(world: "World", line: int) -> None:
    maintenance.seal_and_verify(world.settings)
    with database.connect(world.settings, "pipeline") as connection:
        database.call(connection, "rag.withdraw", "demo", "leave", "replaced")
    maintenance.seal_and_verify(world.settings)
    maintenance.seal_and_verify(world.settings)
    file = anchors.path(world.settings)
    lines = file.read_text().splitlines()
    told = json.loads(lines[line])
    lines[line] = json.dumps(told | {"hash": "0" * 64}, sort_keys=True, separators=(",", ":"))
    file.write_text("\n".join(lines) + "\n")
    with database.connect(world.settings, "auditor") as connection:
        problems = anchors.verify(world.settings, connection)
    assert any("not the block that was anchored" in problem for problem in problems)
    assert any("does not follow" in problem for problem in problems)


def test_a_removed_anchor_and_a_broken_line_are_found(world: "World") -> None:
    for _ in range(3):
        maintenance.seal_and_verify(world.settings)
    file = anchors.path(world.settings)
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], lines[2]]) + "\n")
    _, problems = anchors.read(world.settings)
    assert len(problems) == 1
    file.write_text("\n".join([lines[0], "half a li"]) + "\n")
    _, problems = anchors.read(world.settings)
    assert "is not an anchor" in problems[0]


def test_damaged_missing_and_undead_artifacts_are_named(own_world: "World", attacker: psycopg.Connection[Any]) -> None:
    store = Path(own_world.settings.artifacts)
    report = own_world.versions["check.report"].digest
    (store / "check_report" / report[:2] / report / "checks.json").write_text("{}")
    adapter = own_world.versions["night-2.sft.adapter"].digest
    (store / "private" / "trainer" / "adapter" / adapter[:2] / adapter / "manifest.json").unlink()
    snapshot = own_world.versions["fetch.documents"]
    attacker.execute(
        "update lineage.artifact_version set purged_at = now() where version_id = %s", [snapshot.version_id]
    )
    with pytest.raises(Refused, match="3 artifacts are not what the lineage says") as error:
        maintenance.verify_artifacts(own_world.settings)
    told = str(error.value)
    assert f"check_report {report[:12]}: checks.json does not match its recorded hash" in told
    assert f"adapter {adapter[:12]}" in told
    assert f"snapshot {snapshot.digest[:12]}: it was purged and is still there" in told


def test_lost_attempts_and_their_scratch(settings: Settings, attacker: psycopg.Connection[Any]) -> None:
    seen: dict[str, Any] = {}

    def work(attempt: Attempt) -> Result:
        left = settings.scratch / "0b9e2f3a-0000-0000-0000-000000000000.1"
        left.mkdir()
        (left / "checkpoint").write_text("of an attempt that was killed")
        (settings.scratch / "training-of-somebody").mkdir()
        seen["first"] = maintenance.sweep_lost(settings)
        assert attempt.scratch.is_dir(), "the scratch of a running attempt stays"
        assert not left.exists()
        assert (settings.scratch / "training-of-somebody").is_dir(), "whose it is, removes it"
        attacker.execute("update lineage.attempt set heartbeat_at = now() - interval '1 hour'")
        seen["second"] = maintenance.sweep_lost(settings)
        return Result({})

    spec = Step("demo", "data.fetch", "pipeline", ("pipeline.canonical",))
    with pytest.raises(Refused):
        steps.run(settings, Origin("cli", "engineer"), spec, work)
    assert seen == {"first": maintenance.Swept(0, 1, 0), "second": maintenance.Swept(1, 1, 0)}
