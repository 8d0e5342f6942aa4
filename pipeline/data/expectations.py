"""The rules as Great Expectations' expectations, applied by it to a pandas frame of measures."""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.data.measures import Measures
from pipeline.data.records import ExpectationReport
from pipeline.data.rules import Between, Matches, NoneOf, OneOf, Rule, Test


@dataclass(frozen=True)
class Applied:
    """What Great Expectations found for one rule."""

    rule: Rule
    expectation: str  # its type
    evaluated: int  # rows it looked at
    unexpected: tuple[int, ...]  # places of the rows that broke it

    def report(self) -> ExpectationReport:
        """Returns counts alone."""
        broken = len(self.unexpected)
        return ExpectationReport(
            self.rule.name, self.rule.severity, self.rule.measure, self.expectation, self.evaluated, broken, not broken
        )


def validate(rules: Sequence[Rule], rows: Sequence[Measures]) -> list[Applied]:
    """Returns what Great Expectations found, a rule each, in the order of the rules.

    Runs in an ephemeral context, with its analytics and progress bars off. Raises RuntimeError where an expectation
    could not be evaluated: a check that did not run has not passed.
    """
    gx, frame = _library(), _frame(rules, rows)
    context = gx.get_context(mode="ephemeral")
    context.enable_analytics(False)
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    asset = context.data_sources.add_pandas("rows").add_dataframe_asset("measures")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame})
    # One after another, by place: Great Expectations gives a suite's results in an order of its own.
    suite = gx.ExpectationSuite(name="rules", expectations=[_expectation(gx, n, rule) for n, rule in enumerate(rules)])
    result = batch.validate(suite, result_format={"result_format": "COMPLETE"})
    results: dict[int, Applied] = {}
    for each in result.results:
        place = int(each.expectation_config.meta["place"])
        if each.exception_info.get("raised_exception") or "element_count" not in each.result:
            raise RuntimeError(f"Great Expectations could not evaluate the rule {rules[place].name}")
        unexpected = tuple(sorted(int(index) for index in each.result.get("unexpected_index_list") or ()))
        if len(unexpected) != each.result["unexpected_count"]:
            raise RuntimeError(f"Great Expectations did not list every row that breaks the rule {rules[place].name}")
        results[place] = Applied(
            rules[place], each.expectation_config.type, int(each.result["element_count"]), unexpected
        )
    if len(results) != len(rules):
        raise RuntimeError(f"Great Expectations gave {len(results)} results for {len(rules)} rules")
    return [results[place] for place in range(len(rules))]


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


def _frame(rules: Sequence[Rule], rows: Sequence[Measures]) -> Any:
    import pandas

    numbers = {rule.measure for rule in rules if isinstance(rule.test, Between)}
    return pandas.DataFrame(
        {
            name: pandas.Series([row[name] for row in rows], dtype="Int64" if name in numbers else "object")
            for name in dict.fromkeys(rule.measure for rule in rules)
        }
    )


def _expectation(gx: Any, place: int, rule: Rule) -> Any:
    kind, arguments = _as_expectation(rule.test)
    return getattr(gx.expectations, kind)(column=rule.measure, meta={"place": place, "rule": rule.name}, **arguments)


def _as_expectation(test: Test) -> tuple[str, dict[str, Any]]:
    match test:
        case Between(low, high):
            return "ExpectColumnValuesToBeBetween", {"min_value": low, "max_value": high}
        case Matches(pattern):
            return "ExpectColumnValuesToMatchRegex", {"regex": pattern}
        case OneOf(values):
            return "ExpectColumnValuesToBeInSet", {"value_set": list(values)}
        case NoneOf(values):
            return "ExpectColumnValuesToNotBeInSet", {"value_set": list(values)}
