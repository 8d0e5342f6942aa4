"""The training process: one request on standard input, one reply on the pipe that it was handed.

Its standard output goes to standard error, since libraries write there what they like. sandbox.py calls it.
"""

import importlib
import json
import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Mapping
from typing import Any, NoReturn

from pipeline.context import Context
from pipeline.errors import NightshiftError, Refused
from pipeline.interruption import interruptible, is_interruption, stopped
from pipeline.models import BaseModel
from pipeline.records import load, plain
from pipeline.settings import from_environment
from pipeline.steps import Origin, Version
from pipeline.training.records import Prepared, Tuned, Wanted
from pipeline.usecase import UseCase

log = logging.getLogger("nightshift.training")

STAGES = ("preflight", "pretrain", "sft", "dpo", "export")
# What the stages are handed, by the names of their arguments.
RECORDS: Mapping[str, Any] = {
    "base": BaseModel,
    "prepared": Prepared,
    "tuned": Tuned,
    "start": Tuned | None,
    "adapter": Version,
    "wanted": Wanted,
    "trial": bool,
}
# What a night on which nothing changed must not import. Replies tell which of them came in.
HEAVY = ("torch", "transformers", "trl", "peft", "datasets")


def main() -> None:
    """Answers one request. Exit code 0 says that there is a reply, which may be an error."""
    replies = int(sys.argv[1])
    os.set_inheritable(replies, False)
    os.dup2(2, 1)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    # TRL 1.16 still passes the name that transformers 5.23 calls old.
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*", category=FutureWarning)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(message)s")
    # Without a GPU it warns, on import, that a faster 4-bit kernel could be downloaded.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    with interruptible({signal.SIGTERM: stopped, signal.SIGALRM: _overdue}):
        request = json.loads(_line())
        threading.Thread(target=_end_with_caller, name="lifeline", daemon=True).start()
        reply = answer(request) | {"imported": [name for name in HEAVY if name in sys.modules]}
        # What is recorded is recorded: the caller stops this process as soon as it has the reply.
        for number in (signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)
        with os.fdopen(replies, "w") as pipe:
            json.dump(reply, pipe)
        # Everything is committed and closed. Taking torch apart in good order would only take time.
        sys.stderr.flush()
        os._exit(0)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Returns {"result"} or {"error": {"class", …}}. Of an error that is not ours its class alone leaves the process:
    the message might quote a row."""
    try:
        if request["stage"] not in STAGES:
            raise Refused("unknown stage", found=request["stage"], allowed=", ".join(STAGES))
        # Not `from pipeline.training import …`: by these names the package has the callers' functions.
        stage = importlib.import_module(f"pipeline.training.{request['stage']}")
        usecase, origin = UseCase.model_validate(request["usecase"]), load(Origin, request["origin"])
        context = Context(from_environment(), usecase, origin, request["reuse"])
        records: dict[str, Any] = {name: load(RECORDS[name], value) for name, value in request["arguments"].items()}
        result = plain(stage.run(context, **records))
    except NightshiftError as error:
        details = {name: None if value is None else str(value) for name, value in error.details.items()}
        return {"error": {"class": type(error).__name__, "what": error.what, "details": details}}
    except Exception as error:
        if is_interruption(error):
            return {"error": {"class": "Interrupted", "what": stopped().what, "details": {}}}
        for line in [_described(error), *"".join(traceback.format_tb(error.__traceback__)).splitlines()]:
            log.error("%s", line)
        return {"error": {"class": type(error).__name__}}
    return {"result": result}


def _described(error: Exception) -> str:
    """Returns the class, with the message where it is one that cannot hold the text of a row."""
    safe = isinstance(error, OSError | ImportError | MemoryError) or type(error).__module__.startswith("torch")
    return f"{type(error).__name__}: {error}" if safe else type(error).__name__


def _line() -> bytes:
    """Returns the first line of standard input. Unbuffered: a thread that waits in a buffered read cannot be left."""
    line = b""
    while not line.endswith(b"\n"):
        block = os.read(0, 1 << 16)
        if not block:
            break
        line += block
    return line


def _end_with_caller() -> NoReturn:
    """Waits until whoever asked is gone, and ends this process with all that it started."""
    while os.read(0, 1):
        pass
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _overdue() -> Refused:
    """Returns the error of a training that took too long: a failure of its own, unlike a stop, since with the same
    settings the next try takes as long."""
    return Refused("training took longer than it may", next_step="raise training.timeout_minutes, or train less")


if __name__ == "__main__":
    main()
