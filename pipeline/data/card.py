"""card: the data card of a commit. Counts and digests; not a word of a row or a document."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import canonical, database, steps
from pipeline.artifacts import ArtifactStore
from pipeline.context import Context
from pipeline.data import membership, sample_review, signoff
from pipeline.data.records import Card, Committed, CommittedVersion
from pipeline.data.reports import REPORT, CardContent, CheckReport, ReviewCard, SignOffCard, SourceCard, VersionCard
from pipeline.errors import BadInput
from pipeline.records import plain, read, write
from pipeline.steps import Attempt, Output, Result, Step
from pipeline.usecase import DocumentSource, ExampleSource, UseCase

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"


def card(context: Context, committed: Committed) -> Card:
    """Returns the card of a commit: Markdown for people and the same as JSON."""
    usecase = context.usecase
    answers = _answers(context, committed.dataset.version)
    review = sample_review.of_version(context.settings, usecase, committed.dataset.version)
    read_by = None if review is None else review.card()
    spec = Step(
        usecase.name,
        "data.card",
        "pipeline",
        ("pipeline.data.card",),
        params={
            "title": usecase.title,
            "owner": usecase.owner,
            "versions": {"dataset": committed.dataset.version, "corpus": committed.corpus.version},
            "shares": usecase.splits.shares,
            "checks": usecase.checks.model_dump(),
            "described": canonical.digest(plain([sources_of(usecase), usecase.data_card.model_dump()])),
            "group_by": usecase.splits.group_by,
            "backup_days": usecase.retention.backup_days,
            "signed": [usecase.signs_data, plain(answers)],
            "review": plain(read_by),
        },
        inputs={
            "dataset": committed.dataset.artifact,
            "corpus": committed.corpus.artifact,
            "report": committed.report,
        },
        reuse=context.reuse,
    )

    def work(attempt: Attempt) -> Result:
        return _stored(attempt, contents(attempt.store, usecase, committed, answers, read_by))

    outcome = steps.run(context.settings, context.origin, spec, work)
    return Card(outcome.run_id, outcome.reused, outcome.outputs["card"])


def renew(context: Context, version: int) -> Card | None:
    """Returns the card of a dataset version with what persons have answered since: signatures, and what readers of a
    sample said. None where the version has no card."""
    usecase = context.usecase
    with database.connect(context.settings, "pipeline") as connection:
        row = database.fetch_one(connection, "data", "newest_card", use_case=usecase.name, version=version)
        if row is None:
            return None
        before, versions = steps.version(connection, row["version_id"]), row["versions"]
    answers, review = _answers(context, version), sample_review.of_version(context.settings, usecase, version)
    read_by = None if review is None else review.card()
    spec = Step(
        usecase.name,
        "data.card",
        "pipeline",
        ("pipeline.data.card",),
        params={"versions": versions, "renewed": [plain(answers), plain(read_by)]},
        inputs={"card": before},
        reuse=context.reuse,
    )

    def work(attempt: Attempt) -> Result:
        stored = attempt.store.read(before.kind, before.digest, "card.json")
        content = read(CardContent, stored, f"data card {before.digest[:12]}")
        return _stored(attempt, replace(content, signoff=answers, review=read_by))

    outcome = steps.run(context.settings, context.origin, spec, work)
    return Card(outcome.run_id, outcome.reused, outcome.outputs["card"])


def _answers(context: Context, version: int) -> list[SignOffCard]:
    roles = signoff.standing(context.settings, context.usecase, version).roles
    return [SignOffCard(each.role, each.answer, each.open_items, each.person) for each in roles]


def _stored(attempt: Attempt, content: CardContent) -> Result:
    files: Mapping[str, bytes | Path] = {"card.md": render(content).encode(), "card.json": write(content)}
    stored = attempt.store.put("card", files)
    return Result({"card": Output.of(stored, "data", private=False)}, {"files": sorted(files)})


def contents(
    store: ArtifactStore,
    usecase: UseCase,
    committed: Committed,
    answers: Sequence[SignOffCard] = (),
    review: ReviewCard | None = None,
) -> CardContent:
    """Returns what a card says: of the versions, of the check's report, and of what persons answered by now."""
    report = committed.report
    return CardContent(
        use_case=usecase.name,
        title=usecase.title,
        owner=usecase.owner,
        shares=usecase.splits.shares,
        checks=usecase.checks.model_dump(),
        dataset=_version(store, committed.dataset),
        corpus=_version(store, committed.corpus),
        report=read(CheckReport, store.read(report.kind, report.digest, REPORT), f"check report {report.digest[:12]}"),
        report_artifact=report.digest,
        sources=sources_of(usecase),
        group_by=usecase.splits.group_by,
        deletion_path=usecase.data_card.deletion_path,
        known_issues=usecase.data_card.known_issues,
        backup_days=usecase.retention.backup_days,
        signed=usecase.signs_data,
        signoff=answers,
        review=review,
    )


def sources_of(usecase: UseCase) -> list[SourceCard]:
    """Returns the sources of a use case as it describes them."""
    described: list[tuple[str, DocumentSource | ExampleSource]] = [("documents", one) for one in usecase.documents]
    described += [(one.kind, one) for one in usecase.examples]
    return [
        SourceCard(
            source.label,
            holds,
            source.licence,
            source.owner,
            source.rights,
            source.sensitivity,
            source.uses,
            source.weight if isinstance(source, ExampleSource) else None,
        )
        for holds, source in described
    ]


def require(usecase: UseCase) -> None:
    """Raises BadInput that names every field which the data card must have and the use case does not give."""
    described, missing = usecase.data_card, []
    for name in described.required:
        if name in ("deletion_path", "known_issues"):
            missing += [f"data_card.{name}"] if getattr(described, name) is None else []
        else:
            missing += [
                f"{part}.{place}.{name}"
                for part, sources in (("documents", usecase.documents), ("examples", usecase.examples))
                for place, source in enumerate(sources)
                if getattr(source, name) is None
            ]
    if missing:
        raise BadInput(
            "the data card lacks what data_card.required asks for: nothing is committed without it",
            where=f"{usecase.name}/usecase.yaml",
            found=f"no {', '.join(missing)}",
            next_step="say it in the YAML, or take it out of data_card.required",
        )


def _version(store: ArtifactStore, committed: CommittedVersion) -> VersionCard:
    artifact = committed.artifact
    members = dict(json.loads(store.read(artifact.kind, artifact.digest, "members.json")))
    return VersionCard(
        committed.version,
        membership.digest(members),
        artifact.digest,
        len(members),
        membership.counts(members.values()),
    )


def render(content: CardContent) -> str:
    """Returns the card as Markdown."""
    return environment().get_template("data_card.md.j2").render(vars(content))


def environment() -> "Environment":
    """Returns what the templates of this stage are rendered in."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    # Markdown, not HTML: names come from the use case's own files.
    made = Environment(  # noqa: S701
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters["cell"] = cell
    return made


def cell(value: object) -> str:
    """Returns a value as one cell of a table."""
    return " ".join(str(value).split()).replace("|", "\\|") if value is not None else "not given"
