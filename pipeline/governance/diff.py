"""`packet diff`: what differs between two packets, figure by figure."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import BadInput
from pipeline.governance import files


@dataclass(frozen=True)
class ChangedFigure:
    """A figure that says something else in the other packet, or stands in one alone."""

    document: str
    source: str
    pointer: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class ChangedArtifacts:
    """Kind, name and digest of the artifacts that stand in one packet alone."""

    only_before: Sequence[tuple[str, str, str]]
    only_after: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class About:
    """Which packet it is."""

    use_case: str
    decision: int
    final: bool


@dataclass(frozen=True)
class PacketDifference:
    """What differs between two packets."""

    same: bool
    before: About
    after: About
    figures: Sequence[ChangedFigure]
    artifacts: ChangedArtifacts
    documents: Sequence[str]  # that differ in any byte


def diff(before: Path, after: Path) -> PacketDifference:
    """Returns what differs. Raises BadInput for what is no packet; whether a packet is sound is `verify`'s to say."""
    first, second = _read(before), _read(after)
    old, new = _figures(first["evidence.json"]), _figures(second["evidence.json"])
    figures = [
        ChangedFigure(*key, old.get(key), new.get(key))
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    gone, came = _artifacts(first["evidence.json"]), _artifacts(second["evidence.json"])
    documents = {*_documents(first), *_documents(second)}
    return PacketDifference(
        first == second,
        _about(first["evidence.json"]),
        _about(second["evidence.json"]),
        figures,
        ChangedArtifacts(sorted(gone - came), sorted(came - gone)),
        sorted(name for name in documents if first.get(name) != second.get(name)),
    )


def _read(path: Path) -> dict[str, Any]:
    """Returns the files of a packet; evidence.json as its value."""
    contents, problems = files.read(path)
    try:
        return contents | {"evidence.json": json.loads(contents["evidence.json"])}
    except (KeyError, ValueError):
        raise BadInput("this is not a packet", where=path, found="; ".join(problems) or "no evidence.json") from None


def _figures(listing: dict[str, Any]) -> dict[tuple[str, str, str], str]:
    return {
        (entry["document"], entry["source"], f"{entry['pointer']} ({entry['form']})"): entry["text"]
        for entry in listing["figures"]
    }


def _artifacts(listing: dict[str, Any]) -> set[tuple[str, str, str]]:
    return {(entry["kind"], entry["name"], entry["digest"]) for entry in listing["artifacts"]}


def _documents(contents: dict[str, Any]) -> list[str]:
    return list(contents["evidence.json"]["documents"])


def _about(listing: dict[str, Any]) -> About:
    return About(listing["use_case"], listing["decision"], listing["final"])
