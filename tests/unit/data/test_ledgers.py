"""Ledgers: a row that was measured before is not measured again, and the ledger is the same as if it were."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.data import ledgers, measuring, reading
from pipeline.data.formats import Reading
from pipeline.data.ledgers import Ledger
from pipeline.data.lengths import Basis, Unmeasured
from pipeline.data.measuring import Task
from pipeline.data.snapshots import Source, Writer
from pipeline.data.tombstones import Tombstones
from pipeline.settings import ROOT, Settings
from pipeline.steps import environment
from pipeline.tokenizer import TokenizerFiles
from pipeline.usecase import Checks

pytestmark = pytest.mark.unit

NONE = Tombstones(b"key", "demo", frozenset())
UNMEASURED = Unmeasured("there is no base model")
WORDS = "the limit for a card that was lost abroad is ten euros a day and nobody pays it twice"


def row(number: int) -> str:
    """Returns a row; those of numbers with the same tens are near to each other."""
    answer = " ".join([WORDS, *[f"case {number // 10}"] * 3, f"{number}"])
    return json.dumps({"prompt": f"Is it allowed in case {number // 10}?", "completion": answer, "documents": ["d"]})


def task(folder: Path, name: str, lines: Sequence[str]) -> Task:
    """Returns a snapshot of a file with these lines, to be measured."""
    source = Source("f.jsonl", "", "f.jsonl", "prompt_completion", None, "sft", Reading("sft", "prompt_completion"))
    path = folder / name
    with path.open("wb") as target:
        rows = reading.raw(io.BytesIO("\n".join(["", *lines]).encode()), "f.jsonl") if lines else ()
        Writer(target, NONE, Checks(), frozenset()).write(0, source, rows)
    tiny = Basis(TokenizerFiles("tiny", ROOT / "models" / "tiny", "0" * 64), {"sft": 64}, ["other.jsonl"])
    return Task(path, [source], Checks(), NONE, Settings(folder, folder, str(folder), folder), tiny)


def taken(folder: Path, name: str, lines: Sequence[str], earlier: Ledger | None = None) -> Ledger:
    """Returns the ledger of these lines."""
    return ledgers.take(task(folder, name, lines), earlier, folder)


LINES = st.lists(st.one_of(st.integers(0, 39).map(row), st.sampled_from(["{broken", '{"prompt": 1}'])), max_size=12)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(LINES, LINES)
def test_what_is_taken_from_an_earlier_ledger_is_what_would_be_measured(
    tmp_path: Path, before: list[str], after: list[str]
) -> None:
    if not all(each.startswith('{"prompt": "') for each in (*before[:1], *after[:1])):
        before, after = [row(0), *before], [row(0), *after]
    fresh = taken(tmp_path, "after", after)
    again = taken(tmp_path, "after", after, taken(tmp_path, "before", before))
    assert again.rows.to_pylist() == fresh.rows.to_pylist()
    together = {frozenset(pair.values()) for pair in fresh.pairs.to_pylist()}
    assert {frozenset(pair.values()) for pair in again.pairs.to_pylist()} == together


def test_only_what_is_new_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = taken(tmp_path, "before", [row(number) for number in range(0, 200, 10)])
    measured: list[int] = []
    measure = measuring.measure

    def counted(task: Task, offsets: Sequence[int], scratch: Path) -> object:
        measured.append(len(offsets))
        return measure(task, offsets, scratch)

    monkeypatch.setattr(measuring, "measure", counted)
    changed = [row(number) for number in (500, *range(190, 20, -10), 510)]
    ledger = taken(tmp_path, "after", changed, earlier)
    assert measured == [2]
    assert ledger.rows["line"].to_pylist() == list(range(2, 21))


def test_processes_measure_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [row(number) for number in range(30)] + ["{broken"]
    alone = taken(tmp_path, "rows", lines)
    monkeypatch.setattr(measuring, "_WORTH_A_PROCESS", 5)
    monkeypatch.setattr(environment, "cores", lambda: 3)
    together = taken(tmp_path, "rows", lines)
    assert together.rows.to_pylist() == alone.rows.to_pylist()
    assert together.pairs.to_pylist() == alone.pairs.to_pylist()
    assert min(together.rows["tokens"].drop_null().to_pylist()) > 20
    assert not list(tmp_path.glob("*.arrow"))


def test_a_process_that_fails_is_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = task(tmp_path, "rows", [row(number) for number in range(30)])
    monkeypatch.setattr(measuring, "_WORTH_A_PROCESS", 5)
    monkeypatch.setattr(environment, "cores", lambda: 2)
    with pytest.raises(RuntimeError, match="a process that measured rows ended with 1"):
        measuring.measure(whole, [0, *[10**9] * 20], tmp_path)
    assert not list(tmp_path.glob("*.arrow"))


def test_the_key_says_what_measures_depend_on() -> None:
    erased = Tombstones(b"key", "demo", frozenset({"0" * 64}))
    keys = {
        ledgers.key(checks, marks, UNMEASURED)
        for checks in (Checks(), Checks(personal_data="off"))
        for marks in (NONE, erased)
    }
    assert len(keys) == 4
    assert ledgers.key(Checks(), NONE, UNMEASURED) in keys


def test_a_row_that_nearly_asks_what_is_asked_is_contaminated(tmp_path: Path) -> None:
    asked = (
        "Who may open the vault on the second floor after nine in the evening, and with whose key is it locked again?"
    )
    talk = [
        {"role": "user", "content": "Good evening"},
        {"role": "assistant", "content": "Good evening to you."},
        {"role": "user", "content": f"Passage\n\nQuestion: {asked.replace('again', 'then')}"},
        {"role": "assistant", "content": "The guard."},
    ]
    source = Source("f.jsonl", "", "f.jsonl", "messages", None, "sft", Reading("sft", "messages"))
    rows = [{"messages": talk}, {"messages": talk[:2]}, {"messages": "?"}, {"messages": talk[2:]}]
    path = tmp_path / "rows.txt"
    with path.open("wb") as target:
        lines = "\n".join(map(json.dumps, rows)).encode()
        Writer(target, NONE, Checks(), frozenset()).write(0, source, reading.raw(io.BytesIO(lines), "f.jsonl"))
    whole = Task(path, [source], Checks(), NONE, Settings(tmp_path, tmp_path, str(tmp_path), tmp_path), None)
    ledger = ledgers.take(whole, None, tmp_path)
    assert ledgers.contaminated(whole, ledger.rows, [asked]) == {0, 3}
    assert ledgers.contaminated(whole, ledger.rows, ["Which form is it?", ""]) == set()
    assert ledgers.contaminated(whole, ledger.rows, []) == set()
