"""Who may read what: the rule in Python, beside the one in SQL that the index applies, so that each can be held to the
other; and the callers that the leak test makes up."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline import database
from pipeline.database import Connection
from pipeline.retrieval.loading import Right
from pipeline.usecase import CLASSIFICATIONS, PURPOSES, Purpose, UseCase

# Names that no use case can have: its own are lower-case words.
UNKNOWN = "Unknown"


@dataclass(frozen=True)
class Caller:
    """Who asks: a tenant's member with groups and a clearance, any of which may be unknown."""

    tenant: str
    groups: tuple[str, ...]
    clearance: str
    purpose: Purpose = "rag"  # what he searches for


def may_read(caller: Caller, right: Right) -> bool:
    """Returns whether a caller may read what carries this right: for a purpose that it may be used for, in his own
    tenant, up to his clearance, and, unless it is public, in a group of his. An unknown clearance reads nothing."""
    if caller.clearance not in CLASSIFICATIONS or caller.tenant != right.tenant or caller.purpose not in right.uses:
        return False
    if CLASSIFICATIONS.index(right.classification) > CLASSIFICATIONS.index(caller.clearance):
        return False
    return right.classification == "public" or not set(caller.groups).isdisjoint(right.groups)


def callers(rights: Sequence[Right], number: int, seed: str) -> list[Caller]:
    """Returns `number` generated callers: first one for each right, who can read it, then random ones, some of them of
    unknown tenants, groups and clearances. The same seed gives the same callers."""
    generator = random.Random(seed)  # noqa: S311 - a test sample, no secret
    ordered = sorted(set(rights), key=_order)
    tenants = [*sorted({right.tenant for right in rights}), UNKNOWN]
    groups = [*sorted({group for right in rights for group in right.groups}), UNKNOWN]
    generated = [
        Caller(right.tenant, right.groups, right.classification, next((p for p in PURPOSES if p in right.uses), "rag"))
        for right in ordered
    ]
    generator.shuffle(generated)
    while len(generated) < number:
        size = generator.randint(0, min(len(groups), 6))
        generated.append(
            Caller(
                generator.choice(tenants),
                tuple(sorted(generator.sample(groups, size))),
                generator.choice([*CLASSIFICATIONS, CLASSIFICATIONS[-1], UNKNOWN]),
                generator.choice(PURPOSES),
            )
        )
    return generated[:number]


def acl_ids(connection: Connection, use_case: str, rights: Sequence[Right]) -> Mapping[Right, int]:
    """Returns the id of each right, named in the database where it was not."""
    for right in sorted(set(rights), key=_order):
        database.execute(
            connection,
            "retrieval",
            "add_acl_set",
            use_case=use_case,
            tenant=right.tenant,
            classification=right.classification,
            groups=list(right.groups),
            uses=list(right.uses),
        )
    rows = database.fetch(connection, "retrieval", "acl_sets", use_case=use_case)
    return {Right.of(row): row["acl_id"] for row in rows}


def _order(right: Right) -> tuple[str, str, tuple[str, ...], tuple[str, ...]]:
    return right.tenant, right.classification, right.groups, right.uses


def principals(usecase: UseCase) -> list[dict[str, Any]]:
    """Returns the principals of the use case as the gateway knows them: {"name", "tenant", "groups", "clearance"}. They
    are parameters of the run that makes them known, so that each change of a right names its run."""
    return [
        {
            "name": name,
            "tenant": principal.tenant,
            "groups": sorted(set(principal.groups)),
            "clearance": principal.clearance,
        }
        for name, principal in sorted(usecase.principals.items())
    ]
