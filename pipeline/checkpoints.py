"""Checkpoints of a training: private scratch that a killed training goes on from, and that nothing else reads.

A training's folder is named by what its result depends on, so that only the same training finds it, and one process
at a time holds it. A checkpoint counts once its manifest stands, which is written last, and its files hash to it.
"""

import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from pipeline.settings import Settings

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
_STATE = "trainer_state.json"
_NAMED = re.compile(r"checkpoint-(\d+)")


def folder(settings: Settings, use_case: str, job: str, key: str) -> Path:
    """Returns the folder of one training's checkpoints; `key` says what its result depends on."""
    return settings.checkpoints / use_case / f"{job}.{key[:32]}"


@contextmanager
def held(root: Path) -> Iterator[bool]:
    """Yields whether the folder is this process's alone inside the block, creating it. Where another process is at work
    in it, it stays as it is."""
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def complete(checkpoint: Path) -> None:
    """Writes the manifest of a checkpoint whose files are written; from then on it counts."""
    digests = {path.name: _digest(path) for path in checkpoint.iterdir() if path.is_file()}
    digests |= {
        f"{inner.parent.name}/{inner.name}": _digest(inner) for inner in checkpoint.glob("*/*") if inner.is_file()
    }
    write(checkpoint / MANIFEST, digests)


def write(path: Path, value: Any) -> None:
    """Writes a value as JSON so that a reader sees all of it or what stood there before."""
    part = path.with_name(f".{path.name}.part")
    with part.open("w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def newest(root: Path) -> Path | None:
    """Returns the newest checkpoint that is whole, with the best one that it names whole too; None where there is none.
    What is not whole is removed: a process was killed while it wrote, or somebody changed a file."""
    whole = {}
    for checkpoint in _all(root):
        if _intact(checkpoint):
            whole[checkpoint.name] = checkpoint
        else:
            log.warning("the checkpoint %s is not whole: it is not used", checkpoint.name)
            shutil.rmtree(checkpoint, ignore_errors=True)
    for checkpoint in reversed(whole.values()):
        best = state(checkpoint).get("best_model_checkpoint")
        if best is None or Path(best).name in whole:
            return checkpoint
    return None


def state(checkpoint: Path) -> dict[str, Any]:
    """Returns the trainer's state as a checkpoint holds it."""
    loaded: dict[str, Any] = json.loads((checkpoint / _STATE).read_text())
    return loaded


def prune(root: Path, keep: Collection[str], newest_kept: int = 2) -> None:
    """Removes all checkpoints but the newest and those that are to be kept, by name."""
    for checkpoint in _all(root)[:-newest_kept]:
        if checkpoint.name not in keep:
            shutil.rmtree(checkpoint, ignore_errors=True)


def remove(root: Path) -> None:
    """Removes a training's folder: it has ended, and its adapter stands."""
    shutil.rmtree(root, ignore_errors=True)


def purge(settings: Settings, use_case: str) -> int:
    """Returns how many trainings' checkpoints of a use case are removed: they learned from rows that are to go. What
    writes into one of them fails, and begins anew."""
    folders = list(_trainings(settings.checkpoints / use_case))
    for root in folders:
        shutil.rmtree(root)
    return len(folders)


def sweep(settings: Settings, age: timedelta) -> int:
    """Returns how many folders are removed that nobody holds and nothing was written to for so long."""
    removed = 0
    for use_case in settings.checkpoints.iterdir() if settings.checkpoints.is_dir() else ():
        for root in _trainings(use_case):
            with held(root) as ours:
                if ours and time.time() - _changed(root) > age.total_seconds():
                    shutil.rmtree(root, ignore_errors=True)
                    removed += 1
    return removed


def _trainings(use_case: Path) -> Iterator[Path]:
    yield from (path for path in sorted(use_case.iterdir()) if path.is_dir()) if use_case.is_dir() else ()


def _changed(root: Path) -> float:
    return max(path.stat().st_mtime for path in (root, *root.iterdir()))


def _all(root: Path) -> list[Path]:
    """Returns all checkpoints, by step."""
    numbered = [(int(match[1]), path) for path in root.iterdir() if (match := _NAMED.fullmatch(path.name))]
    return [path for _, path in sorted(numbered)]


def _intact(checkpoint: Path) -> bool:
    try:
        digests = json.loads((checkpoint / MANIFEST).read_text())
        return bool(digests) and all(_digest(checkpoint / name) == digest for name, digest in digests.items())
    except (OSError, ValueError, AttributeError):
        return False


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
