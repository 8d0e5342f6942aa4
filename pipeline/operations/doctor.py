"""`doctor`: what an installation needs, whether it is there, and how to get it."""

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from pipeline import anchors, database, models, usecase
from pipeline.database import Connection
from pipeline.errors import BadInput, NightshiftError, NotAvailable
from pipeline.operations import coherence
from pipeline.settings import Settings

_FREE_GIB = 5


@dataclass(frozen=True)
class Examined:
    """One thing that an installation needs or could have."""

    name: str
    ok: bool
    needed: bool  # without it nothing works
    detail: str
    next: str | None = None  # what to do; None where nothing is to be done


def examine(settings: Settings) -> list[Examined]:
    """Returns what was looked at, and what is missing."""
    checks: list[tuple[str, bool, Callable[[Settings], str]]] = [
        ("python", True, _python),
        ("packages", True, _packages),
        ("disk", True, _disk),
        ("database", True, _database),
        ("use cases", True, _usecases),
        ("suites", True, _suites),
        ("coherence", False, _coherence),
        ("base models", False, _base_models),
        ("logins", False, _logins),
        ("anchors", False, _anchors),
        ("gpu", False, _gpu),
    ]
    results = []
    for name, needed, check in checks:
        try:
            results.append(Examined(name, True, needed, check(settings)))
        except NightshiftError as error:
            parts = ((part, error.details[part]) for part in ("where", "found", "allowed"))
            detail = "; ".join([error.what, *(f"{part}: {value}" for part, value in parts if value is not None)])
            results.append(Examined(name, False, needed, detail, str(error.details["next"] or "fix it")))
    return results


def _python(_: Settings) -> str:
    if sys.version_info[:2] != (3, 11):
        raise NotAvailable("Nightshift runs on Python 3.11", next_step="install it and run `make install`")
    return sys.version.split()[0]


def _packages(_: Settings) -> str:
    names = ("apache-airflow", "torch", "transformers", "trl", "peft", "great-expectations", "pgvector")
    missing = []
    for name in names:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        raise NotAvailable("packages are missing: " + ", ".join(missing), next_step="`make install`")
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def _disk(settings: Settings) -> str:
    folder = next(path for path in (settings.home, *settings.home.parents) if path.exists())
    free = shutil.disk_usage(folder).free / 2**30
    if free < _FREE_GIB:
        raise NotAvailable(
            f"{free:.1f} GiB free under {folder}", next_step=f"free {_FREE_GIB} GiB or move NIGHTSHIFT_HOME"
        )
    return f"{free:.0f} GiB free under {folder}"


def _database(settings: Settings) -> str:
    with database.connect(settings, "pipeline") as connection:
        row = database.fetch_one(connection, "doctor", "versions")
    assert row is not None
    return f"Postgres {row['server']}, pgvector {row['vector']}"


def _usecases(settings: Settings) -> str:
    sound, broken = usecase.read_all(settings)
    if broken:
        first = next(iter(broken.values()))
        names = f"{len(broken)} of {len(broken) + len(sound)} use cases cannot be read: {', '.join(broken)}"
        further = first.details["next"]
        raise first.reworded(f"{names}; the first: {first.what}", next_step=None if further is None else str(further))
    return ", ".join(each.name for each in sound) or "none yet: `nightshift new usecase NAME`"


def _base_models(settings: Settings) -> str:
    """Returns the base models by use case, as far as they are here: nothing is hashed or loaded."""
    here, missing = [], []
    for each in usecase.read_all(settings)[0]:
        try:
            models.locate(settings, each.base_model)
            here.append(f"{each.name}: {each.base_model.label}")
        except NotAvailable as error:
            missing.append((each.name, error))
    if missing:
        name, first = missing[0]
        further = f" ({len(missing) - 1} more)" if len(missing) > 1 else ""
        raise first.reworded(f"{name}: {first.what}{further}", next_step=str(first.details["next"]))
    return ", ".join(here) or "none yet"


@contextmanager
def _connected(settings: Settings) -> Iterator[Connection | None]:
    """Yields a connection; None where the database is not there, of which another check says so."""
    with ExitStack() as stack:
        try:
            connection = stack.enter_context(database.connect(settings, "pipeline"))
        except NotAvailable:
            connection = None
        yield connection


def _suites(settings: Settings) -> str:
    from pipeline import evaluation

    sound, _ = usecase.read_all(settings)
    with _connected(settings) as connection:
        problems = [(each.name, problem) for each in sound for problem in evaluation.problems(connection, each)]
    if problems:
        name, first = problems[0]
        raise first.reworded(
            f"{len(problems)} mistakes in suites; the first, of {name}: {first.what}",
            next_step="fix it: the night would end at preflight",
        )
    number = sum(len(each.evaluation.suites) for each in sound)
    return f"{number} suites can be answered and judged" if number else "none: the locked test split is evaluated"


def _coherence(settings: Settings) -> str:
    sound, _ = usecase.read_all(settings)
    with _connected(settings) as connection:
        problems = [(each, finding) for each in sound for finding in coherence.findings(each, connection)]
    if problems:
        raise BadInput(
            f"{len(problems)} keys that load and can hardly be meant",
            found="; ".join(f"{each.name}: {key}: {odd}" for each, (key, odd) in problems[:10]),
            next_step="look at each; docs/configuration.md says what a key does",
        )
    return "no keys disagree, no file is empty, every principal can read something"


def _logins(settings: Settings) -> str:
    readable = [role for role in database.ROLES if os.access(settings.logins / role, os.R_OK)]
    workers = {"pipeline", "trainer", "evaluator", "gatekeeper", "approver"} & set(readable)
    if len(workers) > 1:
        raise NotAvailable(
            "one user of this machine can read the passwords of " + ", ".join(sorted(workers)),
            where=settings.logins,
            next_step="for more than a trial give each worker its own login alone: see docs/guarantees.md",
        )
    return f"this user can read the passwords of: {', '.join(readable) or 'no role'}"


def _anchors(settings: Settings) -> str:
    weak = anchors.warning(settings)
    if weak:
        raise NotAvailable(weak, next_step="see README, “Before you rely on it”")
    return f"the audit trail is anchored in {settings.anchors}"


def _gpu(_: Settings) -> str:
    if shutil.which("nvidia-smi") is None:
        raise NotAvailable("no NVIDIA driver here: training runs on the CPU", next_step="see README, “A GPU”")
    return "an NVIDIA driver is here"
