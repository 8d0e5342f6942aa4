"""Evaluates what is live again: when its index is new, and every week.

**When a task fails.** The message says what is missing: an index, a suite, a model's files. Nothing live changes.

**Clearing is safe.** Where neither the model nor the index changed, the earlier evaluation answers.
"""

from datetime import timedelta

import nightshift_factory as factory
from airflow.sdk import dag, task

from pipeline.usecase import UseCase


@task(execution_timeout=timedelta(hours=4))
@factory.fail_without_retry
def champion(name: str) -> object:
    from pipeline import evaluation

    return factory.or_skip(evaluation.regression(factory.stage_context(name)), "no model is live")


def build(usecase: UseCase) -> None:
    """Makes the DAG `<usecase>_evaluate`."""
    schedule = factory.asset_or_cron(factory.Assets.of(usecase.name).index, usecase.schedule.evaluate)

    @dag(**factory.common(usecase, "evaluate", __doc__, schedule=schedule))
    def flow() -> None:
        champion(usecase.name)

    flow()


factory.each(build)
