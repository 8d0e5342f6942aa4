"""What makes a text poor to learn from: debris of web pages, letters that were decoded wrongly, words that go round and
round, a model's excuses, another language."""

import re
from collections import Counter
from functools import cache
from typing import Any

_FENCED = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
_TAG = re.compile(
    r"</?(?:p|br|div|span|a|li|ul|ol|td|tr|th|table|tbody|font|img|script|style|strong|em|b|i|h[1-6]|sup|sub)\b[^<>\n]*>",
    re.IGNORECASE,
)
_ENTITY = re.compile(
    r"&(?:nbsp|amp|lt|gt|quot|apos|rsquo|lsquo|rdquo|ldquo|ndash|mdash|hellip|#\d{2,5}|#x[0-9a-f]{2,4});", re.IGNORECASE
)
# Without a letter beyond ASCII nothing was decoded wrongly; the replacement character is what remains of it.
_MOJIBAKE_SIGNS = re.compile("[\u0080-\u00ff\u0152-\u0178\u02c6-\u02dc\u2013-\u2122\ufffd]{2}|\ufffd")
_WORD = re.compile(r"\w+")
_GRAM = 6
_FEW_WORDS = 24
_EXCUSES = re.compile(
    r"\bas an? (?:ai|artificial intelligence|language model|large language model|chatbot)\b"
    r"|\bi(?:'|\u2019)?m (?:just )?an? (?:ai|artificial intelligence|language model)\b"
    r"|\bi (?:am|was) (?:created|trained|developed) by (?:openai|anthropic|google|meta|microsoft)\b"
    r"|\bmy (?:training data|knowledge cut-?off)\b"
    r"|\bi (?:cannot|can(?:'|\u2019)t|am unable to|am not able to)"
    r" (?:assist|help|fulfil|comply|provide assistance) with (?:that|this|your)\b",
    re.IGNORECASE,
)
_LETTERS = 60  # fewer say nothing of a text's language
_CHARACTERS = 600  # that are looked at
_SURE = 0.9


def debris(text: str) -> int:
    """Returns how many tags and entities of HTML stand in a text, code aside."""
    if "<" not in text and "&" not in text:
        return 0
    prose = _FENCED.sub(" ", text) if "`" in text else text
    return len(_TAG.findall(prose)) + len(_ENTITY.findall(prose))


def mojibake(text: str) -> bool:
    """Returns whether letters of a text were decoded in the wrong encoding, as ftfy judges it."""
    if text.isascii() or not _MOJIBAKE_SIGNS.search(text):
        return False
    from ftfy import badness

    return "\ufffd" in text or bool(badness.is_bad(text))


def repeated(text: str) -> int:
    """Returns how many hundredths of a text's runs of six words stand in it before; 0 for a short one."""
    words = _WORD.findall(text.lower())
    if len(words) < _FEW_WORDS:
        return 0
    grams = Counter(zip(*(words[start:] for start in range(_GRAM)), strict=False))
    total = len(words) - _GRAM + 1
    return 100 * (total - len(grams)) // total


def excuse(text: str) -> bool:
    """Returns whether an answer speaks of itself as a model, as answers of other models do."""
    return _EXCUSES.search(text) is not None


def language(text: str) -> str | None:
    """Returns the language of a text (ISO 639-1) where it is long enough to tell, and the model (py3langid) is sure."""
    prose = _FENCED.sub(" ", text) if "`" in text else text
    if sum(map(str.isalpha, prose)) < _LETTERS:
        return None
    name, probability = _identifier().classify(prose[:_CHARACTERS])
    return str(name) if probability >= _SURE else None


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
