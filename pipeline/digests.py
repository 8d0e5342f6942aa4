"""Digests by content: of a file, of the tensors in it, and of an artifact made of files."""

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline import canonical

_BLOCK = 1 << 20


def digest_of(kind: str, files: Mapping[str, bytes | Path]) -> str:
    """Returns the digest that these files would have as an artifact, without storing them."""
    return of_contents(kind, {name: content_digest(name, source) for name, source in files.items()})


def of_contents(kind: str, contents: Mapping[str, str]) -> str:
    """Returns the digest of an artifact from its files' content digests."""
    return canonical.digest({"kind": kind, "files": dict(contents)})


def content_digest(name: str, source: bytes | Path) -> str:
    """Returns the digest of a file's content: of sorted tensor names, dtypes, shapes and bytes for safetensors, of the
    value for JSON, of the bytes for everything else."""
    if name.endswith(".safetensors"):
        return tensors_digest(source)
    if name.endswith(".json"):
        return canonical.digest(json.loads(source if isinstance(source, bytes) else source.read_bytes()))
    hasher = hashlib.sha256()
    for block in blocks(source):
        hasher.update(block)
    return hasher.hexdigest()


def is_by_value(name: str) -> bool:
    """Returns whether a file's content digest is of what it says, and not of its bytes: the whole of it is read."""
    return name.endswith((".safetensors", ".json"))


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


def blocks(source: bytes | Path) -> Iterator[bytes]:
    """Yields a file's bytes, a MiB at a time."""
    if isinstance(source, bytes):
        yield source
        return
    with source.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block
