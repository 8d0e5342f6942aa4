"""What an installation needs, looked at where it is and where it is not."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.operations import doctor
from pipeline.settings import Settings

pytestmark = pytest.mark.pg


def examined(settings: Settings) -> dict[str, doctor.Examined]:
    return {check.name: check for check in doctor.examine(settings)}


def test_what_is_there_is_named_with_its_version(settings: Settings, usecase_folder: Callable[..., Path]) -> None:
    usecase_folder("helpdesk")
    found = examined(settings)
    assert all(check.ok for check in found.values() if check.needed)
    assert re.fullmatch(r"Postgres \d+(\.\d+)*.*, pgvector \d+\.\d+\.\d+", found["database"].detail)
    assert "great-expectations" in found["packages"].detail
    assert found["use cases"].detail == "helpdesk"
    assert found["gpu"].ok is (shutil.which("nvidia-smi") is not None)
    assert not found["gpu"].needed


def test_a_base_model_that_is_not_here_says_how_to_get_it(
    settings: Settings, usecase_folder: Callable[..., Path]
) -> None:
    usecase_folder("helpdesk")
    assert examined(settings)["base models"].detail == "helpdesk: models/tiny"
    usecase_folder("archive", base_model={"name": "smollm2-135m-instruct"})
    check = examined(settings)["base models"]
    assert not check.ok
    assert not check.needed
    assert check.detail.startswith("archive: the base model smollm2-135m-instruct is not here")
    assert "nightshift model pull smollm2-135m-instruct" in str(check.next)


def test_what_is_missing_says_how_to_get_it(settings: Settings, usecase_folder: Callable[..., Path]) -> None:
    usecase_folder("helpdesk", risk_tier="hihg")
    found = examined(replace(settings, database_url="postgresql://127.0.0.1:1/nightshift"))
    assert not found["database"].ok
    assert found["database"].next
    assert not found["use cases"].ok
    for part in ("helpdesk/usecase.yaml: risk_tier", "a value is not allowed", "found: hihg", "did you mean high?"):
        assert part in found["use cases"].detail
    assert found["use cases"].next
