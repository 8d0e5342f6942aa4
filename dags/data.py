"""Fetches a use case's documents and examples, checks them, and commits what is new.

**When a task fails.** `fetch`: a source is not where the YAML says; the message names it. `check` refuses a file that
is mostly malformed: read the findings (`nightshift data check FILE`), fix the file, run the DAG again. `commit` is
one transaction: it happened or it did not.

**Clearing is safe.** A task that is run again makes a new run which names the old one; the same content is the same
version, and then no asset event is sent.
"""

import nightshift_factory as factory
from airflow.sdk import dag, task
from nightshift_factory import XCom

from pipeline.records import load
from pipeline.usecase import UseCase


@task
@factory.fail_without_retry
def fetch(name: str) -> object:
    from pipeline import data

    return data.fetch(factory.stage_context(name))


@task
@factory.fail_without_retry
def check(name: str, fetched: XCom) -> object:
    from pipeline import data

    return data.check(factory.stage_context(name), load(data.Fetched, fetched))


@task
@factory.fail_without_retry
def commit(name: str, checked: XCom) -> object:
    from pipeline import data

    return data.commit(factory.stage_context(name), load(data.Checked, checked))


@task
@factory.fail_without_retry
def card(name: str, committed: XCom) -> object:
    from pipeline import data

    return data.card(factory.stage_context(name), load(data.Committed, committed))


@task
def publish_dataset(name: str, committed: XCom) -> None:
    factory.publish(factory.Assets.of(name).dataset, committed["dataset"]["changed"], committed["run"])


@task
def publish_documents(name: str, committed: XCom) -> None:
    factory.publish(factory.Assets.of(name).documents, committed["corpus"]["changed"], committed["run"])


def build(usecase: UseCase) -> None:
    """Makes the DAG `<usecase>_data`."""
    name, assets = usecase.name, factory.Assets.of(usecase.name)

    @dag(**factory.common(usecase, "data", __doc__, schedule=factory.cron(usecase.schedule.data)))
    def flow() -> None:
        committed = commit(name, check(name, fetch(name)))
        card(name, committed)
        publish_dataset.override(outlets=[assets.dataset])(name, committed)
        publish_documents.override(outlets=[assets.documents])(name, committed)

    flow()


factory.each(build)
