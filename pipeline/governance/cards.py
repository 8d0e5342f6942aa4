"""The documents of a packet: a pure function of its evidence, so that whoever holds the evidence can write them
again."""

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.governance import pictures
from pipeline.governance.claims import FORMS, Beside, Figure, Ledger, Node

TEMPLATES = Path(__file__).parent / "templates"


def render(sources: Mapping[str, Any], digests: Mapping[str, str]) -> tuple[dict[str, str], list[Figure]]:
    """Returns the documents by name, pictures (*.svg) among them, and every figure that they state.

    `sources` are the JSON contents of the evidence by name, `digests` their digests.
    """
    nodes = {name.replace("/", "_"): Node(name, "", content) for name, content in sources.items()}
    documents, figures = pictures.curves(sources.get("curves", [])), []
    drawn = frozenset(documents)
    for path in sorted(TEMPLATES.glob("*.md.j2")):
        name = path.name.removesuffix(".j2")
        ledger = Ledger(name)
        body = _environment(ledger).get_template(path.name).render(**nodes, drawn=drawn).strip()
        notes = "\n".join(figure.footnote(digests[figure.source]) for figure in ledger.figures)
        documents[name] = f"{body}\n\n---\n\n{notes}\n"
        figures += ledger.figures
    return documents, figures


def _environment(ledger: Ledger) -> Any:
    import jinja2

    environment = jinja2.Environment(  # noqa: S701 - Markdown; claims.escape neutralises what values hold
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        finalize=ledger,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["picture"] = _picture
    for form in FORMS:
        environment.filters[form] = functools.partial(_as, form)
    return environment


def _picture(run: Node) -> Beside:
    return Beside(pictures.name(run["job"].value, run["run_id"].value))


def _as(form: str, node: Node) -> Node:
    return replace(node, form=form)


def renderer() -> str:
    """Returns the digest of what turns evidence into documents: the templates, this module, the
    claims and the pictures."""
    hasher = hashlib.sha256()
    modules = [Path(__file__).with_name(name) for name in ("cards.py", "claims.py", "pictures.py")]
    files = [*sorted(TEMPLATES.glob("*.j2")), *modules]
    for path in files:
        hasher.update(path.name.encode() + b"\0" + path.read_bytes())
    return hasher.hexdigest()
