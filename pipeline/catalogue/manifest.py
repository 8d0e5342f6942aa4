"""What is recorded beside a model that was pulled: where it is from, its licence, and what its files are."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pipeline.digests import content_digest
from pipeline.records import read

MANIFEST = "nightshift-model.json"


@dataclass(frozen=True)
class Manifest:
    """A model's origin and content."""

    source: str  # a package with its version and file, a file's name, or a Hugging Face id
    revision: str | None  # the commit, for one from Hugging Face
    source_sha256: Mapping[str, str]  # of the files that came, by name
    licence: str
    files: Mapping[str, str]  # content digest of each file that stands here
    made_with: Mapping[str, str]  # versions of the libraries that wrote them; none where they stand as they came

    FORMAT: ClassVar[int] = 1

    @classmethod
    def upgrade(cls, value: dict[str, Any], version: int) -> dict[str, Any]:
        """Returns the value: there is one format."""
        return value


def recorded(folder: Path) -> Manifest | None:
    """Returns what is recorded beside a model; None where nothing is."""
    path = folder / MANIFEST
    return read(Manifest, path.read_bytes(), str(path)) if path.exists() else None


def digests(folder: Path) -> dict[str, str]:
    """Returns the content digest of each file of a model's folder, but for the manifest's own."""
    paths = sorted(path for path in folder.iterdir() if path.is_file() and path.name != MANIFEST)
    return {path.name: content_digest(path.name, path) for path in paths}
