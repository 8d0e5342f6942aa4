"""One way to write a value as bytes, so that equal values have equal digests on every machine."""

import hashlib
import json
from typing import Any


def dumps(value: Any) -> str:
    """Returns JSON with sorted keys and no blanks. Raises ValueError for NaN and infinities."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """Returns the SHA-256 of the canonical JSON, in hexadecimal."""
    return hashlib.sha256(dumps(value).encode()).hexdigest()


def digest_text(text: str) -> str:
    """Returns the SHA-256 of the UTF-8 text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()
