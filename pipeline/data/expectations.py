"""What a version must satisfy as a whole, judged by Great Expectations in SQL, over the rows that were checked: how
many there are, how long their answers, what share of a file is bad. Rules about single rows are not its work.

Great Expectations sees places, rules and lengths, which stand in the database while it looks, and no text."""

import io
import logging
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import sql as psycopg_sql

from pipeline import database
from pipeline.data.reports import ExpectationReport
from pipeline.settings import Settings
from pipeline.steps import Attempt
from pipeline.usecase import Checks

if TYPE_CHECKING:
    import pyarrow as pa

WHOLE_FILES, BAD_ROWS, EXAMPLES, DOCUMENTS, ANSWERS = (
    "whole_files",
    "max_rejected",
    "min_examples",
    "min_documents",
    "mean_answer",
)
_SHOWN = 3  # rows that an expectation's report names


@dataclass(frozen=True)
class Validation:
    """What Great Expectations found."""

    results: Sequence[ExpectationReport]
    page: bytes  # its own page of Data Docs, HTML without anything that is fetched from elsewhere

    @property
    def failed(self) -> frozenset[str]:
        """Returns the names of the expectations that failed."""
        return frozenset(each.name for each in self.results if not each.success)


def validate(settings: Settings, attempt: Attempt, staged: "pa.Table", checks: Checks) -> Validation:
    """Returns what Great Expectations found of these rows: a table with the columns of catalog.staged_row but the run.

    Raises RuntimeError where an expectation could not be evaluated: a check that did not run has not passed.
    """
    connection, run = attempt.connection, str(attempt.run_id)
    database.execute(connection, "data", "unstage_rows", run=run)
    try:
        _stage(attempt, staged)
        return _validated(database.sqlalchemy_url(settings, "pipeline", attempt.scratch), run, checks)
    finally:
        database.execute(connection, "data", "unstage_rows", run=run)


def _stage(attempt: Attempt, staged: "pa.Table") -> None:
    import pyarrow as pa
    from pyarrow import csv

    if not len(staged):
        return
    # In one chunk: of an empty one pyarrow 26 writes what happened to stand in memory.
    named = staged.combine_chunks().add_column(0, "run_id", pa.array([str(attempt.run_id)] * len(staged), pa.string()))
    target = io.BytesIO()
    csv.write_csv(named, target, csv.WriteOptions(include_header=False))
    names = psycopg_sql.SQL(", ").join(map(psycopg_sql.Identifier, named.column_names))
    statement = psycopg_sql.SQL("copy catalog.staged_row ({}) from stdin (format csv)").format(names)
    with attempt.connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(target.getbuffer())


def _validated(url: str, run: str, checks: Checks) -> Validation:
    gx = _library()
    context = gx.get_context(mode="ephemeral")
    context.enable_analytics(False)
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    source = context.data_sources.add_postgres("nightshift", connection_string=url)
    try:
        asset = source.add_query_asset("rows", query=_query(_ROWS, run=run))
        suite = gx.ExpectationSuite(
            name="version",
            expectations=[
                gx.expectations.UnexpectedRowsExpectation(
                    unexpected_rows_query=each.query, description=each.expected, meta={"name": each.name}
                )
                for each in _expected(checks)
            ],
        )
        batch = asset.add_batch_definition_whole_table("all").get_batch()
        outcome = batch.validate(suite, result_format={"result_format": "COMPLETE"})
    finally:
        source.get_engine().dispose()
    results = {each.name: each for each in map(_report, outcome.results)}
    return Validation([results[each.name] for each in _expected(checks)], _page(outcome))


@dataclass(frozen=True)
class Expected:
    """One expectation: no row comes of its query."""

    name: str
    expected: str  # in words
    query: str  # {batch} is Great Expectations' own name for the rows


_ROWS = psycopg_sql.SQL(
    "select file, source, part, rule, counts_as_bad, rule is null as accepted, answer_characters"
    " from catalog.staged_row where run_id = {run}"
)
# {{batch}} is Great Expectations' own: the rows.
_TRUNCATED = psycopg_sql.SQL("select distinct source, file from {{batch}} where rule = 'truncated'")
_BAD = psycopg_sql.SQL(
    "select part, source, count(*) as rows, count(*) filter (where counts_as_bad) as bad from {{batch}}"
    " group by part, source having count(*) filter (where counts_as_bad) > {limit} * count(*)"
)
_FEW = psycopg_sql.SQL(
    "select count(*) as accepted from {{batch}} where part = {part} and accepted having count(*) < {least}"
)
_MEAN = psycopg_sql.SQL(
    "select round(avg(answer_characters), 1) as mean from {{batch}} where part = 'examples' and accepted"
    " having avg(answer_characters) not between {low} and {high}"
)


def _expected(checks: Checks) -> list[Expected]:
    share = f"of the rows of a source a share of {checks.max_rejected:g} at most is bad"
    expected = [
        Expected(WHOLE_FILES, "no file ends before its rows do", _query(_TRUNCATED)),
        Expected(BAD_ROWS, share, _query(_BAD, limit=checks.max_rejected)),
        *(
            Expected(name, f"{least} {part} or more are accepted", _query(_FEW, part=part, least=least))
            for name, part, least in (
                (EXAMPLES, "examples", checks.min_examples),
                (DOCUMENTS, "documents", checks.min_documents),
            )
        ),
    ]
    low, high = checks.min_mean_answer, checks.max_mean_answer
    words = f"an answer has {low:,} to {high:,} characters in the mean"
    expected.append(Expected(ANSWERS, words, _query(_MEAN, low=low, high=high)))
    return expected


def _query(template: psycopg_sql.SQL, **values: str | float) -> str:
    """Returns a query with these values: Great Expectations takes no parameters."""
    literals = {name: psycopg_sql.Literal(value) for name, value in values.items()}
    return template.format(**literals).as_string(None)


def _report(result: Any) -> ExpectationReport:
    config = result.expectation_config
    if result.exception_info.get("raised_exception") or "observed_value" not in result.result:
        raise RuntimeError(f"Great Expectations could not evaluate {config.meta['name']}: {result.exception_info}")
    rows = (result.result.get("details") or {}).get("unexpected_rows") or []
    shown = "; ".join(", ".join(f"{key} {value}" for key, value in row.items()) for row in rows[:_SHOWN])
    return ExpectationReport(
        config.meta["name"], config.type, shown or None, str(config.description), bool(result.success)
    )


def _page(outcome: Any) -> bytes:
    """Returns the page of Data Docs. What it would fetch from elsewhere is left out: it is read where there is no
    network, and nobody else learns that it is read."""
    from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
    from great_expectations.render.view.view import DefaultJinjaPageView

    view: Any = DefaultJinjaPageView()
    html = str(view.render(ValidationResultsPageRenderer().render(outcome)))
    return _FETCHED.sub("", html).replace("</head>", f"<style>{_STYLE}</style></head>", 1).encode()


_FETCHED = re.compile(
    r"<script\b.*?</script>|<style\b.*?</style>|<link\b[^>]*>|<img\b[^>]*>|<iframe\b.*?</iframe>",
    re.DOTALL | re.IGNORECASE,
)
_STYLE = "body{font:16px/1.5 sans-serif;margin:2em auto;max-width:60em}td,th{padding:.3em .8em;text-align:left}"


def version() -> str:
    """Returns the version of Great Expectations."""
    from importlib.metadata import version as installed

    return installed("great-expectations")


def _library() -> Any:
    with warnings.catch_warnings():
        # Deprecations inside its own dependencies, which none of our calls brings about.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        import great_expectations
    # It tells of every context and batch at INFO; one of its modules sets that level for itself.
    for name in ("great_expectations", "great_expectations.data_context.types.base"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return great_expectations
