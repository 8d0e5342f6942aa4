"""Signing data: what is new in a version is trained on once its data owner and its privacy reviewer have signed it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psycopg
import pytest
import yaml

from pipeline import data, database, datasets, steps
from pipeline.context import Context
from pipeline.data import erasure, signoff
from pipeline.data.impact import Target
from pipeline.data.signoff import Role
from pipeline.errors import BadInput, Refused
from pipeline.operations import cookbook
from pipeline.people import persons
from pipeline.people.persons import Person
from pipeline.settings import Settings
from pipeline.steps import Attempt, Origin, Output, Result, Step
from tests.pg.data.conftest import Stage, question

pytestmark = pytest.mark.pg


@pytest.fixture
def house(stage: Stage) -> Stage:
    """The stage over a use case of high risk, whose commits its engineer asks for."""
    path = stage.folder / "usecase.yaml"
    examples = [{"path": "sft.jsonl", "kind": "sft", "licence": "own | words", "owner": "desk"}]
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"risk_tier": "high", "examples": examples}))
    return replace(stage, origin=Origin("cli", "engineer"))


def sign(house: Stage, version: int, role: Role, person: str = "reviewer", choice: signoff.Choice = "approve") -> str:
    """Returns a person's answer as it counts."""
    given = signoff.answer(house.settings, house.usecase, version, role, choice, "I read a sample", person)
    return given.answer


def waiting(house: Stage) -> dict[str, int]:
    """Returns how much each role has still to sign of the newest version."""
    found = signoff.standing(house.settings, house.usecase)
    return {each.role: each.open_items for each in found.roles if each.answer == "waiting"}


def trained_on(house: Stage) -> tuple[int, int | None]:
    """Returns the version that a night takes, and a newer one that nobody has signed."""
    with database.connect(house.settings, "trainer") as connection:
        taken = datasets.newest_signed(connection, "demo")
    assert taken is not None
    return taken.number, taken.waiting


def rows(count: int, start: int = 0, **more: Any) -> list[dict[str, Any]]:
    return [question(n, **more) for n in range(start, start + count)]


def test_nothing_is_trained_on_before_what_is_new_is_signed(house: Stage) -> None:
    house.put(rows(20) + rows(3, 50, data_subject="customer-9"))
    house.commit()
    assert waiting(house) == {"data_owner": 1, "privacy_reviewer": 3}
    with pytest.raises(Refused, match="no dataset version of demo is signed"):
        trained_on(house)
    assert sign(house, 1, "data_owner") == "approve"
    with pytest.raises(Refused, match="privacy reviewer"):
        trained_on(house)
    assert sign(house, 1, "privacy_reviewer") == "approve"
    assert trained_on(house) == (1, None)


def test_what_was_signed_once_is_not_asked_again_and_the_night_goes_on_with_it_meanwhile(house: Stage) -> None:
    first = rows(20) + rows(3, 50, data_subject="customer-9")
    house.put(first)
    house.commit()
    sign(house, 1, "data_owner")
    sign(house, 1, "privacy_reviewer")
    house.put([*first, *rows(5, 100)])
    house.commit()
    assert (waiting(house), trained_on(house)) == ({}, (2, None)), "rows about nobody from a source that is signed"
    house.put([*first, *rows(5, 100), *rows(2, 200, data_subject="customer-10")])
    house.commit()
    assert (waiting(house), trained_on(house)) == ({"privacy_reviewer": 2}, (2, 3))
    house.put(first[:20])
    house.commit()
    assert (waiting(house), trained_on(house)) == ({}, (4, None)), "what goes needs nobody's signature"
    house.put(first)
    house.commit()
    assert (waiting(house), trained_on(house)) == ({}, (5, None)), "it came back, and was signed before"


def test_rows_with_personal_data_that_were_taken_in_are_signed_too(house: Stage) -> None:
    house.put([*rows(20), question(77, "Write to maria.schneider@mail.example, she knows.")])
    house.commit()
    sign(house, 1, "data_owner")
    assert trained_on(house) == (1, None)
    (finding,) = data.waiting(house.settings, house.usecase)
    data.accept(house.settings, house.usecase, [finding.finding], "reviewer", "she agreed in writing")
    house.commit()
    assert waiting(house) == {"privacy_reviewer": 1}
    sign(house, 2, "privacy_reviewer")
    assert trained_on(house) == (2, None)


def test_a_rejected_version_is_never_trained_on_and_a_later_one_asks_anew(house: Stage) -> None:
    house.put(rows(20))
    house.commit()
    assert sign(house, 1, "data_owner", choice="reject") == "reject"
    with pytest.raises(Refused, match="no dataset version"):
        trained_on(house)
    with pytest.raises(Refused, match="reject"):
        sign(house, 1, "data_owner")
    house.put(rows(21))
    house.commit()
    assert waiting(house) == {"data_owner": 1}
    sign(house, 2, "data_owner")
    assert trained_on(house) == (2, None)


@pytest.mark.parametrize(
    ("person", "role", "reason"),
    [
        ("engineer", "data_owner", "engineer is no data owner"),
        ("second", "privacy_reviewer", "second is no privacy reviewer"),
        ("oncall", "data_owner", "oncall is no data owner"),
        ("nobody-known", "data_owner", "unknown:nobody-known is no person who is known here"),
    ],
)
@pytest.mark.parametrize("choice", ["approve", "reject"])
def test_who_may_not_sign_does_not(house: Stage, person: str, role: Role, reason: str, choice: signoff.Choice) -> None:
    house.put(rows(20) + rows(1, 50, data_subject="customer-9"))
    house.commit()
    given = signoff.answer(house.settings, house.usecase, 1, role, choice, "because", person)
    assert (given.answer, given.reason) == ("refused", reason)
    assert waiting(house) == {"data_owner": 1, "privacy_reviewer": 1}


def test_who_committed_a_version_does_not_sign_it(house: Stage, administration: Settings) -> None:
    persons.add(administration, Person("engineer", "engineer", None, True, (), False, True, True))
    house.commit()
    given = signoff.answer(house.settings, house.usecase, 1, "data_owner", "approve", "mine", "engineer")
    assert (given.answer, given.reason) == ("refused", "engineer committed this version and cannot sign it")
    question = signoff.ask(house.settings, house.usecase, 1, "data_owner")
    assert question is not None
    assert set(question.eligible) == {"reviewer"}


def test_a_commit_by_somebody_who_is_not_known_is_signed_by_nobody(house: Stage) -> None:
    stranger = replace(house, origin=Origin("cli", "tester"))
    stranger.commit()
    assert sign(stranger, 1, "data_owner") == "refused"
    with pytest.raises(Refused, match="nobody may sign version 1 of demo as data owner"):
        signoff.ask(stranger.settings, stranger.usecase, 1, "data_owner")


def test_the_clock_s_commit_is_signed_by_whoever_has_the_role(house: Stage) -> None:
    replace(house, origin=Origin("airflow", "schedule")).commit()
    assert sign(house, 1, "data_owner") == "approve"


def test_a_person_signs_by_his_own_login_and_in_no_other_name(
    house: Stage, own_settings: Callable[..., Settings], administration: Settings
) -> None:
    house.commit()
    own = own_settings("maria")
    with database.open_connection(str(own.database_url), "test") as connection:

        def answer(person: str | None = None) -> str:
            where = (house.settings, house.usecase, 1)
            return signoff.answer(*where, "data_owner", "approve", "read it", person, own=connection).answer

        assert answer() == "refused"
        persons.add(administration, Person("maria", None, None, True, (), False, True, False))
        with pytest.raises(Refused, match="in its own name alone"):
            answer("reviewer")
        assert answer() == "approve"
    (row,) = house.rows("select person, login from catalog.signoff_answers where answer = 'approve'")
    assert row["person"] == "maria"
    assert row["login"].startswith("maria_")


def test_no_worker_signs(house: Stage) -> None:
    house.commit()
    roles: tuple[database.Role, ...] = (
        "pipeline",
        "trainer",
        "evaluator",
        "gatekeeper",
        "reader",
        "auditor",
        "retriever",
    )
    for role in roles:
        with database.connect(house.settings, role) as connection:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("select catalog.answer_signoff('demo', 1, 'data_owner', 'approve', 'reviewer', 'x')")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(
                    "insert into catalog.signoff (dataset_id, version, role, answer, person, reason)"
                    " values (1, 1, 'data_owner', 'approve', 'reviewer', 'x')"
                )


def test_a_source_that_is_described_anew_is_signed_anew(house: Stage) -> None:
    house.put(rows(20))
    house.commit()
    sign(house, 1, "data_owner")
    path = house.folder / "usecase.yaml"
    path.write_text(path.read_text().replace("own | words", "bought for one year"))
    house.commit()
    assert (waiting(house), trained_on(house)) == ({"data_owner": 1}, (1, 2))


def test_the_question_shows_sources_and_counts_and_no_word_of_a_row(house: Stage) -> None:
    house.put(rows(20) + rows(3, 50, data_subject="customer-9"))
    house.commit()
    owner = signoff.ask(house.settings, house.usecase, 1, "data_owner")
    privacy = signoff.ask(house.settings, house.usecase, 1, "privacy_reviewer")
    assert owner is not None
    assert privacy is not None
    assert "| `sft.jsonl` | 23 | train, evaluate | own / words | desk | not given | not given |" in owner.body
    assert "**3 rows**" in privacy.body
    for body in (owner.body, privacy.body):
        assert "customer-9" not in body
        assert "case 50" not in body
    sign(house, 1, "data_owner")
    assert signoff.ask(house.settings, house.usecase, 1, "data_owner") is None


def test_a_version_that_says_nothing_of_its_sources_is_not_trained_on_where_data_is_signed(house: Stage) -> None:
    house.commit()
    with database.connect(house.settings, "pipeline") as connection:
        connection.execute(
            "insert into catalog.dataset_version (dataset_id, version, digest, artifact_version_id, counts)"
            " select dataset_id, 2, digest, artifact_version_id, counts from catalog.dataset_version"
            " join catalog.dataset using (dataset_id) where kind = 'examples'"
        )
    sign(house, 1, "data_owner")
    assert (waiting(house), trained_on(house)) == ({"data_owner": 1}, (1, 2))
    with pytest.raises(Refused, match="does not say what it was taken from"):
        sign(house, 2, "data_owner")


@pytest.mark.parametrize("version", [0, 2, 99])
def test_a_version_that_is_not_there_is_named(house: Stage, version: int) -> None:
    house.commit()
    with pytest.raises(BadInput, match="no such version"):
        signoff.standing(house.settings, house.usecase, version)
    with pytest.raises(BadInput, match=f"no version {version}"):
        sign(house, version, "data_owner")


def test_an_approval_has_a_reason(house: Stage) -> None:
    house.commit()
    with pytest.raises(BadInput, match="needs a reason"):
        signoff.answer(house.settings, house.usecase, 1, "data_owner", "approve", " ", "reviewer")


def test_what_is_erased_needs_no_signature_and_the_signature_stands(house: Stage) -> None:
    house.put(rows(20) + rows(3, 50, data_subject="customer-9"))
    house.commit()
    sign(house, 1, "data_owner")
    context = Context(house.settings, house.usecase, Origin("cli", "engineer"))
    asked = erasure.request(context, Target("subject", "customer-9"), "she asked for it")
    erasure.answer(house.settings, house.usecase, asked.erasure, "approve", "checked", "reviewer")
    erasure.erase(context, asked.erasure)
    house.commit()
    assert (waiting(house), trained_on(house)) == ({}, (2, None))


def test_the_gate_lets_no_model_through_that_was_trained_on_unsigned_data(house: Stage) -> None:
    house.put(rows(20))
    committed = house.commit()

    def work(attempt: Attempt) -> Result:
        return Result(
            {"adapter": Output.of(attempt.store.put("adapter", {"a.json": b"{}"}), "candidate", private=True)}
        )

    inputs = {"dataset": committed.dataset.artifact}
    step = Step("demo", "training.sft", "trainer", ("pipeline.canonical",), params={}, inputs=inputs)
    model = steps.run(house.settings, Origin("cli", "engineer"), step, work).outputs["adapter"].version_id

    def unsigned() -> int:
        (row,) = house.rows(f"select catalog.trained_unsigned({model}) as n")
        return int(row["n"])

    assert unsigned() == 1
    sign(house, 1, "data_owner")
    assert unsigned() == 0


def test_the_cookbook_lists_what_was_asked_and_answered(house: Stage) -> None:
    house.put(rows(20) + rows(1, 50, data_subject="customer-9"))
    house.commit()
    sign(house, 1, "data_owner")
    listed = cookbook.run(house.settings, "signoffs", {"use_case": "demo"})
    assert [(row["version"], row["role"], row["answer"], row["person"]) for row in listed] == [
        (1, "data_owner", "approve", "reviewer"),
        (1, "privacy_reviewer", "waiting", None),
    ]
