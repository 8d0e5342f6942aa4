"""The daily round: lost attempts, the audit trail and its anchors, what is to be forgotten, the artifacts, indexes that
nothing needs.

**When a task fails.** `audit` failing means that a record was changed behind the audit trail's back, or an event after
it was sealed: the message names the rows and the blocks. That is an incident, not a defect of this DAG: keep the
server's log and call whoever owns the database. `artifacts` failing names files that are missing or do not
match their recorded hashes: restore them from a backup, or run the use case's DAG with `reuse` set to `never`.

**Clearing is safe** for every task: each looks at things as they are now.
"""

import nightshift_factory as factory
from airflow.sdk import dag, task


@task
@factory.fail_without_retry
def lost_attempts() -> object:
    from pipeline import settings
    from pipeline.operations import maintenance

    return maintenance.sweep_lost(settings.from_environment())


@task
@factory.fail_without_retry
def audit() -> object:
    from pipeline import settings
    from pipeline.operations import maintenance

    return maintenance.seal_and_verify(settings.from_environment())


@task
@factory.fail_without_retry
def artifacts() -> object:
    from pipeline import settings
    from pipeline.operations import maintenance

    return maintenance.verify_artifacts(settings.from_environment())


@task
@factory.fail_without_retry
def erasures() -> object:
    from pipeline import data, settings, usecase

    in_force = settings.from_environment()
    return data.forget(in_force, usecase.read_all(in_force)[0], factory.own_origin())


@task
@factory.fail_without_retry
def index() -> object:
    from pipeline import retrieval, settings

    return retrieval.maintain(settings.from_environment())


@dag(
    dag_id="maintain",
    description=(__doc__ or "").partition("\n")[0],
    doc_md=__doc__,
    schedule=factory.cron("45 3 * * *"),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,  # a trail that nobody anchors is the database's own word
    tags=["nightshift", "maintain"],
    default_args=factory.defaults("nightshift"),
)
def flow() -> None:
    lost_attempts()
    audit()
    erasures() >> artifacts()
    index()


flow()
