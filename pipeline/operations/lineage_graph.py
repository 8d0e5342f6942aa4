"""Lineage as a graph, and why a run was not answered by an earlier one."""

from typing import Any
from uuid import UUID

from pipeline import database
from pipeline.database import Connection
from pipeline.errors import BadInput
from pipeline.records import plain
from pipeline.settings import Settings
from pipeline.steps import cachekey

_NOTES = {
    "reused": "answered by an earlier run with the same key, whose outputs stand and hash as recorded",
    "first": "there is no finished run of this job before it",
    "same": "nothing in the key changed: it ran with reuse: never, or the earlier outputs do not stand as recorded",
    "changed": "these parts of the key changed",
}


def lineage(settings: Settings, ref: str, down: bool = False, use_case: str | None = None) -> dict[str, Any]:
    """Returns {"root", "nodes", "edges"}: what an artifact version was made from, or with `down` what it went into.

    `ref` is the beginning of a digest (four characters or more), a version's id, `decision:N` or `deployment:N`. A
    decision or a deployment has the versions that it is about as roots; "root" is the first of them. Edges are pairs
    of version ids with the run between them.

    Raises BadInput where nothing or more than one artifact is meant, naming the candidates, and where it is none of
    `use_case`, where one is named.
    """
    with database.connect(settings, "reader") as connection:
        roots = _roots(connection, ref.strip())
        walk = "down" if down else "up"
        nodes: dict[int, dict[str, Any]] = {}
        for root in roots:
            for row in database.fetch(connection, "graph", walk, version_id=root):
                nodes[row["version_id"]] = plain(dict(row))
        for root in roots:
            _of(use_case, ref, nodes[root]["use_case"])
        edges = database.fetch(connection, "graph", "edges", versions=sorted(nodes))
    return {
        "root": nodes[roots[0]],
        "roots": roots,
        "direction": walk,
        "nodes": [nodes[version] for version in sorted(nodes)],
        "edges": [plain(dict(row)) for row in edges],
    }


def _of(use_case: str | None, ref: str, owner: str) -> None:
    """Raises BadInput where something is of another use case than the one that was named."""
    if use_case is not None and owner != use_case:
        raise BadInput(f"this is none of {use_case}", where=ref, found=f"use case {owner}", allowed=use_case)


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
    what = "no artifact version begins so" if not rows else f"{len(rows)} artifact versions begin so"
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


def explain(settings: Settings, run: str, use_case: str | None = None) -> dict[str, Any]:
    """Returns {"run", "job", "state", "reused_from", "compared_with", "changed": [{"part", "before", "after"}],
    "note"}.

    `compared_with` is the run that answered for this one, or else the last finished run of the same job before it: the
    same task's where there is one. `run` may be the beginning of an id.

    Raises BadInput where no run or more than one begins so, and where it is none of `use_case`, where one is named.
    """
    with database.connect(settings, "reader") as connection:
        rows = database.fetch(connection, "graph", "runs", ref=run.strip().lower())
        if len(rows) != 1:
            raise BadInput(
                "no run begins so" if not rows else f"{len(rows)} runs begin so",
                found=run,
                allowed="; ".join(f"{row['run_id']} ({row['job']})" for row in rows[:10]) or None,
                next_step="`nightshift sql nights` and the tasks' results name runs",
            )
        (row,) = rows
        _of(use_case, run, row["use_case"])
        before = _before(connection, row)
    changed = cachekey.difference(before["cache_parts"], row["cache_parts"]) if before else {}
    kind = "reused" if row["reused_from"] else "first" if before is None else "changed" if changed else "same"
    return {
        "run": str(row["run_id"]),
        "use_case": row["use_case"],
        "job": row["job"],
        "state": row["state"],
        "reused_from": _text(row["reused_from"]),
        "compared_with": _text(before["run_id"]) if before else None,
        "changed": [{"part": part, **sides} for part, sides in changed.items()],
        "note": _NOTES[kind],
    }


def _before(connection: Connection, row: dict[str, Any]) -> dict[str, Any] | None:
    if row["reused_from"]:
        (row,) = database.fetch(connection, "graph", "runs", ref=str(row["reused_from"]))
        return dict(row)
    row_or_none = database.fetch_one(connection, "graph", "run_before", run=str(row["run_id"]))
    return dict(row_or_none) if row_or_none else None


def _text(value: UUID | None) -> str | None:
    return None if value is None else str(value)
