"""`new usecase`: the beginning of a use case, which loads as it is."""

import os
import re
from pathlib import Path

from pipeline.errors import BadInput
from pipeline.settings import ROOT, SCHEMA, Settings

TEMPLATES = Path(__file__).parent / "templates"
_FILES = {
    "usecase.yaml": "usecase.yaml",
    "document.md": "documents/welcome.md",
    "sft.jsonl": "examples/sft.jsonl",
    "cases.jsonl": "suites/first.jsonl",
}


def new_usecase(settings: Settings, name: str) -> list[Path]:
    """Returns the files written for a new use case. Raises BadInput for a wrong or taken name; overwrites nothing."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name):
        raise BadInput(
            "this cannot be the name of a use case",
            found=name,
            allowed="a small letter, then small letters, digits and _, at most 40",
        )
    folder = settings.usecases / name
    if folder.exists():
        raise BadInput("the use case exists", where=folder, next_step="choose another name, or edit what is there")
    written = []
    for template, target in _FILES.items():
        path = folder / target
        path.parent.mkdir(parents=True, exist_ok=True)
        text = (TEMPLATES / template).read_text()
        path.write_text(text.replace("{{name}}", name).replace("{{schema}}", _schema(path.parent)))
        written.append(path)
    return written


def _schema(folder: Path) -> str:
    """Returns where an editor finds the JSON Schema of a YAML in this folder: in this checkout, by a relative path."""
    inside = folder.resolve().is_relative_to(ROOT.resolve())
    return os.path.relpath(SCHEMA, folder) if inside else SCHEMA.as_uri()
