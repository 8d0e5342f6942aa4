"""card: the data card of a commit. Counts and digests; not a word of a row or a document."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import canonical, steps
from pipeline.artifacts import ArtifactStore
from pipeline.context import Context
from pipeline.data import membership, signoff
from pipeline.data.checking import REPORT
from pipeline.data.records import (
    Card,
    CardContent,
    CheckReport,
    Committed,
    CommittedVersion,
    SignOffCard,
    SourceCard,
    VersionCard,
)
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
    asked = signoff.standing(context.settings, usecase, committed.dataset.version).asked
    answers = [SignOffCard(each.role, each.answer, each.open_items, each.person) for each in asked]
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
        },
        inputs={
            "dataset": committed.dataset.artifact,
            "corpus": committed.corpus.artifact,
            "report": committed.report,
        },
        reuse=context.reuse,
    )

    def work(attempt: Attempt) -> Result:
        content = contents(attempt.store, usecase, committed, answers)
        files: Mapping[str, bytes | Path] = {"card.md": render(content).encode(), "card.json": write(content)}
        stored = attempt.store.put("card", files)
        return Result({"card": Output.of(stored, "data", private=False)}, {"files": sorted(files)})

    outcome = steps.run(context.settings, context.origin, spec, work)
    return Card(outcome.run_id, outcome.reused, outcome.outputs["card"])


def contents(
    store: ArtifactStore, usecase: UseCase, committed: Committed, answers: Sequence[SignOffCard] = ()
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
    )


def sources_of(usecase: UseCase) -> list[SourceCard]:
    """Returns the sources of a use case as it describes them."""
    described: list[tuple[str, DocumentSource | ExampleSource]] = [("documents", one) for one in usecase.documents]
    described += [(one.kind, one) for one in usecase.examples]
    return [
        SourceCard(
            source.path.name, holds, source.licence, source.owner, source.rights, source.sensitivity, source.uses
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
