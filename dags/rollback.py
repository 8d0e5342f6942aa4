"""Points a use case's live deployment back to an earlier pair of model and index.

**When it fails.** The message says why: the pair is live already, its model was purged, its index generation was
dropped, or another deployment went live meanwhile. Nothing changes then.

**Clearing is safe**: the pair goes live once. Documents that were withdrawn meanwhile stay withdrawn.
"""

import nightshift_factory as factory
from airflow.sdk import Param, dag, task

from pipeline.usecase import UseCase

PARAMS = {
    "to": Param(
        None,
        type=["null", "integer"],
        minimum=1,
        title="Deployment",
        description="the earlier one; empty: the run lists the earlier pairs and changes nothing",
    ),
    "why": Param(type="string", minLength=3, maxLength=500, title="Reason", description="kept on record"),
    "to_nothing": Param(False, type="boolean", title="To nothing", description="also to a pair without a model"),
}


@task(queue=factory.RELEASE, retries=0)
@factory.fail_without_retry
def rollback(name: str) -> object:
    from pipeline import release

    context, params = factory.stage_context(name), factory.params()
    return release.rollback(
        context.settings,
        context.usecase,
        params["to"],
        context.origin.requested_by,
        params["why"],
        to_nothing=params["to_nothing"],
    )


def build(usecase: UseCase) -> None:
    """Makes the DAG `<usecase>_rollback`."""

    @dag(**factory.common(usecase, "rollback", __doc__, schedule=None, params=PARAMS))
    def flow() -> None:
        rollback(usecase.name)

    flow()


factory.each(build)
