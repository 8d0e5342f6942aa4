"""Tables of results, for a terminal and for a log."""

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

from rich.console import Console
from rich.table import Table

_MARKS = {"pass": "[green]pass[/]", "fail": "[red]fail[/]"}


def interval(estimate: Mapping[str, Any] | None) -> str:
    """Returns an estimate with its interval, to two places; empty for none."""
    if estimate is None:
        return ""
    return f"{estimate['value']:.2f} [{estimate['low']:.2f}, {estimate['high']:.2f}]"


def checks(outcome: str, stored: Sequence[Mapping[str, Any]]) -> Table:
    """Returns the gate's checks, as they are stored, as a table."""
    table = Table(title=f"The gate: {outcome.replace('_', ' ')}", title_justify="left")
    for heading in ("check", "verdict", "found", "wanted", "cases", "why"):
        table.add_column(heading)
    for check in stored:
        measured = "low" in check
        table.add_row(
            check["name"],
            _MARKS.get(check["verdict"], f"[yellow]{check['verdict']}[/]"),
            interval(check) if measured else "",
            f"≥ {check['wanted']:.2f}" if measured else "",
            str(check["n"]) if measured else "",
            str(check.get("reason", "")),
        )
    return table


def plain(table: Table, width: int = 130) -> str:
    """Returns a table as text, without colours."""
    text = StringIO()
    Console(file=text, width=width, color_system=None, highlight=False).print(table)
    return text.getvalue().rstrip()


def summary(outcome: str, stored: Sequence[Mapping[str, Any]]) -> str:
    """Returns in one line what a gate decided, and the checks that decided it."""
    short = [
        f"{check['name']} {check['verdict']}"
        + (f" ({interval(check)}, wanted ≥ {check['wanted']:.2f})" if "low" in check else "")
        for check in stored
        if check["verdict"] != "pass"
    ]
    words = {"block": "blocked", "approve": "approved", "approve_with_conditions": "approved, if a person accepts"}
    return ": ".join([words[outcome], *([", ".join(short)] if short else [])])
