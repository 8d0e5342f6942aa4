"""Text as it is compared: without what the eye does not see. What is stored and trained on stays as it was written."""

import re
import unicodedata
from functools import lru_cache

from pipeline import canonical

_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
# Format characters (soft hyphen, zero width, direction marks, byte order mark) and variation selectors, which are drawn
# as nothing, and the fillers that are letters by their category alone.
_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
# Cyrillic and Greek letters that are drawn as Latin ones, in lower and upper case, and the signs that stand for an
# apostrophe. Decomposition sees to the rest: full width, mathematical and circled letters.
_LOOK_ALIKES = dict(
    zip(
        "аеіјорѕсухһԁԛԝАВЕЅІЈКМНОРСТУХԌԚԜαινορυΑΒΕΖΗΙΚΜΝΟΡΤΥΧ’‘ʼ",
        "aeijopscyxhdqwabesijkmhopctyxgqwaivopuabezhikmnoptyx'''",
        strict=True,
    )
)


@lru_cache(maxsize=128)  # the texts of a row are compared in several ways, one after another
def normal(text: str) -> str:
    """Returns a text in NFC, without invisible characters, each run of white space one space, none at the ends."""
    if not text.isascii():
        text = "".join(filter(_seen, unicodedata.normalize("NFC", text)))
        # Without the characters between them, letters and marks may go together.
        text = unicodedata.normalize("NFC", text)
    return " ".join(text.split())


def skeleton(text: str) -> str:
    """Returns a text as words are looked for in it: in lower case, without marks and invisible characters, look-alike
    letters of other scripts as the Latin ones, a space for what ASCII does not have and is no letter and no digit. The
    lengths of both differ.

    After UTS #39 (Unicode security mechanisms), with the look-alikes of Cyrillic and Greek alone.
    """
    if text.isascii():
        return text.lower()
    # A run at a time: most texts have few other letters than ASCII's.
    return _NOT_ASCII.sub(lambda run: unicodedata.normalize("NFKD", run[0]).translate(_SKELETON), text).casefold()


class _Skeleton(dict[int, str | int | None]):
    """What becomes of each character, worked out when it is first met."""

    def __missing__(self, code: int) -> str | int | None:
        character = chr(code)
        if unicodedata.category(character) in ("Mn", "Me") or not _seen(character):
            self[code] = None
        elif character in _LOOK_ALIKES:
            self[code] = _LOOK_ALIKES[character]
        else:
            self[code] = code if character.isascii() or character.isalnum() else " "
        return self[code]


_SKELETON = _Skeleton()


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
