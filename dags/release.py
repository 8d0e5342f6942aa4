"""Lets a candidate through, or not: asks a person where the gate or the risk tier wants one, and promotes.

**When a task fails.** `approve` fails when a person rejects, and when nobody answers in time: both are recorded, and
what was live stays live. It can also fail when it is answered within a second of asking: Airflow then takes its process
for killed, nothing is recorded, and the decision goes on waiting. Airflow takes an answer from those who may approve
alone, never from the person who asked for the run; where there is nobody, the task says so: `nightshift person add`. An
approval that the rules refuse is recorded, and the decision goes on waiting: trigger this DAG again and let someone
else answer. `choose` fails where no run of Nightshift emitted the asset event that began the run. `promote` refuses
when another deployment went live since the decision was made: run `retrain` again.

**Clearing is safe**: `approve` asks again unless the decision has its final answer, and a decision is promoted once.
A newer candidate supersedes a waiting one; an answer to the old question then counts for nothing, and says so.
"""

from datetime import timedelta

import nightshift_factory as factory
from airflow.sdk import Param, TriggerRule, dag, task
from nightshift_approval import Approval
from nightshift_factory import XCom

from pipeline.usecase import UseCase

DECISION = Param(
    None, type=["null", "integer"], title="Decision", description="empty: the newest decision that waits for an answer"
)


@task(queue=factory.RELEASE)
@factory.fail_without_retry
def choose(name: str) -> object:
    from pipeline import release

    context = factory.stage_context(name)
    chosen = release.choose(context.settings, context.usecase, factory.decision(context))
    return factory.or_skip(chosen, "nothing waits: no decision can be released")


@task.branch
def needs_person(chosen: XCom) -> str:
    return "approve" if chosen["needs_person"] else "promote"


@task(queue=factory.RELEASE, retries=0, trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS)
@factory.fail_without_retry
def promote(name: str, chosen: XCom, answered: XCom) -> object:
    from pipeline import release

    return release.promote(factory.stage_context(name).settings, chosen["decision_id"])


@task
@factory.fail_without_retry
def packet(name: str, promoted: XCom, chosen: XCom) -> object:
    from pipeline import governance

    return governance.packet(factory.stage_context(name), chosen["decision_id"])


def build(usecase: UseCase) -> None:
    """Makes the DAG `<usecase>_release`."""
    name, assets = usecase.name, factory.Assets.of(usecase.name)
    # More than one run: a question may wait for a day, and a newer candidate must be able to supersede it.
    keys = {"schedule": [assets.candidate], "max_active_runs": 16, "params": {"decision_id": DECISION}}

    @dag(**factory.common(usecase, "release", __doc__, **keys))
    def flow() -> None:
        chosen = choose(name)
        approve = Approval(
            task_id="approve",
            queue=factory.RELEASE,
            use_case=name,
            decision=chosen,
            response_timeout=timedelta(hours=usecase.release.approval.timeout_hours),
        )
        promoted = promote(name, chosen, approve.output)
        branch = needs_person(chosen)
        branch >> [approve, promoted]
        packet(name, promoted, chosen)

    flow()


factory.each(build)
