"""A use case: one assistant, as its usecase.yaml says. Imports YAML and pydantic alone: DAG files read it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline import parsing, validation
from pipeline.errors import BadInput, nearest
from pipeline.settings import Settings
from pipeline.usecase.data import (
    Checks,
    DataCard,
    DocumentChecks,
    DocumentDefaults,
    DocumentSource,
    ExampleSource,
    GeneratedBy,
    Retention,
    SignOff,
    Splits,
)
from pipeline.usecase.keys import (
    REFUSALS,
    Approval,
    BaseModelSource,
    Evaluation,
    Freshness,
    Principal,
    Release,
    Retrieval,
    Schedule,
    Suite,
    Threshold,
    UseCase,
)
from pipeline.usecase.recipes import DpoRecipe, PretrainRecipe, Price, Recipe, SftRecipe, Training
from pipeline.usecase.suite_questions import questions
from pipeline.usecase.types import (
    CLASSIFICATIONS,
    PURPOSES,
    SCHEMES,
    USES,
    Classification,
    Cron,
    Dtype,
    ExampleKind,
    Line,
    Login,
    Name,
    PreferenceLoss,
    Purpose,
    Quantize,
    Share,
    Url,
    Use,
    narrowed,
)

__all__ = [
    "CLASSIFICATIONS",
    "PURPOSES",
    "REFUSALS",
    "SCHEMES",
    "USES",
    "Approval",
    "BaseModelSource",
    "Checks",
    "Classification",
    "Cron",
    "DataCard",
    "DocumentChecks",
    "DocumentDefaults",
    "DocumentSource",
    "DpoRecipe",
    "Dtype",
    "Evaluation",
    "ExampleKind",
    "ExampleSource",
    "Freshness",
    "GeneratedBy",
    "Line",
    "Login",
    "Name",
    "PreferenceLoss",
    "PretrainRecipe",
    "Price",
    "Principal",
    "Purpose",
    "Quantize",
    "Recipe",
    "Release",
    "Retention",
    "Retrieval",
    "Schedule",
    "SftRecipe",
    "Share",
    "SignOff",
    "Splits",
    "Suite",
    "Threshold",
    "Training",
    "Url",
    "Use",
    "UseCase",
    "files",
    "find",
    "load",
    "narrowed",
    "questions",
    "read_all",
]


def load(path: Path) -> UseCase:
    """Returns the use case of a YAML file, its paths made absolute (relative ones count from the file's folder).

    Raises BadInput that names the file, the key's path, the value found and what is allowed.
    """
    try:
        data = parsing.parse_yaml(path.read_bytes())
    except FileNotFoundError:
        raise BadInput("there is no such use case", where=path, next_step="`nightshift new usecase NAME`") from None
    except OSError as error:
        raise BadInput("the file cannot be read", where=path, found=error.strerror) from None
    except parsing.ParseError as error:
        place = f"{path}:{error.line}:{error.column or 1}" if error.line else path
        what = "this is not YAML" if "not YAML" in error.problem else "this YAML is not read"
        raise BadInput(what, where=place, found=error.problem) from None
    if not isinstance(data, dict):
        raise BadInput("a use case is a mapping of keys", where=path, found=type(data).__name__)
    try:
        usecase = UseCase.model_validate(_absolute(data, path.parent))
    except ValidationError as error:
        raise validation.bad_input(error, UseCase, path) from None
    if usecase.name != path.parent.name:
        raise BadInput(
            "the name differs from the folder's", where=f"{path}: name", found=usecase.name, allowed=path.parent.name
        )
    for key, file in _paths(usecase):
        if not file.exists():
            raise BadInput("there is no such file or folder", where=f"{path}: {key}", found=file)
    return usecase


def find(settings: Settings, name: str) -> UseCase:
    """Returns the use case of this name. Raises BadInput, naming the nearest, where there is none."""
    path = settings.usecases / name / "usecase.yaml"
    if not path.exists():
        names = [file.parent.name for file in files(settings)]
        raise BadInput(
            "unknown use case", where=settings.usecases, found=name, allowed=nearest(name, names) or "none yet"
        )
    return load(path)


def read_all(settings: Settings) -> tuple[list[UseCase], dict[str, BadInput]]:
    """Returns the use cases that can be read, and by the name of its folder what is wrong with each of the others,
    whatever it is."""
    sound, broken = [], {}
    for path in files(settings):
        try:
            sound.append(load(path))
        except BadInput as error:
            broken[path.parent.name] = error
        except Exception as error:
            broken[path.parent.name] = BadInput("the use case cannot be read", where=path, found=type(error).__name__)
    return sound, broken


def files(settings: Settings) -> list[Path]:
    """Returns the YAML files of all use cases, in the order of their names."""
    return sorted(settings.usecases.glob("*/usecase.yaml"))


def _absolute(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Makes the paths of sources and suites absolute, where they are strings; other mistakes are pydantic's to find."""

    def resolve(entries: Any) -> Any:
        if not isinstance(entries, list):
            return entries
        return [
            {**entry, "path": str((folder / entry["path"]).resolve())}
            if isinstance(entry, dict) and isinstance(entry.get("path"), str) and ":/" not in entry["path"]
            else entry
            for entry in entries
        ]

    data = dict(data)
    for key in ("documents", "examples"):
        if key in data:
            data[key] = resolve(data[key])
    if isinstance(data.get("prompt"), str):
        data["prompt"] = str((folder / data["prompt"]).resolve())
    if isinstance(data.get("evaluation"), dict) and "suites" in data["evaluation"]:
        data["evaluation"] = {**data["evaluation"], "suites": resolve(data["evaluation"]["suites"])}
    return data


def _paths(usecase: UseCase) -> list[tuple[str, Path]]:
    groups: list[tuple[str, Sequence[DocumentSource | ExampleSource | Suite]]] = [
        ("documents", usecase.documents),
        ("examples", usecase.examples),
        ("evaluation.suites", usecase.evaluation.suites),
    ]
    paths = [
        (f"{key}.{place}.path", entry.path)
        for key, entries in groups
        for place, entry in enumerate(entries)
        if entry.path is not None
    ]
    return paths if usecase.prompt is None else [*paths, ("prompt", usecase.prompt)]
