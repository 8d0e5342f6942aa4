"""The evidence of a decision: records out of the database, and the artifacts that it rests on.

A record holds ids, digests, counts, measures and persons' answers. It is a function of the decision's state: it holds
no time of asking, and nothing that happened to the lineage after the decision.
"""

import json
from collections.abc import Mapping
from typing import Any

from pipeline import canonical, database
from pipeline.artifacts import MANIFEST, ArtifactStore
from pipeline.database import Connection
from pipeline.errors import BadInput
from pipeline.records import plain
from pipeline.steps import Version

COPIED = (".json", ".md", ".txt", ".yaml", ".jsonl", ".jinja")
LARGEST = 4 << 20  # bytes; what is larger is named by its digest
_ORDER = ("candidate", "champion", "sft", "base")  # of the subjects in a report
_LOCAL = ("host", "process")  # parts of a run's environment that say nothing about its result


def newest(connection: Connection, use_case: str) -> int:
    """Returns the newest decision about a model. Raises BadInput where there is none."""
    row = database.fetch_one(connection, "governance", "newest_decision", use_case=use_case)
    if row is None:
        raise BadInput(
            "no decision has been made for this use case",
            where=use_case,
            next_step=f"`nightshift gate {use_case}`, or run the DAG {use_case}_retrain",
        )
    return int(row["decision_id"])


def decision(connection: Connection, decision_id: int) -> dict[str, Any]:
    """Returns the decision's row, with the deployment that it brought about. Raises BadInput where there is none."""
    row = database.fetch_one(connection, "governance", "decision", decision_id=decision_id)
    if row is None:
        raise BadInput("there is no such decision", found=decision_id, next_step="`nightshift sql nightly_results`")
    return dict(row)


def versions(connection: Connection, decision_id: int) -> list[dict[str, Any]]:
    """Returns the artifact versions that a decision rests on, each with the run that first made it."""
    return [dict(row) for row in database.fetch(connection, "governance", "versions", decision_id=decision_id)]


def pinned(rows: list[dict[str, Any]]) -> dict[str, Version]:
    """Returns the versions as inputs of a step."""
    return {
        f"{row['kind']}/{row['name']}/{row['digest'][:16]}": Version(
            row["version_id"], row["kind"], row["name"], row["digest"]
        )
        for row in rows
    }


def records(connection: Connection, decision_id: int, rows: list[dict[str, Any]], *, final: bool) -> dict[str, Any]:
    """Returns the records by name, as JSON can hold them. Answers and the deployment stand in the final packet alone:
    the packet that a person decides on is the same before and after."""

    def ask(query: str, **parameters: Any) -> list[dict[str, Any]]:
        return [dict(row) for row in database.fetch(connection, "governance", query, **parameters)]

    ids = [row["version_id"] for row in rows]
    runs = sorted({str(row["run_id"]) for row in rows if row["run_id"] is not None})
    about = decision(connection, decision_id)
    about.pop("deployment_id")
    about.pop("policy_id")
    run_rows = ask("runs", runs=runs)
    for run in run_rows:
        run["environment"] = {
            key: value for key, value in (run["environment"] or {}).items() if key not in _LOCAL and value is not None
        }
    evaluations = ask("evaluations", decision_id=decision_id, versions=ids)
    evaluations.sort(key=_reading_order)
    contents = {
        "decision": about,
        "policy": next(iter(ask("policy", decision_id=decision_id)), None),
        "approvals": ask("approvals", decision_id=decision_id) if final else [],
        "waivers": ask("waivers", decision_id=decision_id) if final else [],
        "deployment": ask("deployment", decision_id=decision_id) if final else [],
        "lineage": {
            "versions": [
                {key: value for key, value in row.items() if key not in ("version_id", "uri", "use_case")}
                for row in rows
            ],
            "edges": ask("edges", runs=runs, versions=ids),
        },
        "runs": run_rows,
        "curves": ask("curves", runs=runs),
        "index": ask("index", decision_id=decision_id),
        "datasets": ask("datasets", versions=ids),
        "findings": ask("findings", runs=runs),
        "evaluations": evaluations,
        "comparisons": ask("comparisons", decision_id=decision_id, versions=ids),
    }
    plainly: dict[str, Any] = plain(contents)
    return plainly


def _reading_order(evaluation: Mapping[str, Any]) -> tuple[str, bool, int, str]:
    """Returns what reports sort evaluations by: suite, with retrieval first, the candidate before those it is held
    against."""
    named = evaluation["subject"].split(", ")[0]
    place = _ORDER.index(named) if named in _ORDER else len(_ORDER)
    return evaluation["suite"], not evaluation["retrieval"], place, evaluation["artifact_digest"]


def record_path(name: str) -> str:
    """Returns where a record stands in a packet."""
    return f"sources/records/{name}.json"


def artifact_path(kind: str, digest: str) -> str:
    """Returns the folder of an artifact's manifest and copies in a packet."""
    return f"sources/artifacts/{kind}/{digest}"


def copies(store: ArtifactStore, rows: list[dict[str, Any]]) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """Returns the files of the artifacts that may be shown, by their path in the packet, and the list of all artifacts:
    which files of each are in the packet, and why the others are not."""
    files: dict[str, bytes] = {}
    listed = []
    for row in rows:
        kind, digest = row["kind"], row["digest"]
        entry: dict[str, Any] = {"kind": kind, "name": row["name"], "digest": digest, "private": row["private"]}
        left_out: dict[str, str] = {}
        if row["purged"]:
            entry["absent"] = "it was purged"
        elif row["uri"] is None or not row["uri"].startswith(store.url):
            entry["absent"] = "it stands outside the artifact store"
        else:
            manifest = store.manifest(kind, digest)
            folder = artifact_path(kind, digest)
            files[f"{folder}/{MANIFEST}"] = canonical.dumps(manifest).encode()
            for name, listed_file in sorted(manifest["files"].items()):
                why = _left_out(row, name, listed_file["size"])
                if why:
                    left_out[name] = why
                else:
                    files[f"{folder}/files/{name}"] = store.read(kind, digest, name)
        listed.append(entry | {"left_out": left_out})
    return files, listed


def _left_out(row: Mapping[str, Any], name: str, size: int) -> str | None:
    if row["private"]:
        return "it is private"
    if not name.endswith(COPIED):
        return "it is not text"
    return f"it is larger than {LARGEST} bytes" if size > LARGEST else None


def readable(content: Any) -> bytes:
    """Returns JSON that a person can read, the same for equal values."""
    return (json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
