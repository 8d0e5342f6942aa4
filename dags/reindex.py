"""Brings the index in line with the documents: embeds what changed, builds, tests, and swaps.

**When a task fails.** `check` says which gate failed: recall, leak or quality. Until `swap` nothing that is live was
touched: search goes on with the old index. `swap` refuses when another index went live meanwhile: run the DAG again.

**Clearing is safe** for every task. Embeddings stand in a cache, a generation that was not swapped is never searched,
and a swap happens once.
"""

from datetime import timedelta

import nightshift_factory as factory
from airflow.sdk import TriggerRule, dag, task
from nightshift_factory import XCom

from pipeline.records import load
from pipeline.usecase import UseCase


@task
@factory.fail_without_retry
def plan(name: str) -> object:
    from pipeline import retrieval

    return retrieval.plan(factory.stage_context(name))


@task.short_circuit
def changed(planned: XCom) -> bool:
    return not planned["unchanged"]


@task
def batches(planned: XCom) -> list[int]:
    return list(range(planned["batches"]))


@task(max_active_tis_per_dagrun=2, execution_timeout=timedelta(hours=4))
@factory.fail_without_retry
def embed(name: str, planned: XCom, batch: int) -> object:
    from pipeline import retrieval

    return retrieval.embed(factory.stage_context(name), load(retrieval.Planned, planned), batch)


# Where documents only went away there is nothing to embed: the mapped task is skipped, the build is not.
@task(task_id="build", trigger_rule=TriggerRule.NONE_FAILED, execution_timeout=timedelta(hours=4))
@factory.fail_without_retry
def build_index(name: str, planned: XCom) -> object:
    from pipeline import retrieval

    return retrieval.build(factory.stage_context(name), load(retrieval.Planned, planned))


@task(execution_timeout=timedelta(hours=4))
@factory.fail_without_retry
def check(name: str, built: XCom) -> object:
    from pipeline import retrieval

    return retrieval.check(factory.stage_context(name), load(retrieval.Built, built))


@task
@factory.fail_without_retry
def swap(name: str, built: XCom, checked: XCom) -> object:
    from pipeline import retrieval

    gated = load(retrieval.Gated, checked)
    swapped = retrieval.swap(factory.stage_context(name), load(retrieval.Built, built), gated)
    factory.require(gated.passed, f"the new index did not pass its gates: {checked['gates']}")
    return swapped


@task
def publish_index(name: str, built: XCom, swapped: XCom) -> None:
    factory.publish(factory.Assets.of(name).index, swapped["swapped"], built["run"])


def build(usecase: UseCase) -> None:
    """Makes the DAG `<usecase>_reindex`."""
    name, assets = usecase.name, factory.Assets.of(usecase.name)
    schedule = factory.asset_or_cron(assets.documents, usecase.schedule.reindex)

    @dag(**factory.common(usecase, "reindex", __doc__, schedule=schedule))
    def flow() -> None:
        planned = plan(name)
        numbers = batches(planned)
        changed(planned) >> numbers
        embedded = embed.partial(name=name, planned=planned).expand(batch=numbers)
        built = build_index(name, planned)
        embedded >> built
        publish_index.override(outlets=[assets.index])(name, built, swap(name, built, check(name, built)))

    flow()


factory.each(build)
