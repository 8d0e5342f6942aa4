"""Renews the governance packet of the model that is live, every week: with the answers and deployments since then.

**When a task fails.** The message names what the packet rests on and is not there. The packets before it stand.

**Clearing is safe.** The same records give the same packet, byte for byte.
"""

import nightshift_factory as factory
from airflow.sdk import dag, task

from pipeline.usecase import UseCase


@task
@factory.fail_without_retry
def packet(name: str) -> object:
    from pipeline import governance

    return factory.or_skip(governance.renew(factory.stage_context(name)), "no model is live")


def build(usecase: UseCase) -> None:
    """Makes the DAG `<usecase>_govern`."""

    @dag(**factory.common(usecase, "govern", __doc__, schedule=factory.cron(usecase.schedule.govern)))
    def flow() -> None:
        packet(usecase.name)

    flow()


factory.each(build)
