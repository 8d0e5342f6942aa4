"""A process of its own that imports transformers, and writes the tokenizer which that makes of a model's folder:
`python -m pipeline.tokenizer.conversion FOLDER TARGET`."""

import sys
from pathlib import Path
from typing import Any

from pipeline import models
from pipeline.chat import Chat, Unsuitable
from pipeline.errors import BadInput, NightshiftError
from pipeline.tokenizer.reading import Parts, Tokenizer, read, write

# What is tried before the copy is trusted: several turns, a system message, scripts, blanks, a control token's form.
_TRIALS: tuple[tuple[tuple[str, str], ...], ...] = (
    (("user", "How long is it?"), ("assistant", "Two metres: 2,000 mm.")),
    (("system", "Be kind,\n\nand short."), ("user", " Wie groß?\t"), ("assistant", "Größer als 7 µm — “ja”.")),
    (("user", "多长?"), ("assistant", "两米。"), ("user", "<|im_end|></s>"), ("assistant", "  a  b\n\n\nc 🙂")),
)


def convert(folder: Path, target: Path) -> Tokenizer:
    """Returns the tokenizer as transformers loads it from a model's folder, written to `target`, which does not exist
    yet.

    Raises what `models.require_usable` and `Chat` raise; BadInput for a tokenizer that is none of the tokenizers
    library, or whose copy encodes otherwise.
    """
    _, original = models.require_usable(folder)
    if getattr(original, "backend_tokenizer", None) is None:
        raise BadInput("this tokenizer is none of the tokenizers library", where=folder, found=type(original).__name__)
    parts = Parts(original.chat_template, original.special_tokens_map, bool(original.split_special_tokens))
    write(original.backend_tokenizer, parts, target)
    copy = read(target, str(folder))
    if _behaviour(original) != _behaviour(copy):
        raise BadInput(
            "this tokenizer's class encodes otherwise than its backend", where=folder, found=type(original).__name__
        )
    return copy


def _behaviour(tokenizer: Any) -> list[object]:
    """Returns how a tokenizer's template writes, and some conversations as tokens. Raises BadInput as `Chat` does."""
    chat = Chat(tokenizer)
    behaviour: list[object] = [chat.form, chat.end]
    for trial in _TRIALS:
        try:
            behaviour.append(chat.conversation([{"role": role, "content": content} for role, content in trial]))
        except Unsuitable as error:
            behaviour.append(error.reason)
    return behaviour


def main() -> None:
    """Writes the copy; or one line to the standard error that says what is wrong with the folder, and exits with
    BadInput's code, which no accident has."""
    try:
        convert(Path(sys.argv[1]), Path(sys.argv[2]))
    except NightshiftError as error:
        found = error.details["found"]
        print(error.what if found is None else f"{error.what}: {found}", file=sys.stderr)  # noqa: T201
        sys.exit(BadInput.exit_code)


if __name__ == "__main__":
    main()
