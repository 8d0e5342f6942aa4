"""commit: accepted rows become dataset versions. A version is a number; what it costs is what changed. Splits are fixed
at first sight, test rows go where the trainer cannot read them, and a withdrawn document is taken out of every index in
the same transaction."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline import canonical, database, steps
from pipeline.artifacts import ArtifactStore
from pipeline.data import catalog, findings, holds, membership, sources, splits, withdrawals
from pipeline.data.catalog import Current, Kind, Place, Standing
from pipeline.data.documents import Document
from pipeline.data.formats import Example
from pipeline.data.holds import Catalogue, Held
from pipeline.data.membership import Change, Members
from pipeline.database import Connection
from pipeline.errors import Refused
from pipeline.settings import Settings
from pipeline.steps import Attempt, Origin, Output, Result, Reuse, Step, Version
from pipeline.usecase import UseCase


@dataclass(frozen=True)
class Next:
    """The version that a commit makes, or finds standing."""

    number: int
    members: Members
    change: Change
    changed: bool
    output: Output

    def facts(self) -> dict[str, Any]:
        """Returns what is told of it: numbers and digests."""
        return {
            "version": self.number,
            "digest": membership.digest(self.members),
            "changed": self.changed,
            "rows": len(self.members),
            "added": len(self.change.added),
            "removed": len(self.change.removed),
            "splits": membership.counts(self.members.values()),
        }


def commit(
    settings: Settings, usecase: UseCase, origin: Origin, checked: Mapping[str, Any], *, reuse: Reuse = "auto"
) -> dict[str, Any]:
    """Returns the run, and for `dataset` (examples) and `corpus` (documents): version, digest, changed, rows, added,
    removed, splits (of documents: by status) and the artifact, which holds digests alone.

    Documents that are withdrawn, or that fewer may read now, leave every index in the same transaction. What stays
    served as it was (holding.py) is counted as `kept`, what waits for a person as `waiting`.
    `changed` is false where the rows are those of the current version. Commits of a use case wait for each other.
    Raises Refused where a file that the current version has rows from gives none any more.
    """
    folder = settings.usecases / usecase.name
    with database.connect(settings, "pipeline") as connection:
        current = {kind: catalog.standing(connection, usecase.name, kind) for kind in catalog.KINDS}
        accepted = catalog.accepted(connection, usecase.name)
    spec = Step(
        usecase.name,
        "data.commit",
        "pipeline",
        ("pipeline.data.commits",),
        # The current version is part of the key: rows that come back to what they once were are a new version.
        params={
            "splits": usecase.splits.model_dump(),
            "current": {k: [s.version, s.digest] for k, s in current.items()},
            "sources": [sources.group(source, folder) for source in usecase.documents],
            "checks": usecase.checks.model_dump(),
            "accepted": canonical.digest({digest: at.isoformat() for digest, at in accepted.items()}),
        },
        inputs={role: sources.pinned(checked, role) for role in ("documents", "examples", "report")},
        reuse=reuse,
    )
    outcome = steps.run(settings, origin, spec, lambda attempt: _commit(attempt, spec, usecase))
    with database.connect(settings, "pipeline") as connection:
        facts = catalog.as_first_told(connection, outcome.run_id, outcome.facts)
    told = {role: {**facts[role], "artifact": outcome.outputs[role].as_dict()} for role in ("dataset", "corpus")}
    return {**outcome.as_dict(), **told, "report": checked["outputs"]["report"]}


def _commit(attempt: Attempt, spec: Step, usecase: UseCase) -> Result:
    """Returns the result whose transaction makes the versions. From here on until it ends, commits of this use case
    wait: the lock belongs to the attempt's connection and goes with it."""
    connection, store, name = attempt.connection, attempt.store, spec.use_case
    database.fetch_one(connection, "data", "lock_commits", use_case=name)
    rows = [row for row in sources.read_examples(store, spec.inputs["examples"]) if row.content is not None]
    read = sources.read_documents(store, spec.inputs["documents"])
    _not_emptied(connection, name, rows, sources.read_files(store, spec.inputs["examples"]))

    groups = {row.digest: splits.group(row.content) for row in rows if row.content is not None}
    fixed = catalog.assignments(connection, name, set(groups.values()))
    fresh = {group: splits.assign(group, usecase.splits) for group in sorted(set(groups.values()) - fixed.keys())}
    assigned: dict[str, str] = {**fixed, **fresh}
    labels = {digest: assigned[group] for digest, group in groups.items()}
    dataset = _next(connection, store, name, "examples", labels)

    before = catalog.documents(connection, name)
    held = _held(connection, spec, read, before, usecase)
    seen = catalog.seen(connection, name, withdrawals.returning(before, held.texts))
    found = withdrawals.documents(before, held.texts, seen, held.kept)
    statuses = {**{digest: row.status for digest, row in found.versions.items()}, **found.kept}
    corpus = _next(connection, store, name, "documents", statuses)
    groups_of = {file["file"]: file["group"] for file in sources.read_files(store, spec.inputs["documents"])}

    def write(target: Connection, outputs: Mapping[str, Version]) -> None:
        # Before the new versions come in: a withdrawal counts for all that was seen by then.
        for key, reason in found.withdrawals.items():
            database.call(target, "rag.withdraw", name, key, reason)
        catalog.insert_assignments(target, name, fresh)
        catalog.insert_examples(target, name, rows, labels)
        catalog.insert_documents(target, name, found.versions)
        read_at = {row.key: Place(groups_of[row.file], row.file) for row in held.texts if row.key is not None}
        catalog.insert_places(target, name, read_at)
        findings.record(target, name, attempt.run_id, held.findings)
        catalog.insert_version(target, name, "examples", dataset.number, dataset, outputs["dataset"])
        catalog.insert_version(target, name, "documents", corpus.number, corpus, outputs["corpus"])

    facts = {
        "dataset": dataset.facts(),
        "corpus": corpus.facts(),
        "withdrawn": len(found.withdrawals),
        "kept": len(held.kept),
        "waiting": held.waiting,
    }
    return Result({"dataset": dataset.output, "corpus": corpus.output}, facts, write)


def _held(
    connection: Connection, spec: Step, read: list[Document], before: Mapping[str, Current], usecase: UseCase
) -> Held:
    catalogue = Catalogue(
        before,
        catalog.last_documents(connection, usecase.name),
        catalog.places(connection, usecase.name),
        catalog.accepted(connection, usecase.name),
    )
    texts = [row for row in read if row.text is not None]
    rejected = [row for row in read if row.text is None]
    return holds.hold(catalogue, texts, rejected, spec.params["sources"], usecase.checks)


def _next(connection: Connection, store: ArtifactStore, use_case: str, kind: Kind, labels: Members) -> Next:
    current: Standing = catalog.standing(connection, use_case, kind)
    difference = membership.change(catalog.members(connection, use_case, kind, current.version), labels)
    # The first version stands even where it is empty: what comes after needs something to be the change of.
    changed = bool(difference) or current.version == 0
    artifact = "dataset" if kind == "examples" else "corpus"
    stored = store.put(artifact, {"members.json": canonical.dumps(membership.listed(labels)).encode()})
    meta = {"digest": membership.digest(labels), "rows": len(labels)}
    output = Output.of(stored, kind, private=False, meta=meta, made_of=(kind,))
    return Next(current.version + changed, labels, difference, changed, output)


def _not_emptied(connection: Connection, use_case: str, rows: list[Example], files: list[dict[str, Any]]) -> None:
    filled = {row.file for row in rows}
    for file in files:
        if file["file"] in filled:
            continue
        before = database.fetch_one(connection, "data", "rows_of_file", use_case=use_case, file=file["file"])
        if before is not None and before["rows"]:
            raise Refused(
                "a file that the current dataset version has rows from gives none any more",
                where=file["file"],
                found=f"0 rows; the current version has {before['rows']} of them",
                next_step="write the file again, or take it out of usecase.yaml if its rows are to go",
            )
