"""Anchors: the heads of the audit chain, kept outside the database.

Whoever owns the database can rewrite the whole chain so that it agrees with itself. He cannot rewrite what was written
down elsewhere: each anchor names a block and its hash, and the line before it by digest. Copy the file to a place that
the database's owner cannot reach, and the trail is his word no longer.
"""

import fcntl
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from pipeline import canonical, database
from pipeline.database import Connection
from pipeline.errors import BadInput
from pipeline.records import load, plain
from pipeline.settings import Settings


@dataclass(frozen=True)
class Anchor:
    """One line of the anchors' file."""

    block_no: int
    hash: str
    at: str  # ISO 8601, UTC
    previous: str  # digest of the line before


_FIRST = hashlib.sha256(b"").hexdigest()


def path(settings: Settings) -> Path:
    """Returns the file of the anchors."""
    return settings.anchors / "audit.jsonl"


def warning(settings: Settings) -> str | None:
    """Returns what is weak about where the anchors stand; None where they stand apart from the database's files."""
    if settings.anchors.resolve().is_relative_to(settings.home.resolve()):
        return (
            "the anchors stand in the home folder, beside what they are to vouch for: whoever can rewrite the trail can"
            " rewrite them too. Let NIGHTSHIFT_ANCHORS name a folder elsewhere"
        )
    return None


def anchor(settings: Settings, connection: Connection) -> Anchor | None:
    """Returns the anchor of the chain's head, appended and on the disk; None while nothing was sealed."""
    head = database.fetch_one(connection, "maintenance", "audit_head")
    assert head is not None
    if head["block_no"] is None:
        return None
    file = path(settings)
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "r+b") as target:
        fcntl.flock(target, fcntl.LOCK_EX)
        lines = target.read().splitlines()
        previous = hashlib.sha256(lines[-1]).hexdigest() if lines else _FIRST
        line = Anchor(head["block_no"], head["hash"], head["at"].isoformat(), previous)
        target.write(canonical.dumps(plain(line)).encode() + b"\n")
        target.flush()
        os.fsync(target.fileno())
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return line


def read(settings: Settings) -> tuple[list[Anchor], list[str]]:
    """Returns the anchors, oldest first, and what is wrong with their file: empty when each line follows the one
    before."""
    file = path(settings)
    if not file.exists():
        return [], []
    anchors: list[Anchor] = []
    problems = []
    before = _FIRST
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        try:
            anchor = load(Anchor, json.loads(line))
        except (ValueError, BadInput):
            problems.append(f"{file}:{number} is not an anchor")
        else:
            if anchor.previous != before:
                problems.append(f"{file}:{number} does not follow the line before it")
            anchors.append(anchor)
        before = hashlib.sha256(line).hexdigest()
    return anchors, problems


def verify(settings: Settings, connection: Connection) -> list[str]:
    """Returns what is wrong: blocks that do not hash as sealed or do not follow one another, rows of the domain's
    tables that are not as their last event says, anchors that the chain does not bear out, and damage to the file
    itself. Empty when the trail stands. Reads every covered row."""
    broken = [f"block {row['block_no']}: {row['problem']}" for row in database.call(connection, "audit.verify")]
    broken += [
        f"{row['object']}{' ' + canonical.dumps(row['row_key']) if row['row_key'] else ''}: {row['problem']}"
        for row in database.call(connection, "audit.verify_rows")
    ]
    anchors, problems = read(settings)
    numbers = sorted({anchor.block_no for anchor in anchors})
    rows = database.fetch(connection, "maintenance", "audit_blocks", blocks=numbers)
    chain = {row["block_no"]: row["hash"] for row in rows}
    for anchor in anchors:
        number = anchor.block_no
        if number not in chain:
            problems.append(f"block {number}: it was anchored at {anchor.at} and the chain ends before it")
        elif chain[number] != anchor.hash:
            problems.append(f"block {number}: it is not the block that was anchored at {anchor.at}")
    return broken + list(dict.fromkeys(problems))


def last(settings: Settings) -> Anchor | None:
    """Returns the newest anchor, or None."""
    anchors, _ = read(settings)
    return anchors[-1] if anchors else None
