"""pull: a base model comes into the home folder, whole or not at all, with a record of where it is from.

Work is done in a folder beside the model's own, which takes its name in one step at the end. A pull that was killed
goes on, or begins anew, with the next; two at once wait for each other.
"""

import fcntl
import logging
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline import models
from pipeline.catalogue import gguf, hub
from pipeline.catalogue.entries import Entry, GgufInPackage, catalogue
from pipeline.catalogue.manifest import MANIFEST, Manifest, digests, recorded
from pipeline.digests import content_digest
from pipeline.errors import BadInput, NightshiftError, NotAvailable, Refused, nearest
from pipeline.records import write
from pipeline.settings import ROOT, Settings
from pipeline.usecase import BaseModelSource

log = logging.getLogger(__name__)

PACKAGES = Path(sys.prefix) / "models"  # where `make install` puts packages that carry models
_ROOM = 5  # bytes on the disk for one of a GGUF: four bits become sixteen, and the tokenizer
_NAME = re.compile(r"[a-z0-9]+(?:[-.][a-z0-9]+)*")


@dataclass(frozen=True)
class Pulled:
    """A base model that stands here."""

    name: str  # for usecase.yaml: base_model: {name: …}
    folder: str
    digest: str
    size_mib: int
    source: str
    licence: str
    already: bool  # it stood here before, as it was recorded


def pull(settings: Settings, what: str, *, name: str | None = None, revision: str | None = None) -> Pulled:
    """Returns the model `what`, which stands under the home folder afterwards: a name of the catalogue, a GGUF file, or
    a Hugging Face id with its commit.

    `name` is what it is called here; the catalogue's models have theirs. A model that stands here and is what its
    record says is left alone; one that is not is made anew. Raises BadInput for what is none of these, NotAvailable
    where the source, the network or room on the disk is missing, Refused where a hash differs or weights are pickles.
    """
    entries = catalogue()
    if what in entries:
        if name is not None or revision is not None:
            raise BadInput(
                "a model of the catalogue has its name and its version",
                where=what,
                found="--name or --revision",
                next_step=f"`nightshift model pull {what}`",
            )
        return _pull_entry(settings, what, entries[what])
    if what.endswith(".gguf"):
        path = Path(what).expanduser().resolve()
        if not path.is_file():
            raise NotAvailable("the GGUF file is not there", where=path)
        called = _called(name or path.stem.lower().replace("_", "-"), entries)
        gguf.require_whole(path)
        licence = gguf.licence(path) or "not stated"
        return _pull_gguf(settings, called, path, Manifest(path.name, None, {}, licence, {}, {}))
    if re.fullmatch(r"[\w.-]+/[\w.-]+", what):
        return _pull_hub(settings, what, hub.require_commit(what, revision), name, entries)
    raise BadInput(
        "there is no such model",
        where="model pull",
        found=what,
        allowed=f"{nearest(what, entries)}; a file *.gguf; or a Hugging Face id with --revision",
        next_step="`nightshift model list`",
    )


def _pull_entry(settings: Settings, name: str, entry: Entry) -> Pulled:
    if entry.ships is not None:
        return _pulled(settings, name, ROOT / entry.ships, "ships with Nightshift", entry.licence, already=True)
    assert entry.gguf is not None  # an entry ships or is made
    path = _of_package(entry.gguf)
    source = f"{entry.gguf.package} {entry.gguf.version}: {Path(entry.gguf.file).name}"
    return _pull_gguf(settings, name, path, Manifest(source, None, {}, entry.licence, {}, {}), entry.gguf.sha256)


def _pull_gguf(settings: Settings, name: str, path: Path, record: Manifest, sha256: str | None = None) -> Pulled:
    found = content_digest(path.name, path)
    if sha256 is not None and found != sha256:
        raise Refused(
            "the file is not the one that the catalogue names",
            where=path,
            found=found,
            allowed=sha256,
            next_step="`make install` brings it again, once the file is removed",
        )
    record = replace(record, source_sha256={path.name: found})
    with _folder_of(settings, name) as (folder, staging):
        if (stands := _standing(folder, record)) is not None:
            return _pulled(settings, name, folder, stands.source, stands.licence, already=True)
        _anew(staging)
        _require_room(staging, path.stat().st_size * _ROOM)
        gguf.require_whole(path)
        made_with = gguf.convert(path, staging)
        _settle(staging, folder, replace(record, made_with=made_with))
    return _pulled(settings, name, folder, record.source, record.licence, already=False)


def _pull_hub(settings: Settings, source: str, revision: str, name: str | None, entries: dict[str, Entry]) -> Pulled:
    called = _called(name or source.rpartition("/")[2].lower().replace("_", "-"), entries)
    with _folder_of(settings, called) as (folder, staging):
        stands = _standing(folder, Manifest(source, revision, {}, "", {}, {}))
        if stands is not None:
            return _pulled(settings, called, folder, source, stands.licence, already=True)
        staging.mkdir(parents=True, exist_ok=True)
        fetched, licence = hub.download(source, revision, staging)
        for path in staging.iterdir():
            if path.name not in fetched:
                path.unlink()  # of another revision's attempt
        _settle(staging, folder, Manifest(source, revision, fetched, licence, {}, {}))
    return _pulled(settings, called, folder, source, licence, already=False)


def _standing(folder: Path, wanted: Manifest) -> Manifest | None:
    """Returns the record of a model that stands there, came from the same source, and is what it says; None otherwise.

    Raises Refused where another model has the name."""
    record = recorded(folder)
    if record is None:
        return None
    same = (record.source, record.revision) == (wanted.source, wanted.revision)
    if wanted.source_sha256:
        same = record.source_sha256 == wanted.source_sha256
    if not same:
        raise Refused(
            "another model has this name",
            where=folder,
            found=f"{record.source} {record.revision or ''}".strip(),
            next_step="give this one another with --name, or remove the folder",
        )
    if digests(folder) == record.files:
        return record
    log.warning("%s is not what its record says: it is made anew", folder)
    return None


def _settle(staging: Path, folder: Path, record: Manifest) -> None:
    """Gives what was made its name, in one step, with its record."""
    models.require_usable(staging)
    record = replace(record, files=digests(staging))
    (staging / MANIFEST).write_bytes(write(record))
    if folder.exists():
        shutil.rmtree(folder)
    staging.rename(folder)


@contextmanager
def _folder_of(settings: Settings, name: str) -> Iterator[tuple[Path, Path]]:
    """Yields (where the model goes, where it is made), for one process at a time.

    What was made stays for the next attempt where the network failed, and goes where it was wrong or the disk is full.
    """
    folder, staging = settings.models / name, settings.models / f".{name}.part"
    settings.models.mkdir(parents=True, exist_ok=True)
    with (settings.models / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder, staging
        except OSError as error:
            shutil.rmtree(staging, ignore_errors=True)
            if error.errno not in hub.DISK_FULL:
                raise
            raise NotAvailable(
                "the disk is full", where=staging.parent, next_step="make room there, or set NIGHTSHIFT_HOME elsewhere"
            ) from None
        except NightshiftError as error:
            if not isinstance(error, NotAvailable):
                shutil.rmtree(staging, ignore_errors=True)
            raise


def _anew(staging: Path) -> None:
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)


def _require_room(folder: Path, needed: int) -> None:
    """Raises NotAvailable where the disk has not so many bytes left."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise NotAvailable(
            "there is not enough room on the disk",
            where=folder.parent,
            found=f"{free >> 20} MiB",
            allowed=f"{needed >> 20} MiB",
            next_step="make room there, or set NIGHTSHIFT_HOME elsewhere",
        )


def _of_package(wanted: GgufInPackage) -> Path:
    path = PACKAGES / wanted.file
    if not path.is_file():
        raise NotAvailable(
            f"the package {wanted.package} {wanted.version} is not here",
            where=path,
            next_step="`make install` brings it (models/requirements.txt)",
        )
    return path


def _called(name: str, entries: dict[str, Entry]) -> str:
    """Returns the name. Raises BadInput where it is none, or the catalogue's."""
    if not _NAME.fullmatch(name) or name in entries:
        raise BadInput(
            "this cannot be the model's name" if name not in entries else "the catalogue has a model of this name",
            where="--name",
            found=name,
            allowed="a to z, 0 to 9, and between them - or .",
        )
    return name


def _pulled(settings: Settings, name: str, folder: Path, source: str, licence: str, *, already: bool) -> Pulled:
    base = models.resolve(settings, BaseModelSource(path=str(folder)))
    return Pulled(name, str(folder), base.digest, base.size_bytes >> 20, source, licence, already)
