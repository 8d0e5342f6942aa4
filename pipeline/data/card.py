"""card: the data card of a commit. Counts and digests; not a word of a row or a document."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline import steps
from pipeline.artifacts import ArtifactStore
from pipeline.data import membership
from pipeline.settings import Settings
from pipeline.steps import Attempt, Origin, Output, Result, Reuse, Step, Version
from pipeline.usecase import UseCase

TEMPLATES = Path(__file__).parent / "templates"


def card(
    settings: Settings, usecase: UseCase, origin: Origin, committed: Mapping[str, Any], *, reuse: Reuse = "auto"
) -> dict[str, Any]:
    """Returns the run and its output `card`: Markdown for people and the same as JSON, of what a commit returned."""
    about = {
        "use_case": usecase.name,
        "title": usecase.title,
        "owner": usecase.owner,
        "versions": {role: committed[role]["version"] for role in ("dataset", "corpus")},
        "shares": usecase.splits.model_dump(),
        "checks": usecase.checks.model_dump(),
    }
    spec = Step(
        usecase.name,
        "data.card",
        "pipeline",
        ("pipeline.data.card",),
        params=about,
        inputs={
            "dataset": Version(**committed["dataset"]["artifact"]),
            "corpus": Version(**committed["corpus"]["artifact"]),
            "report": Version(**committed["report"]),
        },
        reuse=reuse,
    )

    def work(attempt: Attempt) -> Result:
        content = contents(attempt.store, about, spec.inputs)
        files: Mapping[str, bytes | Path] = {
            "card.md": render(content).encode(),
            "card.json": json.dumps(content).encode(),
        }
        stored = attempt.store.put("card", files)
        return Result({"card": Output.of(stored, "data", private=False)}, {"files": sorted(files)})

    return steps.run(settings, origin, spec, work).as_dict()


def contents(store: ArtifactStore, about: Mapping[str, Any], inputs: Mapping[str, Version]) -> dict[str, Any]:
    """Returns what a card says: of the versions and of the check's report."""
    report = json.loads(store.read("check_report", inputs["report"].digest, "report.json"))
    held = {
        role: dict(json.loads(store.read(inputs[role].kind, inputs[role].digest, "members.json")))
        for role in ("dataset", "corpus")
    }
    datasets = {
        role: {
            "version": about["versions"][role],
            "digest": membership.digest(rows),
            "artifact": inputs[role].digest,
            "rows": len(rows),
            "labels": membership.counts(rows.values()),
        }
        for role, rows in held.items()
    }
    return {**about, **datasets, "report": report, "report_artifact": inputs["report"].digest}


def render(content: Mapping[str, Any]) -> str:
    """Returns the card as Markdown."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    # Markdown, not HTML: names come from the use case's own files.
    environment = Environment(  # noqa: S701
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["cell"] = cell
    return environment.get_template("data_card.md.j2").render(content)


def cell(value: object) -> str:
    """Returns a value as one cell of a table."""
    return " ".join(str(value).split()).replace("|", "\\|") if value is not None else "not told"
