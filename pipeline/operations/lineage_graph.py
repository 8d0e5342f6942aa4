"""Lineage as a graph, and why a run was not answered by an earlier one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from pipeline import database
from pipeline.database import Connection
from pipeline.errors import BadInput
from pipeline.records import plain
from pipeline.settings import Settings
from pipeline.steps import cachekey

_NOTES = {
    "reused": "answered by an earlier run with the same key, whose outputs exist and match their hashes",
    "first": "there is no finished run of this job before it",
    "same": "nothing in the key changed: it ran with reuse: never, or an earlier output is gone or was changed",
    "changed": "these parts of the key changed",
}


@dataclass(frozen=True)
class Graph:
    """Artifact versions and how they came of one another."""

    root: Mapping[str, Any]  # the first of the roots
    roots: Sequence[int]
    direction: Literal["up", "down"]
    nodes: Sequence[Mapping[str, Any]]  # rows of the lineage, by version id
    edges: Sequence[Mapping[str, Any]]  # source and target by version id, with the run between them


@dataclass(frozen=True)
class ChangedPart:
    """A part of a cache key; None where one side has no such part."""

    part: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Explanation:
    """Why a run was or was not answered by an earlier one."""

    run: str
    use_case: str
    job: str
    state: str
    reused_from: str | None
    compared_with: str | None  # the run that answered for this one, or the last finished one of the job before it
    changed: Sequence[ChangedPart]
    note: str


def lineage(settings: Settings, ref: str, down: bool = False, use_case: str | None = None) -> Graph:
    """Returns what an artifact version was made from, or with `down` what it went into.

    `ref` is the beginning of a digest (four characters or more), a version's id, `decision:N` or `deployment:N`. A
    decision or a deployment has the versions that it is about as roots.

    Raises BadInput where nothing or more than one artifact is meant, naming the candidates, and where it is none of
    `use_case`, where one is named.
    """
    with database.connect(settings, "reader") as connection:
        roots = _roots(connection, ref.strip())
        walk: Literal["up", "down"] = "down" if down else "up"
        nodes: dict[int, dict[str, Any]] = {}
        for root in roots:
            for row in database.fetch(connection, "graph", walk, version_id=root):
                nodes[row["version_id"]] = plain(dict(row))
        for root in roots:
            _of(use_case, ref, nodes[root]["use_case"])
        edges = database.fetch(connection, "graph", "edges", versions=sorted(nodes))
    listed = [nodes[version] for version in sorted(nodes)]
    return Graph(nodes[roots[0]], roots, walk, listed, [plain(dict(row)) for row in edges])


def _of(use_case: str | None, ref: str, owner: str) -> None:
    """Raises BadInput where something is of another use case than the one that was named."""
    if use_case is not None and owner != use_case:
        raise BadInput(
            f"this belongs to another use case than {use_case}", where=ref, found=f"use case {owner}", allowed=use_case
        )


def _roots(connection: Connection, ref: str) -> list[int]:
    kind, colon, number = ref.partition(":")
    if colon and kind in ("decision", "deployment") and number.isdigit():
        rows = database.fetch(connection, "graph", kind, number=int(number))
        if not rows:
            raise BadInput(f"there is no such {kind}", found=number)
        (row,) = rows
        return [row[key] for key in ("model_version_id", "index_version_id") if row[key] is not None]
    rows = database.fetch(connection, "graph", "versions", ref=ref.lower()) if _digest(ref) else []
    if ref.isdigit():
        rows += [row for row in database.fetch(connection, "graph", "version", number=int(ref)) if row not in rows]
    if len(rows) == 1:
        return [rows[0]["version_id"]]
    what = "no artifact version matches this prefix" if not rows else f"{len(rows)} artifact versions match this prefix"
    raise BadInput(
        what,
        found=ref,
        allowed="; ".join(_named(row) for row in rows[:10])
        or "a digest's beginning (4 or more), a version's id, decision:N, deployment:N",
        next_step="name it by its id" if rows else "`nightshift status` names what is live",
    )


def _digest(ref: str) -> bool:
    return 4 <= len(ref) <= 64 and set(ref.lower()) <= set("0123456789abcdef")


def _named(row: dict[str, Any]) -> str:
    return f"{row['version_id']} ({row['use_case']} {row['kind']} {row['name']} {row['digest'][:12]})"


def explain(settings: Settings, run: str, use_case: str | None = None) -> Explanation:
    """Returns which parts of a run's cache key differ from those of the run before it.

    `compared_with` is the run that answered for this one, or else the last finished run of the same job before it: the
    same task's where there is one. `run` may be the beginning of an id.

    Raises BadInput where no run or more than one begins so, and where it is none of `use_case`, where one is named.
    """
    with database.connect(settings, "reader") as connection:
        rows = database.fetch(connection, "graph", "runs", ref=run.strip().lower())
        if len(rows) != 1:
            raise BadInput(
                "no run matches this prefix" if not rows else f"{len(rows)} runs match this prefix",
                found=run,
                allowed="; ".join(f"{row['run_id']} ({row['job']})" for row in rows[:10]) or None,
                next_step="`nightshift sql nights` and the tasks' results name runs",
            )
        (row,) = rows
        _of(use_case, run, row["use_case"])
        before = _before(connection, row)
    changed = cachekey.difference(before["cache_parts"], row["cache_parts"]) if before else {}
    kind = "reused" if row["reused_from"] else "first" if before is None else "changed" if changed else "same"
    return Explanation(
        str(row["run_id"]),
        row["use_case"],
        row["job"],
        row["state"],
        _text(row["reused_from"]),
        _text(before["run_id"]) if before else None,
        [ChangedPart(part, sides["before"], sides["after"]) for part, sides in changed.items()],
        _NOTES[kind],
    )


def _before(connection: Connection, row: dict[str, Any]) -> dict[str, Any] | None:
    if row["reused_from"]:
        (row,) = database.fetch(connection, "graph", "runs", ref=str(row["reused_from"]))
        return dict(row)
    row_or_none = database.fetch_one(connection, "graph", "run_before", run=str(row["run_id"]))
    return dict(row_or_none) if row_or_none else None


def _text(value: UUID | None) -> str | None:
    return None if value is None else str(value)
