"""The daily round over what is to be forgotten: documents whose date has come, files that an interrupted erasure left,
models that were trained on erased rows and answer nobody any more."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline import database
from pipeline.artifacts import ArtifactStore
from pipeline.context import Context
from pipeline.data import certificate, erasure, purging
from pipeline.data.impact import Target
from pipeline.settings import Settings
from pipeline.steps import Origin
from pipeline.usecase import UseCase


@dataclass(frozen=True)
class Forgotten:
    """What the round erased and removed."""

    erasures: Sequence[int]  # of documents whose date had come
    snapshots: int  # that held an erased row still
    models: int  # trained on erased rows, and not live
    files: int  # artifacts that were purged, and removed from the store now


def forget(settings: Settings, usecases: Sequence[UseCase], origin: Origin) -> Forgotten:
    """Returns what was erased and removed. A use case says in `retention` whether dates erase by themselves."""
    with database.connect(settings, "pipeline") as connection:
        due = database.fetch(connection, "erasure", "due_by_retention")
    done = []
    for usecase in usecases:
        documents = [row["document_key"] for row in due if row["use_case"] == usecase.name]
        for document in documents if usecase.retention.erase_expired else []:
            context = Context(settings, usecase, origin)
            target = Target("document", document)
            requested = erasure.request(context, target, "the date until which it is kept has gone by", "retention")
            erasure.erase(context, requested.erasure)
            certificate.certify(context, requested.erasure)
            done.append(requested.erasure)
    store = ArtifactStore(settings.artifacts, "pipeline")
    with database.connect(settings, "pipeline") as connection:
        recent = [row["use_case"] for row in database.fetch(connection, "erasure", "erased_recently")]
        snapshots = sum(certificate.purge(settings, connection, store, name) for name in recent)
        models = database.call(connection, "lineage.purge_retrained")
        files = purging.remove_files(connection, store)
    return Forgotten(done, snapshots, len(models), len(files))
