"""What the demo shows at its end: results with their intervals, the gate's checks, times, and where to look next."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline import database, tables
from pipeline.results import CONDITIONS, WITH
from pipeline.services.up import Running
from pipeline.settings import Settings

_SUBJECTS = {"base": "base", "sft": "SFT", "candidate": "SFT + DPO", "champion": "champion before"}


def live(settings: Settings, use_case: str) -> dict[str, Any] | None:
    """Returns the model that is live and the decision behind it, or None."""
    with database.connect(settings, "auditor") as connection:
        return database.fetch_one(connection, "demo", "live_model", use_case=use_case)


def decision(settings: Settings, decision_id: int) -> dict[str, Any]:
    """Returns a decision about a model with the last answer to it."""
    with database.connect(settings, "auditor") as connection:
        row = database.fetch_one(connection, "demo", "decision", decision=decision_id)
    assert row is not None
    return row


def results(settings: Settings, decision_id: int) -> list[dict[str, Any]]:
    """Returns [{"subject", "digest", "with", "without"}]: the results that a decision rests on, pooled over the gated
    suites, each metric as {"value", "low", "high", "n"}."""
    with database.connect(settings, "auditor") as connection:
        rows = database.fetch(connection, "demo", "results_behind", decision=decision_id)
    return [
        {"subject": row["subject"], "digest": row["digest"], **{key: row["facts"]["pooled"][key] for key in CONDITIONS}}
        for row in rows
    ]


def show_results(console: Console, models: Sequence[Mapping[str, Any]]) -> None:
    """Prints a table: a line for each metric and condition, a column for each model, every value with its interval."""
    table = Table(title="Results (95 % intervals)", title_justify="left")
    table.add_column("metric")
    table.add_column("", no_wrap=True)
    for each in models:
        table.add_column(_SUBJECTS.get(each["subject"], each["subject"]), justify="right", no_wrap=True)
    metrics = sorted({name for each in models for key in CONDITIONS for name in each[key]})
    for metric in metrics:
        for key in CONDITIONS:
            cells = [tables.interval(each[key].get(metric)) for each in models]
            if any(cells):
                table.add_row(metric, f"{key} retrieval", *cells, end_section=key == WITH)
    console.print(table)


def show_checks(console: Console, outcome: str, checks: Sequence[Mapping[str, Any]]) -> None:
    """Prints the gate's checks."""
    console.print(tables.checks(outcome, checks))


def show_anchor(console: Console, anchor: Mapping[str, Any]) -> None:
    """Prints the head of the audit chain, and where it stands outside the database."""
    file = Path(anchor["anchors"])
    shown = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
    console.print(
        f"Audit: {anchor['sealed']} events sealed, block {anchor['block']} ({anchor['hash'][:12]}) anchored in {shown}"
    )
    if anchor["warning"]:
        console.print(f"[yellow]{anchor['warning']}[/]")


def show_times(console: Console, stages: Mapping[str, float], seconds: float, peak: int, during: str) -> None:
    """Prints how long each stage took, and the memory."""
    table = Table(title="Times and memory", title_justify="left", show_header=False)
    for stage, took in stages.items():
        table.add_row(stage, f"{took:.1f} s")
    table.add_row("in all", f"{seconds:.1f} s", end_section=True)
    table.add_row("peak memory of all processes", f"{peak / 2**30:.2f} GiB, during {during}")
    console.print(table)


def show_next(console: Console, name: str, up: Running, packet: str | None, model: str | None) -> None:
    """Prints where to look next."""
    console.print("\n[bold]Where to look next[/]")
    users = ", ".join(f"{user} ({role})" for user, role in up.users.items())
    lines = [
        f"{up.url}  Airflow, with every run: log in as {users}",
        f"{up.password_file}  their passwords",
        f"nightshift status {name}",
        f"nightshift sql let_through_by --param use_case={name}   who let it through, on what evidence",
        f"nightshift sql nightly_results --param use_case={name}   what each night came to, and who answered",
    ]
    if model:
        lines.append(f"nightshift lineage {model[:12]}   what exactly produced the model that is live")
    if packet:
        lines.append(f"nightshift packet verify {packet}")
    lines.append("make down   stops everything")
    for line in lines:
        console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
