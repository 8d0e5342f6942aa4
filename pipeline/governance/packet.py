"""The governance packet of a release decision: documents in which every figure carries the digest of its evidence.

A packet is a folder of Markdown, `evidence.json` (every figure: its text, its source, the source's digest, its JSON
pointer) and the evidence itself: records of the database and copies of what is not private. The same state of a
decision gives the same packet, byte for byte.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pipeline import canonical, database, steps
from pipeline.context import Context
from pipeline.errors import BadInput, Refused
from pipeline.governance import assembly, evidence
from pipeline.records import load
from pipeline.steps import Attempt, Output, Result, Step, Version


@dataclass(frozen=True)
class PacketFacts:
    """What a packet is."""

    decision: int
    final: bool  # with the answers and what went live
    files: int
    bytes: int


@dataclass(frozen=True)
class Packet:
    """A packet as it was stored, and where it lies for people."""

    run: UUID
    reused: bool
    packet: Version
    facts: PacketFacts
    path: str  # of the folder
    zip: str  # the same packet
    digest: str
    decision_id: int
    final: bool


def packet(context: Context, decision_id: int | None = None, final: bool | None = None) -> Packet:
    """Returns the packet of a decision.

    `decision_id`: None is the newest decision about a model. `final`: None is final where the decision has been carried
    out. Raises BadInput where there is no such decision, Refused for the final packet of a decision that nothing came
    of.
    """
    name = context.usecase.name
    with database.connect(context.settings, "pipeline") as connection, connection.transaction():
        # One snapshot, so that the records agree with one another.
        connection.execute("set transaction isolation level repeatable read")
        number = evidence.newest(connection, name) if decision_id is None else decision_id
        about = evidence.decision(connection, number)
        whole = about["deployment_id"] is not None if final is None else final
        _require(name, about, whole)
        rows = evidence.versions(connection, number)
        records = evidence.records(connection, number, rows, final=whole)
    spec = Step(
        name,
        "governance.packet",
        "pipeline",
        ("pipeline.governance.packet",),
        params={"decision": number, "final": whole, "records": canonical.digest(records)},
        inputs=evidence.pinned(rows),
        reuse=context.reuse,
    )

    def work(attempt: Attempt) -> Result:
        contents = assembly.build(attempt.store, records, rows, final=whole)
        stored = attempt.store.put("packet", contents)
        facts = PacketFacts(number, whole, len(contents), stored.size_bytes)
        return Result({"packet": Output.of(stored, "packet", private=False)}, facts)

    outcome = steps.run(context.settings, context.origin, spec, work)
    version = outcome.outputs["packet"]
    folder = assembly.export(context.settings, name, number, version.digest, final=whole)
    return Packet(
        outcome.run_id,
        outcome.reused,
        version,
        load(PacketFacts, outcome.facts),
        str(folder),
        f"{folder}.zip",
        version.digest,
        number,
        whole,
    )


def renew(context: Context) -> Packet | None:
    """Returns the packet of the decision that let the model through which is live; None where none is."""
    with database.connect(context.settings, "pipeline") as connection:
        row = database.fetch_one(connection, "governance", "live_decision", use_case=context.usecase.name)
    return None if row is None else packet(context, row["decision_id"], final=True)


def _require(use_case: str, about: Mapping[str, Any], final: bool) -> None:
    if about["use_case"] != use_case:
        raise BadInput(
            "the decision is about another use case", found=about["use_case"], allowed=use_case, where="decision"
        )
    if final and about["deployment_id"] is None:
        raise Refused(
            "there is no final packet of a decision that has not been carried out",
            where=f"decision {about['decision_id']}",
            found=about["outcome"],
            next_step="build the evidence packet instead, or promote the decision",
        )
