"""The artifact store: content-addressed folders on a path or an fsspec URL. Files go first and the manifest last, so
that an artifact exists exactly when its manifest does, whenever the writer was stopped.

Whatever is read is checked against the digest that was asked for, not against what lies beside it: whoever can change a
file can change its manifest too. Kinds that hold people's text stand under a prefix of the role whose work they are, so
that a bucket policy can keep the other roles out."""

import hashlib
import json
import posixpath
import struct
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import fsspec

from pipeline import canonical, digests
from pipeline.errors import NotAvailable, Refused

MANIFEST = "manifest.json"
_BLOCK = 1 << 20  # bytes that are copied at a time
MARKER = "nightshift-store.json"  # stands at the root of every store that was written to: an unmounted share has none
# The role whose prefix a private kind stands under, and who may read it. A snapshot holds the rows of the locked test
# split, which the trainer must never see.
PRIVATE: Mapping[str, str] = {"snapshot": "pipeline", "adapter": "trainer"}
_READERS: Mapping[str, frozenset[str]] = {
    "snapshot": frozenset({"pipeline", "auditor"}),
    "adapter": frozenset({"trainer", "evaluator", "pipeline", "gatekeeper", "approver", "auditor"}),
}
# Formats that run code when they are opened. safetensors hold tensors, and nothing else.
_REFUSED = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib", ".npy")


@dataclass(frozen=True)
class Stored:
    """An artifact that stands in the store."""

    kind: str
    digest: str
    uri: str
    size_bytes: int


class ArtifactStore:
    """Artifacts by kind and digest, below one root. With a role, private kinds that are not this role's to read are
    refused."""

    def __init__(self, url: str, role: str | None = None) -> None:
        self.url = url.rstrip("/")
        self.role = role
        self.fs, self.root = fsspec.core.url_to_fs(self.url)

    def put(self, kind: str, files: Mapping[str, bytes | Path], meta: Mapping[str, Any] | None = None) -> Stored:
        """Returns the artifact of these files, written unless it stands already.

        Its digest is over kind, names and contents, so that the same content is the same artifact wherever it was
        made. Weights count by their tensors and JSON by its value, not by how a library happened to lay them out.
        Raises Refused for a file format that runs code when opened.
        """
        for name in files:
            if name.endswith(_REFUSED):
                raise Refused(
                    "this file format can run code when it is opened",
                    where=name,
                    allowed="safetensors for weights, JSON, JSONL, Markdown and plain text for the rest",
                )
        contents = {name: digests.content_digest(name, source) for name, source in sorted(files.items())}
        digest = digests.of_contents(kind, contents)
        sizes = {name: _size(source) for name, source in files.items()}
        stored = Stored(kind, digest, self.uri(kind, digest), sum(sizes.values()))
        folder = self._folder(kind, digest)
        self._mark()
        if self.fs.exists(posixpath.join(folder, MANIFEST)) and not self.verify(kind, digest):
            return stored
        raw = {}
        for name, source in sorted(files.items()):
            raw[name] = self._write(posixpath.join(folder, name), source)
        manifest = {
            "kind": kind,
            "digest": digest,
            "meta": dict(meta or {}),
            "files": {name: {"content": contents[name], "sha256": raw[name], "size": sizes[name]} for name in raw},
        }
        self._write(posixpath.join(folder, MANIFEST), canonical.dumps(manifest).encode())
        return stored

    def manifest(self, kind: str, digest: str) -> dict[str, Any]:
        """Returns an artifact's manifest, which gives the digest that was asked for.

        Raises NotAvailable where the artifact or the whole store is not there, Refused where the manifest is of other
        content or the kind is not this role's to read.
        """
        if self.role is not None and kind in _READERS and self.role not in _READERS[kind]:
            raise Refused(
                f"the role {self.role} may not read this kind of artifact",
                where=self.uri(kind, digest),
                found=kind,
                allowed=", ".join(sorted(_READERS[kind])),
            )
        try:
            content = self.fs.cat_file(posixpath.join(self._folder(kind, digest), MANIFEST))
        except FileNotFoundError:
            self._require_store()
            raise NotAvailable(
                f"the artifact {kind} {digest[:12]} is not in the store",
                where=self.uri(kind, digest),
                next_step="run the step that makes it again with reuse: never",
            ) from None
        manifest = _manifest(content)
        if manifest is None or (manifest["kind"], manifest["digest"], _listed(kind, manifest)) != (
            kind,
            digest,
            digest,
        ):
            raise Refused("the manifest does not give the artifact's digest", where=self.uri(kind, digest))
        return manifest

    def read(self, kind: str, digest: str, name: str) -> bytes:
        """Returns one file of an artifact, checked against the artifact's digest. Raises as `manifest` does, and
        Refused where the file does not hash as the digest says."""
        return self._read(kind, digest, name, self.manifest(kind, digest))

    def fetch(self, kind: str, digest: str, target: Path) -> Path:
        """Returns `target`, a folder that now holds the artifact's files, each verified. Raises as `read` does."""
        manifest = self.manifest(kind, digest)
        target.mkdir(parents=True, exist_ok=True)
        for name in manifest["files"]:
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as copy:
                self._copy(kind, digest, name, manifest, copy)
        return target

    def fetch_file(self, kind: str, digest: str, name: str, target: Path) -> Path:
        """Returns `target`, which is now a copy of one file of an artifact, verified. It is never in memory as a whole,
        but for weights and JSON. Raises as `read` does."""
        with target.open("wb") as copy:
            self._copy(kind, digest, name, self.manifest(kind, digest), copy)
        return target

    def verify(self, kind: str, digest: str) -> list[str]:
        """Returns what is wrong with an artifact, one line each: empty when it exists and hashes to its digest.

        Raises NotAvailable where the store itself is not there.
        """
        try:
            manifest = self.manifest(kind, digest)
        except (NotAvailable, Refused) as error:
            self._require_store()
            return [error.what]
        problems = []
        for name in manifest["files"]:
            try:
                self._copy(kind, digest, name, manifest, None)
            except (NotAvailable, Refused) as error:
                problems.append(error.what)
        return problems

    def relocate(self) -> int:
        """Moves private artifacts of stores from before there were prefixes under theirs. Returns how many."""
        moved = 0
        for kind in PRIVATE:
            for path in self.fs.glob(posixpath.join(self.root, kind, "*", "*", MANIFEST)):
                old, digest = posixpath.dirname(path), posixpath.basename(posixpath.dirname(path))
                new = self._folder(kind, digest)
                self.fs.makedirs(posixpath.dirname(new), exist_ok=True)
                self.fs.mv(old, new, recursive=True)
                moved += 1
        return moved

    def uri(self, kind: str, digest: str) -> str:
        """Returns where an artifact stands, or would."""
        return f"{self.url}/{_place(kind, digest)}"

    def exists(self, kind: str, digest: str) -> bool:
        """Returns whether the artifact has a manifest here, sound or not."""
        return bool(self.fs.exists(posixpath.join(self._folder(kind, digest), MANIFEST)))

    def delete(self, kind: str, digest: str) -> bool:
        """Removes an artifact: the manifest first, so that it never exists by half. Returns whether anything of it was
        there."""
        folder = self._folder(kind, digest)
        there = bool(self.fs.exists(folder))
        if self.fs.exists(posixpath.join(folder, MANIFEST)):
            self.fs.rm_file(posixpath.join(folder, MANIFEST))
        if self.fs.exists(folder):
            self.fs.rm(folder, recursive=True)
        return there

    def _copy(self, kind: str, digest: str, name: str, manifest: Mapping[str, Any], target: BinaryIO | None) -> None:
        """Writes one file of an artifact to `target`, verified; None: it is verified alone."""
        if digests.is_by_value(name):
            data = self._read(kind, digest, name, manifest)
            if target is not None:
                target.write(data)
            return
        entry, size, hasher = self._entry(kind, digest, name, manifest), 0, hashlib.sha256()
        try:
            with self.fs.open(posixpath.join(self._folder(kind, digest), name), "rb") as source:
                while block := source.read(_BLOCK):
                    size += len(block)
                    hasher.update(block)
                    if target is not None:
                        target.write(block)
        except FileNotFoundError:
            raise NotAvailable(f"{name} is missing", where=self.uri(kind, digest)) from None
        if (size, hasher.hexdigest(), entry["content"]) != (entry["size"], entry["sha256"], hasher.hexdigest()):
            raise Refused(f"{name} does not match its recorded hash", where=self.uri(kind, digest))

    def _entry(self, kind: str, digest: str, name: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
        entry: dict[str, Any] | None = manifest["files"].get(name)
        if entry is None:
            raise NotAvailable(f"the artifact {kind} {digest[:12]} has no file {name}", where=self.uri(kind, digest))
        return entry

    def _read(self, kind: str, digest: str, name: str, manifest: Mapping[str, Any]) -> bytes:
        entry = self._entry(kind, digest, name, manifest)
        try:
            data: bytes = self.fs.cat_file(posixpath.join(self._folder(kind, digest), name))
        except FileNotFoundError:
            raise NotAvailable(f"{name} is missing", where=self.uri(kind, digest)) from None
        recorded = (len(data), hashlib.sha256(data).hexdigest()) == (entry["size"], entry["sha256"])
        if not recorded or not _is_content(name, data, entry["content"]):
            raise Refused(f"{name} does not match its recorded hash", where=self.uri(kind, digest))
        return data

    def _require_store(self) -> None:
        if not self.fs.exists(posixpath.join(self.root, MARKER)):
            raise NotAvailable(
                "the artifact store is not there",
                where=self.url,
                found=f"no {MARKER}",
                next_step="mount it, or check NIGHTSHIFT_ARTIFACTS: the place is not one that this product wrote to",
            )

    def _mark(self) -> None:
        path = posixpath.join(self.root, MARKER)
        if not self.fs.exists(path):
            self._write(path, b'{"format":1}')

    def _write(self, path: str, source: bytes | Path) -> str:
        """Writes one file whole or not at all, and returns its SHA-256."""
        self.fs.makedirs(posixpath.dirname(path), exist_ok=True)
        hasher = hashlib.sha256()
        # A name of its own: two writers of the same content may be at it at once.
        part = f"{path}.{uuid.uuid4().hex}.part"
        try:
            with self.fs.open(part, "wb") as target:
                for block in digests.blocks(source):
                    hasher.update(block)
                    target.write(block)
            self.fs.mv(part, path)
        except BaseException:
            # A full disk must not stay full of what nobody will ever read.
            with suppress(OSError):
                self.fs.rm_file(part)
            raise
        return hasher.hexdigest()

    def _folder(self, kind: str, digest: str) -> str:
        return posixpath.join(self.root, _place(kind, digest))


def store_of(uri: str, kind: str, digest: str) -> str:
    """Returns the URL of the store that recorded an artifact under this URI."""
    return uri.removesuffix(_place(kind, digest)).removesuffix("/")


def _place(kind: str, digest: str) -> str:
    prefix = f"private/{PRIVATE[kind]}/" if kind in PRIVATE else ""
    return f"{prefix}{kind}/{digest[:2]}/{digest}"


def _manifest(content: bytes) -> dict[str, Any] | None:
    """Returns a manifest of the form that `put` writes, with file names that stay inside the artifact's folder; None
    for anything else."""
    try:
        manifest = json.loads(content)
        files: dict[str, dict[str, Any]] = manifest["files"]
        sound = {"kind", "digest"} <= manifest.keys() and all(
            _inside(name) and isinstance(entry["content"], str) and {"sha256", "size"} <= entry.keys()
            for name, entry in files.items()
        )
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
    return manifest if sound else None


def _inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def _listed(kind: str, manifest: Mapping[str, Any]) -> str:
    return digests.of_contents(kind, {name: entry["content"] for name, entry in manifest["files"].items()})


def _is_content(name: str, data: bytes, digest: str) -> bool:
    try:
        return digests.content_digest(name, data) == digest
    except (ValueError, LookupError, TypeError, struct.error, RecursionError):
        return False  # it is not even of the format that its name says


def _size(source: bytes | Path) -> int:
    return len(source) if isinstance(source, bytes) else source.stat().st_size
