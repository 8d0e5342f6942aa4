"""Asks persons to sign what is new in the training rows: a data owner a source, a privacy reviewer rows about persons.

It begins with every new dataset version of a use case whose data is signed. Training does not wait for it: the night
takes the version that was signed last, and says so.

**When a task fails.** `data_owner` or `privacy_reviewer` failing means that somebody said no, that nobody answered in
time, or that nobody may answer; its message says which. An answer can still be given: run the DAG again, or
`nightshift data sign USECASE --role … --reason …`. `card` writes the data card anew with the answers.

**Clearing is safe**: what was answered is not asked again.
"""

from datetime import timedelta

import nightshift_factory as factory
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import Param, TriggerRule, dag, task
from nightshift_approval import SignOff
from nightshift_factory import XCom

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


@task(trigger_rule=TriggerRule.ALL_DONE)
@factory.fail_without_retry
def card(name: str, standing: XCom) -> object:
    from pipeline import data

    return data.renew(factory.stage_context(name), standing["version"])


def build(usecase: UseCase) -> None:
    """Makes the DAG `<usecase>_sign`."""
    name, assets = usecase.name, factory.Assets.of(usecase.name)
    schedule = [assets.dataset] if usecase.signs_data else None

    # More than one run: an answer may take days.
    @dag(**factory.common(usecase, "sign", __doc__, schedule=schedule, params=PARAMS, max_active_runs=16))
    def flow() -> None:
        standing = ask(name)
        renewed = card(name, standing)
        # The run fails where somebody said no, although the card is written in either case.
        signed = EmptyOperator(task_id="signed", trigger_rule=TriggerRule.NONE_FAILED)
        for role in ("data_owner", "privacy_reviewer"):
            question = SignOff(
                task_id=role,
                queue=factory.RELEASE,
                use_case=name,
                role=role,
                standing=standing,
                response_timeout=timedelta(hours=usecase.signoff.timeout_hours),
            )
            question >> [renewed, signed]
        renewed >> signed

    flow()


factory.each(build)
