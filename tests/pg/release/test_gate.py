"""The gate against a real database: what it proves, and what it will not let through."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pipeline import canonical, prompt, release
from pipeline.artifacts import ArtifactStore
from pipeline.errors import BadInput, NotAvailable, Refused, Stale
from pipeline.records import plain
from pipeline.results import Subject
from pipeline.steps import Origin, Version

if TYPE_CHECKING:
    from tests.pg.release.conftest import House

pytestmark = pytest.mark.pg

ENGINEER = Origin("cli", "engineer")
Make = Callable[..., "House"]


def verdicts(gated: release.Gated) -> dict[str, str]:
    return {check["name"]: check["verdict"] for check in gated.checks}


def test_the_first_release_is_compared_with_the_base_model(house: "House") -> None:
    gated = house.night("one", right=50)
    assert gated.baseline == "base"
    assert gated.decision == "approve"
    assert not gated.needs_person
    assert set(verdicts(gated).values()) == {"pass"}
    (decision,) = house.rows("select * from release.decision where decision_id = %s", gated.decision_id)
    assert decision["login"] == "gatekeeper"
    assert str(decision["run_id"]) == str(gated.run)
    assert decision["evidence"]["report"] == gated.report.digest
    assert {"policy", "report", "evaluation.base", "evaluation.candidate"} == set(decision["evidence"])
    (compared,) = house.rows("select * from eval.comparison")
    assert (compared["metric"], compared["n"], compared["method"]) == ("correct", 60, "tango")
    assert compared["difference"] == pytest.approx(45 / 60)


def test_the_report_says_what_the_decision_says_and_no_text(house: "House") -> None:
    gated = house.night("one")
    report = gated.report
    content = ArtifactStore(house.settings.artifacts).read("gate_report", report.digest, "gate.json")
    told = json.loads(content)
    assert told["checks"] == gated.checks
    assert told["decision"] == "approve"
    assert canonical.digest(told["policy"]["content"]) == told["policy"]["digest"]
    everything = content.decode() + json.dumps(
        [str(gated), *house.rows("select facts, params from lineage.run")], default=str
    )
    assert "secret" not in everything


@pytest.mark.parametrize(
    ("right", "minimum", "margin"),
    [(50, "pass", "pass"), (34, "inconclusive", "fail"), (48, "pass", "inconclusive"), (10, "fail", "fail")],
)
def test_a_candidate_is_compared_with_the_champion(house: "House", right: int, minimum: str, margin: str) -> None:
    house.release("one", right=50)
    gated = house.night("two", right=right)
    assert gated.baseline == "champion"
    found = verdicts(gated)
    assert (found["correct.minimum"], found["correct.margin"]) == (minimum, margin)
    assert gated.decision == ("approve" if {minimum, margin} == {"pass"} else "block")


def test_too_few_cases_block(make_house: Make) -> None:
    gated = make_house(min_cases=61).night("one", right=60)
    assert verdicts(gated)["correct.minimum"] == "inconclusive"
    assert gated.decision == "block"


@pytest.mark.parametrize(
    ("readers", "expected"),
    [
        ({}, ["inconclusive"]),
        ({"maria": 60}, ["pass"]),
        ({"maria": 57}, ["inconclusive"]),
        ({"maria": 40}, ["fail"]),
        ({"ben": 60, "maria": 40}, ["pass", "fail"]),
    ],
)
def test_a_policy_may_ask_for_good_rows_in_a_sample_that_persons_read(
    make_house: Make, readers: dict[str, int], expected: list[str]
) -> None:
    house = make_house(min_good=0.9)
    sealed = release.seal(house.context(ENGINEER))
    adapter = house.adapter("one", house.dataset(60, readers))
    gated = release.gate(house.context(ENGINEER), sealed, adapter, house.evaluations(adapter, 50))
    found = [check for check in gated.checks if check["name"] == "data.read"]
    assert [check["verdict"] for check in found] == expected
    assert gated.decision == ("approve" if expected == ["pass"] else "block")
    if readers == {"maria": 60}:
        assert (found[0]["reader"], found[0]["dataset_version"], found[0]["n"]) == ("maria", 1, 60)


def test_thresholds_sealed_after_the_model_existed_need_a_person(house: "House") -> None:
    adapter = house.adapter("one")
    found = house.evaluations(adapter, 50)
    sealed = release.seal(house.context())
    gated = release.gate(house.context(), sealed, adapter, found)
    check = gated.checks[0]
    assert (check["name"], check["verdict"]) == ("policy.sealed", "condition")
    assert check["trained_at"] < check["sealed_at"]
    assert gated.decision == "approve_with_conditions"
    assert gated.needs_person


def test_training_the_same_weights_again_does_not_launder_a_late_seal(make_house: Make) -> None:
    blocked = make_house(thresholds=[{"metric": "correct", "minimum": 0.9}]).night("one", right=50)
    assert blocked.decision == "block"
    again = make_house(thresholds=[{"metric": "correct", "minimum": 0.5}]).night("one", right=50)
    assert verdicts(again)["policy.sealed"] == "condition"
    check = again.checks[0]
    assert check["trained_at"] < check["sealed_at"] < check["trained_again_at"]
    assert again.needs_person


def test_a_policy_is_sealed_once_and_every_sealing_is_kept(house: "House") -> None:
    first = release.seal(house.context())
    again = release.seal(house.context())
    assert again.policy_id == first.policy_id
    assert len(house.rows("select from release.sealing")) == 2
    assert canonical.digest(plain(first.content)) == first.digest


def test_a_policy_chosen_out_of_several_is_not_the_one_in_force(make_house: Make) -> None:
    easy = make_house(thresholds=[{"metric": "correct", "minimum": 0.1}])
    sealed = release.seal(easy.context())
    hard = make_house(thresholds=[{"metric": "correct", "minimum": 0.9}])
    release.seal(hard.context())
    adapter = hard.adapter("one")
    found = hard.evaluations(adapter, 50)
    gated = release.gate(hard.context(), sealed, adapter, found)
    assert verdicts(gated)["policy.sealed"] == "fail"
    assert gated.decision == "block"


def test_the_sealed_thresholds_count_and_not_those_of_the_yaml(make_house: Make) -> None:
    house = make_house(thresholds=[{"metric": "correct", "minimum": 0.9}])
    sealed = release.seal(house.context())
    adapter = house.adapter("one")
    found = house.evaluations(adapter, 50)
    loosened = make_house(thresholds=[{"metric": "correct", "minimum": 0.1}])
    gated = release.gate(loosened.context(), sealed, adapter, found)
    assert gated.decision == "block"


def test_other_cases_than_the_sealed_ones_block(house: "House") -> None:
    sealed = release.seal(house.context())
    adapter = house.adapter("one")
    house.usecase.evaluation.suites[0].path.write_text("easier cases")
    gated = release.gate(house.context(), sealed, adapter, house.evaluations(adapter, 50))
    assert verdicts(gated)["evidence.suites"] == "fail"
    assert gated.decision == "block"


@pytest.mark.parametrize("changed", ["prompt", "refusals", "sentences"])
def test_another_prompt_or_form_of_answers_than_the_sealed_one_blocks(house: "House", changed: str) -> None:
    sealed = release.seal(house.context())
    adapter = house.adapter("one")
    if changed == "prompt":
        easier = house.usecase.evaluation.suites[0].path.with_name("prompt.md.j2")
        easier.write_text(prompt.DEFAULT.read_text() + "{# hint #}")
        house.usecase = house.usecase.model_copy(update={"prompt": easier})
    else:
        (suite,) = house.usecase.evaluation.suites
        other = suite.model_copy(update={"refusals": ("no",)} if changed == "refusals" else {"sentences": 9})
        evaluation = house.usecase.evaluation.model_copy(update={"suites": (other,)})
        house.usecase = house.usecase.model_copy(update={"evaluation": evaluation})
    gated = release.gate(house.context(), sealed, adapter, house.evaluations(adapter, 50))
    assert verdicts(gated)["evidence.suites"] == "fail"
    assert gated.decision == "block"
    assert release.seal(house.context()).digest != sealed.digest


def test_the_pair_that_was_evaluated_is_the_pair_that_goes_live(house: "House") -> None:
    house.index("first")
    sealed = release.seal(house.context())
    adapter = house.adapter("one")
    found = house.evaluations(adapter, 50)
    gated = release.gate(house.context(), sealed, adapter, found)
    assert verdicts(gated)["evidence.index"] == "pass"
    assert {check.get("suites", {}).get("facts", {}).get("n") for check in gated.checks[-2:]} == {60}
    house.index("second")
    late = release.gate(house.context(), sealed, adapter, found)
    assert verdicts(late)["evidence.index"] == "inconclusive"
    assert late.decision == "block"


def test_evaluations_of_other_models_are_refused(house: "House") -> None:
    sealed = release.seal(house.context())
    one, two = house.adapter("one"), house.adapter("two")
    found = house.evaluations(one, 50)
    with pytest.raises(BadInput, match="another model"):
        release.gate(house.context(), sealed, two, found)
    with pytest.raises(BadInput, match="missing"):
        release.gate(house.context(), sealed, one, {"candidate": found["candidate"]})
    other: dict[Subject, Version] = found | {"base": house.evaluate("base", None, 5, max_new_tokens=7)}
    with pytest.raises(BadInput, match="not evaluated alike"):
        release.gate(house.context(), sealed, one, other)
    assert house.rows("select from release.decision") == []


def test_a_champion_that_changed_meanwhile_has_to_be_evaluated_again(house: "House") -> None:
    house.release("one")
    sealed = release.seal(house.context())
    adapter = house.adapter("three")
    found = house.evaluations(adapter, 50)
    house.release("two", right=55)
    with pytest.raises(Stale, match="another model went live"):
        release.gate(house.context(), sealed, adapter, found)


@pytest.mark.parametrize("damage", ["alter", "delete"])
def test_evidence_that_was_altered_is_no_evidence(house: "House", damage: str) -> None:
    sealed = release.seal(house.context())
    adapter = house.adapter("one")
    found = house.evaluations(adapter, 5)
    digest = found["candidate"].digest
    file = Path(house.settings.artifacts) / "evaluation" / digest[:2] / digest / "evaluation.json"
    if damage == "alter":
        file.write_text(file.read_text().replace("0.0", "1.0"))
    else:
        (file.parent / "manifest.json").unlink()
    with pytest.raises((Refused, NotAvailable)):
        release.gate(house.context(), sealed, adapter, found)


def test_a_policy_that_was_altered_in_the_database_is_refused(house: "House", attacker: Any) -> None:
    sealed = release.seal(house.context())
    adapter = house.adapter("one")
    found = house.evaluations(adapter, 5)
    attacker.execute("update release.policy set content = jsonb_set(content, '{thresholds,0,minimum}', '0.01')")
    with pytest.raises(Refused, match="does not give its digest"):
        release.gate(house.context(), sealed, adapter, found)


def test_the_gate_decides_anew_each_time_and_the_newer_decision_supersedes(strict: "House") -> None:
    first = strict.night("one")
    second = strict.night("two")
    assert first.needs_person
    assert second.superseded == [first.decision_id]
    blocked = strict.night("three", right=3)
    assert blocked.superseded == []
    assert [row.decision_id for row in release.waiting(strict.settings, strict.usecase)] == [second.decision_id]


def test_a_model_that_was_rolled_back_needs_a_person(house: "House") -> None:
    first = house.release("one", right=50)
    house.release("two", right=55)
    release.rollback(house.settings, house.usecase, first.deployment_id, "oncall", "complaints")
    again = house.night("two", right=55)
    assert verdicts(again)["registry.rolled_back"] == "condition"
    assert again.decision == "approve_with_conditions"
    assert again.needs_person


@pytest.mark.parametrize(("right", "begins"), [(50, "approved"), (5, "blocked: correct.minimum fail (0.08 [")])
def test_the_log_begins_with_what_came_of_it_and_shows_the_table(
    house: "House", caplog: pytest.LogCaptureFixture, right: int, begins: str
) -> None:
    caplog.set_level(logging.INFO, "pipeline.release.gate")
    gated = house.night("one", right)
    (message,) = [record.message for record in caplog.records if record.name == "pipeline.release.gate"]
    first, *table = message.splitlines()
    assert first == gated.message
    assert first.startswith(begins)
    assert all(any(check["name"] in line for line in table) for check in gated.checks)
    assert "\N{ESCAPE}" not in message
