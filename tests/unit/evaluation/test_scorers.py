"""Scorers, case by case, in the words of the house."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluation import scorers
from pipeline.evaluation.cases import Answer, Case, Expect, Reference
from pipeline.evaluation.scorers.text import contains, tokens
from pipeline.prompt import Passage
from pipeline.results import DEFAULT_FORM, AnswerForm

pytestmark = pytest.mark.unit

STATED = Expect(True, "72 hours", ("three days",), "breach-notice")
MISSING = Expect(False)
READ = ("breach-notice", "card-disputes")


def scored(
    text: str,
    expect: Expect | Reference = STATED,
    read: tuple[str, ...] = READ,
    form: AnswerForm = DEFAULT_FORM,
) -> dict[str, float]:
    case = Case("one", "d", "How long?", "ada", expect, form=form)
    return scorers.score(case, Answer(text, [Passage(document, "text") for document in read]))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("The deadline is 72 hours. [breach-notice]", 1.0),
        ("The deadline is 72 HOURS [breach-notice].", 1.0),
        ("It is three\u00a0days.", 1.0),
        ("The deadline is 172 hours.", 0.0),
        ("The deadline is 72.5 hours.", 0.0),
        ("The deadline is 72 minutes.", 0.0),
        ("The deadline is known. [doc-72-hours] [72 hours]", 0.0),
        ("", 0.0),
    ],
)
def test_value_is_found_as_whole_words_outside_citations(text: str, value: float) -> None:
    assert scored(text)["value"] == value


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("the limit is EUR 1,000 a day", "EUR 1000"),
        ("a fine of 4 % of turnover", "4%"),
        ("at 9:00 sharp", "9:00"),
        ("version 3.5.", "version 3.5"),
        ("form DP-33 is due", "form DP-33"),
        ("Regulation (EU) 2016/679, Article 6", "Regulation (EU) 2016/679"),
        ("ﬁve days", "five days"),
    ],
)
def test_wordings_of_one_value_are_equal(said: str, wanted: str) -> None:
    assert contains(tokens(said), tokens(wanted))


@pytest.mark.parametrize(
    ("said", "wanted"), [("1,0005", "1000"), ("9:001", "9:00"), ("ten", "often"), ("anything", ""), ("10", "1")]
)
def test_other_values_are_not_found(said: str, wanted: str) -> None:
    assert not contains(tokens(said), tokens(wanted))


@pytest.mark.parametrize(
    ("text", "read", "source"),
    [
        ("It is 72 hours. [breach-notice]", READ, 1.0),
        ("It is 72 hours. [breach-notice] [card-disputes]", READ, 1.0),
        ("It is 72 hours. [card-disputes]", READ, 0.0),
        ("It is 72 hours. [breach-notice] [invented-one]", READ, 0.0),
        ("It is 72 hours.", READ, 0.0),
        ("It is 72 hours. [breach-notice]", (), 0.0),  # nothing was retrieved: the citation is a guess
    ],
)
def test_source_is_cited_and_was_read(text: str, read: tuple[str, ...], source: float) -> None:
    assert scored(text, read=read)["source"] == source


def test_a_refusal_cites_nothing() -> None:
    right = scored("The deadline is not stated in the documents.", MISSING)
    assert right == {"correct": 1.0, "source": 1.0, "refusal": 1.0, "format": 1.0}
    cites = scored("The deadline is not stated in the documents. [breach-notice]", MISSING)
    assert cites == {"correct": 0.0, "source": 0.0, "refusal": 1.0, "format": 1.0}


@pytest.mark.parametrize(
    ("text", "expect", "refusal"),
    [
        ("The deadline is not stated in the documents.", STATED, 0.0),
        ("The deadlines ARE  NOT stated.", MISSING, 1.0),
        ("The deadline is 72 hours. [breach-notice]", MISSING, 0.0),
        ("The deadline is stated. [breach-notice]", MISSING, 0.0),
        ("The deadline is 72 hours.", STATED, 1.0),
    ],
)
def test_refusal_is_for_what_cannot_be_answered(text: str, expect: Expect, refusal: float) -> None:
    assert scored(text, expect)["refusal"] == refusal


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("The deadline is 72 hours. [breach-notice]", 1.0),
        ("The deadline is 72 hours [breach-notice].", 1.0),
        ("The deadline is 72 hours.", 0.0),
        ("I am happy to help. The deadline is 72 hours. [breach-notice]", 0.0),
        ("The deadline [breach-notice] is 72 hours.", 0.0),
        ("", 0.0),
        ("[breach-notice]", 0.0),
    ],
)
def test_format_is_one_sentence_that_ends_in_its_source(text: str, form: float) -> None:
    assert scored(text)["format"] == form


def test_correct_asks_for_everything_that_applies() -> None:
    assert scored("The deadline is 72 hours. [breach-notice]")["correct"] == 1.0
    assert scored("The deadline is 72 hours.")["correct"] == 0.0
    without_source = scored("The deadline is 72 hours. [breach-notice]", Expect(True, "72 hours"))
    assert without_source == {"correct": 1.0, "value": 1.0, "refusal": 1.0, "format": 1.0}


def test_a_reference_is_scored_by_shared_words_and_nothing_else() -> None:
    reference = Reference(({"role": "user", "content": "Name a colour."},), "deep red and deep blue")
    assert scored("deep red", reference) == {"reference": pytest.approx(2 * 2 / 7, abs=1e-6)}
    assert scored("deep red and deep blue", reference)["reference"] == 1.0
    assert scored("", reference)["reference"] == 0.0


def test_likelihood_and_preference_are_the_models_own_measures() -> None:
    case = Case("one", "d", None, None, Reference((), "yes", "no"))
    found = scorers.score(case, Answer("yes", likelihood=0.25, preferred=False))
    assert found == {"reference": 1.0, "likelihood": 0.25, "preference": 0.0}


@given(st.text(max_size=60), st.sampled_from([STATED, MISSING, Reference((), "a b c", "d")]))
def test_every_score_lies_between_0_and_1(text: str, expect: Expect | Reference) -> None:
    assert all(0 <= score <= 1 for score in scored(text, expect).values())


def test_a_suite_says_how_a_refusal_sounds() -> None:
    form = AnswerForm(refusals=("I cannot find", "steht nicht in den Dokumenten"))
    for text in ("I cannot find this.", "Sorry, I CANNOT  find it", "Das steht nicht in den Dokumenten."):
        assert scored(text, MISSING, form=form)["refusal"] == 1.0
        assert scored(text, MISSING)["refusal"] == 0.0
    assert scored("This is not stated.", MISSING, form=form)["refusal"] == 0.0
    assert scored("I cannot finder it.", MISSING, form=form)["refusal"] == 0.0


def test_a_suite_says_how_many_sentences_an_answer_has_and_whether_it_cites() -> None:
    three = "It is 72 hours. Weekends count. Ask the office. [breach-notice]"
    assert scored(three)["format"] == 0.0
    assert scored(three, form=AnswerForm(sentences=3))["format"] == 1.0
    assert scored(three, form=AnswerForm(sentences=2))["format"] == 0.0
    assert scored("It is 72 hours.")["format"] == 0.0
    assert scored("It is 72 hours.", form=AnswerForm(citation=False))["format"] == 1.0
    assert scored(" ", form=AnswerForm(sentences=3, citation=False))["format"] == 0.0


SCHEMA = {
    "type": "object",
    "properties": {"command": {"enum": ["drive", "stop"]}, "metres": {"type": "number", "maximum": 5}},
    "required": ["command"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"command": "drive", "metres": 2}', 1.0),
        (' \n{"command": "stop"} ', 1.0),
        ("This is not stated in the documents.", 1.0),
        ('{"command": "drive", "metres": 6}', 0.0),
        ('{"command": "fly"}', 0.0),
        ('{"metres": 2}', 0.0),
        ('{"command": "stop", "note": "x"}', 0.0),
        ('```json\n{"command": "stop"}\n```', 0.0),
        ('{"command": "stop"} {"command": "stop"}', 0.0),
        ('{"command": "drive", "metres": NaN}', 0.0),
        ('{"command": "fly", "command": "stop"}', 0.0),
        ("[" * 100_000, 0.0),
        ("Stop. [robot-rules]", 0.0),
        ("", 0.0),
    ],
)
def test_a_suite_of_json_answers_has_a_schema(text: str, expected: float) -> None:
    assert scored(text, form=AnswerForm(json_schema=SCHEMA))["format"] == expected
