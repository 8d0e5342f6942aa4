"""Reading a sample: a seeded, stratified sample of a dataset version, read by persons one row at a time. Of a pair the
two answers are shown without saying which was chosen. The rows of the locked test split are not drawn."""

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

from psycopg.types.json import Jsonb

from pipeline import database, statistics
from pipeline.data.layouts import parts
from pipeline.data.reports import Agreement, Rater, ReviewCard
from pipeline.database import Connection
from pipeline.errors import BadInput, Refused
from pipeline.settings import Settings
from pipeline.usecase import UseCase

FEWEST = 10  # rows of a sample
_CONFIDENCE = 0.95
Verdict = Literal["good", "bad", "a", "b", "neither"]
_OF_ROWS: tuple[Verdict, ...] = ("good", "bad")
_OF_PAIRS: tuple[Verdict, ...] = ("a", "b", "neither")


@dataclass(frozen=True)
class Row:
    """A row as a rater sees it."""

    review: int
    place: int  # counts from 1
    of: int
    digest: str
    stratum: str  # kind and source
    turns: Sequence[Mapping[str, str]]  # the conversation; of a pair, its prompt
    a: str | None = None  # of a pair: the two answers, in an order that says nothing
    b: str | None = None

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Returns what may be said of it."""
        return _OF_ROWS if self.a is None else _OF_PAIRS


@dataclass(frozen=True)
class Review(ReviewCard):
    """A sample, and what was said of it."""

    version: int
    bad: Sequence[Mapping[str, Any]]  # the rows that a rater calls bad: place, rater, reason

    def card(self) -> ReviewCard:
        """Returns what a data card says of it: no reason, since that may quote a row."""
        return ReviewCard(self.review, self.seed, self.rows, self.strata, self.raters, self.agreement)


def draw(
    settings: Settings, usecase: UseCase, requested_by: str, rows: int = 50, seed: int = 0, version: int | None = None
) -> int:
    """Returns the number of a sample of a version (without a number, the newest); the same version, seed and size are
    the same sample. Each stratum, a kind of row in a source, has its share of it, and one row at least.

    Raises BadInput for fewer than ten rows, or more than the version has; for a version that is not there.
    """
    with database.connect(settings, "pipeline") as connection:
        dataset = database.fetch_one(connection, "review", "dataset", use_case=usecase.name)
        newest = 0 if dataset is None else dataset["newest"]
        number = newest if version is None else version
        if dataset is None or not 1 <= number <= newest:
            raise BadInput(
                f"the examples of {usecase.name} have no such version",
                found=number,
                allowed=f"1 to {newest}" if newest else "none yet: `nightshift data commit` makes the first",
            )
        which = {"dataset": dataset["dataset_id"], "version": number}
        members = database.fetch(connection, "review", "strata", use_case=usecase.name, **which)
        if not FEWEST <= rows <= len(members):
            raise BadInput(
                "a sample of this size cannot be drawn",
                where="--rows",
                found=rows,
                allowed=f"{FEWEST} to {len(members)}, the rows of version {number} outside the locked test split",
            )
        known = database.fetch_one(connection, "review", "find", seed=seed, rows=rows, **which)
        if known is not None:
            return int(known["review_id"])
        generator = random.Random(f"{usecase.name}/{number}/{seed}/{rows}")  # noqa: S311 - a sample, no secret
        chosen = sample(members, rows, generator)
        with connection.transaction():
            inserted = database.fetch_one(
                connection, "review", "insert_review", seed=seed, rows=rows, requested_by=requested_by, **which
            )
            assert inserted is not None
            drawn = [
                {"place": place, **row, "swapped": generator.random() < 0.5} for place, row in enumerate(chosen, 1)
            ]
            database.execute(connection, "review", "insert_rows", review=inserted["review_id"], sample=Jsonb(drawn))
        return int(inserted["review_id"])


def sample(rows: Sequence[Mapping[str, Any]], size: int, generator: random.Random) -> list[Mapping[str, Any]]:
    """Returns `size` of the rows in random order: of each stratum its share by largest remainder, and one at least
    where there are as many rows as strata."""
    strata: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        strata[row["stratum"]].append(row)
    shares = {name: size * len(members) / len(rows) for name, members in strata.items()}
    least = 1 if size >= len(strata) else 0
    counts = {name: max(least, int(share)) for name, share in shares.items()}
    order = sorted(strata)
    while (over := sum(counts.values()) - size) != 0:
        step = -1 if over > 0 else 1
        fitting = [n for n in order if (counts[n] > least if step < 0 else counts[n] < len(strata[n]))]
        name = max(fitting, key=lambda n: step * (shares[n] - counts[n]))
        counts[name] += step
    chosen = [row for name in sorted(strata) for row in generator.sample(strata[name], counts[name])]
    generator.shuffle(chosen)
    return chosen


def unread(settings: Settings, usecase: UseCase, review: int, rater: str) -> Row | None:
    """Returns the first row of a sample that a rater has not read; None where he has read it to its end. Raises
    BadInput where the use case has no such sample."""
    with database.connect(settings, "pipeline") as connection:
        head = _head(connection, usecase, review)
        first = database.fetch_one(connection, "review", "unread", review=review, rater=rater)
        place = None if first is None else first["place"]
        return None if place is None else _row(connection, head, place)


def record(
    settings: Settings, usecase: UseCase, review: int, place: int, rater: str, verdict: str, reason: str | None
) -> Row:
    """Returns the row that a rater has said this of.

    Raises BadInput for a row that is not in the sample, a verdict that is none of its kind's, and `bad` or `neither`
    without a reason; Refused where he has said something of it before, or it was erased.
    """
    with database.connect(settings, "pipeline") as connection:
        head = _head(connection, usecase, review)
        if not 1 <= place <= head["rows"]:
            raise BadInput("this row is not in the sample", where="--row", found=place, allowed=f"1 to {head['rows']}")
        row = _row(connection, head, place)
        if verdict not in row.verdicts:
            raise BadInput(
                "this cannot be said of the row", where="--verdict", found=verdict, allowed=", ".join(row.verdicts)
            )
        why = (reason or "").strip() or None
        if verdict in ("bad", "neither") and why is None:
            raise BadInput(f"{verdict} has a reason", where="--reason", next_step="say in a sentence what is wrong")
        if any(each["place"] == place and each["rater"] == rater for each in _answers(connection, review)):
            raise Refused(f"{rater} has read row {place} of review {review}", found="an answer that stands")
        shown = database.fetch_one(connection, "review", "row", review=review, place=place)
        assert shown is not None
        good = verdict == ("good" if row.a is None else "b" if shown["swapped"] else "a")
        preferred = None if row.a is None else verdict
        answer = {"rater": rater, "good": good, "preferred": preferred, "reason": why}
        database.execute(connection, "review", "insert_answer", review=review, place=place, **answer)
    return row


def report(settings: Settings, usecase: UseCase, review: int) -> Review:
    """Returns what was said of a sample: by each rater the share of good rows with its 95 % interval, and the agreement
    of each two. Raises BadInput where the use case has no such sample."""
    with database.connect(settings, "pipeline") as connection:
        return _report(connection, usecase, review)


def newest(settings: Settings, usecase: UseCase) -> int | None:
    """Returns the sample of a use case that was drawn last, or None."""
    with database.connect(settings, "pipeline") as connection:
        row = database.fetch_one(connection, "review", "newest", use_case=usecase.name)
        return None if row is None else int(row["review_id"])


def of_version(settings: Settings, usecase: UseCase, version: int) -> Review | None:
    """Returns the newest sample of a version that somebody has read to its end, or None."""
    with database.connect(settings, "pipeline") as connection:
        row = database.fetch_one(connection, "review", "of_version", use_case=usecase.name, version=version)
        return None if row is None else _report(connection, usecase, row["review_id"])


def _report(connection: Connection, usecase: UseCase, review: int) -> Review:
    head = _head(connection, usecase, review)
    said: dict[str, dict[int, bool]] = defaultdict(dict)
    answers = _answers(connection, review)
    for each in answers:
        said[each["rater"]][each["place"]] = each["good"]
    raters = [
        Rater(name, len(given), statistics.mean([float(good) for good in given.values()], _CONFIDENCE).rounded())
        for name, given in sorted(said.items())
    ]
    agreement = []
    for one, other in combinations(sorted(said), 2):
        both = sorted(said[one].keys() & said[other].keys())
        value = statistics.kappa([said[one][place] for place in both], [said[other][place] for place in both])
        agreement.append(Agreement([one, other], len(both), None if value is None else round(value, 6)))
    bad = [{name: each[name] for name in ("place", "rater", "reason")} for each in answers if not each["good"]]
    strata = database.fetch(connection, "review", "strata_of", review=review)
    counted = dict(Counter(row["stratum"] for row in strata))
    return Review(review, head["seed"], head["rows"], counted, raters, agreement, head["version"], bad)


def _head(connection: Connection, usecase: UseCase, review: int) -> Mapping[str, Any]:
    row = database.fetch_one(connection, "review", "review", use_case=usecase.name, review=review)
    if row is None:
        raise BadInput(
            f"{usecase.name} has no such review",
            found=review,
            next_step=f"`nightshift data review {usecase.name}` draws one",
        )
    return row


def _answers(connection: Connection, review: int) -> list[dict[str, Any]]:
    return database.fetch(connection, "review", "answers", review=review)


def _row(connection: Connection, head: Mapping[str, Any], place: int) -> Row:
    row = database.fetch_one(connection, "review", "row", review=head["review_id"], place=place)
    assert row is not None
    content = row["content"]
    if content is None:
        raise Refused(f"row {place} of review {head['review_id']} was erased")
    known = (head["review_id"], place, head["rows"], row["digest"], row["stratum"])
    if "prompt" not in content:
        return Row(*known, parts(content)[0])
    chosen, rejected = (_text(content[side]) for side in ("chosen", "rejected"))
    a, b = (rejected, chosen) if row["swapped"] else (chosen, rejected)
    return Row(*known, content["prompt"], a, b)


def _text(turns: Sequence[Mapping[str, str]]) -> str:
    return "\n".join(turn["content"] for turn in turns)
