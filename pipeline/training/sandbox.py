"""Training runs in a process of its own, which is given the trainer's login and no other.

The process sees a home folder that was made for it, with one password file; the folder goes when the process has ended.
It knows where the database, the artifacts and its checkpoints are, and not where the installation's own home is. Under
one user of the operating system this keeps honest code apart, not hostile code: for that, run the training worker as a
user or on a machine of its own, with the file `trainer` alone in its logins folder.
"""

import fcntl
import json
import logging
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from pipeline import database, errors
from pipeline.context import Context
from pipeline.errors import NightshiftError, NotAvailable, Refused
from pipeline.records import plain
from pipeline.settings import ROOT, Settings, write_secret
from pipeline.steps.environment import cores

log = logging.getLogger(__name__)

ROLE: database.Role = "trainer"
GRACE_SECONDS = 30.0  # between asking the process to stop and stopping it
_PASSED = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")
# What opens an artifact store that is not a folder. Such credentials are needed on both sides.
_STORES = ("AWS_", "AZURE_", "GOOGLE_", "FSSPEC_")
_PREFIX = "training-"
_YOUNG_SECONDS = 60.0


def call(context: Context, stage: str, **arguments: Any) -> dict[str, Any]:
    """Returns, as JSON holds it, what pipeline.training.`stage`.run returns, run in the training process. `arguments`
    are its records as JSON.

    Raises the error that it raised, where it is one of ours; Refused after the use case's `timeout_minutes`; and
    NightshiftError with the class's name for everything else, whose frames stand in the log.
    """
    request = {
        "stage": stage,
        "usecase": context.usecase.model_dump(mode="json"),
        "origin": plain(context.origin),
        "reuse": context.reuse,
        "arguments": arguments,
    }
    with sandbox(context.settings) as environment:
        reply = converse(request, environment, context.usecase.training.timeout_minutes * 60.0)
    if "error" in reply:
        raise _revived(reply["error"])
    result: dict[str, Any] = reply["result"]
    return result


@contextmanager
def sandbox(settings: Settings, parent: Mapping[str, str] | None = None) -> Iterator[dict[str, str]]:
    """Yields the environment of the training process; the folder that it points to exists inside the block.

    `parent` is the environment to take the few inherited variables from, by default this process's own.
    """
    inherited = os.environ if parent is None else parent
    login = settings.logins / ROLE
    if not login.exists():
        raise NotAvailable(
            f"this machine has no login for the role {ROLE}", where=login, next_step="`nightshift db upgrade` writes it"
        )
    settings.scratch.mkdir(parents=True, exist_ok=True)
    _sweep(settings.scratch)
    home = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=settings.scratch))  # mode 0700
    held = os.open(home, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        (home / "logins").mkdir(mode=0o700)
        (home / "tmp").mkdir()
        write_secret(home / "logins" / ROLE, login.read_text().strip())
        yield _environment(settings, home, inherited)
    finally:
        shutil.rmtree(home, ignore_errors=True)
        os.close(held)


def converse(request: Mapping[str, Any], environment: Mapping[str, str], timeout: float) -> dict[str, Any]:
    """Returns the worker's reply to a request. What the worker writes is logged here line by line.

    When this process is told to stop, or the time (in seconds) is up, the worker and all it started are stopped. Should
    this process be killed, the worker finds its standard input closed and ends itself.
    """
    receiving, sending = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.training.worker", str(sending)],
            stdin=subprocess.PIPE,
            bufsize=0,
            stdout=subprocess.DEVNULL,  # the worker turns it into its standard error
            stderr=subprocess.PIPE,
            env=dict(environment),
            cwd=ROOT,
            pass_fds=(sending,),
            start_new_session=True,
        )
    except BaseException:
        os.close(receiving)
        raise
    finally:
        os.close(sending)
    with process, open(receiving, "rb", buffering=0) as replies, _stopped_with_us(lambda: _end(process)):
        assert process.stdin is not None
        assert process.stderr is not None
        listener = threading.Thread(target=_log, args=(process.stderr.fileno(),), name="training-log", daemon=True)
        listener.start()
        try:
            _send(process.stdin.fileno(), json.dumps(request).encode() + b"\n")
            answer = _read(replies.fileno(), time.monotonic() + timeout)
            if answer is None:
                _end(process, signal.SIGALRM)
                raise Refused(
                    "training took longer than it may",
                    found=f"stopped after {timeout / 60:g} minutes",
                    next_step="raise training.timeout_minutes, or train less: max_steps, epochs, a smaller model",
                )
            if answer:
                return dict(json.loads(answer))
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_SECONDS)
            raise _died(process.poll())
        except BrokenPipeError:
            raise _died(process.poll()) from None
        finally:
            _end(process)
            listener.join(GRACE_SECONDS)


def _log(descriptor: int) -> None:
    """Logs what the worker writes; a line of its own logging begins with its level."""
    levels = logging.getLevelNamesMapping()
    with open(descriptor, errors="replace", closefd=False) as lines:
        for line in lines:
            level, _, message = line.rstrip().partition(" ")
            if level in levels:
                log.log(levels[level], "%s", message)
            else:
                log.info("%s", line.rstrip())


def _send(descriptor: int, message: bytes) -> None:
    while message:
        message = message[os.write(descriptor, message) :]


def _read(descriptor: int, deadline: float) -> bytes | None:
    """Returns what was sent until the pipe closed, or None where the deadline passed first."""
    received = b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while True:
            if not selector.select(max(deadline - time.monotonic(), 0)):
                if time.monotonic() >= deadline:
                    return None
                continue
            block = os.read(descriptor, 1 << 16)
            if not block:
                return received
            received += block


def _end(process: subprocess.Popen[bytes], first: signal.Signals = signal.SIGTERM) -> None:
    """Stops the worker's process group: asks first, so that the attempt's end is recorded, as interrupted or (SIGALRM)
    as overdue, and then does not."""
    for number in (first, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.killpg(process.pid, number)
        # Always with a limit: this may run in a signal's handler, which interrupted another wait.
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)


@contextmanager
def _stopped_with_us(stop: Callable[[], None]) -> Iterator[None]:
    """Calls `stop` when this process gets SIGTERM inside the block, before whoever else listens to that. Only the main
    thread may listen; elsewhere the closed pipe does it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.getsignal(signal.SIGTERM)

    def handle(number: int, frame: FrameType | None) -> None:
        stop()
        if callable(previous):
            previous(number, frame)
        else:
            raise SystemExit(128 + number)  # unlike dying of the signal, it lets the folder be removed

    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _environment(settings: Settings, home: Path, inherited: Mapping[str, str]) -> dict[str, str]:
    """Returns all that the training process knows of its surroundings."""
    values = {name: inherited[name] for name in _PASSED if name in inherited}
    if "://" in settings.artifacts:
        values |= {name: value for name, value in inherited.items() if name.startswith(_STORES)}
    # TRL trains on one device a process; of several GPUs the first is taken.
    visible = inherited.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    own = {
        "HOME": str(home),
        "TMPDIR": str(home / "tmp"),
        "NIGHTSHIFT_HOME": str(home),
        "NIGHTSHIFT_LOGINS": str(home / "logins"),
        "NIGHTSHIFT_ARTIFACTS": settings.artifacts,
        "NIGHTSHIFT_DATABASE_URL": database.as_url(database.location(settings)),
        "NIGHTSHIFT_CHECKPOINTS": str(settings.checkpoints),
        "NIGHTSHIFT_DEVICE": settings.device,
        "CUDA_VISIBLE_DEVICES": "" if settings.device == "cpu" else visible,
        "PYTHONHASHSEED": "0",
        "TOKENIZERS_PARALLELISM": "false",
        # Models come from folders, and rows stay on this machine.
        "HF_HOME": str(home / "huggingface"),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "TQDM_DISABLE": "1",
    }
    return values | own | computing(inherited)


def computing(inherited: Mapping[str, str]) -> dict[str, str]:
    """Returns the part of the training process's environment that decides how it computes, and in how much memory."""
    # How sums are split over threads decides their last digit: the number is fixed here and recorded in every attempt.
    threads = inherited.get("OMP_NUM_THREADS") or str(cores())
    return {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        # Waiting threads sleep, which leaves half the processor time to others; but not before some 0.1 ms, or waking
        # them for each of thousands of small products takes a quarter of the training.
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "100000",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    }


def _sweep(scratch: Path) -> None:
    """Removes what callers left that were killed: nobody holds its lock any more. Process ids would not do, since they
    mean nothing where several containers share the folder."""
    for folder in scratch.glob(f"{_PREFIX}*"):
        with suppress(FileNotFoundError):  # another caller sweeps too
            if time.time() - folder.stat().st_mtime < _YOUNG_SECONDS:
                continue  # it may be between its making and its lock
            held = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            except BlockingIOError:
                continue
            finally:
                os.close(held)


def _died(code: int | None) -> NightshiftError:
    ending = f"exit code {code}" if code is None or code >= 0 else signal.Signals(-code).name
    hint = "look whether the machine ran out of memory (dmesg)" if code == -signal.SIGKILL else "its log says more"
    return NightshiftError("the training process ended without an answer", found=ending, next_step=hint)


def _revived(reported: Mapping[str, Any]) -> NightshiftError:
    """Returns the error that the worker reported, as the class it was."""
    kind = getattr(errors, reported["class"], None)
    if isinstance(kind, type) and issubclass(kind, NightshiftError):
        details = reported["details"]
        return kind(
            reported["what"],
            where=details["where"],
            found=details["found"],
            allowed=details["allowed"],
            next_step=details["next"],
        )
    return NightshiftError(
        f"training failed with {reported['class']}",
        next_step="the task's log has the frames; clearing the task is safe",
    )
