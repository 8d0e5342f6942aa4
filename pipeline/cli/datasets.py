"""Commands about data: check, commit, the steward's work list, versions."""

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipeline import database
from pipeline.cli.context import context_of, person
from pipeline.cli.output import Answer, command
from pipeline.cli.people import Login, password
from pipeline.cli.stages import Fresh, UseCaseName
from pipeline.errors import BadInput
from pipeline.records import plain
from pipeline.settings import from_environment
from pipeline.usecase import ExampleKind, find

if TYPE_CHECKING:
    from pipeline.data.review import OpenFinding
    from pipeline.settings import Settings
    from pipeline.usecase import UseCase


def register(app: typer.Typer) -> None:
    """Adds the commands of this module to the app."""
    data = typer.Typer(no_args_is_help=True, help="Check and commit examples and documents.")
    app.add_typer(data, name="data")
    command(data, "check", ok=lambda answer: not answer["rejected"], view=_by_rule)(data_check)
    command(data, "commit", ok=lambda answer: not answer["rejected_documents"] and not answer["waiting"])(data_commit)
    command(data, "worklist", ok=lambda answer: not answer["findings"])(data_worklist)
    command(data, "accept")(data_accept)
    command(data, "confirm")(data_confirm)
    command(data, "sign", ok=lambda answer: answer["state"] == "signed" or not answer["required"])(data_sign)
    command(data, "review", ok=lambda answer: answer["next"] is None)(data_review)
    command(data, "show")(data_show)
    command(data, "versions")(data_versions)
    command(data, "diff")(data_diff)


def data_check(
    file: Annotated[
        str,
        typer.Argument(
            help="JSON, JSONL, CSV, TSV or Parquet, also .gz or .zst; a folder of such files, or the URL of one;"
            " - for standard input.",
        ),
    ],
    kind: Annotated[ExampleKind, typer.Option(help="What its rows are.")],
    form: Annotated[str, typer.Option("--format", help="As in usecase.yaml: examples.format.")] = "auto",
    column: Annotated[
        list[str] | None, typer.Option(help="The file's name for a field of ours, as instruction=question; repeatable.")
    ] = None,
    usecase: Annotated[
        str | None,
        typer.Option(
            help="Whose checks count, and whose base model rows are measured in; without it, the defaults and none."
        ),
    ] = None,
) -> object:
    """Check files of training rows, without a database."""
    from pipeline import data
    from pipeline.data import lengths

    place = file if "://" in file else Path(file)
    if usecase is None:
        return data.check_file(place, kind, form, columns=_columns(column or []))
    settings = from_environment()
    chosen = find(settings, usecase)
    measuring = lengths.load(settings, lengths.basis(settings, chosen))
    return data.check_file(place, kind, form, chosen.checks, _columns(column or []), measuring)


_SHOWN = 8  # lines of a rule


def _by_rule(answer: Answer) -> Answer:
    """Returns a check for a person: a line for each rule with the first lines that broke it, instead of one a row."""
    rules: dict[tuple[str, str], list[str]] = {}
    for row in answer["rejected"]:
        place = f"{row['file']}:{row['line']}" if len(answer["formats"]) > 1 else str(row["line"])
        rules.setdefault((row["rule"], row["detail"]), []).append(place)
    shown = [
        {
            "rule": rule,
            "rows": len(places),
            "lines": ", ".join(places[:_SHOWN]) + (f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""),
            "why": detail,
        }
        for (rule, detail), places in sorted(rules.items(), key=lambda entry: -len(entry[1]))
    ]
    return {**{key: value for key, value in answer.items() if key != "by_rule"}, "rejected": shown}


def _columns(given: list[str]) -> dict[str, str]:
    pairs = [each.partition("=") for each in given]
    if wrong := [
        each for each, (ours, sign, theirs) in zip(given, pairs, strict=True) if not (ours and sign and theirs)
    ]:
        raise BadInput("this names no column", where="--column", found=wrong, allowed="ours=theirs")
    return {ours: theirs for ours, _, theirs in pairs}


def data_commit(name: UseCaseName, fresh: Fresh = False) -> object:
    """Fetch, check and commit a use case's examples and documents."""
    from pipeline import data
    from pipeline.data import signoff

    context = context_of(name, fresh)
    fetched = data.fetch(context)
    checked = data.check(context, fetched)
    committed = data.commit(context, checked)
    data.card(context, committed)
    with database.connect(context.settings, "pipeline") as connection:
        problems = data.of_runs(connection, [checked.run])
    roles = signoff.standing(context.settings, context.usecase).waiting if context.usecase.signs_data else ()
    findings = f"nightshift sql open_findings --param use_case={name}"
    rejected = checked.facts.documents.rejected
    return plain(committed) | {
        "checks": checked.facts,
        "findings": findings if checked.facts.rejected else None,
        # The findings of documents come first; some of them wait.
        "rejected_documents": [row for row in problems[:rejected] if row.severity == "rejected"],
        "waiting": data.waiting(context.settings, context.usecase),
        "to_sign": list(roles),
    }


def data_worklist(name: UseCaseName) -> object:
    """List what the newest check and commit left out, and nobody has decided."""
    from pipeline import data

    context = context_of(name)
    return {"findings": _listed(data.worklist(context.settings, context.usecase))}


SigningRole = Literal["data_owner", "privacy_reviewer"]
Findings = Annotated[list[int] | None, typer.Argument(help="The findings; none: list the work list.")]
Reason = Annotated[str, typer.Option(help="Kept on record.")]


def data_accept(
    name: UseCaseName,
    findings: Findings = None,
    reason: Reason = "",
    until: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The last day that it counts; without, for good.")
    ] = None,
) -> object:
    """Accept what waits for a person, or a row that a rule left out which is a matter of judgement."""
    from pipeline import data

    context = context_of(name)
    if not findings:
        return {"accepted": [], "findings": _listed(data.worklist(context.settings, context.usecase))}
    who = person(context, "an acceptance")
    day = None if until is None else until.date()
    accepted = data.accept(context.settings, context.usecase, findings, who, reason, day)
    return {"accepted": accepted, "findings": _listed(data.worklist(context.settings, context.usecase))}


def data_confirm(name: UseCaseName, findings: Findings = None, reason: Reason = "") -> object:
    """Confirm that rows stay out, so that they leave the work list."""
    from pipeline import data

    context = context_of(name)
    if not findings:
        return {"confirmed": [], "findings": _listed(data.worklist(context.settings, context.usecase))}
    confirmed = data.confirm(context.settings, context.usecase, findings, person(context, "a decision"), reason)
    return {"confirmed": confirmed, "findings": _listed(data.worklist(context.settings, context.usecase))}


def data_sign(
    name: UseCaseName,
    role: Annotated[SigningRole | None, typer.Option(help="As whom; without it, show what each is asked.")] = None,
    version: Annotated[int | None, typer.Option(help="Default: the newest.")] = None,
    reason: Reason = "",
    reject: Annotated[bool, typer.Option("--reject", help="Say no: nothing is trained on this version.")] = False,
    login: Login = None,
) -> Answer:
    """Sign what is new in a dataset version, so that it is trained on: sources, and rows about persons."""
    from pipeline import data
    from pipeline.data import signoff
    from pipeline.login import identity

    context = context_of(name)
    current = signoff.standing(context.settings, context.usecase, version)
    given = None
    if role is not None:
        choice: signoff.Choice = "reject" if reject else "approve"
        own = None if login is None else identity.own_login(context.settings, login, password(login))
        who = person(context, "a signature") if own is None else None
        with nullcontext() if own is None else own:
            given = signoff.answer(
                context.settings, context.usecase, current.version, role, choice, reason, who, own=own
            )
        data.renew(context, current.version)
        current = signoff.standing(context.settings, context.usecase, current.version)
    required, shown = context.usecase.signs_data, None if given is None else plain(given)
    return {**plain(current), "required": required, "waiting": list(current.waiting), "given": shown}


def data_review(
    name: UseCaseName,
    rows: Annotated[int, typer.Option(help="How many rows are drawn.")] = 50,
    seed: Annotated[int, typer.Option(help="The same seed draws the same rows.")] = 0,
    version: Annotated[int | None, typer.Option(help="Default: the newest.")] = None,
    review: Annotated[int | None, typer.Option(help="A sample that was drawn before, instead of another one.")] = None,
    row: Annotated[int | None, typer.Option(help="With --verdict: say this of one row, and read no other.")] = None,
    verdict: Annotated[str | None, typer.Option(help="good or bad; of a pair: a, b or neither.")] = None,
    reason: Reason = "",
) -> Answer:
    """Read a sample of a dataset version, one row at a time, and say of each whether it is good."""
    from pipeline import data
    from pipeline.data import sample_review

    if (row is None) is not (verdict is None):
        raise BadInput("a row has a verdict", where="--row and --verdict", allowed="both, or neither of them")
    context = context_of(name)
    who = person(context, "a review")
    where = (context.settings, context.usecase)
    number = sample_review.draw(*where, who, rows, seed, version) if review is None else review
    if row is not None and verdict is not None:
        sample_review.record(*where, number, row, who, verdict, reason)
    elif sys.stdin.isatty():
        _read_all(where, number, who)
    report, following = sample_review.report(*where, number), sample_review.unread(*where, number, who)
    if following is None:
        data.renew(context, report.version)
    return {**plain(report), "reader": who, "next": None if following is None else plain(following)}


def _read_all(where: "tuple[Settings, UseCase]", review: int, who: str) -> None:
    """Shows a person the rows that he has not read, and asks of each, until there is none or he says quit."""
    from pipeline.data import sample_review

    while (row := sample_review.unread(*where, review, who)) is not None:
        lines = [f"\n-- row {row.place} of {row.of}, {row.stratum}"]
        lines += [f"{turn['role']}: {turn['content']}" for turn in row.turns]
        lines += [f"\n{side}: {text}" for side, text in (("a", row.a), ("b", row.b)) if text is not None]
        typer.echo("\n".join(lines), err=True)
        verdict = typer.prompt(f"{', '.join(row.verdicts)} or quit", err=True)
        if verdict == "quit":
            return
        why = typer.prompt("why", default="", show_default=False, err=True)
        try:
            sample_review.record(*where, review, row.place, who, verdict, why)
        except BadInput as error:
            typer.echo(str(error), err=True)


def _listed(findings: "Sequence[OpenFinding]") -> list[Answer]:
    return [plain(finding) | {"may_be_accepted": finding.may_be_accepted} for finding in findings]


def data_show(name: UseCaseName, digest: Annotated[str, typer.Argument(help="Or how it begins.")]) -> object:
    """Show a training row by its digest. Who read it is written down."""
    from pipeline.data import showing

    context = context_of(name)
    return showing.show(context.settings, context.usecase, digest, person(context, "reading a row"))


def data_versions(name: UseCaseName) -> object:
    """List the versions of a use case's examples and documents."""
    from pipeline import data

    context = context_of(name)
    return data.versions(context.settings, context.usecase)


def data_diff(name: UseCaseName, before: int, after: int) -> object:
    """Compare two dataset versions."""
    from pipeline import data

    context = context_of(name)
    return data.diff(context.settings, context.usecase, before, after)
