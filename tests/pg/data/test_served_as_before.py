"""What was served stays served as it was, until somebody has looked: over real commits."""

import os
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from pipeline import data, database
from pipeline.errors import BadInput, NotAvailable

if TYPE_CHECKING:
    from tests.pg.data.conftest import Stage

pytestmark = pytest.mark.pg
RIGHTS = {"classification": "confidential", "groups": "[board]"}


def corpus(stage: "Stage") -> dict[str, tuple[str, list[str]]]:
    """Returns the documents of the current corpus with their rights."""
    rows = stage.rows(
        """select o.document_key, v.classification, v.groups
           from catalog.document_member m join catalog.document_version v using (document_version_id)
           join catalog.document o using (document_id) where m.removed_in is null"""
    )
    return {row["document_key"]: (row["classification"], row["groups"]) for row in rows}


@pytest.fixture
def served(stage: "Stage") -> "Stage":
    """A use case that serves four documents to the board."""
    for key in ("salaries", "limits", "leave", "travel"):
        stage.document(key, f"Text of {key}.", **RIGHTS)
    stage.commit()
    return stage


BOARD = ("confidential", ["board"])


@pytest.mark.parametrize("prefix", [b"\n", b" ", "\u200b".encode(), "\u00a0".encode(), b"-", b"+++\n"])
def test_a_document_whose_rights_cannot_be_read_stays_with_the_boards(served: "Stage", prefix: bytes) -> None:
    path = served.folder / "documents" / "salaries.md"
    path.write_bytes(prefix + path.read_bytes().replace(b"Text", b"New text"))
    committed = served.commit()
    assert corpus(served)["salaries"] == BOARD
    assert not committed.corpus.changed
    assert ("documents/salaries.md", 1, "front_matter", "rejected") in served.findings()
    assert ("documents/salaries.md", 1, "served_as_before", "warning") in served.findings()
    assert served.rows("select * from rag.withdrawal") == []


def test_a_rejected_document_that_never_stood_is_not_served(served: "Stage") -> None:
    (served.folder / "documents" / "new.md").write_text("classification: confidential\n\nSecret.")
    served.commit()
    assert "new" not in corpus(served)


def test_a_new_file_cannot_take_over_the_id_of_another_with_wider_rights(served: "Stage") -> None:
    """It comes first in the order of names, so that the other is the duplicate."""
    (served.folder / "documents" / "a.md").write_text("---\nid: salaries\nclassification: public\n---\nTaken over.\n")
    served.commit()
    assert corpus(served)["salaries"] == BOARD


@pytest.mark.parametrize(
    "rights",
    [
        {"classification": "public", "groups": "[board]"},
        {"classification": "confidential", "groups": "[board, everyone]"},
        {"classification": "internal", "groups": "[board]"},
        {"classification": "confidential", "groups": "[board]", "tenant": "other"},
    ],
)
def test_a_widening_waits_for_a_person_and_then_goes_through(served: "Stage", rights: dict[str, str]) -> None:
    served.document("salaries", "Text of salaries.", **rights)
    served.commit()
    (finding,) = data.waiting(served.settings, served.usecase)
    assert (finding.rule, "→" in finding.detail) == ("rights_widened", True)
    # Where a tenant loses it at the same time, nobody reads it until somebody has looked.
    assert corpus(served).get("salaries") == (None if "tenant" in rights else BOARD)
    with pytest.raises(BadInput, match="a reason"):
        data.accept(served.settings, served.usecase, [finding.finding], "steward", " ")
    with pytest.raises(BadInput, match="not on the work list"):
        data.accept(served.settings, served.usecase, [finding.finding + 1000], "steward", "x")
    data.accept(served.settings, served.usecase, [finding.finding], "steward", "published in the report")
    assert data.waiting(served.settings, served.usecase) == []
    assert served.commit().corpus.changed
    assert corpus(served)["salaries"][0] == rights["classification"]


def test_a_widening_goes_through_once(served: "Stage") -> None:
    served.document("salaries", "Text of salaries.", classification="public", groups="[board]")
    served.commit()
    (finding,) = data.waiting(served.settings, served.usecase)
    data.accept(served.settings, served.usecase, [finding.finding], "steward", "published")
    served.commit()
    served.document("salaries", "Text of salaries, renewed.", **RIGHTS)
    served.commit()
    assert corpus(served)["salaries"] == BOARD
    served.document("salaries", "Text of salaries.", classification="public", groups="[board]")
    served.commit()
    assert corpus(served)["salaries"] == BOARD, "the first acceptance was of another day"
    assert len(data.waiting(served.settings, served.usecase)) == 1


def test_an_empty_folder_withdraws_nothing_and_a_missing_one_is_an_error(served: "Stage") -> None:
    folder = served.folder / "documents"
    folder.rename(served.folder / "mounted")
    with pytest.raises((NotAvailable, BadInput), match=r"not there|no such"):
        served.commit()
    folder.mkdir()
    served.commit()
    assert len(corpus(served)) == 4
    assert served.rows("select * from rag.withdrawal") == []
    (finding,) = data.waiting(served.settings, served.usecase)
    assert finding.rule == "source_emptied"
    data.accept(served.settings, served.usecase, [finding.finding], "steward", "the department is closed")
    served.commit()
    assert corpus(served) == {}
    assert len(served.rows("select * from rag.withdrawal")) == 4


@pytest.mark.parametrize("how", ["link", "hard", "folder", "pipe", "unreadable"])
def test_a_file_that_is_not_the_sources_own_is_a_finding_and_stops_nobody(served: "Stage", how: str) -> None:
    secret = served.settings.home / "superuser"
    if not secret.exists():
        secret.parent.mkdir(parents=True, exist_ok=True)
        secret.write_text("---\nid: secret\n---\nthe superuser's password")
    path = served.folder / "documents" / "sym.md"
    if how == "link":
        path.symlink_to(secret)
    elif how == "hard":
        os.link(secret, path)
    elif how == "folder":
        path.symlink_to(secret.parent)
    elif how == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("nowhere")
    served.document("another", "Another text.", **RIGHTS)
    served.commit()
    assert set(corpus(served)) == {"salaries", "limits", "leave", "travel", "another"}
    assert ("documents/sym.md", 1, "outside", "rejected") in served.findings()
    assert "password" not in str(served.rows("select body from catalog.document_version"))


RUINOUS: dict[str, dict[str, Any]] = {
    "the last day there is": {"fresh_until": "9999-12-31"},
    "the first day there is": {"fresh_until": "0001-01-01"},
    "kept for ever": {"retain_until": "9999-12-31"},
    "many groups": {"groups": "[" + ", ".join(f"g{number}" for number in range(10_000)) + "]"},
    "long groups": {"groups": "[" + ", ".join("g" * 90 + str(number) for number in range(60)) + "]"},
    "one long group": {"groups": "[" + "g" * 3_000 + "]"},
    "endless groups": {"groups": "&a [*a]"},
    "an id of many digits": {"id": "9" * 10_000},
    "an id of many letters": {"id": "a" * 10_000},
    "a long title": {"title": "t" * 10_000},
    "a long owner": {"owner": "o" * 10_000},
    "a title of control characters": {"title": '"a\\u0007b"'},
    "a title that turns round": {"title": '"a\\u202eb"'},
    "a NUL in the title": {"title": '"a\\0b"'},
    "half a pair in the title": {"title": '"a\\ud800b"'},
    "deep": {"source": "[" * 5_000 + "]" * 5_000},
    "a tenant of another alphabet": {"tenant": "mаin"},
}


@pytest.mark.parametrize("fields", RUINOUS.values(), ids=RUINOUS.keys())
def test_one_document_does_not_stop_the_others(served: "Stage", fields: dict[str, Any]) -> None:
    served.document("limits", "Text of limits.", **{**RIGHTS, **fields})
    served.document("another", "Another text.", **RIGHTS)
    served.commit()
    assert {"salaries", "limits", "leave", "travel", "another"} == set(corpus(served))
    assert corpus(served)["limits"] == BOARD
    assert any(file == "documents/limits.md" and severity == "rejected" for file, _, _, severity in served.findings())


def test_a_text_that_is_too_long_or_cannot_be_stored_is_set_aside(served: "Stage") -> None:
    served.document("limits", "x" * 2_000_001, **RIGHTS)
    served.document("leave", "a\0b", **RIGHTS)
    served.commit()
    assert len(corpus(served)) == 4


def test_no_view_of_the_reader_holds_a_word_of_a_line(stage: "Stage") -> None:
    (stage.folder / "lines.txt").write_text("salary of jane doe is 90 000 EUR\nsalary of jane doe is 95 000 EUR\n")
    path = stage.folder / "usecase.yaml"
    keys = yaml.safe_load(path.read_text())
    keys["documents"] = [{"path": "lines.txt", "format": "lines"}]
    path.write_text(yaml.safe_dump(keys))
    stage.commit()
    assert len(corpus(stage)) == 2
    with database.connect(stage.settings, "reader") as connection:
        views = connection.execute(
            """select format('%I.%I', table_schema, table_name) as name from information_schema.table_privileges
               where grantee = 'reader' and privilege_type = 'SELECT'"""
        ).fetchall()
        assert len(views) > 10
        for view in views:
            rows = connection.execute(f"select * from {view['name']}".encode()).fetchall()
            assert "jane" not in str(rows), view["name"]
