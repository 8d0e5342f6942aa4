"""What the texts of documents were found to hold, kept for the nights after: counts by the documents' digests, and no
text. It goes with the snapshot that it stands in."""

import json
from collections.abc import Mapping

from pipeline import canonical
from pipeline.data import snapshots
from pipeline.data.measures import Measures
from pipeline.steps import Attempt, cachekey
from pipeline.usecase import Checks

SNAPSHOT = "documents.checked"
_FILE = "measures.json"


def key(checks: Checks) -> str:
    """Returns the digest of what such measures depend on beside the document: the code that takes them, its libraries,
    and what the use case asks for."""
    parts = cachekey.parts(
        job="data.measure_documents",
        modules=("pipeline.data.texts",),
        files=(),
        params={
            "checks": checks.documents.model_dump(mode="json"),
            "languages": list(checks.languages),
            "phone_regions": list(checks.phone_regions),
            "public_contacts": list(checks.public_contacts),
        },
        inputs={},
    )
    return cachekey.key(parts)


def known(attempt: Attempt, use_case: str, wanted: str) -> Mapping[str, Measures]:
    """Returns what the newest snapshot with this key says, by the digests of documents; nothing where there is none."""
    version = snapshots.newest(attempt, use_case, SNAPSHOT, wanted)
    if version is None:
        return {}
    measures: Mapping[str, Measures] = json.loads(attempt.store.read(version.kind, version.digest, _FILE))
    return measures


def described(measures: Mapping[str, Measures]) -> Mapping[str, bytes]:
    """Returns the file that a snapshot keeps them in, by its name."""
    return {_FILE: canonical.dumps(measures).encode()}
