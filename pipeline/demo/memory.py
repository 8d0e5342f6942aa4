"""The memory that everything of an installation takes together, sampled while the demo runs."""

import threading
from contextlib import suppress
from pathlib import Path

import psutil

from pipeline.services import airflow, processes
from pipeline.settings import Settings

SECONDS = 3.0  # between two samples: each reads all processes, and takes processor time from the training


class Sampler:
    """Samples in a thread of its own, inside a `with` block. `peak` is the highest sum, in bytes, `during` the stage it
    fell in. Counted are Airflow with its tasks and what they start, the embedded Postgres, and this process."""

    def __init__(self, settings: Settings) -> None:
        self._record = airflow.record(settings)
        self._postmaster = settings.pgdata / "postmaster.pid"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)
        self.stage = "up"
        self.peak = 0
        self.during = ""

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(SECONDS):
            total = processes.memory({psutil.Process(), *processes.tree(self._record), *_postgres(self._postmaster)})
            if total > self.peak:
                self.peak, self.during = total, self.stage


def _postgres(pid_file: Path) -> set[psutil.Process]:
    """Returns the embedded server's processes; none where it does not run here."""
    with suppress(OSError, ValueError, IndexError, psutil.Error):
        server = psutil.Process(int(pid_file.read_text().splitlines()[0]))
        return {server, *server.children(recursive=True)}
    return set()
