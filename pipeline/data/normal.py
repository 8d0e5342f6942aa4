"""Text as it is compared: without what the eye does not see. What is stored and trained on stays as it was written."""

import re
import unicodedata

from pipeline import canonical

_BLANKS = re.compile(r"\s+")
# Format characters (soft hyphen, zero width, direction marks, byte order mark) and variation selectors, which are drawn
# as nothing, and the fillers that are letters by their category alone.
_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")


def normal(text: str) -> str:
    """Returns a text in NFC, without invisible characters, each run of white space one space, none at the ends."""
    if not text.isascii():
        text = "".join(filter(_seen, unicodedata.normalize("NFC", text)))
        # Without the characters between them, letters and marks may go together.
        text = unicodedata.normalize("NFC", text)
    return _BLANKS.sub(" ", text).strip()


def digest(value: object) -> str:
    """Returns the digest of a JSON value whose texts are compared in their normal form."""
    return canonical.digest(_normal(value))


def _seen(character: str) -> bool:
    if character < "\xad":
        return True
    return not (
        unicodedata.category(character) == "Cf"
        or character in _FILLERS
        or "\ufe00" <= character <= "\ufe0f"
        or "\U000e0100" <= character <= "\U000e01ef"
    )


def _normal(value: object) -> object:
    if isinstance(value, str):
        return normal(value)
    if isinstance(value, dict):
        return {key: _normal(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_normal(part) for part in value]
    return value
