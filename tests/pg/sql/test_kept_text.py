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


@pytest.mark.parametrize(("table", "column"), COLUMNS)
def test_an_erased_text_comes_back_as_it_was_alone(world: "World", table: str, column: str) -> None:
    others = {
        "body": ["another", "", " "],
        "content": ['{"messages": []}', "{}", "[]", '"x"', "1"],
    }[column]
    cast = "::jsonb" if column == "content" else ""
    key = "document_version_id" if column == "body" else "digest"
    with database.connect(world.settings, "pipeline") as connection:
        (row,) = connection.execute(
            f"select {key} as key, {column}::text as text from {table} where {column} is not null limit 1".encode()
        ).fetchall()
        connection.execute(f"update {table} set {column} = null where {key} = %s".encode(), [row["key"]])
        back = f"update {table} set {column} = %s{cast} where {key} = %s".encode()
        for other in others:
            with pytest.raises(psycopg.Error, match="not the one that was erased"):
                connection.execute(back, [other, row["key"]])
        assert connection.execute(back, [row["text"], row["key"]]).rowcount == 1
