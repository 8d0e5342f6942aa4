"""A row is shown to a person who is written down, and never one of the locked test split."""

import pytest

from pipeline.data import showing
from pipeline.data.impact import Target
from pipeline.errors import BadInput, Refused
from tests.pg.data.conftest import Stage, question
from tests.pg.data.test_erasure import erased

pytestmark = pytest.mark.pg


def digests(stage: Stage, table: str) -> list[str]:
    return [row["digest"] for row in stage.rows(f"select digest from catalog.{table} order by digest")]


def test_a_row_is_shown_by_the_beginning_of_its_digest_and_its_reader_is_known(stage: Stage) -> None:
    stage.put([question(n) for n in range(30)])
    stage.commit()
    digest = digests(stage, "example")[0]
    shown = showing.show(stage.settings, stage.usecase, digest[:12], "maria")
    assert shown.digest == digest
    assert shown.content["messages"][1]["content"] == "Yes, by all means."
    assert (shown.kind, shown.source) == ("sft", "sft.jsonl")
    assert stage.rows("select digest, reader, how from catalog.rows_read") == [
        {"digest": digest, "reader": "maria", "how": "shown"}
    ]


def test_what_nobody_reads_is_refused_and_no_reading_is_written_down(stage: Stage) -> None:
    stage.put([question(n) for n in range(30)] + [question(77, data_subject="p-7")])
    stage.commit()
    for digest in digests(stage, "locked_example")[:2]:
        with pytest.raises(Refused, match="locked test split"):
            showing.show(stage.settings, stage.usecase, digest, "maria")
    gone = [row["digest"] for row in stage.rows("select digest from catalog.example where subject = 'p-7'")]
    assert gone, "it would have to be a row that may be read at first"
    erased(stage, Target("subject", "p-7"))
    with pytest.raises(Refused, match="erased"):
        showing.show(stage.settings, stage.usecase, gone[0], "maria")
    assert stage.rows("select * from catalog.rows_read") == []


@pytest.mark.parametrize("begins", ["", "abc", "%%%%%%", "______", "ABCDEF", "abcdef'", "0" * 65, "g" * 12])
def test_what_names_no_row_is_refused(stage: Stage, begins: str) -> None:
    stage.commit()
    with pytest.raises(BadInput, match="no digest of a row"):
        showing.show(stage.settings, stage.usecase, begins, "maria")
    with pytest.raises(BadInput, match="no such row"):
        showing.show(stage.settings, stage.usecase, "abcdef", "maria")
