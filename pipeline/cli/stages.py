"""Commands that do a stage's work: train, index, search, evaluate, gate, promote, rollback."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline import database, deployments, steps
from pipeline.cli.context import context_of, person
from pipeline.cli.output import command, waiting
from pipeline.context import Context
from pipeline.database import Connection
from pipeline.errors import BadInput, NotAvailable
from pipeline.results import Subject
from pipeline.steps import Version

UseCaseName = Annotated[str, typer.Argument(metavar="USECASE", help="A folder's name under usecases/.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Do the work even where an earlier run could answer.")]


Stage = Literal["preflight", "sft", "dpo", "all"]
Format = Literal["merged", "peft", "gguf-f16", "gguf-q8_0", "gguf-q4_1"]


def register(app: typer.Typer) -> None:
    """Adds the commands of this module to the app."""
    command(app, "train")(train)
    command(app, "export")(export)
    index = typer.Typer(no_args_is_help=True, help="Build and look at the index.")
    app.add_typer(index, name="index")
    command(index, "sync", ok=lambda answer: answer["passed"])(index_sync)
    command(index, "status")(index_status)
    command(app, "search")(search)
    command(app, "evaluate")(evaluate)
    command(app, "gate", ok=lambda answer: answer["decision"] != "block")(gate)
    command(app, "promote")(promote)
    command(app, "rollback")(rollback)


def train(
    name: UseCaseName,
    stage: Annotated[
        Stage, typer.Option(help="Up to which: preflight says what it would take, and trains nothing.")
    ] = "all",
    sweep: Annotated[
        list[str] | None,
        typer.Option(help="Values to try, of which validation chooses: sft.lora_rank=4,16,64; repeatable."),
    ] = None,
    fresh: Fresh = False,
) -> object:
    """Train an adapter on the newest dataset version, or try several settings."""
    from pipeline import training

    context = context_of(name, fresh)
    if sweep:
        return training.sweep(context, sweep)
    prepared = training.preflight(context)
    if stage == "preflight":
        return prepared
    tuned = training.sft(context, prepared, training.pretrain(context, prepared))
    done = tuned
    if stage != "sft":
        done = training.dpo(context, prepared, tuned)
    return {
        "adapter": done.adapter.name,
        "digest": done.adapter.digest,
        "metrics": done.facts,
        "reused": done.reused,
        "run": done.run,
    }


def export(
    name: UseCaseName,
    model: Annotated[str, typer.Option(help="champion, candidate, sft, or an adapter's digest.")] = "champion",
    to: Annotated[Path | None, typer.Option(help="A folder that is new or empty.")] = None,
    form: Annotated[Format, typer.Option("--format", help="merged, peft (the adapter), or one GGUF file.")] = "merged",
    fresh: Fresh = False,
) -> object:
    """Write a trained model as a folder that vLLM, transformers or PEFT open as it is."""
    from pipeline import training

    context = context_of(name, fresh)
    with database.connect(context.settings, "pipeline") as connection:
        adapter = _adapter(connection, name, model)
    if adapter is None:
        raise NotAvailable(
            f"there is no {model} of {name}",
            next_step="`--model candidate` takes what was trained last; `nightshift train` trains",
        )
    folder = to or Path(f"{name}-{adapter.digest[:12]}-{form}")
    return training.export(context, adapter, form, folder.absolute())


def index_sync(
    name: UseCaseName,
    fresh: Fresh = False,
    accept_loss: Annotated[
        str | None, typer.Option(help="Why an index that lost most of its documents may go live; kept on record.")
    ] = None,
) -> object:
    """Bring the index up to the newest documents: diff, embed, build, check, swap."""
    from pipeline import retrieval

    context = context_of(name, fresh)
    return retrieval.sync(context, accept_loss=accept_loss or None)


def index_status(name: UseCaseName) -> object:
    """Show the index generations."""
    from pipeline import retrieval

    context = context_of(name)
    return retrieval.status(context.settings, context.usecase)


def search(
    name: UseCaseName,
    text: str,
    principal: Annotated[str, typer.Option("--as", help="A principal of the use case: who is asking.")],
    k: Annotated[int | None, typer.Option("-k", min=1, max=100, help="How many chunks.")] = None,
) -> object:
    """Search the live index with the rights of a principal."""
    from pipeline import search as searching

    context = context_of(name)
    with waiting("searching"):
        return searching.search(context.settings, context.usecase, text, principal, k or context.usecase.retrieval.k)


def evaluate(
    name: UseCaseName,
    model: Annotated[str, typer.Option(help="candidate, champion, base, sft, or an adapter's digest.")] = "candidate",
    fresh: Fresh = False,
) -> object:
    """Score a model on the use case's suites, with and without retrieval."""
    from pipeline import evaluation

    context = context_of(name, fresh)
    base, adapter, subject = _model(context, model)
    return evaluation.evaluate(context, subject, base, adapter)


# An adapter that is named by its digest is looked at as a candidate.
_SUBJECTS: dict[str, Subject] = {"sft": "sft", "champion": "champion"}


def _model(context: Context, model: str) -> tuple[Version, Version | None, Subject]:
    """Returns the base model, the adapter if any, and what the pair is evaluated as."""
    name = context.usecase.name
    with database.connect(context.settings, "pipeline") as connection:
        base = steps.latest(connection, name, "base_model", "base")
        if base is None:
            raise NotAvailable("no base model is recorded yet", next_step=f"`nightshift train {name}` records it")
        if model == "base":
            return base, None, "base"
        adapter = _adapter(connection, name, model)
        if adapter is None:
            raise NotAvailable(f"there is no {model} of {name} yet", next_step=f"`nightshift train {name}`")
        return base, adapter, _SUBJECTS.get(model, "candidate")


def _adapter(connection: Connection, name: str, model: str) -> Version | None:
    """Returns the adapter that is called candidate, sft or champion, or whose digest begins so."""
    if model in ("candidate", "sft"):
        return steps.latest(connection, name, "adapter", model)
    if model == "champion":
        return _champion(connection, name)
    rows = database.fetch(connection, "lineage", "versions_by_ref", ref=model)
    adapters = [row for row in rows if row["kind"] == "adapter" and row["use_case"] == name]
    if len({row["digest"] for row in adapters}) > 1:
        raise BadInput("several adapters match this prefix", found=model, allowed=[row["digest"] for row in adapters])
    return steps.version(connection, adapters[0]["version_id"]) if adapters else None


def _champion(connection: Connection, name: str) -> Version | None:
    live = deployments.live(connection, name)
    if live is None or live.model_version_id is None:
        return None
    return steps.version(connection, live.model_version_id)


def gate(name: UseCaseName) -> object:
    """Apply the sealed release policy to the newest candidate."""
    from pipeline import evaluation, release

    context = context_of(name)
    sealed = release.seal(context)
    base, candidate, _ = _model(context, "candidate")
    assert candidate is not None
    subjects: dict[Subject, Version | None] = {"base": None, "candidate": candidate}
    with database.connect(context.settings, "pipeline") as connection:
        champion = _champion(connection, name)
    if champion is not None:
        subjects["champion"] = champion
    evaluations = {
        subject: evaluation.evaluate(context, subject, base, adapter).evaluation
        for subject, adapter in subjects.items()
    }
    return release.gate(context, sealed, candidate, evaluations)


Reason = Annotated[str, typer.Option(help="Why. It is kept with the answer.")]
DecisionId = Annotated[int, typer.Option("--decision", help="Which decision; see `nightshift status`.")]


def promote(name: UseCaseName, decision: DecisionId) -> object:
    """Make live what a decision let through. Who let it through is who approved it; who carries it out is logged in."""
    from pipeline import release

    context = context_of(name)
    release.check(context.settings, context.usecase, decision)
    person(context, "a promotion")
    return release.promote(context.settings, decision)


def rollback(
    name: UseCaseName,
    to: Annotated[
        int | None,
        typer.Option(help="The earlier deployment whose pair is to be live again; without, they are listed."),
    ] = None,
    why: Reason = "",
    to_nothing: Annotated[bool, typer.Option("--to-nothing", help="Also to a pair without a model.")] = False,
) -> object:
    """Point the live deployment back to an earlier pair of model and index."""
    from pipeline import release

    context = context_of(name)
    return release.rollback(
        context.settings, context.usecase, to, person(context, "a rollback"), why, to_nothing=to_nothing
    )
