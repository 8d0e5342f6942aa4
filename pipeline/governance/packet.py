"""The governance packet of a release decision: documents in which every figure carries the digest of its evidence.

A packet is a folder of Markdown, `evidence.json` (every figure: its text, its source, the source's digest, its JSON
pointer) and the evidence itself: records of the database and copies of what is not private. The same state of a
decision gives the same packet, byte for byte.
"""

import shutil
import uuid
from pathlib import Path
from typing import Any

from pipeline import canonical, database, lineage
from pipeline.artifacts import MANIFEST, ArtifactStore
from pipeline.errors import BadInput, Refused
from pipeline.governance import cards, evidence, files
from pipeline.lineage import Attempt, Origin, Output, Result, Reuse, Step
from pipeline.settings import Settings
from pipeline.usecase import UseCase

FORMAT = 1


def packet(
    settings: Settings,
    usecase: UseCase,
    origin: Origin,
    decision_id: int | None = None,
    final: bool | None = None,
    reuse: Reuse = "auto",
) -> dict[str, Any]:
    """Returns {"run", "reused", "outputs": {"packet"}, "facts", "path", "zip", "digest", "decision_id", "final"}.

    `decision_id`: None is the newest decision about a model. `final`: the packet with the answers and what went live;
    None is final where the decision has been carried out. The folder `path` and the file `zip` hold the same packet.

    Raises BadInput where there is no such decision, Refused for the final packet of a decision that nothing came of.
    """
    with database.connect(settings, "pipeline") as connection, connection.transaction():
        # One snapshot, so that the records agree with one another.
        connection.execute("set transaction isolation level repeatable read")
        number = evidence.newest(connection, usecase.name) if decision_id is None else decision_id
        about = evidence.decision(connection, number)
        whole = about["deployment_id"] is not None if final is None else final
        _demand(usecase, about, whole)
        rows = evidence.versions(connection, number)
        records = evidence.records(connection, number, rows, final=whole)
    spec = Step(
        usecase.name,
        "governance.packet",
        "pipeline",
        ("pipeline.governance.packet",),
        params={"decision": number, "final": whole, "records": canonical.digest(records)},
        inputs=evidence.pinned(rows),
        reuse=reuse,
    )

    def work(attempt: Attempt) -> Result:
        contents = build(attempt.store, records, rows, final=whole)
        stored = attempt.store.put("packet", contents)
        facts = {"decision": number, "final": whole, "files": len(contents), "bytes": stored.size_bytes}
        return Result({"packet": Output.of(stored, "packet", private=False)}, facts)

    outcome = lineage.step(settings, origin, spec, work).as_dict()
    digest = outcome["outputs"]["packet"]["digest"]
    folder = export(settings, usecase.name, number, digest, final=whole)
    told = {"path": str(folder), "zip": f"{folder}.zip", "digest": digest, "decision_id": number, "final": whole}
    return outcome | told


def _demand(usecase: UseCase, about: dict[str, Any], final: bool) -> None:
    if about["use_case"] != usecase.name:
        raise BadInput(
            "the decision is about another use case", found=about["use_case"], allowed=usecase.name, where="decision"
        )
    if final and about["deployment_id"] is None:
        raise Refused(
            "there is no final packet of a decision that has not been carried out",
            where=f"decision {about['decision_id']}",
            found=about["outcome"],
            next_step="build the evidence packet instead, or promote the decision",
        )


def build(
    store: ArtifactStore, records: dict[str, Any], rows: list[dict[str, Any]], *, final: bool
) -> dict[str, bytes]:
    """Returns the files of a packet. Raises NotAvailable where an artifact that should stand in the store does not."""
    copied, artifacts = evidence.copies(store, rows)
    digests = {name: canonical.digest(content) for name, content in records.items()}
    documents, figures = cards.render(records, digests)
    listing = {
        "format": FORMAT,
        "use_case": records["decision"]["use_case"],
        "decision": records["decision"]["decision_id"],
        "final": final,
        "renderer": cards.renderer(),
        "documents": sorted(documents),
        "records": digests,
        "artifacts": artifacts,
        "figures": [figure.as_dict(digests[figure.source]) for figure in figures],
    }
    contents = {evidence.record_path(name): evidence.readable(content) for name, content in records.items()}
    contents |= {name: text.encode() for name, text in documents.items()}
    return contents | copied | {"evidence.json": evidence.readable(listing)}


def export(settings: Settings, use_case: str, decision: int, digest: str, *, final: bool) -> Path:
    """Returns the folder under the home folder where the packet lies, its zip file beside it. Each is there whole."""
    store = ArtifactStore(settings.artifacts)
    target = settings.home / "packets" / use_case / str(decision) / ("final" if final else "evidence")
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    store.fetch("packet", digest, part)
    (part / MANIFEST).write_bytes(canonical.dumps(store.manifest("packet", digest)).encode())
    zipped = part.with_name(f"{part.name}.zip")
    zipped.write_bytes(files.zipped(files.read_folder(part)))
    if target.exists():
        shutil.rmtree(target)
    part.rename(target)
    zipped.rename(target.with_name(f"{target.name}.zip"))
    return target
