"""What rows ask for is read from how their questions begin, and is never a word of their own."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data import tasks

pytestmark = pytest.mark.unit

KNOWN = {*tasks._VERBS, *tasks._QUESTIONS, tasks.YES_OR_NO, tasks.OTHER}


@pytest.mark.parametrize(
    ("question", "task"),
    [
        ("How much may be spent on a hotel?", "how"),
        ("Hi, what's the limit?", "what"),
        ("May I take a taxi?", "is it so"),
        ("Is it allowed in case 1?", "is it so"),
        ("Are gifts fine? Explain.", "is it so"),
        ("Do I have to sign?", "is it so"),
        ("So, does it apply to me?", "is it so"),
        ("Now, your job is to list them.", "list"),
        ("Can I pay in cash?", "is it so"),
        ("Could you please explain the rule?", "explain"),
        ("Can you tell me who signs?", "give"),
        ("Please summarize this text: how are you?", "summarise"),
        ("The weather is nice. Write a poem about it.", "write"),
        ("I want you to act as a doctor.", "imagine"),
        ("Your task is to translate the sentence.", "translate"),
        ("As a manager, in which cases must I sign?", "which"),
        ("LIST three colours", "list"),
        ("Was ist eine Frist?", "what"),
        ("Was it late?", "is it so"),
        ("Wie hoch ist die Grenze?", "how"),
        ("Erkläre mir die Regel.", "explain"),
        ("Bitte fasse den Text zusammen.", "summarise"),
        ("Darf man das?", "is it so"),
        ("Hotel limit Berlin", "other"),
        ("", "other"),
        ("?!", "other"),
    ],
)
def test_the_verb_or_the_question_word_says_it(question: str, task: str) -> None:
    assert tasks.task_of(question) == task


@given(st.text())
def test_whatever_is_asked_the_answer_is_a_word_of_the_list(question: str) -> None:
    assert tasks.task_of(question) in KNOWN


def test_no_word_asks_for_two_things() -> None:
    words = [word for table in (tasks._VERBS, tasks._QUESTIONS) for known in table.values() for word in known]
    assert len(words) == len(set(words))


def test_most_instructions_of_a_public_set_are_known() -> None:
    file = Path(__file__).parents[4] / "shared" / "data" / "alpaca_en_demo.json"
    if not file.exists():
        pytest.skip("the public data is not beside this folder")
    counted = Counter(tasks.task_of(row["instruction"]) for row in json.loads(file.read_text()))
    assert counted[tasks.OTHER] < 0.06 * counted.total()
