"""The store: an artifact exists when its manifest does, whatever stopped the writer, and its digest is over content."""

import errno
import hashlib
import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from pipeline.artifacts import MANIFEST, ArtifactStore, store_of
from pipeline.digests import content_digest
from pipeline.errors import NotAvailable, Refused

pytestmark = pytest.mark.unit

FILES: dict[str, bytes | Path] = {
    "rows.jsonl": b'{"a":1}\n',
    "nested/card.md": b"# Card\n",
    "settings.json": b'{"b": 2, "a": 1}',
}


class StopError(Exception):
    """What the failing file system raises."""


class FailingMemory(MemoryFileSystem):  # type: ignore[misc]
    """fsspec's memory file system, which stops at the n-th call that changes something."""

    protocol = "failing"
    cachable = False
    remaining: int | None = None

    def _spend(self) -> None:
        if self.remaining is not None:
            if self.remaining == 0:
                raise StopError
            self.remaining -= 1

    def open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        if "w" in mode:
            self._spend()
        return super().open(path, mode, **kwargs)

    def mv(self, path1: str, path2: str, **kwargs: Any) -> None:
        self._spend()
        super().mv(path1, path2, **kwargs)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        self._spend()
        super().makedirs(path, exist_ok=exist_ok)


def memory_store() -> ArtifactStore:
    """Returns an empty store on memory:// of its own, whose file system can be made to fail."""
    store = ArtifactStore(f"memory://{uuid.uuid4().hex}")
    store.fs = FailingMemory()
    return store


@pytest.mark.parametrize("url", ["memory://", "path"])
def test_what_was_put_is_read_back(url: str, tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path) if url == "path" else f"memory://{uuid.uuid4().hex}")
    stored = store.put("dataset", FILES, {"rows": 1})
    assert store.read("dataset", stored.digest, "rows.jsonl") == b'{"a":1}\n'
    assert store.manifest("dataset", stored.digest)["meta"] == {"rows": 1}
    assert store.verify("dataset", stored.digest) == []
    folder = store.fetch("dataset", stored.digest, tmp_path / "copy")
    assert (folder / "nested" / "card.md").read_bytes() == b"# Card\n"
    assert store.put("dataset", FILES) == stored


def test_a_failure_at_every_call_leaves_no_artifact_and_the_next_try_completes() -> None:
    calls = 0
    while True:
        store = memory_store()
        store.fs.remaining = calls
        try:
            stored = store.put("dataset", FILES)
        except StopError:
            assert not [path for path in store.fs.find(store.root) if path.endswith(MANIFEST)]
            store.fs.remaining = None
            stored = store.put("dataset", FILES)
            assert store.verify("dataset", stored.digest) == []
            calls += 1
        else:
            break
    # The store's marker, three files and the manifest, each made in three calls that change something.
    assert calls == 15


def test_writers_of_the_same_content_do_not_disturb_each_other(tmp_path: Path) -> None:
    files: dict[str, bytes | Path] = {f"{place}.txt": b"x" * 100_000 for place in range(20)}
    start = threading.Barrier(8)

    def write(_: int) -> str:
        start.wait()
        return ArtifactStore(str(tmp_path)).put("dataset", files).digest

    with ThreadPoolExecutor(8) as pool:
        (digest,) = set(pool.map(write, range(8)))
    assert ArtifactStore(str(tmp_path)).verify("dataset", digest) == []


@pytest.mark.parametrize("name", ["weights.bin", "weights.pt", "model.pkl", "a/b.ckpt"])
def test_formats_that_run_code_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="can run code"):
        ArtifactStore(str(tmp_path)).put("adapter", {name: b""})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["rows.jsonl", "settings.json", MANIFEST])
def test_damage_is_found(name: str, tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    stored = store.put("dataset", FILES)
    path = Path(stored.uri) / name
    data = bytearray(path.read_bytes())
    data[data.index(b"1")] ^= 2
    path.write_bytes(data)
    assert store.verify("dataset", stored.digest) != []


def test_a_rewritten_manifest_does_not_hide_a_changed_file(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    stored = store.put("card", {"card.md": b"signed by A"})
    other = store.put("card", {"card.md": b"signed by B"})
    here, there = (tmp_path / "card" / found.digest[:2] / found.digest for found in (stored, other))
    for name in ("card.md", MANIFEST):
        (here / name).write_bytes((there / name).read_bytes())
    assert store.verify("card", stored.digest) == ["the manifest does not give the artifact's digest"]


def test_what_is_missing_says_so(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    store.put("card", {"card.md": b"another"})
    with pytest.raises(NotAvailable, match="is not in the store"):
        store.read("dataset", "0" * 64, "rows.jsonl")
    assert store.verify("dataset", "0" * 64) == ["the artifact dataset 000000000000 is not in the store"]


def forge(folder: Path, name: str, data: bytes) -> None:
    """Changes a file of a stored artifact and makes its manifest say that it hashes as recorded."""
    manifest = json.loads((folder / MANIFEST).read_bytes())
    (folder / name).write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    manifest["files"][name] = {"content": content_digest(name, data), "sha256": sha256, "size": len(data)}
    (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize("digest_too", [False, True])
@pytest.mark.parametrize("keep_content", [False, True])
def test_what_is_read_is_checked_against_the_digest_that_was_asked_for(
    digest_too: bool, keep_content: bool, tmp_path: Path
) -> None:
    store = ArtifactStore(str(tmp_path / "store"))
    stored = store.put("evaluation", {"evaluation.json": b'{"value": 0.1}'})
    folder = Path(stored.uri)
    honest = json.loads((folder / MANIFEST).read_bytes())["files"]["evaluation.json"]["content"]
    forge(folder, "evaluation.json", b'{"value": 1.0}')
    manifest = json.loads((folder / MANIFEST).read_bytes())
    if digest_too:
        manifest["digest"] = store.put("evaluation", {"evaluation.json": b'{"value": 1.0}'}).digest
    if keep_content:
        manifest["files"]["evaluation.json"]["content"] = honest
    (folder / MANIFEST).write_text(json.dumps(manifest))
    for attempt in (
        lambda: store.read("evaluation", stored.digest, "evaluation.json"),
        lambda: store.fetch("evaluation", stored.digest, tmp_path / "copy"),
    ):
        with pytest.raises(Refused, match=r"does not (give|match)"):
            attempt()
    assert store.verify("evaluation", stored.digest) != []
    # Made again, it stands as it was.
    store.put("evaluation", {"evaluation.json": b'{"value": 0.1}'})
    assert store.read("evaluation", stored.digest, "evaluation.json") == b'{"value": 0.1}'


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"[]",
        b"null",
        b'{"format": 1}',
        b'{"kind": "card", "digest": "0", "files": []}',
        b'{"kind": "card", "digest": "0", "files": {"../../secret": {"content": "0", "sha256": "0", "size": 1}}}',
        b'{"kind": "card", "digest": "0", "files": {"/etc/passwd": {"content": "0", "sha256": "0", "size": 1}}}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_a_manifest_of_any_other_form_is_refused(manifest: bytes, tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    stored = store.put("card", {"card.md": b"text"})
    (Path(stored.uri) / MANIFEST).write_bytes(manifest)
    with pytest.raises(Refused, match="does not give"):
        store.fetch("card", stored.digest, tmp_path / "copy")
    assert store.verify("card", stored.digest) == ["the manifest does not give the artifact's digest"]


@pytest.mark.parametrize("kind", ["card", "snapshot", "adapter"])
def test_a_store_that_is_not_there_is_an_error(kind: str, tmp_path: Path) -> None:
    """An unmounted share is an empty folder: nothing in it says that the artifacts are gone."""
    store = ArtifactStore(str(tmp_path / "share"))
    stored = store.put(kind, {"a.md": b"text"})
    (tmp_path / "share").rename(tmp_path / "unmounted")
    (tmp_path / "share").mkdir()
    for attempt in (
        lambda: store.verify(kind, stored.digest),
        lambda: store.read(kind, stored.digest, "a.md"),
        lambda: store.fetch(kind, stored.digest, tmp_path / "copy"),
    ):
        with pytest.raises(NotAvailable, match="the artifact store is not there"):
            attempt()


def test_a_full_disk_leaves_nothing_behind() -> None:
    store = memory_store()
    stored = store.put("card", {"small.md": b"x"})
    before = store.fs.find(store.root)

    class Full(FailingMemory):
        """Has no room for what is written, and says so when it is flushed."""

        def open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
            file = super().open(path, mode, **kwargs)
            if "w" in mode:
                write = file.write

                def refuse(data: bytes) -> int:
                    write(data[: len(data) // 2])
                    raise OSError(errno.ENOSPC, "No space left on device")

                file.write = refuse
            return file

    store.fs = Full()
    for files in ({"a.md": b"abcd"}, {"a.json": b"[1]", "b/c.md": b"more"}, {"small.md": b"other"}):
        with pytest.raises(OSError, match="No space"):
            store.put("card", files)
    assert store.fs.find(store.root) == before
    assert store.verify("card", stored.digest) == []


@pytest.mark.parametrize("role", ["trainer", "evaluator", "retriever", "reader", "approver"])
def test_a_snapshot_is_its_own_roles_alone(role: str, tmp_path: Path) -> None:
    """It holds the prompts of the locked test split."""
    stored = ArtifactStore(str(tmp_path), "pipeline").put("snapshot", {"rows.jsonl": b'{"prompt": "locked"}'})
    assert Path(stored.uri).is_relative_to(tmp_path / "private" / "pipeline")
    store = ArtifactStore(str(tmp_path), role)
    with pytest.raises(Refused, match=f"the role {role} may not read"):
        store.read("snapshot", stored.digest, "rows.jsonl")
    with pytest.raises(Refused, match=f"the role {role} may not read"):
        store.fetch("snapshot", stored.digest, tmp_path / "copy")
    assert ArtifactStore(str(tmp_path), "pipeline").read("snapshot", stored.digest, "rows.jsonl")


def test_private_artifacts_of_an_older_store_move_under_their_prefix(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    kept = {kind: store.put(kind, {"a.md": kind.encode()}) for kind in ("snapshot", "adapter", "card")}
    for kind in ("snapshot", "adapter"):
        old = tmp_path / kind / kept[kind].digest[:2] / kept[kind].digest
        old.parent.mkdir(parents=True)
        Path(kept[kind].uri).rename(old)
    assert store.relocate() == 2
    assert store.relocate() == 0
    for kind, stored in kept.items():
        assert store.verify(kind, stored.digest) == []
        assert store_of(stored.uri, kind, stored.digest) == str(tmp_path)
    assert not list((tmp_path / "snapshot").rglob("*.md"))


def test_deleted_is_gone(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    stored = store.put("dataset", FILES)
    store.delete("dataset", stored.digest)
    assert store.verify("dataset", stored.digest) != []
    store.delete("dataset", stored.digest)


TENSORS = st.dictionaries(
    st.text("abc.", min_size=1, max_size=5), st.lists(st.integers(0, 9), min_size=1, max_size=4), min_size=1, max_size=4
)


@given(TENSORS, st.randoms())
def test_an_adapters_digest_ignores_order_and_metadata(tensors: dict[str, list[int]], random: Any) -> None:
    arrays = {name: np.array(values, dtype=np.float32) for name, values in tensors.items()}
    names = list(arrays)
    random.shuffle(names)
    one = save(arrays)
    other = save({name: arrays[name] for name in names}, metadata={"made": "later"})
    assert content_digest("a.safetensors", one) == content_digest("a.safetensors", other)


@given(TENSORS, st.integers(0, 3))
def test_an_adapters_digest_changes_with_its_tensors(tensors: dict[str, list[int]], how: int) -> None:
    arrays = {name: np.array(values, dtype=np.float32) for name, values in tensors.items()}
    changed = dict(arrays)
    name = sorted(arrays)[0]
    if how == 0:
        changed[name] = arrays[name] + 1
    elif how == 1:
        changed[name] = arrays[name].astype(np.float64)
    elif how == 2:
        changed[name] = arrays[name].reshape(1, -1)
    else:
        changed["another"] = changed.pop(name)
    assert content_digest("a.safetensors", save(arrays)) != content_digest("a.safetensors", save(changed))


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=5))
def test_json_counts_by_its_value(value: dict[str, Any]) -> None:
    spread = json.dumps(value, indent=3).encode()
    packed = json.dumps(dict(reversed(value.items())), ensure_ascii=False, separators=(",", ":")).encode()
    assert content_digest("a.json", spread) == content_digest("a.json", packed)
