"""The governance packet of a release decision: documents in which every figure carries the digest of its evidence.

A packet is a folder of Markdown, `evidence.json` (every figure: its text, its source, the source's digest, its JSON
pointer) and the evidence itself: records of the database and copies of what is not private. The same state of a
decision gives the same packet, byte for byte.
"""

from typing import Any

from pipeline import canonical, database, steps
from pipeline.errors import BadInput, Refused
from pipeline.governance import assembly, evidence
from pipeline.settings import Settings
from pipeline.steps import Attempt, Origin, Output, Result, Reuse, Step
from pipeline.usecase import UseCase


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
        contents = assembly.build(attempt.store, records, rows, final=whole)
        stored = attempt.store.put("packet", contents)
        facts = {"decision": number, "final": whole, "files": len(contents), "bytes": stored.size_bytes}
        return Result({"packet": Output.of(stored, "packet", private=False)}, facts)

    outcome = steps.run(settings, origin, spec, work).as_dict()
    digest = outcome["outputs"]["packet"]["digest"]
    folder = assembly.export(settings, usecase.name, number, digest, final=whole)
    told = {"path": str(folder), "zip": f"{folder}.zip", "digest": digest, "decision_id": number, "final": whole}
    return outcome | told


def renew(settings: Settings, usecase: UseCase, origin: Origin, *, reuse: Reuse = "auto") -> dict[str, Any] | None:
    """Returns what `packet` returns of the decision that let the model through which is live; None where none is."""
    with database.connect(settings, "pipeline") as connection:
        row = database.fetch_one(connection, "governance", "live_decision", use_case=usecase.name)
    return None if row is None else packet(settings, usecase, origin, row["decision_id"], final=True, reuse=reuse)


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
