"""Forgets a person, a document or an example: what it touches, a person's agreement, the deed, the certificate.

Airflow keeps the parameters of a run. Where a person's key is itself something to be forgotten, ask for the erasure on
the command line (`nightshift erase USECASE --subject …`), and give this DAG its number.

**When a task fails.** `ask`: no row is about what was named, or the erasure has its answer. `approve` failing means
that somebody said no, or nobody may answer: nothing goes then. `erase` waits for commits and index builds of the use
case. `certify` may run again until it succeeds: the rows are gone by then, and it makes up for files that still stand.

**Clearing is safe** for every task but `approve`, which would ask again about what was answered.
"""

from datetime import timedelta

import nightshift_factory as factory
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import Param, dag, task
from nightshift_approval import ErasureApproval
from nightshift_factory import XCom

from pipeline.usecase import UseCase


def _text(title: str, description: str) -> Param:
    return Param(None, type=["null", "string"], maxLength=500, title=title, description=description)


PARAMS = {
    "request": Param(
        None,
        type=["null", "integer"],
        minimum=1,
        title="Request",
        description="the number of an erasure that was asked for on the command line",
    ),
    "subject": _text("Person", "as `data_subject` names him; Airflow keeps what stands here"),
    "document": _text("Document", "its id"),
    "example": _text("Example", "its digest"),
    "reason": Param("", type="string", maxLength=500, title="Reason", description="kept on record"),
}


@task
@factory.fail_without_retry
def ask(name: str) -> object:
    from pipeline import data

    return data.erasure.requested(factory.stage_context(name), factory.params())


@task
@factory.fail_without_retry
def erase(name: str, requested: XCom) -> object:
    from pipeline import data

    return data.erasure.erase(factory.stage_context(name), requested["erasure"])


@task
@factory.fail_without_retry
def certify(name: str, erased: XCom) -> object:
    from pipeline import data

    return data.certify(factory.stage_context(name), erased["erasure"])


def build(usecase: UseCase) -> None:
    """Makes the DAG `<usecase>_erase`."""
    name = usecase.name

    # More than one run: an answer may take days.
    @dag(**factory.common(usecase, "erase", __doc__, schedule=None, params=PARAMS, max_active_runs=16))
    def flow() -> None:
        requested = ask(name)
        approve = ErasureApproval(
            task_id="approve",
            queue=factory.RELEASE,
            use_case=name,
            requested=requested,
            response_timeout=timedelta(days=7),
        )
        erased = erase(name, requested)
        commit = TriggerDagRunOperator(task_id="commit", trigger_dag_id=f"{name}_data")
        approve >> erased
        certify(name, erased) >> commit

    flow()


factory.each(build)
