"""Asks persons to sign what is new in the training rows: a data owner a source, a privacy reviewer rows about persons.

It begins with every new dataset version of a use case whose data is signed. Training does not wait for it: the night
takes the version that was signed last, and says so.

**When a task fails.** `data_owner` or `privacy_reviewer` failing means that somebody said no, that nobody answered in
time, or that nobody may answer; its message says which. An answer can still be given: run the DAG again, or
`nightshift data sign USECASE --role … --reason …`.

**Clearing is safe**: what was answered is not asked again.
"""

from datetime import timedelta

import nightshift_factory as factory
from airflow.sdk import Param, dag, task
from nightshift_approval import SignOff

from pipeline.usecase import UseCase

PARAMS = {
    "dataset_version": Param(
        None, type=["null", "integer"], minimum=1, title="Version", description="of the examples; null: the newest"
    ),
}


@task
@factory.fail_without_retry
def ask(name: str) -> object:
    from pipeline.data import signoff

    context = factory.stage_context(name)
    return signoff.standing(context.settings, context.usecase, factory.params()["dataset_version"])


def build(usecase: UseCase) -> None:
    """Makes the DAG `<usecase>_sign`."""
    name, assets = usecase.name, factory.Assets.of(usecase.name)
    schedule = [assets.dataset] if usecase.signs_data else None

    # More than one run: an answer may take days.
    @dag(**factory.common(usecase, "sign", __doc__, schedule=schedule, params=PARAMS, max_active_runs=16))
    def flow() -> None:
        asked = ask(name)
        for role in ("data_owner", "privacy_reviewer"):
            SignOff(
                task_id=role,
                queue=factory.RELEASE,
                use_case=name,
                role=role,
                asked=asked,
                response_timeout=timedelta(hours=usecase.signoff.timeout_hours),
            )

    flow()


factory.each(build)
