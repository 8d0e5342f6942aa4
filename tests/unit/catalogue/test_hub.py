"""Downloads by the client that people use, from a server on this machine that answers as Hugging Face does."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import pytest
from safetensors.numpy import save

from pipeline import catalogue
from pipeline.settings import ROOT, Settings

pytestmark = pytest.mark.unit

COMMIT = "3" * 40
REPOSITORY = "someone/Small_Model"


@dataclass
class Hub:
    """What the server holds, what it does wrong, and what was asked of it."""

    files: dict[str, bytes]
    port: int = 0
    altered: set[str] = field(default_factory=set)  # files that differ from what the commit says
    slow: str | None = None  # a file that is sent in small pieces
    ranges: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)

    def metadata(self) -> dict[str, Any]:
        siblings = []
        for name, content in self.files.items():
            blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()  # as Git has it
            entry: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": blob}
            if name.endswith((".safetensors", ".bin")):
                entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
            siblings.append(entry)
        card = {"license": "mit"}
        return {"id": REPOSITORY, "modelId": REPOSITORY, "sha": COMMIT, "siblings": siblings, "cardData": card}


@pytest.fixture
def hub(write_gguf: Callable[..., Path], settings: Settings) -> Iterator[Hub]:
    """A server with one model, which the pull of a GGUF made."""
    made = catalogue.pull(settings, str(write_gguf()))
    files = {path.name: path.read_bytes() for path in Path(made.folder).iterdir() if "nightshift" not in path.name}
    held = Hub({**files, "pytorch_model.bin": b"pickle", "modeling.py": b"print(1)", "onnx/model.onnx": b"other"})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            path = urlparse(self.path).path
            if path == f"/api/models/{REPOSITORY}/revision/{COMMIT}":
                self.reply(200, json.dumps(held.metadata()).encode(), {"Content-Type": "application/json"}, body)
                return
            found = re.fullmatch(rf"/{REPOSITORY}/resolve/{COMMIT}/(.+)", path)
            if found is None or found[1] not in held.files:
                self.reply(404, b"", {"X-Error-Code": "RepoNotFound"}, body)
                return
            name, content = found[1], held.files[found[1]]
            entry = next(one for one in held.metadata()["siblings"] if one["rfilename"] == name)
            etag = entry["lfs"]["sha256"] if "lfs" in entry else entry["blobId"]
            if name in held.altered:
                content = content[:-1] + bytes([content[-1] ^ 1])
            headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "X-Linked-Size": str(len(content))}
            status = 200
            if body and (asked := self.headers.get("Range")):
                held.ranges.append(asked)
                begin = int(re.findall(r"\d+", asked)[0])
                headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
                content, status = content[begin:], 206
            if body:
                held.fetched.append(name)
            self.reply(status, content, headers, body, slowly=name == held.slow)

        def reply(self, status: int, content: bytes, headers: dict[str, str], body: bool, slowly: bool = False) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if not body:
                return
            piece = 4 << 20 if slowly else max(len(content), 1)
            for begin in range(0, len(content), piece):
                self.wfile.write(content[begin : begin + piece])
                self.wfile.flush()
                time.sleep(0.3 if slowly else 0)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    held.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield held
    server.shutdown()
    server.server_close()


def environment(hub: Hub, settings: Settings, **more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(settings.home),
        "PYTHONPATH": str(ROOT),
        "NIGHTSHIFT_HOME": str(settings.home),
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.port}",
        "HF_HUB_OFFLINE": "0",
        "NO_PROXY": "127.0.0.1",
        **more,
    }


def pull(
    hub: Hub, settings: Settings, *arguments: str, revision: str = COMMIT, **more: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", "model", "pull", REPOSITORY, "--revision", revision, *arguments]
    return subprocess.run(
        [*command, "--json"],
        env=environment(hub, settings, **more),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_model_comes_by_its_commit_without_pickles_or_code(hub: Hub, settings: Settings) -> None:
    done = pull(hub, settings)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["name"], answer["licence"], answer["already"]) == ("small-model", "mit", False)
    folder = settings.models / "small-model"
    assert not {"pytorch_model.bin", "modeling.py", "model.onnx"} & {path.name for path in folder.iterdir()}
    assert (folder / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
    # It is the model that was made here, under another name.
    assert answer["digest"] == catalogue.check(settings, "small-q8").digest
    assert catalogue.check(settings, "small-model").source == REPOSITORY
    hub.fetched.clear()
    again = json.loads(pull(hub, settings).stdout)
    assert (again["already"], hub.fetched) == (True, [])


def test_a_killed_download_goes_on_where_it_broke_off(hub: Hub, settings: Settings) -> None:
    hub.slow = "model.safetensors"
    # The client writes ten megabytes at a time.
    hub.files["model.safetensors"] = save({"a": np.zeros(10 << 20, np.float32)})
    command = [sys.executable, "-m", "pipeline", "model", "pull", REPOSITORY, "--revision", COMMIT]
    process = subprocess.Popen(command, env=environment(hub, settings), stderr=subprocess.DEVNULL)
    parts = settings.models / ".small-model.part"
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size for path in parts.glob("*.part")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (settings.models / "small-model").exists()
    hub.slow = None
    done = pull(hub, settings)
    assert done.returncode == 0, done.stderr
    assert hub.ranges, "it began anew"
    assert (settings.models / "small-model" / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
    assert not parts.exists()


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_file_that_is_not_what_the_commit_says_is_refused(hub: Hub, settings: Settings, name: str) -> None:
    hub.altered.add(name)
    done = pull(hub, settings)
    assert done.returncode == 1
    assert f"a file is not what the commit says\n  where: {name}" in done.stderr
    assert not [path for path in settings.models.iterdir() if "small-model" in path.name]


def test_a_model_of_pickles_alone_is_refused(hub: Hub, settings: Settings) -> None:
    del hub.files["model.safetensors"]
    done = pull(hub, settings)
    assert done.returncode == 1
    assert "no safetensors" in done.stderr
    assert "pytorch_model.bin" in done.stderr


@pytest.mark.parametrize("revision", ["main", "v1.0", "3" * 39, "G" * 40, "3" * 12])
def test_a_revision_that_may_change_is_refused(hub: Hub, settings: Settings, revision: str) -> None:
    done = pull(hub, settings, revision=revision)
    assert done.returncode == 2
    assert "is not pinned" in done.stderr
    assert revision in done.stderr
    assert hub.fetched == []


def test_without_a_network_it_says_so(hub: Hub, settings: Settings) -> None:
    offline = pull(hub, settings, HF_HUB_OFFLINE="1")
    assert offline.returncode == 3
    assert "HF_HUB_OFFLINE=0 nightshift model pull" in offline.stderr
    gone = pull(hub, settings, HF_ENDPOINT="http://127.0.0.1:9")
    assert gone.returncode == 3
    assert "goes on where this one broke off" in gone.stderr
    unknown = pull(hub, settings, revision="4" * 40)
    assert unknown.returncode == 3
    assert "there is no model" in unknown.stderr
