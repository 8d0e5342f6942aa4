"""Dataset versions: which is the newest, and whether it is what it was: what training pins, and what a use case without
suites is evaluated on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline import canonical, database, steps
from pipeline.database import Connection
from pipeline.errors import Refused
from pipeline.steps import Version

# Row digest to split; of documents, version digest to status.
Members = Mapping[str, str]


@dataclass(frozen=True)
class DatasetVersion:
    """A version of a use case's examples."""

    number: int  # counts from 1 in each use case
    artifact: Version
    digest: str = ""
    erased: int = 0  # of its rows, since it was committed
    waiting: int | None = None  # the newest version, where it is another: persons have not signed it
    revoked: Sequence[str] = ()  # sources that it has rows of, and that may not be trained on any more


def newest(connection: Connection, use_case: str) -> DatasetVersion | None:
    """Returns the newest dataset version of a use case, or None where nothing was committed yet."""
    row = database.fetch_one(connection, "datasets", "newest", use_case=use_case)
    if row is None:
        return None
    artifact = steps.version(connection, row["artifact_version_id"])
    return DatasetVersion(row["version"], artifact, row["digest"], row["erased"])


def newest_signed(connection: Connection, use_case: str) -> DatasetVersion | None:
    """Returns the newest dataset version in which persons have signed all that is new, with the number of a newer one
    that they have not; None where nothing was committed yet. Raises Refused where none is signed."""
    committed = newest(connection, use_case)
    if committed is None:
        return None
    row = database.fetch_one(connection, "datasets", "newest_signed", use_case=use_case)
    if row is None:
        raise Refused(
            f"no dataset version of {use_case} is signed: nothing is trained on it",
            found=f"version {committed.number} waits for its data owner or its privacy reviewer, or was rejected",
            next_step=f"`nightshift data sign {use_case}` shows what is asked, and so does the DAG {use_case}_sign",
        )
    artifact = steps.version(connection, row["artifact_version_id"])
    waiting = committed.number if committed.number > row["version"] else None
    return DatasetVersion(row["version"], artifact, row["digest"], row["erased"], waiting, row["revoked"])


def require_trainable(connection: Connection, use_case: str, version: DatasetVersion) -> None:
    """Raises Refused where rows of the version were erased or are of a source that may not be trained on any more, or
    its rows do not give the digest that it was committed under."""
    if version.erased:
        raise Refused(
            f"dataset version {version.number} of {use_case} is redacted: nothing is trained on it",
            found=f"{version.erased} of its rows were erased",
            next_step=f"`nightshift data commit {use_case}`, or the DAG {use_case}_data, makes one without them",
        )
    if version.revoked:
        raise Refused(
            f"dataset version {version.number} of {use_case} holds rows that may not be trained on any more",
            found=f"its sources {', '.join(version.revoked)}, as version {version.waiting} describes them",
            next_step=f"sign version {version.waiting}, which is without them: `nightshift data sign {use_case}`",
        )
    rows = database.fetch(connection, "datasets", "members", use_case=use_case, version=version.number)
    if (actual := digest({row["digest"]: row["split"] for row in rows})) != version.digest:
        raise Refused(
            f"dataset version {version.number} of {use_case} does not give its digest",
            found=f"{actual[:12]}, committed as {version.digest[:12]}",
            next_step="treat it as an incident: the DAG `maintain` says which rows were changed",
        )


def digest(members: Members) -> str:
    """Returns the digest of a version: of its sorted (row digest, label) pairs, so that order and age do not count."""
    return canonical.digest(listed(members))


def listed(members: Members) -> list[tuple[str, str]]:
    """Returns the sorted pairs of row digest and label."""
    return sorted(members.items())
