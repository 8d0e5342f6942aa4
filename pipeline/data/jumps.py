"""A rule that suddenly leaves out many more examples than at the check before: a damaged source looks like that."""

from pipeline import canonical, database
from pipeline.data.catalog import Waived
from pipeline.data.findings import Finding
from pipeline.data.records import Counts
from pipeline.database import Connection
from pipeline.errors import Refused
from pipeline.usecase import UseCase

RULE = "reject_rate_jumped"
_FEW = 10  # rows; so many may a rule leave out of any file


def refusal(
    connection: Connection, usecase: UseCase, snapshot: str, counts: Counts, waived: Waived
) -> tuple[Refused | None, list[Finding]]:
    """Returns why the examples of a snapshot (its digest) cannot go on, with a finding for each rule that a person may
    accept; None where nothing is unusual or all of it is accepted."""
    row = database.fetch_one(connection, "data", "check_before", use_case=usecase.name)
    before, limit = row and row["examples"], usecase.checks.max_jump
    if not before or not before["rows"]:
        return None, []
    findings = []
    for rule, rows in counts.by_rule.items():
        earlier = before["by_rule"].get(rule, 0) / before["rows"]
        digest = canonical.digest({"rule": rule, "examples": snapshot})
        if rule == "erased" or rows < _FEW or rows / counts.rows - earlier <= limit or (RULE, digest) in waived:
            continue
        detail = f"{rule} leaves out {rows} of {counts.rows} examples; before, {earlier:.0%} of them"
        findings.append(Finding("examples", None, RULE, "waiting", detail, digest))
    if not findings:
        return None, []
    stop = Refused(
        "a rule suddenly leaves out many more examples than at the check before",
        where=usecase.name,
        found="; ".join(finding.detail for finding in findings),
        allowed=f"a share that grows by {limit:g} at most (checks.max_jump in usecase.yaml)",
        next_step=f"mend the source, or accept it: `nightshift data worklist {usecase.name}`",
    )
    return stop, findings
