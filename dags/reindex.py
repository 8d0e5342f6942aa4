"""Brings the index in line with the documents: embeds what changed, builds, tests, and swaps.

**When a task fails.** `check` says which gate failed: recall, leak or quality. Until `swap` nothing that is live was
touched: search goes on with the old index. `swap` refuses when another index went live meanwhile: run the DAG again.

**Clearing is safe** for every task. Embeddings stand in a cache, a generation that was not swapped is never searched,
and a swap happens once.
"""

from datetime import timedelta

import nightshift_factory as factory
from airflow.sdk import TriggerRule, dag, task

from pipeline.usecase import UseCase


def build(usecase: UseCase) -> None:
    """Makes the DAG `<usecase>_reindex`."""
    name, assets = usecase.name, factory.Assets.of(usecase)

    @task
    @factory.told
    def plan():
        from pipeline import retrieval

        return retrieval.plan(*factory.here(name), reuse=factory.reuse())

    @task.short_circuit
    def changed(planned):
        return not planned["unchanged"]

    @task
    def batches(planned):
        return list(range(planned["batches"]))

    @task(max_active_tis_per_dagrun=2, execution_timeout=timedelta(hours=4))
    @factory.told
    def embed(planned, batch):
        from pipeline import retrieval

        return retrieval.embed(*factory.here(name), planned, batch, reuse=factory.reuse())

    # Where documents only went away there is nothing to embed: the mapped task is skipped, the build is not.
    @task(task_id="build", trigger_rule=TriggerRule.NONE_FAILED, execution_timeout=timedelta(hours=4))
    @factory.told
    def build_index(planned):
        from pipeline import retrieval

        return retrieval.build(*factory.here(name), planned, reuse=factory.reuse())

    @task(execution_timeout=timedelta(hours=4))
    @factory.told
    def check(built):
        from pipeline import retrieval

        return retrieval.check(*factory.here(name), built, reuse=factory.reuse())

    @task
    @factory.told
    def swap(built, checked):
        from pipeline import retrieval

        swapped = retrieval.swap(*factory.here(name), built, checked)
        factory.demand(checked["passed"], f"the new index did not pass its gates: {checked['gates']}")
        return swapped

    @task(outlets=[assets.index])
    def publish_index(built, swapped):
        factory.publish(assets.index, swapped["swapped"], built["run"])

    schedule = factory.asset_or_cron(assets.documents, usecase.schedule.reindex)

    @dag(**factory.common(usecase, "reindex", __doc__, schedule=schedule))
    def flow():
        planned = plan()
        numbers = batches(planned)
        changed(planned) >> numbers
        embedded = embed.partial(planned=planned).expand(batch=numbers)
        built = build_index(planned)
        embedded >> built
        publish_index(built, swap(built, check(built)))

    flow()


factory.each(build)
