"""`packet verify`: every digest computed again, every figure read again, offline; and what could not be proven.

What is proven: the files are those that the packet's digest names; each figure that the documents state stands in the
evidence where its footnote says; no document states a figure beyond those; the evidence hashes to the digests given,
for artifacts the same digest that the lineage names. What is not: see `unproven` in the answer.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from pipeline import anchors, canonical, database, parsing
from pipeline.artifacts import MANIFEST
from pipeline.digests import content_digest
from pipeline.errors import NightshiftError, NotAvailable
from pipeline.governance import agreement, cards, claims, evidence, files, pictures
from pipeline.governance.claims import Figure
from pipeline.settings import Settings

# What reading something that was tampered with may raise.
_UNREADABLE = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    TemplateError,
    NightshiftError,
)
_BOUNDS = parsing.Bounds(size=256 << 20, nodes=5_000_000)


_LISTED: dict[str, type] = {
    "format": int,
    "use_case": str,
    "decision": int,
    "final": bool,
    "renderer": str,
    "documents": list,
    "records": dict,
    "artifacts": list,
    "figures": list,
}


@dataclass(frozen=True)
class Problem:
    """Something that is wrong with a packet."""

    file: str
    problem: str


@dataclass(frozen=True)
class Unproven:
    """Something that the packet alone cannot show."""

    what: str
    why: str


@dataclass(frozen=True)
class Online:
    """What the database says of a packet."""

    registered_at: str | None  # None: it registered no such packet
    changed_since: Sequence[str]  # records that say something else by now
    audit: Sequence[str]  # what is wrong with the audit trail


@dataclass(frozen=True)
class Verification:
    """What a packet's examination came to."""

    verified: bool
    digest: str | None  # computed from its files
    use_case: str | None
    decision: int | None
    final: bool | None
    checked: Mapping[str, int]  # files, records, artifacts, figures, recomputed
    problems: Sequence[Problem]  # empty when it is verified
    unproven: Sequence[Unproven]
    online: Online | None  # None where the database was not asked, or did not answer


_ISSUED = "that this packet is the one that was issued"


class Examination:
    """What is known so far of one packet."""

    def __init__(self, contents: dict[str, bytes]) -> None:
        self.contents = contents
        self.problems: list[Problem] = []
        self.unproven: list[Unproven] = []
        self.known: set[str] = {MANIFEST, "evidence.json"}  # the files that something accounts for

    def problem(self, file: str, what: str) -> None:
        """Notes that something is wrong."""
        self.problems.append(Problem(file, what))

    def json(self, name: str) -> Any:
        """Returns a file's value. Raises ValueError or KeyError where it has none."""
        return parsing.parse_json(self.contents[name], _BOUNDS)


def verify(path: Path, settings: Settings | None = None) -> Verification:
    """Returns what the examination of a packet came to.

    With `settings`, the database is asked too, where it answers: whether it registered this packet, whether its records
    still say the same, and whether its audit trail stands: that nobody changed a row behind its back. Raises
    NotAvailable where there is no packet, BadInput where the path is none.
    """
    contents, wrapping = files.read(path)
    seen = Examination(contents)
    for what in wrapping:
        seen.problem(path.name, what)
    digest = _guarded(seen, MANIFEST, _files)
    listing = _guarded(seen, "evidence.json", lambda _: _listing(seen))
    checked: dict[str, int] = {"files": len(contents)}
    if listing is not None:
        checked |= _guarded(seen, "evidence.json", lambda _: _examine(seen, listing)) or {}
        for name in sorted(contents.keys() - seen.known):
            seen.problem(name, "nothing accounts for this file")
    online = None
    if settings is not None and not seen.problems:
        online = _online(settings, seen, listing, digest)
    else:
        why = "compare its digest with the one in the database, or with one that you kept"
        seen.unproven.append(Unproven(_ISSUED, why))
    about = {key: listing[key] if listing else None for key in ("use_case", "decision", "final")}
    return Verification(
        not seen.problems,
        digest,
        **about,
        checked=checked,
        problems=seen.problems,
        unproven=seen.unproven,
        online=online,
    )


def _guarded(seen: Examination, file: str, part: Any) -> Any:
    """Returns what a part of the examination returns; what it cannot read is a problem of the packet."""
    try:
        return part(seen)
    except _UNREADABLE as error:
        seen.problem(file, f"it cannot be read: {type(error).__name__}: {error}")
        return None


def _files(seen: Examination) -> str:
    """Returns the packet's digest, computed from its files, each compared with the manifest."""
    manifest = seen.json(MANIFEST)
    if canonical.dumps(manifest).encode() != seen.contents[MANIFEST]:
        seen.problem(MANIFEST, "it is not written as the store writes it")
    listed = manifest["files"]
    for name in sorted(listed.keys() | (seen.contents.keys() - {MANIFEST})):
        if name not in listed or name not in seen.contents:
            seen.problem(name, "it is missing" if name in listed else "the manifest does not list it")
            continue
        data = seen.contents[name]
        computed = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "content": _content(name, data)}
        if listed[name] != computed:
            seen.problem(name, "it does not hash as the manifest says")
    contents = {name: _content(name, data) for name, data in sorted(seen.contents.items()) if name != MANIFEST}
    digest = canonical.digest({"kind": "packet", "files": contents})
    if (manifest["kind"], manifest["digest"], manifest["meta"]) != ("packet", digest, {}) or len(manifest) != 4:
        seen.problem(MANIFEST, "it does not give the packet's digest")
    return digest


def _content(name: str, data: bytes) -> str:
    try:
        return content_digest(name, data)
    except _UNREADABLE:
        return "unreadable"


def _listing(seen: Examination) -> dict[str, Any] | None:
    """Returns what evidence.json says, or None where it is not of its form."""
    listing = seen.json("evidence.json")
    if not isinstance(listing, dict) or listing.keys() != _LISTED.keys():
        keys = sorted(map(str, listing)) if isinstance(listing, dict) else type(listing).__name__
        seen.problem("evidence.json", f"it has the keys {keys}, not {sorted(_LISTED)}")
        return None
    wrong = [key for key, kind in _LISTED.items() if type(listing[key]) is not kind]
    for key in wrong:
        seen.problem("evidence.json", f"{key} is not of the kind {_LISTED[key].__name__}")
    return None if wrong else listing


def _examine(seen: Examination, listing: dict[str, Any]) -> dict[str, int]:
    """Returns how many records, artifacts and figures were examined."""
    records = {name: _record(seen, name, digest) for name, digest in listing["records"].items()}
    for entry in listing["artifacts"]:
        _guarded(seen, evidence.artifact_path(entry["kind"], entry["digest"]), lambda _, e=entry: _artifact(seen, e))
    _guarded(seen, "evidence.json", lambda _: _same_artifacts(seen, listing, records))
    figures = _figures(seen, listing, records)
    for name in listing["documents"]:
        seen.known.add(name)
        if name.endswith(pictures.SUFFIX):  # drawn from the evidence: it states no figure, and is drawn again below
            continue
        stated = [figure for figure in figures if figure.document == name]
        text = seen.contents[name].decode()
        for problem in claims.check(name, text, stated, listing["records"]):
            seen.problem(name, problem)
    _guarded(seen, "evidence.json", lambda _: _written_again(seen, listing, records, figures))
    path = evidence.record_path("evaluations")
    computed = _guarded(seen, path, lambda _: agreement.check(seen.contents, records, seen.problem)) or 0
    return {
        "records": len(records),
        "artifacts": len(listing["artifacts"]),
        "figures": len(figures),
        "recomputed": computed,
    }


def _record(seen: Examination, name: str, digest: str) -> Any:
    path = evidence.record_path(name)
    seen.known.add(path)
    content = seen.json(path)
    if canonical.digest(content) != digest:
        seen.problem(path, "it does not hash to the digest that the figures carry")
    return content


def _artifact(seen: Examination, entry: dict[str, Any]) -> None:
    """Computes an artifact's digest again from its manifest, and its copies' from their bytes."""
    name = f"{entry['kind']} {entry['name']} {entry['digest'][:16]}"
    folder = evidence.artifact_path(entry["kind"], entry["digest"])
    if "absent" in entry:
        seen.unproven.append(Unproven(name, entry["absent"]))
        return
    path = f"{folder}/{MANIFEST}"
    seen.known.add(path)
    manifest = seen.json(path)
    contents = {file: listed_file["content"] for file, listed_file in manifest["files"].items()}
    if canonical.digest({"kind": entry["kind"], "files": contents}) != entry["digest"]:
        seen.problem(path, "it does not give the artifact's digest")
    for file, listed_file in manifest["files"].items():
        copy = f"{folder}/files/{file}"
        if file in entry["left_out"]:
            seen.unproven.append(Unproven(f"{name}: the content of {file}", entry["left_out"][file]))
            continue
        seen.known.add(copy)
        data = seen.contents[copy]
        if hashlib.sha256(data).hexdigest() != listed_file["sha256"] or _content(file, data) != listed_file["content"]:
            seen.problem(copy, "it does not hash as the artifact's manifest says")


def _same_artifacts(seen: Examination, listing: dict[str, Any], records: dict[str, Any]) -> None:
    """The artifacts in the packet are those of the lineage: none is left out and none is slipped in."""
    listed = sorted((entry["kind"], entry["name"], entry["digest"]) for entry in listing["artifacts"])
    wanted = sorted((row["kind"], row["name"], row["digest"]) for row in records["lineage"]["versions"])
    if listed != wanted:
        seen.problem("evidence.json", "its artifacts are not those of the lineage")
    decided = records["decision"]
    if (listing["use_case"], listing["decision"]) != (decided["use_case"], decided["decision_id"]):
        seen.problem("evidence.json", "it is about another decision than its records")


def _figures(seen: Examination, listing: dict[str, Any], records: dict[str, Any]) -> list[Figure]:
    """Returns the figures, each read again from its source."""
    figures = []
    for entry in listing["figures"]:
        fields = {key: entry[key] for key in ("document", "number", "text", "source", "pointer", "form")}
        figure = Figure(**fields)
        figures.append(figure)
        place = f"figure {figure.number} of {figure.document}"
        if figure.as_dict(listing["records"].get(figure.source, "unknown")) != entry:
            seen.problem("evidence.json", f"{place} names another source than there is")
            continue
        try:
            words = claims.words(figure.form, figure.pointer, claims.find(records[figure.source], figure.pointer))
        except _UNREADABLE:
            seen.problem("evidence.json", f"{place}: the evidence has nothing at {figure.pointer}")
            continue
        if words != figure.text:
            seen.problem("evidence.json", f"{place} says {figure.text}, the evidence {words}")
        if figure.document not in listing["documents"]:
            seen.problem("evidence.json", f"{place}: the packet has no such document")
    return figures


def _written_again(seen: Examination, listing: dict[str, Any], records: dict[str, Any], figures: list[Figure]) -> None:
    """Writes the documents again from the evidence, where this installation has the templates that they were made
    with."""
    if listing["renderer"] != cards.renderer():
        why = "it was written with other templates than are installed here"
        seen.unproven.append(Unproven("the prose and the pictures of the documents", why))
        return
    documents, again = cards.render(records, listing["records"])
    if again != figures or sorted(documents) != listing["documents"]:
        seen.problem("evidence.json", "its figures are not those that the evidence gives")
    for name, text in documents.items():
        if seen.contents.get(name) != text.encode():
            seen.problem(name, "it is not what the evidence gives")


def _online(settings: Settings, seen: Examination, listing: dict[str, Any], digest: str) -> Online | None:
    """Returns what the database says: whether it registered this packet and still says the same; None where it does not
    answer."""
    try:
        with database.connect(settings, "auditor") as connection:
            rows = database.fetch(connection, "governance", "packet_digest", digest=digest)
            registered = [row["created_at"] for row in rows if row["use_case"] == listing["use_case"]]
            versions = evidence.versions(connection, listing["decision"])
            now = evidence.records(connection, listing["decision"], versions, final=listing["final"])
            damage = anchors.verify(settings, connection)
    except NotAvailable as error:
        seen.unproven.append(Unproven(_ISSUED, f"the database was not asked: {error.what}"))
        return None
    except NightshiftError as error:
        registered, now, damage = [], {}, []
        seen.problem("evidence.json", f"the database knows nothing of it: {error.what}")
    changed = sorted(name for name, stated in listing["records"].items() if canonical.digest(now.get(name)) != stated)
    for name in changed:
        seen.problem(evidence.record_path(name), "the database says something else by now")
    for what in damage:
        seen.problem("(database)", what)
    if not registered:
        seen.problem(MANIFEST, "the database has registered no packet with this digest")
    return Online(registered[0].isoformat() if registered else None, changed, damage)
