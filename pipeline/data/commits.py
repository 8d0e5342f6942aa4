"""commit: accepted rows become dataset versions. A version is a number; what it costs is what changed. Splits are fixed
at first sight, test rows go where the trainer cannot read them, and a withdrawn document is taken out of every index in
the same transaction."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import canonical, database, steps
from pipeline.artifacts import ArtifactStore
from pipeline.context import Context
from pipeline.data import (
    additions,
    candidates,
    catalog,
    findings,
    guards,
    holds,
    membership,
    snapshots,
    splitting,
    uses,
    withdrawals,
)
from pipeline.data.candidates import Candidates, Contents
from pipeline.data.card import require as require_card
from pipeline.data.catalog import Current, DatasetKind, Place, Standing
from pipeline.data.documents import Document
from pipeline.data.holds import Catalogue, Held
from pipeline.data.membership import Change, Members
from pipeline.data.records import Checked, CommitFacts, Committed, CommittedVersion, VersionFacts
from pipeline.data.uses import Described
from pipeline.database import Connection
from pipeline.records import load
from pipeline.steps import Attempt, Output, Result, Step, Version
from pipeline.usecase import UseCase


@dataclass(frozen=True)
class Next:
    """The version that a commit makes, or finds standing."""

    number: int
    members: Members
    change: Change
    changed: bool
    digest: str
    output: Output
    sources: Sequence[Described]
    rows: Mapping[str, int]  # by source

    def facts(self) -> VersionFacts:
        """Returns numbers and digests."""
        return VersionFacts(
            self.number,
            self.digest,
            self.changed,
            len(self.members),
            len(self.change.added),
            len(self.change.removed),
            membership.counts(self.members.values()),
        )


def commit(context: Context, checked: Checked) -> Committed:
    """Returns the versions of dataset (examples) and corpus (documents) that stand after it.

    Documents that are withdrawn, or that fewer may read now, leave every index in the same transaction. What stays
    served as it was (holds.py) is counted as `kept`, what waits for a person as `waiting`. `changed` is false where the
    rows are those of the current version, and its sources are described as they were. Commits of a use case wait for
    each other. Raises BadInput where the data card lacks a field that it must have, Refused where a source that
    the current version has rows from gives none any more.
    """
    require_card(context.usecase)
    folder = context.settings.usecases / context.usecase.name
    with database.connect(context.settings, "pipeline") as connection:
        current = {kind: catalog.standing(connection, context.usecase.name, kind) for kind in catalog.KINDS}
        accepted = catalog.accepted(connection, context.usecase.name)
        confirmed = catalog.confirmed(connection, context.usecase.name)
    splits = context.usecase.splits
    spec = Step(
        context.usecase.name,
        "data.commit",
        "pipeline",
        ("pipeline.data.commits",),
        # The current version is part of the key: rows that come back to what they once were are a new version.
        params={
            "splits": {**splits.model_dump(), "salt": canonical.digest_text(splits.salt) if splits.salt else ""},
            "current": {k: [s.version, s.digest] for k, s in current.items()},
            "sources": [each.source for each in uses.of_documents(context.usecase, folder)],
            "described": canonical.digest([[one.source, one.digest] for one in _described(context.usecase, folder)]),
            "checks": context.usecase.checks.model_dump(),
            "accepted": canonical.digest({digest: at.isoformat() for digest, at in accepted.items()}),
            "confirmed": canonical.digest(sorted(confirmed)),
        },
        inputs={
            "documents": checked.documents,
            "examples": checked.examples,
            "rows": checked.rows,
            "report": checked.report,
        },
        reuse=context.reuse,
    )
    outcome = steps.run(
        context.settings, context.origin, spec, lambda attempt: _commit(attempt, spec, context.usecase, folder)
    )
    with database.connect(context.settings, "pipeline") as connection:
        facts = catalog.original_facts(connection, outcome.run_id, load(CommitFacts, outcome.facts))
    dataset, corpus = (
        CommittedVersion(**vars(version), artifact=outcome.outputs[role])
        for role, version in (("dataset", facts.dataset), ("corpus", facts.corpus))
    )
    counts = (facts.withdrawn, facts.kept, facts.waiting)
    return Committed(outcome.run_id, outcome.reused, dataset, corpus, checked.report, *counts)


def _described(usecase: UseCase, folder: Path) -> list[Described]:
    return [*uses.of_examples(usecase, folder), *uses.of_documents(usecase, folder)]


def _commit(attempt: Attempt, spec: Step, usecase: UseCase, folder: Path) -> Result:
    """Returns the result whose transaction makes the versions. From here on until it ends, commits of this use case
    wait: the lock belongs to the attempt's connection and goes with it."""
    connection, store, name = attempt.connection, attempt.store, spec.use_case
    database.fetch_one(connection, "data", "lock_commits", use_case=name)
    rows = candidates.read(attempt, spec.inputs["examples"])
    contents = Contents(attempt, spec.inputs["rows"], rows, usecase.checks)
    fetched = snapshots.read_documents(store, spec.inputs["documents"])
    guards.require_rows(connection, store, name, rows)

    before, places = catalog.documents(connection, name), catalog.places(connection, name)
    held = _held(connection, spec, fetched, before, places, usecase)
    described = uses.of_examples(usecase, folder)
    standing = {key: each.uses for key, each in before.items()}
    fitting = uses.fitting(_sources(rows), described, uses.in_force(standing, fetched, held.texts))
    members = _members(connection, name, "examples")
    taken = splitting.take(connection, name, rows, usecase.splits, fitting, members)
    labels: Members = taken.labels
    fresh, counted = taken.fresh, _rows_of_sources(rows, taken.labels)
    shrunk = guards.shrunk(connection, name, members, labels, taken.unusable, usecase.checks)
    if shrunk is not None:
        # All of it stays, also what would come in: whoever lost most of a file may have damaged the rest.
        labels, fresh = shrunk.labels, {}
    dataset = _next(connection, store, name, "examples", members, labels, described, counted)
    new = [] if shrunk is not None else catalog.new_rows(connection, name, rows, labels)

    seen = catalog.seen(connection, name, withdrawals.returning(before, held.texts))
    due = withdrawals.documents(before, held.texts, seen, held.kept)
    statuses = {**{digest: row.status for digest, row in due.versions.items()}, **due.kept}
    groups_of = {file.file: file.group for file in snapshots.files(store, spec.inputs["documents"])}
    of_documents = Counter(groups_of[row.file] for row in held.texts)
    stand = {current.digest for current in before.values() if not current.erased}
    sources, served = uses.of_documents(usecase, folder), _members(connection, name, "documents")
    corpus = _next(connection, store, name, "documents", served, statuses, sources, of_documents)
    waiting = [*held.findings, *taken.findings, *([] if shrunk is None else [shrunk.finding])]

    def write(target: Connection, outputs: Mapping[str, Version]) -> None:
        # Before the new versions come in: a withdrawal counts for all that was seen by then.
        for key, reason in due.withdrawals.items():
            database.call(target, "rag.withdraw", name, key, reason)
        additions.assignments(target, name, fresh)
        additions.examples(target, name, contents.described(new, labels))
        if shrunk is None:
            additions.generated(target, name, rows, labels)
        additions.documents(target, name, {each: row for each, row in due.versions.items() if each not in stand})
        read_at = {row.key: Place(groups_of[row.file], row.file) for row in held.texts if row.key is not None}
        additions.places(target, name, {key: at for key, at in read_at.items() if places.get(key) != at})
        findings.record(target, name, attempt.run_id, waiting)
        additions.version(target, name, "examples", attempt.run_id, dataset, outputs["dataset"])
        additions.version(target, name, "documents", attempt.run_id, corpus, outputs["corpus"])

    facts = CommitFacts(
        dataset.facts(),
        corpus.facts(),
        len(due.withdrawals),
        len(held.kept),
        sum(each.severity == "waiting" for each in waiting),
    )
    return Result({"dataset": dataset.output, "corpus": corpus.output}, facts, write)


def _held(
    connection: Connection,
    spec: Step,
    read: list[Document],
    before: Mapping[str, Current],
    places: Mapping[str, Place],
    usecase: UseCase,
) -> Held:
    # What was erased is missed by nobody, and does not stay.
    catalogue = Catalogue(
        {key: current for key, current in before.items() if not current.erased},
        catalog.last_documents(connection, usecase.name, before),
        places,
        catalog.accepted(connection, usecase.name),
        catalog.confirmed(connection, usecase.name),
    )
    texts = [row for row in read if row.text is not None]
    rejected = [row for row in read if row.text is None]
    return holds.hold(catalogue, texts, rejected, spec.params["sources"], usecase.checks)


def _members(connection: Connection, use_case: str, kind: DatasetKind) -> Members:
    """Returns the members of the current version."""
    return catalog.members(connection, use_case, kind, catalog.standing(connection, use_case, kind).version)


def _next(
    connection: Connection,
    store: ArtifactStore,
    use_case: str,
    kind: DatasetKind,
    before: Members,
    labels: Members,
    described: Sequence[Described],
    rows: Mapping[str, int],
) -> Next:
    current: Standing = catalog.standing(connection, use_case, kind)
    difference = membership.change(before, labels)
    # The first version stands even where it is empty: what comes after needs something to be the change of.
    again = {source.source: source.digest for source in described} != current.sources
    changed = bool(difference) or again or current.version == 0
    artifact = "dataset" if kind == "examples" else "corpus"
    members = canonical.dumps(membership.listed(labels))
    digest = canonical.digest_text(members)  # as membership.digest has it, of what is at hand
    stored = store.put(artifact, {"members.json": members.encode()})
    meta = {"digest": digest, "rows": len(labels)}
    output = Output.of(stored, kind, private=False, meta=meta, made_of=(kind,))
    return Next(current.version + changed, labels, difference, changed, digest, output, described, rows)


def _sources(rows: Candidates) -> Iterator[tuple[str, str, Sequence[str]]]:
    for place, (digest, source) in enumerate(zip(rows.digests, rows.sources, strict=True)):
        yield digest, source, rows.documents.get(place, ())


def _rows_of_sources(rows: Candidates, labels: Members) -> dict[str, int]:
    return dict(Counter(source for digest, source in zip(rows.digests, rows.sources, strict=True) if digest in labels))
