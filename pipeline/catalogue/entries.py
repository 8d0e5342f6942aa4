"""What the catalogue offers (models/catalogue.yaml), and what stands under the home folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from pipeline import parsing
from pipeline.catalogue.manifest import MANIFEST, Manifest, recorded
from pipeline.settings import ROOT, Settings

FILE = ROOT / "models" / "catalogue.yaml"


State = Literal["ships", "pulled", "can be pulled"]


class GgufInPackage(BaseModel):
    """A GGUF file that a Python package carries."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    package: str
    version: str
    file: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Entry(BaseModel):
    """A model of the catalogue: either it ships, or it is made of a GGUF."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    licence: str
    ships: str | None = None
    gguf: GgufInPackage | None = None


@dataclass(frozen=True)
class Listed:
    """A model by name, and whether it is here."""

    name: str
    state: State
    title: str
    licence: str
    folder: Path | None


def catalogue() -> dict[str, Entry]:
    """Returns the catalogue by name."""
    return TypeAdapter(dict[str, Entry]).validate_python(parsing.parse_yaml(FILE.read_bytes()))


def listed(settings: Settings) -> list[Listed]:
    """Returns the models of the catalogue, and then what else was pulled."""
    entries, pulled = catalogue(), manifests(settings)
    rows = []
    for name, entry in entries.items():
        state: State = "ships" if entry.ships else "pulled" if name in pulled else "can be pulled"
        folder = ROOT / entry.ships if entry.ships else pulled[name][0] if name in pulled else None
        rows.append(Listed(name, state, entry.title, entry.licence, folder))
    for name, (folder, record) in pulled.items():
        if name not in entries:
            rows.append(Listed(name, "pulled", record.source, record.licence, folder))
    return rows


def manifests(settings: Settings) -> Mapping[str, tuple[Path, Manifest]]:
    """Returns the models that were pulled, by name: where each stands, and what is recorded of it."""
    folders = sorted(path.parent for path in settings.models.glob(f"*/{MANIFEST}"))
    return {folder.name: (folder, record) for folder in folders if (record := recorded(folder)) is not None}
