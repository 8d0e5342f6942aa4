"""One model's evaluation: every case answered greedily, with and without retrieval, scored, and written down.

What was said stands in the database, where an erasure finds it. The artifact holds digests, scores and document ids: it
is the evidence which a gate reads and a packet can re-check, and it outlives the text.
"""

from collections.abc import Mapping

from pipeline import database, datasets, deployments, models, prompt, steps
from pipeline.context import Context
from pipeline.database import Connection
from pipeline.errors import NotAvailable, Refused
from pipeline.evaluation import recording, suites
from pipeline.evaluation.answering import Answered, answer_all
from pipeline.evaluation.cases import Suite
from pipeline.evaluation.records import Evaluated, EvaluationFacts
from pipeline.prompt import Prompt
from pipeline.records import load, plain, write
from pipeline.results import (
    FILE,
    EvaluationSettings,
    GenerationSettings,
    ModelSettings,
    RetrievalSettings,
    Subject,
    SuiteSettings,
)
from pipeline.steps import Attempt, Output, Result, Step, Version
from pipeline.usecase import BaseModelSource, UseCase


def evaluate(
    context: Context,
    subject: Subject,
    base: Version,
    adapter: Version | None,
    *,
    index: Version | None = None,
    dataset: Version | None = None,
) -> Evaluated:
    """Returns the evaluation of a model: the base model, or the base model with an adapter.

    `index` is the index version to retrieve from (default: the live one). A use case without suites is evaluated on the
    locked test split of `dataset` (default: the newest), as its rows stand.

    The same model, index, suites, code and settings give the earlier result, whatever the model was called then.
    Raises BadInput for a malformed suite, NotAvailable where there is no index, no test row or no model to load.
    """
    usecase, form = context.usecase, prompt.read(context.usecase.prompt)
    with database.connect(context.settings, "evaluator") as connection:
        cases, inputs = _suites(connection, usecase, dataset)
        inputs["base"], source = _base(connection, usecase, base, adapter)
        if adapter is not None:
            inputs["adapter"] = adapter
        if any(case.principal is not None for suite in cases for case in suite.cases):
            inputs["index"] = index or _live_index(connection, usecase)
        settings = _settings(connection, context, cases, inputs.get("index"), form)
    spec = Step(
        usecase.name,
        "evaluation.evaluate",
        "evaluator",
        ("pipeline.evaluation.evaluate",),
        params=plain(settings),
        inputs=inputs,
        files=("sql/queries/retrieval.sql",),
        reuse=context.reuse,
    )

    def work(attempt: Attempt) -> Result:
        answered = _run(context, attempt, settings, cases, inputs, source, form)
        content = recording.content(settings, inputs, answered)
        stored = attempt.store.put("evaluation", {FILE: write(content)})

        def record(connection: Connection, versions: Mapping[str, Version]) -> None:
            recording.record(connection, usecase, attempt, subject, inputs, versions["evaluation"], answered)

        facts = recording.facts(answered, usecase.evaluation.confidence)
        return Result({"evaluation": Output.of(stored, "evaluation", private=False)}, facts, record)

    outcome = steps.run(context.settings, context.origin, spec, work)
    facts = load(EvaluationFacts, outcome.facts)
    return Evaluated(outcome.run_id, outcome.reused, outcome.outputs["evaluation"], facts, subject, inputs.get("index"))


def _suites(
    connection: Connection, usecase: UseCase, dataset: Version | None
) -> tuple[list[Suite], dict[str, Version]]:
    """Returns the suites, and as inputs what they rest on."""
    if usecase.evaluation.suites:
        return suites.load(usecase), {}
    pinned = dataset
    if pinned is None:
        newest = datasets.newest(connection, usecase.name)
        pinned = None if newest is None else newest.artifact
    locked = None if pinned is None else suites.locked(recording.locked_rows(connection, pinned), gated=True)
    if pinned is None or locked is None:
        raise NotAvailable(
            f"there is nothing to evaluate {usecase.name} on: no suite, and no row in the locked test split",
            where="evaluation.suites; catalog.locked_example",
            next_step="name a suite in the YAML, or commit a dataset whose splits.test is above 0",
        )
    return [locked], {"dataset": pinned}


def _base(
    connection: Connection, usecase: UseCase, base: Version, adapter: Version | None
) -> tuple[Version, BaseModelSource]:
    """Returns the base model to load and where it is: an adapter goes on the base model that it was trained on, which
    for a champion may be an earlier one than tonight's."""
    if adapter is not None:
        own = recording.base_of(connection, adapter.version_id)
        if own is not None and own[0].digest != base.digest:
            return own
    return base, usecase.base_model


def _live_index(connection: Connection, usecase: UseCase) -> Version:
    live = deployments.live(connection, usecase.name)
    if live is None or live.index_version_id is None:
        raise NotAvailable(
            f"no index of {usecase.name} is live",
            where="lineage.deployment",
            next_step=f"`nightshift index sync {usecase.name}`, or run the DAG {usecase.name}_reindex",
        )
    return steps.version(connection, live.index_version_id)


def _settings(
    connection: Connection, context: Context, cases: list[Suite], index: Version | None, form: Prompt
) -> EvaluationSettings:
    """Returns what the result depends on, beside code and inputs. Names and numbers: no text of a case."""
    unserved = None if index is None else recording.unserved(connection, context.usecase.name, index)
    evaluation, training = context.usecase.evaluation, context.usecase.training
    return EvaluationSettings(
        suites=[
            SuiteSettings(suite.name, suite.digest, suite.file, suite.limit, suite.gated, len(suite.cases), suite.form)
            for suite in cases
        ],
        generation=GenerationSettings("greedy", evaluation.max_new_tokens, evaluation.batch_size, form.digest),
        model=ModelSettings(
            recording.precision(connection, context.usecase),
            training.quantize,
            models.expected_device(context.settings.device),
        ),
        retrieval=RetrievalSettings(context.usecase.retrieval.k, unserved),
        confidence=evaluation.confidence,
        without_retrieval=evaluation.without_retrieval,
    )


def _run(
    context: Context,
    attempt: Attempt,
    settings: EvaluationSettings,
    cases: list[Suite],
    inputs: Mapping[str, Version],
    source: BaseModelSource,
    form: Prompt,
) -> list[Answered]:
    """Returns every case's answers. This is where a model is loaded."""
    base = models.resolve(context.settings, source)
    if base.digest != inputs["base"].digest:
        raise Refused(
            "the base model on this machine is not the one that was pinned",
            where=base.folder,
            found=base.digest[:12],
            allowed=inputs["base"].digest[:12],
            next_step="run preflight again, or put the pinned base model back",
        )
    folder = None
    if "adapter" in inputs:
        adapter = inputs["adapter"]
        folder = attempt.store.fetch(adapter.kind, adapter.digest, attempt.scratch / "adapter")
    loaded = models.load(
        base.folder,
        adapter=folder,
        digest=base.digest,
        device=models.device(context.settings.device),
        dtype=settings.model.dtype,
        quantize=settings.model.quantize,
    )
    return answer_all(context.settings, context.usecase, loaded, cases, inputs.get("index"), form)
