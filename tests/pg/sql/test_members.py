"""The members of a version are looked up as a table is, however many there are."""

import pytest

from pipeline import database
from pipeline.settings import Settings

pytestmark = pytest.mark.pg


@pytest.mark.parametrize(
    ("function", "joined"),
    [
        ("example_members", "catalog.example r on r.use_case = d.use_case and r.digest = m.example_digest"),
        ("document_members", "catalog.document_version r using (document_version_id)"),
    ],
)
def test_a_query_takes_the_members_in_and_calls_no_function_for_them(
    settings: Settings, function: str, joined: str
) -> None:
    """Where they are called as a function, joining them with the rows of a first version takes their product."""
    members = f"catalog.dataset d cross join lateral catalog.{function}(d.dataset_id, 1) m"
    statement = f"explain select * from {members} join {joined}"
    with database.connect(settings, "pipeline") as connection:
        plan = "\n".join(row["QUERY PLAN"] for row in connection.execute(statement.encode()).fetchall())
    assert f"on {function.removesuffix('s')}" in plan
    assert "Function Scan" not in plan
