"""The night: seals the release policy, trains, evaluates, applies the gate, and writes the evidence down.

**When a task fails.** `preflight` refuses what cannot work before any GPU time, the suites included: its message says
what to mend. `sft` and `dpo` pick up nothing half-done: run again, they begin anew, or take an equal earlier result.
`gate` needs every evaluation: clear the failed one. `publish_candidate` fails where the gate blocked the candidate: its
log names the checks, the decision and its evidence are written by then, and what was live stays live. A candidate that
equals the champion ends the run after `changed`, with the rest skipped.

**Clearing is safe** for every task; nothing here changes what is live. Clearing `seal` after training does not help
anyone: the first time that thresholds were sealed counts.
"""

from datetime import timedelta

import nightshift_factory as factory
from airflow.sdk import dag, task

from pipeline.usecase import UseCase


def build(usecase: UseCase) -> None:
    """Makes the DAG `<usecase>_retrain`."""
    name, assets = usecase.name, factory.Assets.of(usecase)
    long = timedelta(minutes=usecase.training.timeout_minutes)

    @task
    @factory.told
    def seal():
        from pipeline import release

        return release.seal(*factory.here(name))

    @task
    @factory.told
    def preflight():
        from pipeline import evaluation, training

        settings, found, origin = factory.here(name)
        evaluation.require(settings, found)
        return training.preflight(settings, found, origin, reuse=factory.reuse())

    @task(**factory.GPU, execution_timeout=long, retry_policy=factory.OwnFailures(limit=2))
    @factory.told
    def sft(prepared):
        from pipeline import training

        return training.sft(*factory.here(name), prepared, reuse=factory.reuse())

    @task(**factory.GPU, execution_timeout=long, retry_policy=factory.OwnFailures(limit=2))
    @factory.told
    def dpo(prepared, tuned):
        from pipeline import training

        return training.dpo(*factory.here(name), prepared, tuned, reuse=factory.reuse())

    @task.short_circuit
    @factory.told
    def changed(candidate):
        from pipeline import release

        settings, found, _ = factory.here(name)
        return not release.unchanged(settings, found, candidate["outputs"]["adapter"])["unchanged"]

    @task
    @factory.told
    def subjects(tuned, candidate):
        from pipeline import evaluation

        settings, found, _ = factory.here(name)
        return evaluation.subjects(settings, found, tuned, candidate)

    # One at a time: each holds a model in memory and uses every core.
    @task(max_active_tis_per_dagrun=1, execution_timeout=timedelta(hours=4))
    @factory.told
    def evaluate(prepared, subject):
        from pipeline import evaluation

        told = (subject["subject"], prepared["outputs"]["base"], subject["adapter"])
        return evaluation.evaluate(*factory.here(name), *told, index=subject["index"], reuse=factory.reuse())

    @task(**factory.RELEASE)
    @factory.told
    def gate(sealed, candidate, asked, results):
        from pipeline import release

        evaluations = {subject["subject"]: result for subject, result in zip(asked, results, strict=True)}
        return release.gate(*factory.here(name), sealed, candidate["outputs"]["adapter"], evaluations)

    @task
    @factory.told
    def evidence(gated):
        from pipeline import governance

        return governance.packet(*factory.here(name), gated["decision_id"])

    @task(outlets=[assets.candidate])
    def publish_candidate(gated, written):
        factory.demand(gated["decision"] != "block", gated["message"])
        factory.publish(assets.candidate, True, gated["run"])

    @dag(**factory.common(usecase, "retrain", __doc__, schedule=factory.cron(usecase.schedule.retrain)))
    def flow():
        sealed, prepared = seal(), preflight()
        sealed >> prepared
        tuned = sft(prepared)
        candidate = dpo(prepared, tuned)
        asked = subjects(tuned, candidate)
        changed(candidate) >> asked
        results = evaluate.partial(prepared=prepared).expand(subject=asked)
        gated = gate(sealed, candidate, asked, results)
        publish_candidate(gated, evidence(gated))

    flow()


factory.each(build)
