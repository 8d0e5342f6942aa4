"""What keeps a commit from taking away too much: a source that gives nothing any more, an emptied file, most examples
gone at once."""

from dataclasses import dataclass

from pipeline import canonical, database, steps
from pipeline.artifacts import ArtifactStore
from pipeline.data import catalog
from pipeline.data.candidates import Candidates
from pipeline.data.findings import Finding
from pipeline.data.membership import Members
from pipeline.data.reports import REPORT, CheckReport
from pipeline.database import Connection
from pipeline.errors import Refused
from pipeline.records import read
from pipeline.usecase import Checks


def require_rows(connection: Connection, store: ArtifactStore, use_case: str, rows: Candidates) -> None:
    """Raises Refused where a source gives no row any more that the current version has rows from, or a file is empty
    that had some at the last commit: whoever writes it may not have ended."""
    for source in sorted({*rows.all_sources} - {*rows.sources}):
        before = database.fetch_one(connection, "data", "rows_of_source", use_case=use_case, source=source)
        if before is not None and before["rows"]:
            raise Refused(
                "a source that the current dataset version has rows from gives none any more",
                where=source,
                found=f"0 rows; the current version has {before['rows']} of them",
                next_step="write its rows again, or take it out of usecase.yaml if its rows are to go",
            )
    before = _accepted_of_files(connection, store, use_case) if rows.empty_files else {}
    for file in rows.empty_files:
        if before.get(file):
            raise Refused(
                "a file that had rows at the last commit is empty",
                where=file,
                found=f"0 rows; {before[file]} were accepted then",
                next_step="write it again, or remove it if its rows are to go",
            )


def _accepted_of_files(connection: Connection, store: ArtifactStore, use_case: str) -> dict[str, int]:
    """Returns how many examples of each file the last commit had."""
    row = database.fetch_one(connection, "data", "committed_report", use_case=use_case)
    if row is None:
        return {}
    report = steps.version(connection, row["version_id"])
    content = read(CheckReport, store.read(report.kind, report.digest, REPORT), f"check report {report.digest[:12]}")
    return {file.file: file.accepted for file in content.examples.files}


@dataclass(frozen=True)
class Shrunk:
    """A dataset that a commit would have taken most of, and that stays as it was."""

    labels: Members
    finding: Finding


_FEW = 10  # examples; so many may go from any dataset


def shrunk(
    connection: Connection, use_case: str, before: Members, labels: Members, unusable: frozenset[str], checks: Checks
) -> Shrunk | None:
    """Returns the current members where these would be far fewer of them and nobody has accepted that; else None. What
    was erased, or may not be used any more, is missed by nobody."""
    current = catalog.standing(connection, use_case, "examples")
    gone = sorted(before.keys() - labels.keys() - unusable - catalog.erased_examples(connection, use_case))
    if len(gone) < _FEW or len(gone) <= checks.max_removed * len(before):
        return None
    digest = canonical.digest({"removed": gone, "from": current.digest})
    if digest in catalog.accepted(connection, use_case):
        return None
    missed = set(gone)
    detail = f"{len(gone)} of {len(before)} examples are not there any more; the version stays as it was"
    kept = {row: label for row, label in before.items() if row in labels or row in missed}
    return Shrunk(kept, Finding("examples", None, "examples_removed", "waiting", detail, digest))
