"""Reading a sample: it is drawn once, no test row is in it, pairs are read blind, and the card says what came of it."""

import json
from collections.abc import Iterable
from typing import Any

import psycopg
import pytest
import yaml

from pipeline import data, database
from pipeline.artifacts import ArtifactStore
from pipeline.context import Context
from pipeline.data import erasure, sample_review
from pipeline.data.impact import Target
from pipeline.errors import BadInput, Refused
from pipeline.steps import Origin
from tests.pg.data.conftest import Stage, question

pytestmark = pytest.mark.pg


@pytest.fixture
def filled(stage: Stage) -> Stage:
    """The stage over forty rows and twenty pairs, with a card."""
    path = stage.folder / "usecase.yaml"
    keys = yaml.safe_load(path.read_text())
    keys["examples"] = [{"path": "sft.jsonl", "kind": "sft"}, {"path": "pairs.jsonl", "kind": "preference"}]
    path.write_text(yaml.safe_dump(keys))
    stage.put([question(n, data_subject="customer-9") if n < 3 else question(n) for n in range(40)])
    pairs = [{"prompt": f"What of pair {n}?", "chosen": f"Right {n}.", "rejected": f"Wrong {n}."} for n in range(20)]
    stage.put(pairs, "pairs.jsonl")
    data.card(Context(stage.settings, stage.usecase, stage.origin), stage.commit())
    return stage


def draw(stage: Stage, rows: int = 12, seed: int = 0, **more: Any) -> int:
    return sample_review.draw(stage.settings, stage.usecase, "engineer", rows, seed, **more)


def read(stage: Stage, review: int, rater: str, wrong: Iterable[int] = ()) -> list[sample_review.Row]:
    """Reads a sample to its end: all is good but the rows at these places. Returns what was shown."""
    shown = []
    while (row := sample_review.unread(stage.settings, stage.usecase, review, rater)) is not None:
        shown.append(row)
        right = "good" if row.a is None else "a" if row.a.startswith("Right") else "b"
        other = {"good": "bad", "a": "b", "b": "a"}[right]
        verdict = other if row.place in set(wrong) else right
        sample_review.record(stage.settings, stage.usecase, review, row.place, rater, verdict, "I compared it")
    return shown


def test_a_sample_is_drawn_once_and_holds_no_test_row(filled: Stage) -> None:
    first = draw(filled)
    assert draw(filled) == first
    assert draw(filled, seed=1) != first
    rows = filled.rows(
        f"select place, digest, stratum from catalog.review_row where review_id = {first} order by place"
    )
    assert [row["place"] for row in rows] == list(range(1, 13))
    assert {row["stratum"] for row in rows} == {"sft, sft.jsonl", "preference, pairs.jsonl"}
    (count,) = filled.rows(
        f"select count(*) as n from catalog.review_row w join catalog.locked_example l using (digest)"
        f" where w.review_id = {first}"
    )
    assert count["n"] == 0


def test_the_database_draws_no_test_row_and_none_of_another_version(filled: Stage) -> None:
    review = draw(filled)
    (locked,) = filled.rows("select min(digest) as digest from catalog.locked_example")
    assert locked["digest"] is not None
    for digest in (locked["digest"], "0" * 64):
        with database.connect(filled.settings, "pipeline") as connection, pytest.raises(psycopg.Error) as refusal:
            connection.execute(
                "insert into catalog.review_row (review_id, place, digest, stratum, swapped)"
                " values (%s, 99, %s, 's', false)",
                [review, digest],
            )
        assert refusal.value.sqlstate == "NS044"


def test_two_readers_and_what_they_agree_on_stand_on_the_card(filled: Stage) -> None:
    review = draw(filled)
    read(filled, review, "maria", wrong=(1, 2, 3))
    told = sample_review.report(filled.settings, filled.usecase, review)
    assert [(one.rater, one.read, one.good.value) for one in told.raters] == [("maria", 12, 0.75)]
    assert 0.4 < told.raters[0].good.low < 0.75 < told.raters[0].good.high < 1
    assert [(each["place"], each["rater"]) for each in told.bad] == [(1, "maria"), (2, "maria"), (3, "maria")]
    read(filled, review, "ben", wrong=(2, 3, 4))
    (agreement,) = sample_review.report(filled.settings, filled.usecase, review).agreement
    # Ten of twelve agreed; by chance 0.75 squared and 0.25 squared.
    assert agreement.rows == 12
    assert agreement.kappa == pytest.approx((10 / 12 - 0.625) / 0.375, abs=1e-6)
    card = data.renew(Context(filled.settings, filled.usecase, filled.origin), 1)
    assert card is not None
    store = ArtifactStore(filled.settings.artifacts)
    text = store.read("card", card.card.digest, "card.md").decode()
    assert "| maria | 12 | 0.75 | " in text
    assert "Cohen's kappa of ben and maria over 12 rows: 0.56." in text
    assert "I compared it" not in text, "a reason may quote a row"
    assert json.loads(store.read("card", card.card.digest, "card.json"))["review"]["review"] == review


def test_a_card_says_nothing_of_a_sample_that_nobody_has_read_to_its_end(filled: Stage) -> None:
    review = draw(filled)
    row = sample_review.unread(filled.settings, filled.usecase, review, "maria")
    assert row is not None
    sample_review.record(filled.settings, filled.usecase, review, row.place, "maria", row.verdicts[0], None)
    assert sample_review.of_version(filled.settings, filled.usecase, 1) is None


def test_pairs_are_shown_in_an_order_that_says_nothing(filled: Stage) -> None:
    shown = [row for seed in range(4) for row in read(filled, draw(filled, 30, seed), "maria")]
    pairs = [row for row in shown if row.a is not None]
    first = sum(str(row.a).startswith("Right") for row in pairs)
    assert 0 < first < len(pairs)
    assert all({str(row.a).split()[0], str(row.b).split()[0]} == {"Right", "Wrong"} for row in pairs)
    (counts,) = filled.rows("select count(*) filter (where good) as good, count(*) as n from catalog.review_answer")
    assert counts["good"] == counts["n"], "whoever prefers what was chosen calls the pair good, wherever it was shown"


@pytest.mark.parametrize("rows", [-1, 0, 9, 61, 10_000])
def test_a_sample_of_another_size_is_refused(filled: Stage, rows: int) -> None:
    with pytest.raises(BadInput, match="cannot be drawn"):
        draw(filled, rows)


@pytest.mark.parametrize("version", [0, 2, -1])
def test_a_version_that_is_not_there_is_refused(filled: Stage, version: int) -> None:
    with pytest.raises(BadInput, match="no such version"):
        draw(filled, version=version)


def test_what_is_said_must_be_of_the_row(filled: Stage) -> None:
    review = draw(filled)

    def say(place: int, verdict: str, reason: str = "") -> None:
        sample_review.record(filled.settings, filled.usecase, review, place, "maria", verdict, reason)

    row = sample_review.unread(filled.settings, filled.usecase, review, "maria")
    assert row is not None
    wrong = "a" if row.a is None else "good"
    for place, verdict, match in (
        (0, "good", "not in the sample"),
        (13, "good", "not in the sample"),
        (row.place, wrong, "cannot be said"),
        (row.place, "", "cannot be said"),
        (row.place, "bad" if row.a is None else "neither", "has a reason"),
    ):
        with pytest.raises(BadInput, match=match):
            say(place, verdict)
    say(row.place, row.verdicts[0])
    with pytest.raises(Refused, match="has read row"):
        say(row.place, row.verdicts[0])
    with pytest.raises(BadInput, match="no such review"):
        sample_review.report(filled.settings, filled.usecase, 999)


def test_an_erased_row_is_not_waited_for_and_what_was_said_of_it_goes(filled: Stage) -> None:
    review = draw(filled, 30)
    places = filled.rows(
        "select w.place from catalog.review_row w join catalog.example e using (digest)"
        f" where w.review_id = {review} and e.subject is not null order by 1"
    )
    assert places
    for row in places:
        reason = "it names Maria Example of Lake Road"
        sample_review.record(filled.settings, filled.usecase, review, row["place"], "ben", "bad", reason)
    context = Context(filled.settings, filled.usecase, Origin("cli", "engineer"))
    asked = erasure.request(context, Target("subject", "customer-9"), "she asked for it")
    erasure.answer(filled.settings, filled.usecase, asked.erasure, "approve", "checked", "reviewer")
    erasure.erase(context, asked.erasure)
    assert filled.rows("select * from catalog.review_answer where reason is not null") == []
    shown = read(filled, review, "maria")
    assert {row["place"] for row in places}.isdisjoint(row.place for row in shown)
    (finished,) = filled.rows("select finished from catalog.reviews where rater = 'maria'")
    assert finished["finished"]
    with pytest.raises(Refused, match="was erased"):
        sample_review.record(filled.settings, filled.usecase, review, places[0]["place"], "maria", "good", None)


def test_the_trail_shows_who_said_what_and_no_other_login_says_anything(filled: Stage) -> None:
    review = draw(filled)
    read(filled, review, "maria")
    (row,) = filled.rows("select count(*) as n from audit.events where object = 'catalog.review_answer'")
    assert row["n"] == 12
    for login in ("trainer", "evaluator", "retriever", "reader", "approver"):
        with database.connect(filled.settings, login) as connection, pytest.raises(psycopg.Error, match="denied"):
            connection.execute("select * from catalog.review_answer")
