"""Commands that do a stage's work: data, train, index, search, evaluate, gate, approve, promote, rollback."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pipeline import database, deployments, steps
from pipeline.cli.context import context, settings
from pipeline.cli.output import Answer, command, waiting
from pipeline.errors import BadInput, NotAvailable
from pipeline.steps import Version

UseCaseName = Annotated[str, typer.Argument(metavar="USECASE", help="A folder's name under usecases/.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Do the work even where an earlier run could answer.")]


class Kind(StrEnum):
    """Kinds of training rows."""

    SFT = "sft"
    PREFERENCE = "preference"


class Stage(StrEnum):
    """Stages of training."""

    SFT = "sft"
    DPO = "dpo"
    ALL = "all"


def register(app: typer.Typer) -> None:
    """Adds the commands of this module to the app."""
    data = typer.Typer(no_args_is_help=True, help="Check and commit examples and documents.")
    app.add_typer(data, name="data")
    command(data, "check", ok=lambda answer: not answer["rejected"])(data_check)
    command(data, "commit", ok=lambda answer: not answer["rejected_documents"] and not answer["waiting"])(data_commit)
    command(data, "accept")(data_accept)
    command(data, "versions")(data_versions)
    command(data, "diff")(data_diff)
    command(app, "train")(train)
    index = typer.Typer(no_args_is_help=True, help="Build and look at the index.")
    app.add_typer(index, name="index")
    command(index, "sync", ok=lambda answer: answer["passed"])(index_sync)
    command(index, "status")(index_status)
    command(app, "search")(search)
    command(app, "evaluate")(evaluate)
    command(app, "gate", ok=lambda answer: answer["decision"] != "block")(gate)
    command(app, "promote")(promote)
    command(app, "rollback")(rollback)


def reuse_of(fresh: bool) -> steps.Reuse:
    """Returns the reuse that a --fresh flag means."""
    return "never" if fresh else "auto"


def data_check(
    file: Annotated[Path, typer.Argument(help="A file of examples: JSONL, or one JSON array.")],
    kind: Annotated[Kind, typer.Option(help="What its rows are.")],
    form: Annotated[str | None, typer.Option("--format", help="messages, preference, alpaca or sharegpt.")] = None,
) -> Answer:
    """Check a file of training rows, without a database."""
    from pipeline import data

    return data.check_file(file, kind.value, form)


def data_commit(name: UseCaseName, fresh: Fresh = False) -> Answer:
    """Fetch, check and commit a use case's examples and documents."""
    from pipeline import data

    here = context(name)
    reuse = reuse_of(fresh)
    fetched = data.fetch(here.settings, here.usecase, here.origin, reuse=reuse)
    checked = data.check(here.settings, here.usecase, here.origin, fetched, reuse=reuse)
    committed = data.commit(here.settings, here.usecase, here.origin, checked, reuse=reuse)
    data.card(here.settings, here.usecase, here.origin, committed, reuse=reuse)
    with database.connect(here.settings, "pipeline") as connection:
        problems = data.of_runs(connection, [checked["run"]])
    findings = f"nightshift sql open_findings --param use_case={name}"
    rejected = checked["facts"]["documents"]["rejected"]
    return committed | {
        "checks": checked["facts"],
        "findings": findings if checked["facts"]["rejected"] else None,
        "rejected_documents": [row for row in problems if row["severity"] == "rejected"][:rejected] if rejected else [],
        "waiting": data.waiting(here.settings, here.usecase),
    }


def data_accept(
    name: UseCaseName,
    findings: Annotated[list[int] | None, typer.Argument(help="The findings to accept; none: list what waits.")] = None,
    reason: Annotated[str, typer.Option(help="Kept on record.")] = "",
) -> Answer:
    """Accept what waits for a person: rights that were widened, a source that lost its documents."""
    from pipeline import data

    here = context(name)
    if not findings:
        return {"accepted": [], "waiting": data.waiting(here.settings, here.usecase)}
    accepted = data.accept(here.settings, here.usecase, findings, here.person("an acceptance"), reason)
    return {"accepted": accepted, "waiting": data.waiting(here.settings, here.usecase)}


def data_versions(name: UseCaseName) -> Answer:
    """List the versions of a use case's examples and documents."""
    from pipeline import data

    here = context(name)
    return data.versions(here.settings, here.usecase)


def data_diff(name: UseCaseName, before: int, after: int) -> Answer:
    """Compare two dataset versions."""
    from pipeline import data

    here = context(name)
    return data.diff(here.settings, here.usecase, before, after)


def train(name: UseCaseName, stage: Stage = Stage.ALL, fresh: Fresh = False) -> Answer:
    """Train an adapter on the newest dataset version."""
    from pipeline import training

    here = context(name)
    reuse = reuse_of(fresh)
    prepared = training.preflight(here.settings, here.usecase, here.origin, reuse=reuse)
    tuned = training.sft(here.settings, here.usecase, here.origin, prepared, reuse=reuse)
    done = tuned
    if stage is not Stage.SFT:
        done = training.dpo(here.settings, here.usecase, here.origin, prepared, tuned, reuse=reuse)
    adapter = done["outputs"]["adapter"]
    return {
        "adapter": adapter["name"],
        "digest": adapter["digest"],
        "metrics": done["facts"],
        "reused": done["reused"],
        "run": done["run"],
    }


def index_sync(
    name: UseCaseName,
    fresh: Fresh = False,
    accept_loss: Annotated[
        str | None, typer.Option(help="Why an index that lost most of its documents may go live; kept on record.")
    ] = None,
) -> Answer:
    """Bring the index up to the newest documents: diff, embed, build, check, swap."""
    from pipeline import retrieval

    here = context(name)
    return retrieval.sync(
        here.settings, here.usecase, here.origin, accept_loss=accept_loss or None, reuse=reuse_of(fresh)
    )


def index_status(name: UseCaseName) -> Answer:
    """Show the index generations."""
    from pipeline import retrieval

    here = context(name)
    return retrieval.status(here.settings, here.usecase)


def search(
    name: UseCaseName,
    text: str,
    principal: Annotated[str, typer.Option("--as", help="A principal of the use case: who is asking.")],
    k: Annotated[int | None, typer.Option("-k", min=1, max=100, help="How many chunks.")] = None,
) -> Answer:
    """Search the live index with the rights of a principal."""
    from pipeline import search as searching

    here = context(name)
    with waiting("searching"):
        return searching.search(here.settings, here.usecase, text, principal, k or here.usecase.retrieval.k)


def evaluate(
    name: UseCaseName,
    model: Annotated[str, typer.Option(help="candidate, champion, base, sft, or an adapter's digest.")] = "candidate",
    fresh: Fresh = False,
) -> Answer:
    """Score a model on the use case's suites, with and without retrieval."""
    from pipeline import evaluation

    here = context(name)
    base, adapter, subject = _model(name, model)
    return evaluation.evaluate(here.settings, here.usecase, here.origin, subject, base, adapter, reuse=reuse_of(fresh))


Subject = Literal["base", "sft", "candidate", "champion"]
# An adapter that is named by its digest is looked at as a candidate.
_SUBJECTS: dict[str, Subject] = {"sft": "sft", "champion": "champion"}


def _model(name: str, model: str) -> tuple[dict[str, Any], dict[str, Any] | None, Subject]:
    """Returns the base model, the adapter if any, and what the pair is evaluated as."""
    with database.connect(settings(), "pipeline") as connection:
        base = steps.latest(connection, name, "base_model", "base")
        if base is None:
            raise NotAvailable("no base model is recorded yet", next_step=f"`nightshift train {name}` records it")
        if model == "base":
            return base.as_dict(), None, "base"
        found: Version | None = None
        if model in ("candidate", "sft"):
            found = steps.latest(connection, name, "adapter", model)
        elif model == "champion":
            live = deployments.live(connection, name)
            if live is not None and live.model_version_id is not None:
                found = steps.version(connection, live.model_version_id)
        else:
            rows = database.fetch(connection, "lineage", "versions_by_ref", ref=model)
            adapters = [row for row in rows if row["kind"] == "adapter" and row["use_case"] == name]
            if len({row["digest"] for row in adapters}) > 1:
                raise BadInput("several adapters begin so", found=model, allowed=[row["digest"] for row in adapters])
            found = steps.version(connection, adapters[0]["version_id"]) if adapters else None
        if found is None:
            raise NotAvailable(f"there is no {model} of {name} yet", next_step=f"`nightshift train {name}`")
        return base.as_dict(), found.as_dict(), _SUBJECTS.get(model, "candidate")


def gate(name: UseCaseName) -> Answer:
    """Apply the sealed release policy to the newest candidate."""
    from pipeline import evaluation, release

    here = context(name)
    sealed = release.seal(here.settings, here.usecase, here.origin)
    base, candidate, _ = _model(name, "candidate")
    subjects: dict[Subject, dict[str, Any] | None] = {"base": None, "candidate": candidate}
    with database.connect(here.settings, "pipeline") as connection:
        live = deployments.live(connection, name)
        if live is not None and live.model_version_id is not None:
            subjects["champion"] = steps.version(connection, live.model_version_id).as_dict()
    evaluations: dict[str, dict[str, Any]] = {
        subject: evaluation.evaluate(here.settings, here.usecase, here.origin, subject, base, adapter)
        for subject, adapter in subjects.items()
    }
    assert candidate is not None
    return release.gate(here.settings, here.usecase, here.origin, sealed, candidate, evaluations)


Reason = Annotated[str, typer.Option(help="Why. It is kept with the answer.")]
DecisionId = Annotated[int, typer.Option("--decision", help="Which decision; see `nightshift status`.")]


def promote(name: UseCaseName, decision: DecisionId) -> Answer:
    """Make live what a decision let through. Who let it through is who approved it; who carries it out is logged in."""
    from pipeline import release

    here = context(name)
    release.check(here.settings, here.usecase, decision)
    here.person("a promotion")
    return release.promote(here.settings, decision)


def rollback(
    name: UseCaseName,
    to: Annotated[
        int | None,
        typer.Option(help="The earlier deployment whose pair is to be live again; without, they are listed."),
    ] = None,
    why: Reason = "",
    to_nothing: Annotated[bool, typer.Option("--to-nothing", help="Also to a pair without a model.")] = False,
) -> Answer:
    """Point the live deployment back to an earlier pair of model and index."""
    from pipeline import release

    here = context(name)
    return release.rollback(here.settings, here.usecase, to, here.person("a rollback"), why, to_nothing=to_nothing)
