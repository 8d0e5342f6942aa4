"""The data steward's work list: what was left out or waits, and his answers. A decision survives the next commit."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal

from pipeline import database
from pipeline.data.rules import WAIVABLE
from pipeline.errors import BadInput
from pipeline.settings import Settings
from pipeline.usecase import UseCase


@dataclass(frozen=True)
class OpenFinding:
    """A row, a document or a source that nobody has decided."""

    finding: int
    file: str
    line: int | None
    rule: str
    severity: Literal["rejected", "waiting"]
    detail: str  # of what waits: before and after

    @property
    def may_be_accepted(self) -> bool:
        """Returns whether a person may take it in: what waits, and what was left out by a rule of judgement."""
        return self.severity == "waiting" or self.rule in WAIVABLE


def worklist(settings: Settings, usecase: UseCase) -> list[OpenFinding]:
    """Returns what the newest check and commit left out and nobody has decided, oldest first."""
    with database.connect(settings, "pipeline") as connection:
        return [OpenFinding(**row) for row in database.fetch(connection, "data", "worklist", use_case=usecase.name)]


def waiting(settings: Settings, usecase: UseCase) -> list[OpenFinding]:
    """Returns what of the work list waits for a person."""
    return [row for row in worklist(settings, usecase) if row.severity == "waiting"]


def accept(
    settings: Settings,
    usecase: UseCase,
    findings: Collection[int],
    person: str,
    reason: str,
    until: date | None = None,
) -> list[OpenFinding]:
    """Returns the findings that are accepted by this, up to the day `until` where one is given. The next commit takes
    what they are about.

    Raises BadInput for a finding that is not on the work list or that nobody may accept, for an empty reason, and for a
    day that has gone by; then none is accepted.
    """
    if until is not None and until < datetime.now(UTC).date():
        raise BadInput("an acceptance ends in the future", where="--until", found=until.isoformat())
    chosen = _open(settings, usecase, findings, reason)
    if wrong := [row for row in chosen if not row.may_be_accepted]:
        raise BadInput(
            "nobody may accept this",
            found="; ".join(f"{row.finding}: {row.rule} ({row.detail})" for row in wrong),
            allowed=f"what waits, and {', '.join(sorted(WAIVABLE))}",
            next_step="mend the row at its source, or confirm it: `nightshift data confirm`",
        )
    return _decide(settings, chosen, "accept", person, reason, until)


def confirm(
    settings: Settings, usecase: UseCase, findings: Collection[int], person: str, reason: str
) -> list[OpenFinding]:
    """Returns the findings that stay as they are by this: what they are about stays out, and leaves the work list.

    Raises BadInput for a finding that is not on the work list, and for an empty reason; then none is confirmed.
    """
    return _decide(settings, _open(settings, usecase, findings, reason), "reject", person, reason, None)


def _open(settings: Settings, usecase: UseCase, findings: Collection[int], reason: str) -> list[OpenFinding]:
    if not reason.strip():
        raise BadInput("a decision has a reason", where="--reason")
    listed = {row.finding: row for row in worklist(settings, usecase)}
    if unknown := sorted(set(findings) - listed.keys()):
        raise BadInput(
            f"this finding is not on the work list of {usecase.name}",
            found=", ".join(map(str, unknown)),
            allowed=", ".join(map(str, sorted(listed))) or "none is",
        )
    return [listed[finding] for finding in sorted(set(findings))]


def _decide(
    settings: Settings,
    chosen: list[OpenFinding],
    decision: Literal["accept", "reject"],
    person: str,
    reason: str,
    until: date | None,
) -> list[OpenFinding]:
    with database.connect(settings, "pipeline") as connection, connection.transaction():
        for row in chosen:
            database.execute(
                connection,
                "data",
                "insert_steward_decision",
                finding=row.finding,
                decision=decision,
                person=person,
                reason=reason.strip(),
                until=until,
            )
    return chosen
