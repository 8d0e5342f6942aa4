"""Sign-off: what is new in a dataset version is trained on once persons have signed it: a new source by a data owner,
rows about persons by a privacy reviewer. The rules stand in the database."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

from pipeline import database
from pipeline.database import Connection
from pipeline.errors import BadInput, Refused
from pipeline.settings import Settings
from pipeline.usecase import UseCase

Role = Literal["data_owner", "privacy_reviewer"]
Choice = Literal["approve", "reject"]


@dataclass(frozen=True)
class RoleAnswer:
    """What one role is asked about a version, or has answered."""

    role: Role
    answer: str  # waiting, approve, reject, or not asked where nothing is new to it
    open_items: int  # sources or rows that it has not signed
    sources: Sequence[Mapping[str, Any]]  # of a data owner: as the use case describes them
    person: str | None
    reason: str | None


@dataclass(frozen=True)
class SignOff:
    """Where a dataset version stands."""

    version: int
    digest: str
    state: Literal["signed", "waiting", "rejected"]
    roles: Sequence[RoleAnswer]

    @property
    def waiting(self) -> tuple[Role, ...]:
        """Returns the roles that have still to answer."""
        return tuple(each.role for each in self.roles if each.answer == "waiting")


@dataclass(frozen=True)
class Question:
    """What persons are asked, and whom to ask."""

    version: int
    body: str  # Markdown: names of sources, and counts
    eligible: Mapping[str, str]  # ids at Airflow to names


@dataclass(frozen=True)
class Answered:
    """A person's answer, as it counts."""

    version: int
    role: Role
    answer: str  # approve, reject, or refused for an answer that the rules do not accept
    person: str
    reason: str


def standing(settings: Settings, usecase: UseCase, version: int | None = None) -> SignOff:
    """Returns where a dataset version stands; without a number, the newest. Raises BadInput where there is none."""
    with database.connect_any(settings, ("pipeline", "approver")) as connection:
        return _standing(connection, usecase, version)


def ask(settings: Settings, usecase: UseCase, version: int, role: Role) -> Question | None:
    """Returns what persons are asked in a role about a version; None where nothing is asked of it, or not any more.
    Raises Refused where nobody may answer."""
    with database.connect(settings, "approver") as connection:
        current = _standing(connection, usecase, version)
        if role not in current.waiting:
            return None
        rows = database.fetch(connection, "signoff", "eligible", use_case=usecase.name, version=version, role=role)
    if not rows:
        raise Refused(
            f"nobody may sign version {version} of {usecase.name} as {_title(role)}",
            allowed="a person who is known here in that role, and did not ask for the commit himself",
            next_step=f"`nightshift person add NAME --airflow ID --{role.replace('_', '-')}`",
        )
    (role_answer,) = (each for each in current.roles if each.role == role)
    return Question(
        version, "\n".join(_lines(usecase, current, role_answer)), {row["airflow_id"]: row["name"] for row in rows}
    )


def answer(
    settings: Settings,
    usecase: UseCase,
    version: int,
    role: Role,
    choice: Choice,
    reason: str | None,
    person: str | None = None,
    own: Connection | None = None,
) -> Answered:
    """Returns a person's answer as it counts. `own` is a connection by his own database login; without it `person` is
    who Airflow says is logged in.

    Raises BadInput for an approval without a reason, Refused for a version that needs no answer (any more).
    """
    if choice == "approve" and not (reason or "").strip():
        raise BadInput("an approval needs a reason", found=repr(reason), next_step="say in a sentence why")
    with database.connect(settings, "approver") if own is None else nullcontext(own) as connection:
        database.call(connection, "catalog.answer_signoff", usecase.name, version, role, choice, person, reason)
        which = {"use_case": usecase.name, "version": version, "role": role}
        row = database.fetch_one(connection, "signoff", "newest_answer", **which)
    assert row is not None
    return Answered(version, role, row["answer"], row["person"], row["reason"])


def _standing(connection: Connection, usecase: UseCase, version: int | None) -> SignOff:
    rows = database.fetch(connection, "signoff", "standing", use_case=usecase.name, version=version)
    if not rows:
        raise BadInput(
            f"the examples of {usecase.name} have no such version",
            found="none" if version is None else version,
            next_step=f"`nightshift data versions {usecase.name}` lists them, `nightshift data commit` makes them",
        )
    roles = [
        RoleAnswer(row["role"], row["answer"], row["open_items"] or 0, row["described"], row["person"], row["reason"])
        for row in rows
    ]
    return SignOff(rows[0]["version"], rows[0]["digest"], rows[0]["state"], roles)


def _lines(usecase: UseCase, current: SignOff, role_answer: RoleAnswer) -> Sequence[str]:
    head = f"Version {current.version} of the examples (`{current.digest[:12]}`)"
    if role_answer.role == "privacy_reviewer":
        return [
            f"{head} holds **{role_answer.open_items} rows** about persons, or with personal data in them, that no"
            " privacy reviewer has signed. May a model be trained on them?",
            "",
            f"The check for personal data is set to `{usecase.checks.personal_data}`. This page shows no row; their"
            f" sources are {', '.join(f'`{source.label}`' for source in usecase.examples)}.",
        ]
    table = [
        "| source | rows | may be used to | licence | owner | rights | sensitivity |",
        "|---|---|---|---|---|---|---|",
    ]
    for source in role_answer.sources:
        said = [source["description"].get(key) or "not given" for key in ("licence", "owner", "rights", "sensitivity")]
        cells = [f"`{source['source']}`", str(source["rows"]), ", ".join(source["uses"]), *said]
        table.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return [f"{head} has sources that no data owner has signed. May a model be trained on them?", "", *table]


def _title(role: Role) -> str:
    return role.replace("_", " ")
