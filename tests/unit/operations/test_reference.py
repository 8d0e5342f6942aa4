"""The reference of all settings: current, complete, and what an editor is told is what the loader does."""

import ast
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from pipeline import settings as settings_module
from pipeline import usecase
from pipeline.errors import BadInput
from pipeline.operations import reference, scaffold
from pipeline.settings import ROOT, SCHEMA, VARIABLES

pytestmark = pytest.mark.unit


def test_the_reference_and_the_schema_are_current() -> None:
    assert reference.REFERENCE.read_text() == reference.markdown(), "run `make reference`"
    assert json.loads(SCHEMA.read_text()) == reference.schema(), "run `make reference`"


def test_every_key_is_described() -> None:
    rows = [line.split(" | ") for line in reference.markdown().splitlines() if line.startswith("| `")]
    assert len(rows) > 80
    for row in rows:
        assert row[-1].removesuffix("|").strip(), row
    keys = [row[0].removeprefix("| ").strip("`") for row in rows]
    assert len(keys) == len(set(keys))
    wanted = {
        "training.sft.eval_steps",
        "release.thresholds[].minimum",
        "principals.<name>.clearance",
        "schedule.govern",
    }
    assert wanted <= set(keys)


def test_the_readme_names_every_variable() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [name for name in VARIABLES if name not in readme] == []


@pytest.mark.parametrize("place", ["inside", "elsewhere"])
def test_a_new_use_case_names_its_schema(tmp_path: Path, place: str) -> None:
    settings = settings_module.from_environment({"NIGHTSHIFT_HOME": str(tmp_path / "home")})
    settings = replace(settings, usecases=ROOT / ".nightshift-test" if place == "inside" else tmp_path / "usecases")
    try:
        written = scaffold.new_usecase(settings, "helpdesk")[0]
        first = written.read_text().splitlines()[0]
        _, _, named = first.partition("# yaml-language-server: $schema=")
        found = Path(named.removeprefix("file://")) if named.startswith("file:") else written.parent / named
        assert os.path.samefile(found, SCHEMA)
        assert usecase.load(written).name == "helpdesk"
        assert list(validator().iter_errors(yaml.safe_load(written.read_text()))) == []
    finally:
        if place == "inside":
            import shutil

            shutil.rmtree(settings.usecases)


def validator() -> Draft202012Validator:
    Draft202012Validator.check_schema(reference.schema())
    return Draft202012Validator(reference.schema())


def test_the_sample_is_valid() -> None:
    for path in (ROOT / "usecases").glob("*/usecase.yaml"):
        assert list(validator().iter_errors(yaml.safe_load(path.read_text()))) == []


@pytest.mark.parametrize(
    "keys",
    [
        {"riks_tier": "high"},
        {"risk_tier": "medium"},
        {"retrieval": {"k": 0}},
        {"retrieval": {"k": "three"}},
        {"training": {"sft": {"learning_rate": 0}}},
        {"training": {"quantize": "int8"}},
        {"principals": {"someone": {"clearance": "internal"}}},
        {"release": {"thresholds": [{"metric": "bleu"}]}},
        {"documents": []},
        {"evaluation": {"confidence": 1}},
    ],
)
def test_what_the_loader_refuses_the_editor_marks(usecase_folder: Callable[..., Path], keys: dict[str, Any]) -> None:
    path = usecase_folder(**keys) / "usecase.yaml"
    with pytest.raises(BadInput):
        usecase.load(path)
    assert list(validator().iter_errors(yaml.safe_load(path.read_text()))) != []


def test_every_key_is_read_by_something() -> None:
    """A key that nothing reads would promise what nothing does."""
    reading = [path for path in (ROOT / "pipeline").rglob("*.py") if path.name != "coherence.py"]
    reading += list((ROOT / "dags").glob("*.py"))
    read = {
        node.attr
        for path in reading
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    keys = {
        line.split("`")[1].rpartition(".")[2].removesuffix("[]")
        for line in reference.markdown().splitlines()
        if line.startswith("| `")
    }
    keys -= set(VARIABLES) | {"path", "name", "kind"}
    assert len(keys) > 50
    assert sorted(keys - read) == []
