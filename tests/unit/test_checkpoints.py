"""Checkpoints: what counts, what is removed, and who may write."""

import json
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from pipeline import checkpoints
from pipeline.settings import Settings

pytestmark = pytest.mark.unit


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoints" / "helpdesk" / "training.sft.0"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path, tmp_path / "usecases", str(tmp_path / "artifacts"), tmp_path / "logins")


def write(root: Path, step: int, best: int | None = None) -> Path:
    """Writes a checkpoint as a trainer does, with an adapter in a folder of its own beside the first."""
    checkpoint = root / f"checkpoint-{step}"
    (checkpoint / "ref").mkdir(parents=True)
    (checkpoint / "ref" / "adapter_model.safetensors").write_bytes(b"reference")
    (checkpoint / "adapter_model.safetensors").write_bytes(f"weights {step}".encode())
    state = {"global_step": step, "best_model_checkpoint": None if best is None else str(root / f"checkpoint-{best}")}
    (checkpoint / "trainer_state.json").write_text(json.dumps(state))
    checkpoints.complete(checkpoint)
    return checkpoint


def cut(checkpoint: Path) -> None:
    (checkpoint / "adapter_model.safetensors").write_bytes(b"weigh")


def change_reference(checkpoint: Path) -> None:
    (checkpoint / "ref" / "adapter_model.safetensors").write_bytes(b"another")


def lose_file(checkpoint: Path) -> None:
    (checkpoint / "trainer_state.json").unlink()


def lose_manifest(checkpoint: Path) -> None:
    (checkpoint / checkpoints.MANIFEST).unlink()


def break_manifest(checkpoint: Path) -> None:
    (checkpoint / checkpoints.MANIFEST).write_text('{"adapter_model')


def empty_manifest(checkpoint: Path) -> None:
    (checkpoint / checkpoints.MANIFEST).write_text("{}")


def list_manifest(checkpoint: Path) -> None:
    (checkpoint / checkpoints.MANIFEST).write_text("[1]")


@pytest.mark.parametrize(
    "damage", [cut, change_reference, lose_file, lose_manifest, break_manifest, empty_manifest, list_manifest]
)
def test_a_checkpoint_that_is_not_whole_is_skipped_and_removed(root: Path, damage: Callable[[Path], None]) -> None:
    earlier, last = write(root, 4), write(root, 12)
    assert checkpoints.newest(root) == last
    damage(last)
    assert checkpoints.newest(root) == earlier
    assert not last.exists()


def test_steps_are_ordered_as_numbers(root: Path) -> None:
    _, last = write(root, 9), write(root, 10)
    assert checkpoints.newest(root) == last


def test_a_checkpoint_whose_best_is_gone_is_of_no_use(root: Path) -> None:
    first, second, third = write(root, 2), write(root, 4, best=2), write(root, 6, best=4)
    assert checkpoints.newest(root) == third
    cut(second)
    assert checkpoints.newest(root) == first, "what goes on from step 6 could not go back to the best"


def test_the_best_and_the_last_two_are_kept(root: Path) -> None:
    for step in range(1, 7):
        write(root, step)
    checkpoints.prune(root, {"checkpoint-2", "checkpoint-None"})
    assert sorted(path.name for path in root.iterdir()) == ["checkpoint-2", "checkpoint-5", "checkpoint-6"]


def test_one_process_holds_a_folder_at_a_time(root: Path) -> None:
    with checkpoints.held(root) as first, checkpoints.held(root) as second:
        assert (first, second) == (True, False)
    with checkpoints.held(root) as again:
        assert again
    assert root.stat().st_mode & 0o777 == 0o755, "the folder was there before"
    with checkpoints.held(root.with_name("new")):
        assert root.with_name("new").stat().st_mode & 0o777 == 0o700


def test_old_ones_are_swept_that_nobody_holds(settings: Settings, root: Path) -> None:
    write(root, 1)
    fresh, old, busy = (root.with_name(f"training.sft.{name}") for name in ("fresh", "old", "busy"))
    for folder in (fresh, old, busy):
        checkpoint = write(folder, 1)
        if folder != fresh:
            for path in (checkpoint, folder):
                os.utime(path, (1, 1))
    with checkpoints.held(busy) as ours:
        assert ours
        assert checkpoints.sweep(settings, timedelta(days=7)) == 1
    assert [path.exists() for path in (fresh, old, busy)] == [True, False, True]


def test_an_erasure_takes_a_use_cases_checkpoints(settings: Settings, root: Path) -> None:
    write(root, 1)
    other = checkpoints.folder(settings, "other", "training.sft", "ab" * 32)
    write(other, 1)
    assert checkpoints.purge(settings, "helpdesk") == 1
    assert not root.exists()
    assert other.exists()
    assert checkpoints.purge(settings, "helpdesk") == checkpoints.purge(settings, "never trained") == 0
