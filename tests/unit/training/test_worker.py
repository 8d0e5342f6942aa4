"""The exchange between the caller and the training process, without a database."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from pipeline import errors
from pipeline.errors import BadInput, FencedOut, NightshiftError, NotAvailable, Refused
from pipeline.settings import from_environment
from pipeline.training import sandbox, worker

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("kind", [Refused, BadInput, NotAvailable, FencedOut])
def test_our_errors_come_back_as_they_were(kind: type[NightshiftError], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: str) -> None:
        raise kind("no", where="/here", found=3, allowed="4", next_step="add one")

    monkeypatch.setattr("importlib.import_module", fails)
    reply = json.loads(json.dumps(worker.answer({"stage": "sft"})))
    error = sandbox._revived(reply["error"])
    assert type(error) is kind
    assert str(error) == str(kind("no", where="/here", found="3", allowed="4", next_step="add one"))


def test_other_errors_come_back_as_their_class_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(_: str) -> None:
        raise KeyError(" ".join(["text", "of", "a", "row"]))  # a frame shows its source

    monkeypatch.setattr("importlib.import_module", fails)
    reply = worker.answer({"stage": "sft"})
    assert reply == {"error": {"class": "KeyError"}}
    assert "text of a row" not in caplog.text
    assert "in fails" in caplog.text  # the frames are there
    assert type(sandbox._revived(reply["error"])) is NightshiftError


def test_a_stage_that_does_not_exist_is_refused() -> None:
    assert worker.answer({"stage": "process"})["error"]["class"] == "Refused"


@pytest.mark.parametrize("name", ["Path", "difflib", "nearest", "Exception"])
def test_no_other_name_is_taken_for_an_error(name: str) -> None:
    assert type(sandbox._revived({"class": name, "what": "", "details": {}})) is NightshiftError
    assert isinstance(errors.Refused("x"), NightshiftError)


def test_a_remote_store_brings_its_credentials_and_a_folder_does_not(tmp_path: Path) -> None:
    told = {
        "NIGHTSHIFT_HOME": str(tmp_path),
        "NIGHTSHIFT_DATABASE_URL": "postgresql://me:mine@db.example:6000/ns?sslmode=require",
    }
    inherited = {"AWS_ACCESS_KEY_ID": "key", "PATH": "/bin", "OMP_NUM_THREADS": "3", "CUDA_VISIBLE_DEVICES": "2,3"}
    here = sandbox._environment(from_environment(told), tmp_path, inherited)
    there = sandbox._environment(
        from_environment({**told, "NIGHTSHIFT_ARTIFACTS": "s3://bucket/ns"}), tmp_path, inherited
    )
    assert "AWS_ACCESS_KEY_ID" not in here
    assert there["AWS_ACCESS_KEY_ID"] == "key"
    assert here["OMP_NUM_THREADS"] == here["MKL_NUM_THREADS"] == "3"
    assert here["CUDA_VISIBLE_DEVICES"] == "2"
    # Where the database is, and not who asks.
    assert conninfo_to_dict(here["NIGHTSHIFT_DATABASE_URL"]) == {
        "host": "db.example",
        "port": "6000",
        "dbname": "ns",
        "sslmode": "require",
    }
    assert from_environment(here).database_url == here["NIGHTSHIFT_DATABASE_URL"]


def test_importing_the_stage_is_light() -> None:
    code = f"import sys, pipeline.training; print([name for name in {worker.HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_worker_that_dies_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without settings the worker ends at once, with no reply.
    with pytest.raises(NightshiftError, match="ended without an answer"):
        sandbox.converse({}, {"PATH": "/nonexistent", "PYTHONPATH": "/nonexistent", "PYTHONHOME": "/nonexistent"}, 30)


@pytest.mark.parametrize(("code", "told"), [(-signal.SIGKILL, "SIGKILL"), (-signal.SIGSEGV, "SIGSEGV"), (3, "code 3")])
def test_how_it_died(code: int, told: str) -> None:
    assert told in str(sandbox._died(code))


def test_a_long_message_is_sent_whole() -> None:
    receiving, sending = os.pipe()
    message = b"x" * 1_000_000
    code = "import os\ntotal=0\nwhile block := os.read(0, 1 << 16): total += len(block)\nprint(total)"
    with subprocess.Popen([sys.executable, "-c", code], stdin=receiving, stdout=subprocess.PIPE) as reader:
        os.close(receiving)
        sandbox._send(sending, message)
        os.close(sending)
        assert reader.communicate()[0].strip() == b"1000000"
