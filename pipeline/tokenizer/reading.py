"""A tokenizer over the `tokenizers` library alone, with what `Chat` uses of a transformers tokenizer."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from pipeline.tokenizer import template

TOKENIZER, PARTS = "tokenizer.json", "parts.json"  # the files that a tokenizer is kept as
_REMEMBERED = 2_048  # stretches of text: a system message, what opens a turn, the question of both sides of a pair


@dataclass(frozen=True)
class Parts:
    """What a tokenizer is beside tokenizer.json."""

    chat_template: str | Mapping[str, str] | None  # several by name
    special_tokens: Mapping[str, str]  # as templates know them: bos_token, eos_token, …
    split_special_tokens: bool = False  # a special token that a text spells is read as plain text


class Tokenizer:
    """A tokenizer that gives the tokens that transformers gives, and renders its template.

    A text is encoded stretch by stretch between its control tokens, and each stretch is remembered: a prompt and the
    whole conversation that begins with it are encoded once, and a system message once for all rows.
    """

    def __init__(self, backend: Backend, parts: Parts, name: str) -> None:
        """Takes over the backend: padding and truncation, which its file may ask for, are switched off. `name` is what
        messages call it."""
        backend.no_padding()
        backend.no_truncation()
        backend.encode_special_tokens = parts.split_special_tokens
        self._backend = backend
        self._special_tokens = dict(parts.special_tokens)
        self.name_or_path = name
        self.chat_template = parts.chat_template
        self.added_tokens_decoder: Mapping[int, AddedToken] = backend.get_added_tokens_decoder()
        borders = () if parts.split_special_tokens else borders_of(self.added_tokens_decoder.values())
        self._border = re.compile("|".join(map(re.escape, borders)) or r"(?!)")
        self._stretch = lru_cache(maxsize=_REMEMBERED)(self._encoded)

    @property
    def eos_token_id(self) -> int | None:
        """Returns the token that ends a sequence; None where the tokenizer names none."""
        token = self._special_tokens.get("eos_token")
        return None if token is None else self._backend.token_to_id(token)

    def __call__(self, text: str, *, add_special_tokens: Literal[False] = False) -> dict[str, list[int]]:
        """Returns {"input_ids"} of a text that is encoded as it stands, without a beginning or an end added."""
        begins = [match.start() for match in self._border.finditer(text)]
        ids: list[int] = []
        for begin, end in zip([0, *begins], [*begins, len(text)], strict=True):
            if begin < end:
                ids += self._stretch(text[begin:end])
        return {"input_ids": ids}

    def apply_chat_template(
        self, conversation: Sequence[Mapping[str, Any]], *, chat_template: str, tokenize: Literal[False], **options: Any
    ) -> str:
        """Returns the conversation as the template writes it; see `template.render` for what it raises."""
        return template.render(chat_template, conversation, {**self._special_tokens, **options})

    def convert_ids_to_tokens(self, token: int) -> str | None:
        """Returns how the vocabulary spells a token; None where it has none of this number."""
        return self._backend.id_to_token(token)

    def decode(self, tokens: Sequence[int]) -> str:
        """Returns the text of tokens, control tokens included."""
        return str(self._backend.decode(list(tokens), skip_special_tokens=False))

    def _encoded(self, text: str) -> tuple[int, ...]:
        # The library's only call that leaves out where each token stands in the text, which takes a fifth of the time.
        (encoding,) = self._backend.encode_batch_fast([text], add_special_tokens=False)
        return tuple(encoding.ids)


def write(backend: Backend, parts: Parts, folder: Path) -> None:
    """Writes a tokenizer to a folder that does not exist yet."""
    folder.mkdir()
    backend.save(str(folder / TOKENIZER))
    (folder / PARTS).write_text(json.dumps(asdict(parts), ensure_ascii=False), encoding="utf-8")


def read(folder: Path, name: str) -> Tokenizer:
    """Returns the tokenizer that `write` wrote."""
    parts = Parts(**json.loads((folder / PARTS).read_text(encoding="utf-8")))
    return Tokenizer(Backend.from_file(str(folder / TOKENIZER)), parts, name)


def borders_of(tokens: Iterable[AddedToken]) -> list[str]:
    """Returns the added tokens, longest first, before which a text may be cut in two that are encoded one after the
    other.

    The tokenizers library looks for added tokens before it does anything else, and normalizes and splits what stands
    between them piece by piece. That holds for those which are looked for in the text as it is (not `normalized`) and
    take no notice of what stands before them (`lstrip`, `single_word`), if no other one could begin before a border and
    reach over it, or is found there in its place.
    """
    added = list(tokens)
    heedless = [not (token.normalized or token.lstrip or token.single_word) for token in added]
    heedful = tuple(token.content for token, own in zip(added, heedless, strict=True) if not own)
    borders = [
        token.content
        for token, own in zip(added, heedless, strict=True)
        # A token of the kind that is a word by itself looks at the sign after it.
        if own and re.match(r"[^\w\s]", token.content) and not any(each.startswith(token.content) for each in heedful)
    ]
    contents = [token.content for token in added]
    return sorted(
        (border for border in borders if not any(_reaches_over(content, border) for content in contents)),
        key=lambda content: (-len(content), content),
    )


def _reaches_over(other: str, border: str) -> bool:
    """Returns whether a text can hold `other` from before the beginning of `border` until after it."""
    return other.find(border, 1) > 0 or any(border.startswith(other[place:]) for place in range(1, len(other)))
