"""The embedded server, in a home folder of any name."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import database
from pipeline import settings as settings_module
from pipeline.operations import migrations
from pipeline.services import postgres
from pipeline.settings import Settings

pytestmark = pytest.mark.pg


@pytest.fixture
def odd() -> Iterator[Settings]:
    """An installation whose home has a blank, a percent sign and a letter that is not ASCII in its path."""
    with tempfile.TemporaryDirectory(prefix="nightshift-tests-", ignore_cleanup_errors=True) as folder:
        settings = settings_module.from_environment({"NIGHTSHIFT_HOME": str(Path(folder) / "my home 100% ü")})
        try:
            yield settings
        finally:
            postgres.stop(settings)


def test_a_home_of_any_name_has_a_server_that_every_role_reaches(odd: Settings) -> None:
    postgres.start(odd)
    assert migrations.upgrade(odd)
    assert postgres.running(odd)
    for role in database.ROLES:
        with database.connect(odd, role) as connection:
            assert connection.execute("select session_user as role").fetchall() == [{"role": role}]
    # A child process reaches it by the URL that it is handed.
    url = database.as_url(database.location(odd))
    child = settings_module.from_environment({"NIGHTSHIFT_HOME": str(odd.home), "NIGHTSHIFT_DATABASE_URL": url})
    with database.connect(child, "reader") as connection:
        assert connection.execute("select 1 as one").fetchall() == [{"one": 1}]


def test_what_was_stopped_is_started_again_by_the_same_process(odd: Settings) -> None:
    for _ in range(2):
        postgres.start(odd)
        assert postgres.running(odd)
        assert postgres.stop(odd)
        assert not postgres.running(odd)
