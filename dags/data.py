"""Fetches a use case's documents and examples, checks them, and commits what is new.

**When a task fails.** `fetch`: a source is not where the YAML says; the message names it. `check` refuses a file that
is mostly malformed: read the findings (`nightshift data check FILE`), mend the file, run the DAG again. `commit` is
one transaction: it happened or it did not.

**Clearing is safe.** A task that is run again makes a new run which names the old one; the same content is the same
version, and then no asset event is sent.
"""

import nightshift_factory as factory
from airflow.sdk import dag, task

from pipeline.usecase import UseCase


def build(usecase: UseCase) -> None:
    """Makes the DAG `<usecase>_data`."""
    name, assets = usecase.name, factory.Assets.of(usecase)

    @task
    @factory.told
    def fetch():
        from pipeline import data

        return data.fetch(*factory.here(name), reuse=factory.reuse())

    @task
    @factory.told
    def check(fetched):
        from pipeline import data

        return data.check(*factory.here(name), fetched, reuse=factory.reuse())

    @task
    @factory.told
    def commit(checked):
        from pipeline import data

        return data.commit(*factory.here(name), checked, reuse=factory.reuse())

    @task
    @factory.told
    def card(committed):
        from pipeline import data

        return data.card(*factory.here(name), committed, reuse=factory.reuse())

    @task(outlets=[assets.dataset])
    def publish_dataset(committed):
        factory.publish(assets.dataset, committed["dataset"]["changed"], committed["run"])

    @task(outlets=[assets.documents])
    def publish_documents(committed):
        factory.publish(assets.documents, committed["corpus"]["changed"], committed["run"])

    @dag(**factory.common(usecase, "data", __doc__, schedule=factory.cron(usecase.schedule.data)))
    def flow():
        committed = commit(check(fetch()))
        card(committed)
        publish_dataset(committed)
        publish_documents(committed)

    flow()


factory.each(build)
