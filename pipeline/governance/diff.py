"""`packet diff`: what differs between two packets, figure by figure."""

import json
from pathlib import Path
from typing import Any

from pipeline.errors import BadInput
from pipeline.governance import files


def diff(before: Path, after: Path) -> dict[str, Any]:
    """Returns {"same", "before", "after", "figures", "artifacts", "documents"}.

    `figures`: those that stand in one alone (the other side None) or say something else, by document, source and
    pointer.
    `artifacts`: which came and went, by kind and name. `documents`: the names of those that differ in any byte.
    Raises BadInput for what is no packet; whether a packet is sound is `verify`'s to say.
    """
    first, second = _read(before), _read(after)
    old, new = _figures(first["evidence.json"]), _figures(second["evidence.json"])
    figures = [
        {"document": key[0], "source": key[1], "pointer": key[2], "before": old.get(key), "after": new.get(key)}
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    gone, came = _artifacts(first["evidence.json"]), _artifacts(second["evidence.json"])
    documents = {*_documents(first), *_documents(second)}
    return {
        "same": first == second,
        "before": _about(first["evidence.json"]),
        "after": _about(second["evidence.json"]),
        "figures": figures,
        "artifacts": {"only_before": sorted(gone - came), "only_after": sorted(came - gone)},
        "documents": sorted(name for name in documents if first.get(name) != second.get(name)),
    }


def _read(path: Path) -> dict[str, Any]:
    """Returns the files of a packet; evidence.json as its value."""
    contents, problems = files.read(path)
    try:
        return contents | {"evidence.json": json.loads(contents["evidence.json"])}
    except (KeyError, ValueError):
        raise BadInput("this is no packet", where=path, found="; ".join(problems) or "no evidence.json") from None


def _figures(listing: dict[str, Any]) -> dict[tuple[str, str, str], str]:
    return {
        (entry["document"], entry["source"], f"{entry['pointer']} ({entry['form']})"): entry["text"]
        for entry in listing["figures"]
    }


def _artifacts(listing: dict[str, Any]) -> set[tuple[str, str, str]]:
    return {(entry["kind"], entry["name"], entry["digest"]) for entry in listing["artifacts"]}


def _documents(contents: dict[str, Any]) -> list[str]:
    return list(contents["evidence.json"]["documents"])


def _about(listing: dict[str, Any]) -> dict[str, Any]:
    return {key: listing[key] for key in ("use_case", "decision", "final")}
