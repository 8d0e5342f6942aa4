"""The data steward's answers to what waits: a widening of rights, a source that lost its documents."""

from collections.abc import Collection
from dataclasses import dataclass

from pipeline import database
from pipeline.errors import BadInput
from pipeline.settings import Settings
from pipeline.usecase import UseCase


@dataclass(frozen=True)
class WaitingFinding:
    """A finding that waits for a person."""

    finding: int
    file: str
    line: int | None
    rule: str
    detail: str  # before and after


def waiting(settings: Settings, usecase: UseCase) -> list[WaitingFinding]:
    """Returns the findings that wait for a person, oldest first."""
    with database.connect(settings, "pipeline") as connection:
        rows = database.fetch(connection, "data", "waiting_findings", use_case=usecase.name)
    return [WaitingFinding(row["finding"], row["file"], row["line"], row["rule"], row["detail"]) for row in rows]


def accept(
    settings: Settings, usecase: UseCase, findings: Collection[int], person: str, reason: str
) -> list[WaitingFinding]:
    """Returns the findings that are accepted by this. The next commit takes what they are
    about.

    Raises BadInput for a finding of this use case that does not wait, and for an empty reason; then none is accepted.
    """
    if not reason.strip():
        raise BadInput("an acceptance has a reason", where="--reason")
    open_findings = {row.finding: row for row in waiting(settings, usecase)}
    if unknown := sorted(set(findings) - open_findings.keys()):
        raise BadInput(
            f"this finding does not wait in {usecase.name}",
            found=", ".join(map(str, unknown)),
            allowed=", ".join(map(str, sorted(open_findings))) or "none waits",
        )
    with database.connect(settings, "pipeline") as connection, connection.transaction():
        for finding in sorted(set(findings)):
            database.execute(
                connection,
                "data",
                "insert_steward_decision",
                finding=finding,
                decision="accept",
                person=person,
                reason=reason.strip(),
            )
    return [open_findings[finding] for finding in sorted(set(findings))]
