"""Who may answer for a release, attacked with each login: names that look alike, workers that name somebody, logins of
one's own, and requesters under another name."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from pipeline import database
from pipeline.database import Connection, Role
from pipeline.errors import BadInput, NotAvailable, Refused
from pipeline.people import persons
from pipeline.people.persons import Person
from pipeline.settings import Settings
from tests.pg.sql.test_release import FAILED, Ground, begin, ground

pytestmark = pytest.mark.pg

__all__ = ["ground"]

CYRILLIC = "r\N{CYRILLIC SMALL LETTER IE}viewer"
FULLWIDTH = "\N{FULLWIDTH LATIN SMALL LETTER R}eviewer"
LOOK_ALIKES = (
    "Reviewer", "REVIEWER", "reviewer ", " reviewer", "reviewer\n", "reviewer\t", "reviewer\N{NO-BREAK SPACE}",
    "rev\N{ZERO WIDTH SPACE}iewer", "rev\N{SOFT HYPHEN}iewer", CYRILLIC, FULLWIDTH, "os:reviewer", "'reviewer'",
    "rev\N{LATIN SMALL LETTER DOTLESS I}ewer",
)  # fmt: skip
NONE = ("", " ", "-", ".reviewer", "@reviewer", "schedule", "a" * 65, "re/viewer", "re:viewer", "re viewer")


def asked_for(ground: Ground, requester: str) -> int:
    """Returns a decision that waits for a person, asked for in this name."""
    run, _ = begin(ground.connection, by=requester, inputs=ground.inputs)
    return ground.decide(run=run)


def answers(ground: Ground, decision: int) -> list[tuple[str, str | None]]:
    rows = ground.connection.execute(
        "select answer, person from release.approval where decision_id = %s order by approval_id", [decision]
    ).fetchall()
    return [(row["answer"], row["person"]) for row in rows]


@pytest.mark.parametrize("name", [*LOOK_ALIKES, *NONE])
def test_a_name_that_is_none_becomes_no_person(
    settings: Settings, administration: Settings, attacker: psycopg.Connection[Any], name: str
) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        attacker.execute("insert into release.person (name, approver) values (%s, true)", [name])
    if name != "schedule":
        with pytest.raises(BadInput, match="cannot be a person's name"):
            persons.add(administration, Person(name, None, None, True))


@pytest.mark.parametrize(
    "second",
    [
        Person("maria", "reviewer", None, True),
        Person("maria", "Reviewer", None, True),
        Person("maria", None, None, True, ("REVIEWER",)),
        Person("maria", None, None, True, ("os:Engineer",)),
        Person("maria", None, None, True, ("os:maria", "engineer")),
        Person("reviewer", "maria", None, True),
    ],
    ids=lambda second: str((second.name, second.airflow_id, *second.aliases)),
)
def test_a_name_is_one_persons(administration: Settings, attacker: psycopg.Connection[Any], second: Person) -> None:
    with pytest.raises(Refused):
        persons.add(administration, second)
    assert attacker.execute("select count(*) from release.person_alias where person = 'maria'").fetchone() == (0,)


def test_a_person_who_is_known_gains_names_and_loses_none(administration: Settings, settings: Settings) -> None:
    persons.add(administration, Person("maria", None, None, True, ("os:maria",)))
    persons.add(administration, Person("maria", "7", None, True, ("os:maria", "mm@example.org")))
    persons.add(administration, Person("maria", None, None, True))
    (maria,) = [person for person in persons.everybody(settings) if person.name == "maria"]
    assert maria == Person("maria", "7", None, True, ("7", "mm@example.org", "os:maria"))


@pytest.mark.parametrize("role", [*database.ROLES, "a person"])
@pytest.mark.parametrize(
    "statement",
    [
        "insert into release.person (name, approver) values ('maria', true)",
        "insert into release.person_alias (alias, person) values ('os:maria', 'engineer')",
        "update release.person set approver = true",
        "update release.person_alias set person = 'reviewer'",
        "delete from release.person_alias",
        "select release.add_person('maria', null, null, true, true, true, '{}')",
        "select release.end_person('reviewer')",
    ],
)
def test_no_login_says_who_is_who(
    settings: Settings, own_login: Callable[..., Connection], role: Role, statement: str
) -> None:
    with (
        own_login("reviewer") if role == "a person" else database.connect(settings, role) as connection,  # type: ignore[comparison-overlap]
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement.encode())


def test_who_has_no_superuser_adds_nobody(settings: Settings) -> None:
    with pytest.raises(NotAvailable):
        persons.add(settings, Person("maria", None, None, True))


@pytest.mark.parametrize("name", [*LOOK_ALIKES, "", " ", "-", "nobody", "schedule", "auditor", "login:approver"])
def test_the_approver_names_persons_who_are_known_alone(ground: Ground, name: str) -> None:
    decision = ground.decide()
    assert ground.answer(decision, "approve", name) == "refused"
    with pytest.raises(Refused, match="no approval"):
        ground.promote(decision)
    assert ground.answer(decision, "approve", "reviewer") == "approve"
    (refused, _), approved = answers(ground, decision)
    assert refused == "refused"
    assert approved == ("approve", "reviewer")


@pytest.mark.parametrize(
    ("requester", "approver"),
    [
        ("engineer", "os:engineer"),
        ("os:engineer", "engineer"),
        ("os:engineer", "os:engineer"),
        ("maria", "7"),
        ("7", "os:mm"),
        ("os:mm", "maria"),
    ],
)
def test_one_person_is_one_under_every_name(
    ground: Ground, administration: Settings, requester: str, approver: str
) -> None:
    decision = asked_for(ground, requester)
    # Who is who may be written down after the run was asked for.
    persons.add(administration, Person("maria", "7", None, True, ("os:mm",)))
    assert ground.answer(decision, "approve", approver) == "refused"
    with pytest.raises(Refused, match="no approval"):
        ground.promote(decision)


@pytest.mark.parametrize("requester", ["Engineer", "engineer ", "nobody", FULLWIDTH, "os: x", "OS:root", ""])
def test_a_requester_who_is_not_known_could_be_anybody(ground: Ground, requester: str) -> None:
    decision = asked_for(ground, requester)
    for person in ("engineer", "reviewer", "second"):
        assert ground.answer(decision, "approve", person) == "refused"


@pytest.mark.parametrize("requester", ["schedule", "os:root", "os:nobody-mapped"])
def test_what_no_person_asked_for_any_approver_may_approve(ground: Ground, requester: str) -> None:
    assert ground.answer(asked_for(ground, requester), "approve", "engineer") == "approve"


@pytest.mark.parametrize("reason", [None, "", "  \n"])
@pytest.mark.parametrize("person", ["reviewer", "engineer", "os:engineer", "auditor", CYRILLIC, None])
def test_a_rejection_is_recorded_whoever_it_is_from_and_without_a_reason(
    ground: Ground, person: str | None, reason: str | None
) -> None:
    decision = ground.decide()
    with database.connect(ground.settings, "approver") as connection:
        (row,) = database.call(connection, "release.answer", decision, "reject", person, reason)
    assert row["answer"] == "reject"
    with pytest.raises(Refused, match="no approval"):
        ground.promote(decision)


def test_who_left_approves_nothing_more(ground: Ground, administration: Settings) -> None:
    decision = ground.decide()
    persons.end(administration, "reviewer")
    assert ground.answer(decision, "approve", "reviewer") == "refused"
    with pytest.raises(BadInput, match="no person is called"):
        persons.end(administration, "reviewer")


def test_who_may_be_asked(ground: Ground, administration: Settings) -> None:
    def eligible(decision: int) -> list[Any]:
        with database.connect(ground.settings, "approver") as connection:
            return [row["name"] for row in database.call(connection, "release.eligible", decision)]

    assert eligible(ground.decide()) == ["reviewer", "second"]
    assert eligible(asked_for(ground, "os:engineer")) == ["reviewer", "second"]
    assert eligible(asked_for(ground, "os:root")) == ["engineer", "reviewer", "second"]
    assert eligible(asked_for(ground, "Engineer")) == []
    assert eligible(ground.decide(FAILED)) == []
    persons.end(administration, "second")
    assert eligible(ground.decide()) == ["reviewer"]


def test_no_row_names_who_may_not_approve_whoever_writes_it(ground: Ground, attacker: psycopg.Connection[Any]) -> None:
    decision = asked_for(ground, "os:engineer")
    for person in ("engineer", "os:engineer", "auditor", CYRILLIC):
        with pytest.raises(psycopg.Error) as caught:
            attacker.execute(
                "insert into release.approval (decision_id, answer, person, reason) values (%s, 'approve', %s, 'x')",
                [decision, person],
            )
        assert caught.value.sqlstate == "NS020"


@pytest.fixture
def own_login(own_settings: Callable[..., Settings]) -> Callable[..., Connection]:
    """A function that returns a connection by a person's own login, or by a login of nobody who is known."""

    def connect(name: str, known: bool = True) -> Connection:
        return database.open_connection(str(own_settings(name, known).database_url), "test")

    return connect


def test_a_login_of_ones_own_answers_in_its_own_name(ground: Ground, own_login: Callable[..., Connection]) -> None:
    decision = ground.decide()
    with own_login("engineer") as engineer, own_login("reviewer") as reviewer:
        for person in ("reviewer", "second", CYRILLIC, "", "os:reviewer"):
            with pytest.raises(Refused, match="in its own name alone"):
                database.call(engineer, "release.answer", decision, "approve", person, "x")
        with pytest.raises(Refused, match="in its own name alone"):
            database.call(reviewer, "release.answer", decision, "timeout", None, "x")
        assert answers(ground, decision) == []
        (row,) = database.call(engineer, "release.answer", decision, "approve", None, "mine is good")
        assert row["answer"] == "refused"
        with pytest.raises(BadInput, match="there is no decision"):
            database.call(reviewer, "release.answer", decision, "approve", None, "x", "other")
        (row,) = database.call(reviewer, "release.answer", decision, "approve", "reviewer", "sound", "demo")
        assert row["answer"] == "approve"
    assert answers(ground, decision) == [("refused", "engineer"), ("approve", "reviewer")]


def test_a_login_that_is_no_persons_approves_nothing_and_may_reject(
    ground: Ground, own_login: Callable[..., Connection]
) -> None:
    decision = ground.decide()
    with own_login("stranger", known=False) as stranger:
        for person in (None, "reviewer"):
            if person is None:
                (row,) = database.call(stranger, "release.answer", decision, "approve", person, "x")
                assert row["answer"] == "refused"
            else:
                with pytest.raises(Refused, match="in its own name alone"):
                    database.call(stranger, "release.answer", decision, "approve", person, "x")
        (row,) = database.call(stranger, "release.answer", decision, "reject", None, None)
        assert row["answer"] == "reject"


@pytest.mark.parametrize(
    "statement",
    [
        "select lineage.promote(1)",
        "insert into release.approval (decision_id, answer, person, reason) values (1, 'approve', 'reviewer', 'x')",
        "insert into release.waiver (decision_id, check_name, person, reason) values (1, 'x', 'x', 'x')",
        "select release.supersede(1)",
        "set role approver",
        "set role approvers",
        "set role nightshift_owner",
        "set session authorization approver",
        "select content from catalog.example",
        "select body from rag.chunk",
    ],
)
def test_a_login_of_ones_own_does_nothing_else(own_login: Callable[..., Connection], statement: str) -> None:
    with own_login("reviewer") as reviewer, pytest.raises(psycopg.errors.InsufficientPrivilege):
        reviewer.execute(statement.encode())


@pytest.mark.parametrize("login", ["pipeline", "approver", "trainer", "postgres", "nightshift_owner", "approvers"])
def test_a_workers_login_or_the_superusers_is_no_persons(attacker: psycopg.Connection[Any], login: str) -> None:
    with pytest.raises(psycopg.Error) as caught:
        attacker.execute("insert into release.person (name, login, approver) values ('maria', %s, true)", [login])
    assert caught.value.sqlstate == "NS025"


def test_who_is_who_is_audited(administration: Settings, attacker: psycopg.Connection[Any]) -> None:
    persons.add(administration, Person("maria", "7", None, True, ("os:maria",)))
    rows = attacker.execute(
        "select object, key ->> 'alias' from audit.event where 'maria' in (key ->> 'name', key ->> 'person')"
    ).fetchall()
    assert sorted(rows, key=str) == [
        ("release.person", None), *(("release.person_alias", alias) for alias in ("7", "maria", "os:maria"))
    ]  # fmt: skip
