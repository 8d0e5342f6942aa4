"""A text whose digest stands is not rewritten by the login that may erase it."""

from typing import TYPE_CHECKING

import psycopg
import pytest

from pipeline import database

if TYPE_CHECKING:
    from tests.pg.conftest import World

pytestmark = pytest.mark.pg

COLUMNS = (("catalog.document_version", "body"), ("catalog.example", "content"), ("catalog.locked_example", "content"))


@pytest.mark.parametrize(("table", "column"), COLUMNS)
def test_pipeline_cannot_rewrite_a_text(world: "World", table: str, column: str) -> None:
    other = {"body": "'anything else'", "content": "'{\"messages\": []}'"}[column]
    with database.connect(world.settings, "pipeline") as connection:
        (before,) = connection.execute(f"select count({column}) as n from {table}".encode()).fetchall()
        assert before["n"] > 0
        for statement in (
            f"update {table} set {column} = {other}",
            f"update {table} set {column} = {other} where {column} is not null",
            f"with changed as (update {table} set {column} = {other} returning 1) select * from changed",
        ):
            with pytest.raises(psycopg.Error, match="is not rewritten"):
                connection.execute(statement.encode())


def test_an_erased_text_comes_back_as_it_was_alone(world: "World") -> None:
    with database.connect(world.settings, "pipeline") as connection:
        (row,) = connection.execute(
            b"select document_version_id as id, body from catalog.document_version where body is not null limit 1"
        ).fetchall()
        connection.execute(
            b"update catalog.document_version set body = null where document_version_id = %s", [row["id"]]
        )
        with pytest.raises(psycopg.Error, match="not the one of its digest"):
            connection.execute(
                b"update catalog.document_version set body = 'another' where document_version_id = %s", [row["id"]]
            )
