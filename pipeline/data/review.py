"""The data steward's answers to what waits: a widening of rights, a source that lost its documents."""

from collections.abc import Collection
from typing import Any

from pipeline import database
from pipeline.errors import BadInput
from pipeline.settings import Settings
from pipeline.usecase import UseCase


def waiting(settings: Settings, usecase: UseCase) -> list[dict[str, Any]]:
    """Returns the findings that wait for a person, oldest first: {finding, file, line, rule, detail} each."""
    with database.connect(settings, "pipeline") as connection:
        rows = database.fetch(connection, "data", "waiting_findings", use_case=usecase.name)
    return [{key: row[key] for key in ("finding", "file", "line", "rule", "detail")} for row in rows]


def accept(
    settings: Settings, usecase: UseCase, findings: Collection[int], person: str, reason: str
) -> list[dict[str, Any]]:
    """Returns the findings that are accepted by this, as `waiting` gives them. The next commit takes what they are
    about.

    Raises BadInput for a finding of this use case that does not wait, and for an empty reason; then none is accepted.
    """
    if not reason.strip():
        raise BadInput("an acceptance has a reason", where="--reason")
    open_findings = {row["finding"]: row for row in waiting(settings, usecase)}
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
