"""Settings: what the environment may say, and what is answered to the rest."""

import stat
from pathlib import Path

import pytest

from pipeline import settings as settings_module
from pipeline.errors import BadInput

pytestmark = pytest.mark.unit


def test_everything_has_a_default_below_home(tmp_path: Path) -> None:
    settings = settings_module.from_environment({"NIGHTSHIFT_HOME": str(tmp_path)})
    assert settings.artifacts == str(tmp_path / "artifacts")
    assert settings.logins == tmp_path / "logins"
    assert settings.database_url is None


def test_a_child_process_sees_the_same_installation(tmp_path: Path) -> None:
    settings = settings_module.from_environment(
        {"NIGHTSHIFT_HOME": str(tmp_path), "NIGHTSHIFT_DATABASE_URL": "postgresql://db/x", "NIGHTSHIFT_DEVICE": "cpu"}
    )
    assert settings_module.from_environment(settings.environment()) == settings


def test_a_url_stays_a_url(tmp_path: Path) -> None:
    environ = {"NIGHTSHIFT_HOME": str(tmp_path), "NIGHTSHIFT_ARTIFACTS": "s3://bucket/nightshift"}
    assert settings_module.from_environment(environ).artifacts == "s3://bucket/nightshift"


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("NIGHTSHIFT_ARTIFACT", "/a", "did you mean NIGHTSHIFT_ARTIFACTS?"),
        ("NIGHTSHIFT_DATABASE_URL", "mysql://root:hunter2@db/x", "postgresql://"),
        ("NIGHTSHIFT_DEVICE", "gpu", "auto, cpu, cuda"),
        ("NIGHTSHIFT_AIRFLOW_PORT", "80800", "1 to 65535"),
    ],
)
def test_a_wrong_value_names_the_variable_and_what_is_allowed(name: str, value: str, told: str) -> None:
    with pytest.raises(BadInput) as caught:
        settings_module.from_environment({name: value})
    assert name in str(caught.value)
    assert told in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_secret_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "logins" / "trainer"
    value = settings_module.secret(path)
    assert settings_module.secret(path) == value
    assert len(value) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["trainer"]
