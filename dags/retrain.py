"""The night: seals the release policy, trains, evaluates, applies the gate, and writes the evidence down.

**When a task fails.** `preflight` refuses what cannot work before any GPU time, the suites included: its message says
what to fix. `baseline` answers the suites with the base model before any of it is trained. `pretrain`, `sft` and
`dpo`, killed and run again, go on from their last checkpoint, or take an equal earlier result; one that diverged says
at which step. `gate` needs every evaluation: clear the failed one. `publish_candidate` fails where the gate blocked
the candidate: its log names the checks, the decision and its evidence are written by then, and what was live stays
live. A candidate that equals the champion ends the run after `changed`, with the rest skipped.

**Clearing is safe** for every task; nothing here changes what is live. Clearing `seal` after training does not help
anyone: the first time that thresholds were sealed counts.
"""

from datetime import timedelta

import nightshift_factory as factory
from airflow.sdk import dag, task
from nightshift_factory import XCom

from pipeline.records import load
from pipeline.usecase import UseCase


@task
@factory.fail_without_retry
def seal(name: str) -> object:
    from pipeline import release

    return release.seal(factory.stage_context(name))


@task
@factory.fail_without_retry
def preflight(name: str) -> object:
    from pipeline import evaluation, training

    context = factory.stage_context(name)
    evaluation.require(context.settings, context.usecase)
    return training.preflight(context)


@task(execution_timeout=timedelta(hours=4))
@factory.fail_without_retry
def baseline(name: str, prepared: XCom) -> object:
    from pipeline import evaluation, steps

    return evaluation.evaluate(factory.stage_context(name), "base", load(steps.Version, prepared["base"]), None)


@task(**factory.GPU, retry_policy=factory.OwnFailures(limit=2))
@factory.fail_without_retry
def pretrain(name: str, prepared: XCom) -> object:
    from pipeline import training

    return training.pretrain(factory.stage_context(name), load(training.Prepared, prepared))


@task(**factory.GPU, retry_policy=factory.OwnFailures(limit=2))
@factory.fail_without_retry
def sft(name: str, prepared: XCom, start: XCom) -> object:
    from pipeline import training

    before = None if start is None else load(training.Tuned, start)
    return training.sft(factory.stage_context(name), load(training.Prepared, prepared), before)


@task(**factory.GPU, retry_policy=factory.OwnFailures(limit=2))
@factory.fail_without_retry
def dpo(name: str, prepared: XCom, tuned: XCom) -> object:
    from pipeline import training

    return training.dpo(factory.stage_context(name), load(training.Prepared, prepared), load(training.Tuned, tuned))


@task.short_circuit
@factory.fail_without_retry
def changed(name: str, candidate: XCom) -> bool:
    from pipeline import release, steps

    context, adapter = factory.stage_context(name), load(steps.Version, candidate["adapter"])
    return not release.unchanged(context.settings, context.usecase, adapter).unchanged


@task
@factory.fail_without_retry
def subjects(name: str, tuned: XCom, candidate: XCom) -> object:
    from pipeline import evaluation, steps

    context = factory.stage_context(name)
    adapters = (load(steps.Version, tuned["adapter"]), load(steps.Version, candidate["adapter"]))
    return evaluation.subjects(context.settings, context.usecase, *adapters)


# One at a time: each holds a model in memory and uses every core.
@task(max_active_tis_per_dagrun=1, execution_timeout=timedelta(hours=4))
@factory.fail_without_retry
def evaluate(name: str, prepared: XCom, subject: XCom) -> object:
    from pipeline import evaluation, steps

    base, model = load(steps.Version, prepared["base"]), load(evaluation.SubjectOf, subject)
    return evaluation.evaluate(factory.stage_context(name), model.subject, base, model.adapter, index=model.index)


@task(queue=factory.RELEASE)
@factory.fail_without_retry
def gate(name: str, sealed: XCom, candidate: XCom, results: XCom) -> object:
    from pipeline import release, steps

    evaluations = {result["subject"]: load(steps.Version, result["evaluation"]) for result in results}
    policy, adapter = load(release.Sealed, sealed), load(steps.Version, candidate["adapter"])
    return release.gate(factory.stage_context(name), policy, adapter, evaluations)


@task
@factory.fail_without_retry
def evidence(name: str, gated: XCom) -> object:
    from pipeline import governance

    return governance.packet(factory.stage_context(name), gated["decision_id"])


@task
def publish_candidate(name: str, gated: XCom, written: XCom) -> None:
    factory.require(gated["decision"] != "block", gated["message"])
    factory.publish(factory.Assets.of(name).candidate, True, gated["run"])


def build(usecase: UseCase) -> None:
    """Makes the DAG `<usecase>_retrain`."""
    name, assets = usecase.name, factory.Assets.of(usecase.name)
    long = timedelta(minutes=usecase.training.timeout_minutes)

    @dag(**factory.common(usecase, "retrain", __doc__, schedule=factory.cron(usecase.schedule.retrain)))
    def flow() -> None:
        sealed, prepared = seal(name), preflight(name)
        sealed >> prepared
        pretrained = pretrain.override(execution_timeout=long)(name, prepared)
        baseline(name, prepared) >> pretrained
        tuned = sft.override(execution_timeout=long)(name, prepared, pretrained)
        candidate = dpo.override(execution_timeout=long)(name, prepared, tuned)
        models = subjects(name, tuned, candidate)
        changed(name, candidate) >> models
        results = evaluate.partial(name=name, prepared=prepared).expand(subject=models)
        gated = gate(name, sealed, candidate, results)
        publish_candidate.override(outlets=[assets.candidate])(name, gated, evidence(name, gated))

    flow()


factory.each(build)
