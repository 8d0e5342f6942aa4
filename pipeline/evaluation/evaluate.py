"""One model's evaluation: every case answered greedily, with and without retrieval, scored, and written down.

What was said stands in the database, where an erasure finds it. The artifact holds digests, scores and document ids: it
is the evidence which a gate reads and a packet can re-check, and it outlives the text.
"""

import logging
from collections.abc import Mapping
from typing import Any, Literal

from pipeline import database, datasets, deployments, models, steps
from pipeline.database import Connection
from pipeline.errors import NotAvailable, Refused
from pipeline.evaluation import recording, suites
from pipeline.evaluation.answering import Answered, answer_all
from pipeline.evaluation.cases import Suite
from pipeline.settings import Settings
from pipeline.steps import Attempt, Origin, Output, Result, Reuse, Step, Version
from pipeline.usecase import BaseModelSource, UseCase

log = logging.getLogger(__name__)

Subject = Literal["base", "sft", "candidate", "champion"]


def evaluate(
    settings: Settings,
    usecase: UseCase,
    origin: Origin,
    subject: Subject,
    base: dict[str, Any],
    adapter: dict[str, Any] | None,
    reuse: Reuse = "auto",
    *,
    index: dict[str, Any] | None = None,
    dataset: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Returns {"run", "reused", "outputs": {"evaluation"}, "facts", "subject", "index"} of a model: the base model, or
    the base model with an adapter.

    Facts hold, pooled over the gated suites and per suite, each metric with and without retrieval as {"value", "low",
    "high", "n", "method"}. `index` is the index version to retrieve from (default: the live one). A use case without
    suites is evaluated on the locked test split of `dataset` (default: the newest), as its rows stand.

    The same model, index, suites, code and settings give the earlier result, whatever the model was called then.
    Raises BadInput for a malformed suite, NotAvailable where there is no index, no test row or no model to load.
    """
    with database.connect(settings, "evaluator") as connection:
        asked, inputs = _asked(connection, usecase, dataset)
        inputs["base"], source = _base(connection, usecase, Version(**base), adapter)
        if adapter is not None:
            inputs["adapter"] = Version(**adapter)
        unserved = None
        if any(case.principal is not None for suite in asked for case in suite.cases):
            inputs["index"] = _index(connection, usecase, index)
            unserved = recording.unserved(connection, usecase.name, inputs["index"])
    spec = Step(
        usecase.name,
        "evaluation.evaluate",
        "evaluator",
        ("pipeline.evaluation.evaluate",),
        params=_params(settings, usecase, asked, unserved),
        inputs=inputs,
        files=("sql/queries/retrieval.sql",),
        reuse=reuse,
    )

    def work(attempt: Attempt) -> Result:
        answered = _run(settings, usecase, attempt, asked, inputs, source)
        content = recording.content(spec.params, {role: version.digest for role, version in inputs.items()}, answered)
        stored = attempt.store.put("evaluation", {"evaluation.json": content})
        facts = recording.facts(answered, usecase.evaluation.confidence)

        def write(connection: Connection, versions: Mapping[str, Version]) -> None:
            recording.write(connection, usecase, attempt, subject, inputs, versions["evaluation"], answered)

        return Result({"evaluation": Output.of(stored, "evaluation", private=False)}, facts, write)

    outcome = steps.run(settings, origin, spec, work).as_dict()
    used = inputs["index"].as_dict() if "index" in inputs else None
    return outcome | {"subject": subject, "index": used}


def _asked(
    connection: Connection, usecase: UseCase, dataset: dict[str, Any] | None
) -> tuple[list[Suite], dict[str, Version]]:
    """Returns the suites, and as inputs what they rest on."""
    if usecase.evaluation.suites:
        return suites.load(usecase), {}
    if dataset is not None:
        pinned: Version | None = Version(**dataset)
    else:
        newest = datasets.newest(connection, usecase.name)
        pinned = None if newest is None else newest.artifact
    found = None if pinned is None else suites.locked(recording.locked_rows(connection, pinned), gated=True)
    if pinned is None or found is None:
        raise NotAvailable(
            f"there is nothing to evaluate {usecase.name} on: no suite, and no row in the locked test split",
            where="evaluation.suites; catalog.locked_example",
            next_step="name a suite in the YAML, or commit a dataset whose splits.test is above 0",
        )
    return [found], {"dataset": pinned}


def _base(
    connection: Connection, usecase: UseCase, base: Version, adapter: dict[str, Any] | None
) -> tuple[Version, BaseModelSource]:
    """Returns the base model to load and where it is: an adapter goes on the base model that it was trained on, which
    for a champion may be an earlier one than tonight's."""
    if adapter is not None:
        own = recording.base_of(connection, int(adapter["version_id"]))
        if own is not None and own[0].digest != base.digest:
            return own
    return base, usecase.base_model


def _index(connection: Connection, usecase: UseCase, index: dict[str, Any] | None) -> Version:
    if index is not None:
        return Version(**index)
    live = deployments.live(connection, usecase.name)
    if live is None or live.index_version_id is None:
        raise NotAvailable(
            f"no index of {usecase.name} is live",
            where="lineage.deployment",
            next_step=f"`nightshift index sync {usecase.name}`, or run the DAG {usecase.name}_reindex",
        )
    return steps.version(connection, live.index_version_id)


def _params(settings: Settings, usecase: UseCase, asked: list[Suite], unserved: str | None) -> dict[str, Any]:
    """Returns what the result depends on, beside code and inputs. Names and numbers: no text of a case."""
    told = usecase.evaluation
    return {
        "suites": [
            {
                "name": suite.name,
                "digest": suite.digest,
                "file": suite.file,
                "limit": suite.limit,
                "gated": suite.gated,
                "cases": len(suite.cases),
            }
            for suite in asked
        ],
        "generation": {"decoding": "greedy", "max_new_tokens": told.max_new_tokens, "batch_size": told.batch_size},
        "model": {
            "dtype": usecase.training.dtype,
            "quantize": usecase.training.quantize,
            "device": models.expected_device(settings.device),
        },
        "retrieval": {"k": usecase.retrieval.k, "unserved": unserved},
        "confidence": told.confidence,
    }


def _run(
    settings: Settings,
    usecase: UseCase,
    attempt: Attempt,
    asked: list[Suite],
    inputs: Mapping[str, Version],
    source: BaseModelSource,
) -> list[Answered]:
    """Returns every case's answers. This is where a model is loaded."""
    found = models.resolve(settings, source)
    if found.digest != inputs["base"].digest:
        raise Refused(
            "the base model on this machine is not the one that was pinned",
            where=found.folder,
            found=found.digest[:12],
            allowed=inputs["base"].digest[:12],
            next_step="run preflight again, or put the pinned base model back",
        )
    folder = None
    if "adapter" in inputs:
        adapter = inputs["adapter"]
        folder = attempt.store.fetch(adapter.kind, adapter.digest, attempt.scratch / "adapter")
    loaded = models.load(
        found.folder,
        adapter=folder,
        device=models.device(settings.device),
        dtype=usecase.training.dtype,
        quantize=usecase.training.quantize,
    )
    return answer_all(settings, usecase, loaded, asked, inputs.get("index"))
