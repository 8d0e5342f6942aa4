"""Every command through its real entry point: twice in a row, with --json, of a foreign use case, with wrong arguments.

A command that is added to the app fails `test_every_command_is_listed` until it has its line here.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer

from pipeline.cli.commands import app
from pipeline.people import persons
from pipeline.people.persons import Person
from pipeline.settings import ROOT, Settings
from tests.conftest import nightshift

if TYPE_CHECKING:
    from tests.pg.conftest import World

pytestmark = pytest.mark.pg


@dataclass(frozen=True)
class Command:
    """How a command is called on the world, a use case with two nights behind it."""

    arguments: tuple[str, ...] = ()
    ends_with: tuple[int, int] = (0, 0)  # the first and the second call
    of_use_case: bool = False  # its first argument is the use case
    wrong: tuple[str, ...] = ("--no-such-option",)


DEMO = ("demo",)
FILE, PACKET, RUN, DIGEST = "{file}", "{packet}", "{run}", "{digest}"
# What is called here for what it says, not for what it does: the night by hand below does the work.
COMMANDS: Mapping[str, Command] = {
    "data check": Command((FILE, "--kind", "sft"), wrong=(FILE, "--kind", "kto")),
    "data commit": Command(DEMO, (1, 1), True),  # its file has one row of the nineteen, and that waits for a person
    "data accept": Command(DEMO, (0, 0), True, wrong=("demo", "one")),
    "data worklist": Command(DEMO, (1, 1), True),
    "data confirm": Command(DEMO, (0, 0), True, wrong=("demo", "one")),
    "data sign": Command(DEMO, (0, 0), True, wrong=("demo", "--role", "boss")),
    "data review": Command(DEMO, (1, 1), True, wrong=("demo", "--row", "1")),  # nobody is logged in
    "erase": Command(("demo", "--document", "leave", "--dry-run"), (0, 0), True, wrong=("demo",)),
    "data show": Command(("demo", "abcdef"), (1, 1), True),  # nobody is logged in
    "data versions": Command(DEMO, (0, 0), True),
    "data diff": Command(("demo", "0", "1"), (0, 0), True, wrong=("demo", "0", "one")),
    "train": Command(DEMO, (1, 1), True, wrong=("demo", "--stage", "rlhf")),
    "export": Command(("demo", "--model", "nothing"), (3, 3), True, wrong=("demo", "--format", "onnx")),
    "index sync": Command(DEMO, (0, 0), True),
    "index status": Command(DEMO, (0, 0), True),
    "search": Command(("demo", "leave", "--as", "clerk"), (0, 0), True, wrong=("demo", "leave")),
    "evaluate": Command(("demo", "--model", "nothing"), (3, 3), True),
    "gate": Command(DEMO, (2, 2), True),
    "promote": Command(("demo", "--decision", "999"), (2, 2), True, wrong=("demo",)),
    "rollback": Command(("demo", "--to", "1", "--why", "x"), (1, 1), True, wrong=("demo", "--to", "x")),
    "status": Command(DEMO, (1, 1), True),
    "lineage": Command((DIGEST,)),
    "explain": Command((RUN,)),
    "sql": Command(("in_production",), wrong=("in_production", "--param", "x")),
    "packet build": Command(DEMO, (0, 0), True, wrong=("demo", "--decision", "x")),
    "packet verify": Command((PACKET,)),
    "packet diff": Command((PACKET, PACKET), wrong=(PACKET,)),
    "login": Command(("engineer", "--server", "http://127.0.0.1:9"), (3, 3), wrong=()),
    "logout": Command(),
    "whoami": Command((), (1, 1)),
    "approve": Command(("demo", "--reason", "x"), (1, 1), True, wrong=("demo",)),
    "reject": Command(DEMO, (1, 1), True, wrong=("demo", "--decision", "x")),
    "person add": Command(("maria",), wrong=("Maria!",)),
    "person end": Command(("nobody",), (2, 2), wrong=()),
    "person list": Command(),
    "model list": Command(),
    "model pull": Command(("tiny",), wrong=("no-such-model",)),
    "model check": Command(("tiny",), wrong=()),
    "doctor": Command(),
    "db url": Command((), wrong=("--role", "root")),
    "db upgrade": Command(),
    "new usecase": Command(("fresh",), (0, 2), wrong=("Not A Name",)),
}
# They start or stop what the tests run on, or open a prompt. `up`, `down` and `demo` are what the e2e tier is made of.
ELSEWHERE = {"up", "down", "demo", "db psql"}
OF_USE_CASE = [name for name, command in COMMANDS.items() if command.of_use_case]


def names(group: Any, before: str = "") -> set[str]:
    """Returns the commands of a group, those of its groups under both names."""
    found = set()
    for name, command in group.commands.items():
        found |= names(command, f"{before}{name} ") if hasattr(command, "commands") else {f"{before}{name}"}
    return found


def test_every_command_is_listed() -> None:
    assert names(typer.main.get_command(app)) == COMMANDS.keys() | ELSEWHERE


@pytest.fixture
def called(
    world: "World", administration: Settings, usecase_folder: Callable[..., Path], tmp_path: Path
) -> Callable[[tuple[str, ...]], list[str]]:
    """A function that fills in what the arguments stand for."""
    principals = {"clerk": {"tenant": "acme", "groups": ["staff"], "clearance": "internal"}}
    folder = usecase_folder("demo", principals=principals)
    row = {"messages": [{"role": "user", "content": "Who asks?"}, {"role": "assistant", "content": "A test."}]}
    (folder / "sft.jsonl").write_text(json.dumps(row) + "\n")
    (folder / "documents" / "leave.md").write_text(
        "---\nid: leave\ntitle: Leave\ntenant: acme\nclassification: internal\ngroups: [staff]\n---\nLeave is free.\n"
    )
    usecase_folder("other", principals=principals)
    version = world.versions["night-1.sft.adapter"]

    def fill(arguments: tuple[str, ...]) -> list[str]:
        values = {FILE: str(folder / "sft.jsonl"), DIGEST: version.digest, RUN: str(world.runs["night-1.sft"].run_id)}
        if PACKET in arguments:
            values[PACKET] = nightshift(administration, "packet", "build", "demo")["path"]
        return [values.get(argument, argument) for argument in arguments]

    return fill


def plainly(settings: Settings, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Returns how a command ended without --json, as a person calls it."""
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", **settings.environment()}
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        env=environ,
        input="",
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_it_answers_twice_in_a_row(
    administration: Settings, called: Callable[[tuple[str, ...]], list[str]], name: str
) -> None:
    command = COMMANDS[name]
    arguments = [*name.split(), *called(command.arguments)]
    first, second = command.ends_with
    answer = nightshift(administration, *arguments, ends_with=first)
    assert isinstance(answer, dict)
    # A refusal is an error that says what to do; an answer that is no has the same form as one that is yes.
    assert "what" in answer["error"] if "error" in answer else answer
    done = plainly(administration, *arguments)
    assert done.returncode == second, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stdout or done.stderr.startswith("nightshift: ")


@pytest.mark.parametrize("name", OF_USE_CASE)
def test_a_use_case_that_does_not_exist_is_refused(
    administration: Settings, called: Callable[[tuple[str, ...]], list[str]], name: str
) -> None:
    arguments = called(COMMANDS[name].arguments)
    error = nightshift(administration, *name.split(), "demos", *arguments[1:], ends_with=2)["error"]
    assert error["what"] == "unknown use case"
    assert "did you mean demo?" in error["allowed"]


@pytest.mark.parametrize("name", COMMANDS)
def test_wrong_arguments_end_with_two_and_without_a_traceback(
    administration: Settings, called: Callable[[tuple[str, ...]], list[str]], name: str
) -> None:
    done = plainly(administration, *name.split(), *called(COMMANDS[name].wrong))
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "ends_with"),
    [
        (("promote", "other", "--decision", "{decision}"), 2),
        (("rollback", "other", "--to", "{deployment}", "--why", "x"), 2),
        (("approve", "other", "--decision", "{decision}", "--reason", "x"), 2),
        (("reject", "other", "--decision", "{decision}"), 2),
        (("packet", "build", "other", "--decision", "{decision}"), 2),
        (("lineage", "decision:{decision}", "--usecase", "other"), 2),
        (("lineage", "deployment:{deployment}", "--usecase", "other"), 2),
        (("explain", "{run}", "--usecase", "other"), 2),
    ],
    ids=["promote", "rollback", "approve", "reject", "packet", "lineage-decision", "lineage-deployment", "explain"],
)
def test_what_is_of_another_use_case_is_refused(
    world: "World",
    own_settings: Callable[..., Settings],
    called: Callable[[tuple[str, ...]], list[str]],
    arguments: tuple[str, ...],
    ends_with: int,
) -> None:
    values = {
        "decision": world.decisions["night-1"],
        "deployment": world.deployments["model"],
        "run": world.runs["night-1.sft"].run_id,
    }
    filled = called(tuple(argument.format(**values) for argument in arguments))
    error = nightshift(own_settings("engineer"), *filled, ends_with=ends_with)["error"]
    assert "other" in json.dumps(error)


def test_a_sample_is_read_row_by_row(
    administration: Settings, own_settings: Callable[..., Settings], usecase_folder: Callable[..., Path]
) -> None:
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"How long is pipe {n}?"},
                {"role": "assistant", "content": f"{n} m"},
            ]
        }
        for n in range(30)
    ]
    (usecase_folder("demo") / "sft.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    nightshift(administration, "data", "commit", "demo")
    maria = own_settings("maria")
    first = nightshift(maria, "data", "review", "demo", "--rows", "10", "--seed", "3", ends_with=1)
    assert (first["reader"], first["raters"], first["rows"]) == ("maria", [], 10)
    assert first["next"]["turns"][0]["content"].startswith("How long is pipe")
    say = ("data", "review", "demo", "--review", str(first["review"]), "--row")
    second = nightshift(maria, *say, "1", "--verdict", "bad", "--reason", "no unit is spelled out", ends_with=1)
    assert (second["next"]["place"], second["bad"][0]["reason"]) == (2, "no unit is spelled out")
    again = nightshift(maria, *say, "1", "--verdict", "good", ends_with=1)["error"]
    assert "maria has read row 1" in again["what"]
    assert nightshift(maria, *say, "2", "--verdict", "bad", ends_with=2)["error"]["where"] == "--reason"
    assert nightshift(maria, *say, "2", "--verdict", "a", ends_with=2)["error"]["allowed"] == "good, bad"
    assert nightshift(maria, *say[:-2], "99", ends_with=2)["error"]["what"] == "demo has no such review"
    assert nightshift(maria, "data", "review", "demo", "--rows", "9", ends_with=2)["error"]["where"] == "--rows"


def test_a_night_by_hand(
    administration: Settings, own_settings: Callable[..., Settings], usecase_folder: Callable[..., Path]
) -> None:
    """From a folder to a live model and back again, by commands alone, each of them twice."""
    folder = usecase_folder("demo")
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Question: how long is pipe {n}?"},
                {"role": "assistant", "content": f"Pipe {n} is {n * 3} metres long. [pipes]"},
            ]
        }
        for n in range(12)
    ]
    (folder / "sft.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = " ".join(f"Pipe {n} is {n * 3} metres long." for n in range(12))
    (folder / "documents" / "pipes.md").write_text(
        f"---\nid: pipes\ntitle: Pipes\ntenant: acme\nclassification: internal\ngroups: [staff]\n---\n{text}\n"
    )
    cases = [
        {
            "id": f"c{n}",
            "question": f"How long is pipe {n}?",
            "principal": "clerk",
            "expect": {"answerable": True, "value": f"{n * 3} metres", "source": "pipes"},
        }
        for n in range(4)
    ]
    (folder / "facts.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases))
    usecase_folder(
        "demo",
        principals={"clerk": {"tenant": "acme", "groups": ["staff"], "clearance": "internal"}},
        risk_tier="high",
        base_model={"path": str(ROOT / "models" / "tiny")},
        training={"sft": {"max_steps": 2, "batch_size": 2}, "dpo": {"enabled": False}},
        evaluation={"suites": [{"name": "facts", "path": "facts.jsonl"}], "max_new_tokens": 4},
        release={"thresholds": [{"metric": "refusal", "minimum": 0.0}], "min_cases": 1},
    )
    settings = own_settings("engineer")

    def twice(*arguments: str, ends_with: int = 0, again: int | None = None) -> tuple[Any, Any]:
        first = nightshift(administration, *arguments, ends_with=ends_with)
        return first, nightshift(administration, *arguments, ends_with=ends_with if again is None else again)

    first, second = twice("data", "commit", "demo")
    assert (first["dataset"]["changed"], second["dataset"]["changed"]) == (True, False)
    assert first["to_sign"] == second["to_sign"] == ["data_owner"]
    unsigned = nightshift(administration, "train", "demo", ends_with=1)["error"]
    assert "data sign demo" in unsigned["next"]
    asked = nightshift(administration, "data", "sign", "demo", ends_with=1)
    assert (asked["state"], asked["waiting"]) == ("waiting", ["data_owner"])
    owner = own_settings("maria")
    answer = ("data", "sign", "demo", "--role", "data_owner", "--reason", "own words")
    refused = nightshift(owner, *answer, ends_with=1)
    assert (refused["given"]["answer"], refused["given"]["reason"]) == ("refused", "maria is no data owner")
    persons.add(administration, Person("maria", None, None, True, (), False, True, False))
    signed = nightshift(owner, *answer)
    assert (signed["state"], signed["given"]["person"]) == ("signed", "maria")
    assert "needs no data owner" in nightshift(owner, *answer, ends_with=1)["error"]["what"]
    first, second = twice("index", "sync", "demo")
    assert (first["swapped"], second["unchanged"]) == (True, True)
    early = nightshift(administration, "gate", "demo", ends_with=3)["error"]
    assert "nightshift train demo" in early["next"], "and the policy is sealed before the training"
    trained = twice("train", "demo")
    assert (trained[0]["reused"], trained[1]["reused"]) == (False, True)
    assert trained[0]["digest"] == trained[1]["digest"]
    first, second = twice("evaluate", "demo")
    assert (first["reused"], second["reused"]) == (False, True)
    assert first["facts"]["pooled"] == second["facts"]["pooled"]
    first, second = twice("gate", "demo")
    assert (first["decision"], first["needs_person"]) == ("approve", True)
    assert second["superseded"] == [first["decision_id"]]
    waiting = nightshift(administration, "status", "demo", ends_with=1)
    assert str(second["decision_id"]) in json.dumps(waiting)
    decision = str(second["decision_id"])
    own = nightshift(settings, "approve", "demo", "--reason", "mine", "--decision", decision)
    assert own["answer"] == "approve", "whoever ran the commands is no person who is known, so the engineer is another"
    live = nightshift(settings, "promote", "demo", "--decision", decision)
    again = nightshift(settings, "promote", "demo", "--decision", decision)
    assert (live["already"], again["already"]) == (False, True)
    assert live["model"] == trained[0]["digest"]
    assert nightshift(administration, "status", "demo")["ok"]
    packet, same = twice("packet", "build", "demo")
    assert (packet["final"], packet["digest"]) == (True, same["digest"])
    assert nightshift(administration, "packet", "verify", packet["path"], "--online")["verified"]
    earlier = nightshift(settings, "rollback", "demo", "--why", "x", ends_with=2)["error"]["allowed"]
    assert "model none" in earlier[0]
