"""The artifact store: content-addressed folders on a path or an fsspec URL. Files go first and the manifest last, so
that an artifact exists exactly when its manifest does, whenever the writer was stopped."""

import hashlib
import json
import posixpath
import struct
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from pipeline import canonical
from pipeline.errors import NotAvailable, Refused

MANIFEST = "manifest.json"
_BLOCK = 1 << 20
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
    """Artifacts by kind and digest, below one root."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
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
        contents = {name: content_digest(name, source) for name, source in sorted(files.items())}
        digest = _digest(kind, contents)
        sizes = {name: _size(source) for name, source in files.items()}
        stored = Stored(kind, digest, self._uri(kind, digest), sum(sizes.values()))
        folder = self._folder(kind, digest)
        if self.fs.exists(posixpath.join(folder, MANIFEST)) and not self._problems(kind, digest):
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
        """Returns an artifact's manifest. Raises NotAvailable where the artifact does not exist."""
        path = posixpath.join(self._folder(kind, digest), MANIFEST)
        try:
            return json.loads(self.fs.cat_file(path))  # type: ignore[no-any-return]
        except FileNotFoundError:
            raise NotAvailable(
                f"the artifact {kind} {digest[:12]} is not in the store",
                where=self._uri(kind, digest),
                next_step="run the step that makes it again with reuse: never",
            ) from None

    def read(self, kind: str, digest: str, name: str) -> bytes:
        """Returns one file of an artifact. Raises NotAvailable, or Refused where it does not hash as recorded."""
        entry = self.manifest(kind, digest)["files"].get(name)
        if entry is None:
            raise NotAvailable(f"the artifact {kind} {digest[:12]} has no file {name}", where=self._uri(kind, digest))
        data: bytes = self.fs.cat_file(posixpath.join(self._folder(kind, digest), name))
        if hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise Refused(f"the file {name} does not hash as recorded", where=self._uri(kind, digest))
        return data

    def fetch(self, kind: str, digest: str, target: Path) -> Path:
        """Returns `target`, a folder that now holds the artifact's files, each verified. Raises as `read` does."""
        target.mkdir(parents=True, exist_ok=True)
        for name in self.manifest(kind, digest)["files"]:
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.read(kind, digest, name))
        return target

    def verify(self, kind: str, digest: str) -> list[str]:
        """Returns what is wrong with an artifact, one line each: empty when it exists and hashes as recorded."""
        try:
            return self._problems(kind, digest)
        except NotAvailable as error:
            return [error.what]

    def delete(self, kind: str, digest: str) -> None:
        """Removes an artifact: the manifest first, so that it never exists by half."""
        folder = self._folder(kind, digest)
        if self.fs.exists(posixpath.join(folder, MANIFEST)):
            self.fs.rm_file(posixpath.join(folder, MANIFEST))
        if self.fs.exists(folder):
            self.fs.rm(folder, recursive=True)

    def _problems(self, kind: str, digest: str) -> list[str]:
        manifest = self.manifest(kind, digest)
        problems = []
        for name, entry in manifest["files"].items():
            path = posixpath.join(self._folder(kind, digest), name)
            if not self.fs.exists(path):
                problems.append(f"{name} is missing")
                continue
            data: bytes = self.fs.cat_file(path)
            if hashlib.sha256(data).hexdigest() != entry["sha256"] or content_digest(name, data) != entry["content"]:
                problems.append(f"{name} does not hash as recorded")
        contents = {name: entry["content"] for name, entry in manifest["files"].items()}
        if canonical.digest({"kind": kind, "files": contents}) != digest or manifest["digest"] != digest:
            problems.append("the manifest does not give the artifact's digest")
        return problems

    def _write(self, path: str, source: bytes | Path) -> str:
        """Writes one file whole or not at all, and returns its SHA-256."""
        self.fs.makedirs(posixpath.dirname(path), exist_ok=True)
        hasher = hashlib.sha256()
        # A name of its own: two writers of the same content may be at it at once.
        part = f"{path}.{uuid.uuid4().hex}.part"
        with self.fs.open(part, "wb") as target:
            for block in _blocks(source):
                hasher.update(block)
                target.write(block)
        self.fs.mv(part, path)
        return hasher.hexdigest()

    def _folder(self, kind: str, digest: str) -> str:
        return posixpath.join(self.root, kind, digest[:2], digest)

    def _uri(self, kind: str, digest: str) -> str:
        return f"{self.url}/{kind}/{digest[:2]}/{digest}"


def digest_of(kind: str, files: Mapping[str, bytes | Path]) -> str:
    """Returns the digest that these files would have as an artifact, without storing them."""
    return _digest(kind, {name: content_digest(name, source) for name, source in files.items()})


def _digest(kind: str, contents: Mapping[str, str]) -> str:
    return canonical.digest({"kind": kind, "files": dict(contents)})


def content_digest(name: str, source: bytes | Path) -> str:
    """Returns the digest of a file's content: of sorted tensor names, dtypes, shapes and bytes for safetensors, of the
    value for JSON, of the bytes for everything else."""
    if name.endswith(".safetensors"):
        return tensors_digest(source)
    if name.endswith(".json"):
        return canonical.digest(json.loads(source if isinstance(source, bytes) else source.read_bytes()))
    hasher = hashlib.sha256()
    for block in _blocks(source):
        hasher.update(block)
    return hasher.hexdigest()


def tensors_digest(source: bytes | Path) -> str:
    """Returns the digest over a safetensors file's sorted tensor names, dtypes, shapes and bytes; metadata and layout
    do not count. Reads the format directly, so no torch is needed.

    Source: https://github.com/huggingface/safetensors#format
    """
    data = source if isinstance(source, bytes) else source.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header: dict[str, Any] = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    hasher = hashlib.sha256()
    for name in sorted(header):
        entry = header[name]
        begin, end = entry["data_offsets"]
        hasher.update(canonical.dumps([name, entry["dtype"], entry["shape"]]).encode())
        hasher.update(data[8 + length + begin : 8 + length + end])
    return hasher.hexdigest()


def _blocks(source: bytes | Path) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with source.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block


def _size(source: bytes | Path) -> int:
    return len(source) if isinstance(source, bytes) else source.stat().st_size
