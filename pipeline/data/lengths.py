"""Lengths of training rows in the tokens of the use case's own base model: written as its chat template writes them,
cut as its training cuts them (pipeline/encoding.py is the one account of both)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline import encoding, tokenizer
from pipeline.chat import Chat, Reason, Unsuitable
from pipeline.data import uses
from pipeline.data.formats import Example
from pipeline.encoding import Content
from pipeline.errors import BadInput, NotAvailable, Refused
from pipeline.settings import Settings
from pipeline.tokenizer import TokenizerFiles
from pipeline.usecase import ExampleKind, UseCase

REASONS: Mapping[Reason, str] = {
    "no_answer": "it has no answer to learn",
    "control_token_in_answer": "an answer spells a control token of the base model",
    "template_refuses": "the base model's chat template does not take these turns",
    "template_changes_answer": "the base model's chat template writes the answer otherwise than it stands",
    "prompt_is_no_prefix": "the answer's first token grows into the last of the prompt",
    "end_mark_is_no_token": "what ends the turn grows into the answer's last token",
    "answer_beyond_max_length": "no answer begins within training.sft.max_length tokens",
    "empty_text": "the text is no token of the base model",
    "prompts_differ": "the chat template leads to the two answers by different prompts",
    "prompt_fills_max_length": "the prompt alone fills the training.dpo.max_length tokens",
    "answers_alike": "chosen and rejected are the same tokens",
}


@dataclass(frozen=True)
class Length:
    """A row in tokens. Of a pair: the prompt with the longer answer."""

    tokens: int | None  # before the cut; None where the template does not write the row at all
    supervised: int  # within max_length, that the loss is taken on; of both answers
    cut: int  # beyond max_length
    cut_answers: int  # answers of which a part lies within max_length and a part beyond
    lost_answers: int  # answers that lie beyond
    untrainable: Reason | None  # why nothing can be learned from it
    equal_after_cut: bool  # two answers that differ only beyond max_length


class Lengths:
    """Measures rows as the training of one use case will see them."""

    def __init__(self, chat: Chat, max_lengths: Mapping[ExampleKind, int]) -> None:
        """`max_lengths` in tokens, of the kinds that are trained on."""
        self._chat = chat
        self._max_lengths = max_lengths

    def of(self, row: Example) -> Length | None:
        """Returns the row's length; None where it could not be read, or its kind is not trained on."""
        max_length = self._max_lengths.get(row.kind)
        if row.content is None or max_length is None:
            return None
        try:
            return _measured(self._chat, row.content, max_length)
        except Unsuitable as error:
            return Length(None, 0, 0, 0, 0, error.reason, False)


def _measured(chat: Chat, content: Content, max_length: int) -> Length:
    """Returns the length of a row's content. Raises Unsuitable where the template does not write it."""
    if "text" in content:
        count = len(encoding.text(chat, content))
        return Length(count, count, 0, 0, 0, None if count > 1 else "empty_text", False)
    if "messages" in content:
        row = encoding.supervised(chat, content, max_length)
        cut = max(row.length - max_length, 0)
        return Length(row.length, row.supervised, cut, row.cut_answers, row.lost_answers, row.unsuitable, False)
    pair = encoding.pair(chat, content, max_length)
    equal, supervised = pair.equal_after_cut, sum(map(len, pair.answers))
    untrainable = None if equal else pair.unsuitable
    cut = max(pair.length - max_length, 0)
    return Length(pair.length, supervised, cut, pair.cut_answers, 0, untrainable, equal)


@dataclass(frozen=True)
class Basis:
    """What the lengths of a use case's rows are measured by."""

    files: TokenizerFiles
    max_lengths: Mapping[ExampleKind, int]
    untrained: Sequence[str]  # sources whose rows are not trained on

    @property
    def params(self) -> dict[str, Any]:
        """Returns what a check depends on, for its cache key."""
        return {
            "tokenizer": self.files.digest,
            "max_length": dict(self.max_lengths),
            "untrained": list(self.untrained),
        }


@dataclass(frozen=True)
class Unmeasured:
    """Rows have no length: there is nothing to measure it with."""

    why: str
    params: None = None


def basis(settings: Settings, usecase: UseCase) -> Basis | Unmeasured:
    """Returns what the rows of a use case are measured by. Reads no tokenizer yet."""
    training = usecase.training
    max_lengths: dict[ExampleKind, int] = {"sft": training.sft.max_length}
    if training.pretrain.enabled:
        max_lengths["text"] = training.pretrain.max_length
    if training.dpo.enabled:
        max_lengths["preference"] = training.dpo.max_length
    sources = uses.of_examples(usecase, settings.usecases / usecase.name)
    untrained = sorted(source.source for source in sources if "train" not in source.uses)
    try:
        files = tokenizer.locate(settings, usecase.base_model)
    except NotAvailable as error:
        return Unmeasured(error.what)
    return Basis(files, max_lengths, untrained)


def load(settings: Settings, by: Basis | Unmeasured) -> Lengths | Unmeasured:
    """Returns what measures rows; or why it cannot, which preflight will say, too: the tokenizer cannot be read, or its
    chat template is missing or writes nothing.

    Raises NotAvailable where the tokenizer could not be read this time.
    """
    if isinstance(by, Unmeasured):
        return by
    try:
        return Lengths(Chat(tokenizer.load(settings, by.files)), by.max_lengths)
    except (BadInput, Refused) as error:
        return Unmeasured(error.what)
