"""The model card of an exported model: what it is, what made it, how it did, and how to open it."""

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import database
from pipeline.context import Context
from pipeline.models import BaseModel
from pipeline.records import plain
from pipeline.steps import Version
from pipeline.training.records import ExportRun, Format

TEMPLATES = Path(__file__).parent / "templates"
_PACKAGES = ("torch", "transformers", "peft", "trl")


@dataclass(frozen=True)
class Card:
    """A card, as data and as Markdown."""

    values: Mapping[str, Any]
    markdown: str


def card(
    context: Context,
    adapter: Version,
    base: BaseModel,
    form: Format,
    done: ExportRun,
    recorded: Mapping[str, Any],
) -> Card:
    """Returns the card. `recorded` has the adapter's "recipe" and "metrics". Digests, counts and measures alone stand
    in it: no text of a row, and the name of nobody but the use case's owner."""
    usecase = context.usecase
    with database.connect(context.settings, "reader") as connection:
        live = database.fetch(connection, "training", "deployments_of", adapter=adapter.digest, use_case=usecase.name)
        scores = database.fetch(connection, "training", "scores_of", adapter=adapter.digest, use_case=usecase.name)
    values = {
        "use_case": usecase.name,
        "title": usecase.title,
        "owner": usecase.owner,
        "risk_tier": usecase.risk_tier,
        "format": form,
        "base": {"source": base.source, "revision": base.revision, "digest": base.digest},
        "adapter": adapter.digest,
        "merged": None if done.merged is None else done.merged.digest,
        "recipe": recorded["recipe"],
        "losses": {name: value for name, value in recorded["metrics"].items() if name != "history"},
        "drift": plain(done.facts.drift),
        "moved": plain(done.facts.moved),
        "scores": plain(scores),
        "deployments": plain(live),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }
    return Card(values, _template().render(values))


def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    # Markdown, not HTML: what stands in it comes from the use case's own files and from measurements.
    environment = Environment(  # noqa: S701
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("export.md.j2")
