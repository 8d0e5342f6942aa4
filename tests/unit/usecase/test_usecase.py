"""usecase.yaml: what is allowed, and how a mistake is told."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import settings as settings_module
from pipeline import usecase
from pipeline.errors import BadInput
from pipeline.settings import ROOT
from pipeline.usecase import BaseModelSource, UseCase

pytestmark = pytest.mark.unit


def test_a_minimal_use_case_loads_with_absolute_paths(usecase_folder: Callable[..., Path]) -> None:
    folder = usecase_folder()
    loaded = usecase.load(folder / "usecase.yaml")
    assert loaded.name == "demo"
    assert loaded.documents[0].path == folder / "documents"
    assert not loaded.asks_a_person


@pytest.mark.parametrize(
    ("tier", "required", "asks"), [("high", None, True), ("limited", None, False), ("limited", True, True)]
)
def test_the_tier_decides_who_is_asked(
    usecase_folder: Callable[..., Path], tier: str, required: bool | None, asks: bool
) -> None:
    folder = usecase_folder(risk_tier=tier, release={"approval": {"required": required}})
    assert usecase.load(folder / "usecase.yaml").asks_a_person is asks


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"documnets": []}, ["usecase.yaml: documnets", "unknown key", "did you mean documents?"]),
        ({"training": {"sft": {"epoch": 3}}}, ["training.sft.epoch", "did you mean epochs?"]),
        ({"training": {"sft": {"epochs": "three"}}}, ["training.sft.epochs", "found: three"]),
        ({"risk_tier": "hihg"}, ["risk_tier", "found: hihg", "did you mean high?"]),
        ({"documents": [{"path": "papers"}]}, ["documents.0.path", "no such file or folder", "papers"]),
        ({"splits": {"train": 0.9, "validation": 0.2, "test": 0.1}}, ["splits", "add up to 1"]),
        ({"base_model": {"path": "acme/llama"}}, ["base_model", "revision pinned"]),
        ({"name": "other"}, ["name", "found: other", "allowed: demo"]),
        ({"owner": None}, ["owner", "string"]),
        ({"principals": {"ann": {"tenant": "a", "clearence": "public"}}}, ["principals.ann.clearence", "clearance?"]),
    ],
)
def test_a_mistake_names_file_key_value_and_what_is_allowed(
    usecase_folder: Callable[..., Path], keys: dict[str, Any], told: list[str]
) -> None:
    folder = usecase_folder(**keys)
    with pytest.raises(BadInput) as caught:
        usecase.load(folder / "usecase.yaml")
    message = str(caught.value)
    assert str(folder / "usecase.yaml") in message
    for part in told:
        assert part in message


def test_several_mistakes_are_counted(usecase_folder: Callable[..., Path]) -> None:
    folder = usecase_folder(risk_tier="x", title=3)
    with pytest.raises(BadInput, match="1 more"):
        usecase.load(folder / "usecase.yaml")


def test_broken_yaml_names_the_line(usecase_folder: Callable[..., Path]) -> None:
    path = usecase_folder() / "usecase.yaml"
    path.write_text("name: demo\ntitle: [unclosed\n")
    with pytest.raises(BadInput) as caught:
        usecase.load(path)
    assert f"{path}:3" in str(caught.value)


def test_an_unknown_use_case_names_the_nearest(usecase_folder: Callable[..., Path]) -> None:
    folder = usecase_folder("compliance")
    settings = settings_module.from_environment({"NIGHTSHIFT_USECASES": str(folder.parent)})
    with pytest.raises(BadInput, match="did you mean compliance"):
        usecase.find(settings, "complience")
    assert usecase.find(settings, "compliance").name == "compliance"


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ("release: {min_cases: 1}\nrelease: {min_cases: 2}", "'release' stands twice"),
        ("release:\n  thresholds:\n    - {metric: value, minimum: 0.9, minimum: 0.1}", "'minimum' stands twice"),
        ("principals:\n  eve: {tenant: a}\n  'eve': {tenant: b}", "'eve' stands twice"),
        ("checks: &c {max_widened: 0}\nsplits: *c", "anchors and aliases"),
        ("checks: !!map {max_widened: 0}", "tags"),
    ],
)
def test_no_key_of_a_policy_is_lost_in_silence(usecase_folder: Callable[..., Path], more: str, problem: str) -> None:
    path = usecase_folder() / "usecase.yaml"
    path.write_text(f"{path.read_text()}{more}\n")
    with pytest.raises(BadInput, match=problem) as error:
        usecase.load(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("data", [b"# caf\xe9\n", b"\xff\xfe", b"title: a\x00b\n"])
def test_bytes_that_are_no_text_are_bad_input(usecase_folder: Callable[..., Path], data: bytes) -> None:
    path = usecase_folder() / "usecase.yaml"
    path.write_bytes(path.read_bytes() + data)
    with pytest.raises(BadInput, match="YAML"):
        usecase.load(path)


@pytest.mark.parametrize("name", ["tiny", "compliance"])
def test_it_is_the_same_after_a_journey_to_another_process(name: str) -> None:
    """The training process gets the use case as JSON."""
    case = usecase.load(ROOT / "usecases" / name / "usecase.yaml")
    assert UseCase.model_validate(json.loads(json.dumps(case.model_dump(mode="json")))) == case


def test_a_base_model_has_a_name_or_a_path(usecase_folder: Callable[..., Path]) -> None:
    named = usecase.load(usecase_folder(base_model={"name": "smollm2-135m-instruct"}) / "usecase.yaml")
    assert named.base_model.label == "smollm2-135m-instruct"
    for more in ({"path": "models/tiny"}, {"revision": "0" * 40}):
        folder = usecase_folder(base_model={"name": "tiny", **more})
        with pytest.raises(BadInput, match="not both"):
            usecase.load(folder / "usecase.yaml")
    folder = usecase_folder(base_model={"name": "Not A Name"})
    with pytest.raises(BadInput):
        usecase.load(folder / "usecase.yaml")


@pytest.mark.parametrize(
    "keys",
    [{"name": "tiny"}, {"path": "models/tiny"}, {}, {"path": "/mnt/model"}, {"path": "a/b", "revision": "0" * 40}],
)
def test_a_base_model_is_found_again_by_its_label(keys: dict[str, str]) -> None:
    source = BaseModelSource(**keys)
    again = BaseModelSource.labelled(source.label, source.revision)
    assert (again.name, again.label, again.revision) == (source.name, source.label, source.revision)
