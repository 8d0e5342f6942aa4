"""A row cut at max_length, on a tokenizer of one token a character: what is left, what is lost, and why not at all."""

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from pipeline import encoding
from pipeline.chat import Chat, Unsuitable
from pipeline.tokenizer.reading import Parts
from pipeline.tokenizer.reading import Tokenizer as Light

pytestmark = pytest.mark.unit

QUESTION = {"role": "user", "content": "How long?"}
ANSWER = {"role": "assistant", "content": "Two metres."}
BEGIN, END = len("How long?#"), len("How long?#Two metres.#")
CONVERSATION = {"messages": [QUESTION, ANSWER, QUESTION, ANSWER]}
PAIR = {"prompt": [QUESTION], "chosen": [ANSWER], "rejected": [{"role": "assistant", "content": "Two feet."}]}


@pytest.fixture(scope="module")
def chat() -> Chat:
    """Every turn ends with a sign of its own; no turn is opened by one."""
    signs = {chr(code): code - 32 for code in range(32, 127)}
    backend = Tokenizer(models.WordLevel(signs, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    backend.decoder = decoders.Fuse()
    backend.add_special_tokens([AddedToken("#", special=True)])
    return Chat(
        Light(backend, Parts("{% for m in messages %}{{ m.content }}#{% endfor %}", {"eos_token": "#"}), "signs")
    )


def test_a_conversation_that_fits_is_whole(chat: Chat) -> None:
    row = encoding.supervised(chat, CONVERSATION, 2 * END)
    assert (len(row.ids), row.length) == (2 * END, 2 * END)
    assert row.answers == ((BEGIN, END), (END + BEGIN, 2 * END))
    assert row.supervised == 2 * (END - BEGIN)
    assert (row.cut_answers, row.lost_answers, row.unsuitable) == (0, 0, None)


@pytest.mark.parametrize(
    ("max_length", "answers", "cut", "lost", "reason"),
    [
        (2 * END - 1, ((BEGIN, END), (END + BEGIN, 2 * END - 1)), 1, 0, None),
        (END + BEGIN + 1, ((BEGIN, END), (END + BEGIN, END + BEGIN + 1)), 1, 0, None),
        (END + BEGIN, ((BEGIN, END),), 0, 1, None),  # the cut is in the second question: no answer loses its end
        (END, ((BEGIN, END),), 0, 1, None),
        (END - 1, ((BEGIN, END - 1),), 1, 1, None),
        (BEGIN, (), 0, 2, "answer_beyond_max_length"),
        (1, (), 0, 2, "answer_beyond_max_length"),
    ],
)
def test_a_conversation_is_cut(
    chat: Chat, max_length: int, answers: tuple[tuple[int, int], ...], cut: int, lost: int, reason: str | None
) -> None:
    row = encoding.supervised(chat, CONVERSATION, max_length)
    assert (row.answers, row.cut_answers, row.lost_answers, row.unsuitable) == (answers, cut, lost, reason)
    assert (len(row.ids), row.length) == (max_length, 2 * END)
    assert row.supervised == sum(end - begin for begin, end in answers)


@pytest.mark.parametrize(
    ("room", "cut", "equal", "reason"),
    [
        (len("Two metres.#"), 0, False, None),
        (len("Two metres."), 1, False, None),
        (len("Two feet."), 2, False, None),
        (len("Two f"), 2, False, None),
        (len("Two "), 2, True, "answers_alike"),
        (1, 2, True, "answers_alike"),
        (0, 0, False, "prompt_fills_max_length"),
        (-3, 0, False, "prompt_fills_max_length"),
    ],
)
def test_a_pair_is_cut(chat: Chat, room: int, cut: int, equal: bool, reason: str | None) -> None:
    row = encoding.pair(chat, PAIR, BEGIN + room)
    assert (row.cut_answers, row.equal_after_cut, row.unsuitable) == (cut, equal, reason)
    assert row.length == END
    kept = max(room, 0)
    assert [len(answer) for answer in row.answers] == [min(len("Two metres.#"), kept), min(len("Two feet.#"), kept)]


def test_answers_that_are_one_before_the_cut_are_not_made_so_by_it(chat: Chat) -> None:
    row = encoding.pair(chat, {**PAIR, "rejected": [ANSWER]}, BEGIN + 3)
    assert (row.unsuitable, row.equal_after_cut) == ("answers_alike", False)


def test_what_cannot_be_written_is_refused_by_name(chat: Chat) -> None:
    with pytest.raises(Unsuitable, match="no_answer"):
        encoding.supervised(chat, {"messages": [QUESTION]}, 100)
    with pytest.raises(Unsuitable, match="control_token_in_answer"):
        encoding.pair(chat, {**PAIR, "rejected": [{"role": "assistant", "content": "#7"}]}, 100)
    with pytest.raises(Unsuitable, match="prompts_differ"):
        encoding.pair(chat, {**PAIR, "rejected": [ANSWER, QUESTION, ANSWER]}, 100)
