"""Messages in the ways that people write them, and the one way in which they go on: {role, content}, both text.

What a message may say beside its text changes what it means (a weight, a tool's call, an image). Whatever of that is
not trained by is never left out in silence: the row is rejected by a rule that names it, or the key is named.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.data.rows import Damaged

Message = dict[str, str]

_ROLES = {
    "human": "user",
    "prompter": "user",
    "gpt": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "function_call": "tool_call",
    "observation": "tool",
    "function": "tool",
    "ipython": "tool",
}
_TOOLS = ("tool_calls", "function_call", "tool_call_id", "tools", "functions")
_MEDIA = ("images", "image", "videos", "video", "audios", "audio")
WEIGHTS = ("weight", "loss_weight", "train", "trainable", "train_on_turn")
# Keys that say something of how a row or a message is meant, and that nothing here reads.
MEANING = frozenset({"reasoning_content", "reasoning", "thinking", "prefix", "mask", "loss_mask", "rejection"})
# Transcripts in one text: a mark at the beginning of a paragraph says who speaks.
_SPEAKER = re.compile(r"(?:\A|\n\n)(Human|H|User|Assistant|A): ?")


def turns(row: Mapping[str, Any], field: str) -> list[Message]:
    """Returns the messages of a field, at least one. Raises Damaged."""
    value = row.get(field)
    if value is None:
        raise missing(field)
    if not isinstance(value, list) or not value:
        raise Damaged("wrong_type", f"the field {field} is a list of messages, at least one")
    return [turn(each, field) for each in value]


def turn(value: Any, field: str) -> Message:
    """Returns a message: {role, content} or {from, value}. Raises Damaged."""
    if value is None:
        raise missing(field)
    if not isinstance(value, dict):
        raise Damaged("wrong_type", f"a message in {field} is an object with role and content, or from and value")
    role = value.get("role", value.get("from"))
    if not isinstance(role, str):
        raise Damaged("wrong_type", f"a message in {field} says in role (or from) who speaks")
    role = _ROLES.get(role, role)
    refuse_tools(value)
    if role in ("tool", "tool_call"):
        raise Damaged("tools", "it calls tools, or offers them, which nothing here trains")
    refuse_media(value)
    if role == "assistant":
        refuse_weights(value)
    said = next((value[name] for name in ("content", "value", "text") if value.get(name) is not None), None)
    return {"role": role, "content": _parts(said, field)}


def said(row: Mapping[str, Any], field: str, role: str) -> list[Message]:
    """Returns a field that is either text, said by `role`, or one message, or a list of them. Raises Damaged."""
    value = row.get(field)
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    if isinstance(value, dict):
        return [turn(value, field)]
    return turns(row, field)


def text(row: Mapping[str, Any], *fields: str) -> str:
    """Returns the first of these fields that is there. Raises Damaged where none is, or where it is no text."""
    field = next((name for name in fields if row.get(name) is not None), None)
    if field is None:
        raise missing(" or ".join(fields))
    if not isinstance(row[field], str):
        raise Damaged("wrong_type", f"the field {field} is text")
    return str(row[field])


def transcript(text: str) -> list[Message] | None:
    """Returns the messages of a transcript in one text ("Human: …", "Assistant: …" by turns); None where it is none."""
    marks = list(_SPEAKER.finditer(text))
    if len(marks) < 2 or marks[0].start() != 0 or not marks[0][1].startswith(("H", "U")):
        return None
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    return [
        {"role": "assistant" if mark[1].startswith("A") else "user", "content": text[mark.end() : end].strip()}
        for mark, end in zip(marks, ends, strict=True)
    ]


def refuse_tools(value: Mapping[str, Any]) -> None:
    """Raises Damaged where a row or a message speaks of tools."""
    if any(value.get(name) not in (None, "", "[]", [], {}) for name in _TOOLS):
        raise Damaged("tools", "it calls tools, or offers them, which nothing here trains")


def refuse_media(value: Mapping[str, Any]) -> None:
    """Raises Damaged where a row or a message shows more than text."""
    if any(value.get(name) not in (None, "", [], {}) for name in _MEDIA):
        raise Damaged("media", "it shows images, sound or video, which nothing here trains")


def refuse_label(row: Mapping[str, Any]) -> None:
    """Raises Damaged where a row's label says that its answer is a bad one, or says what cannot be understood."""
    label = row.get("label")
    if label is None:
        return
    known = label.strip().lower() if isinstance(label, str) else label
    if known in (False, 0, "false", "0", "bad", "no"):
        raise Damaged("bad_label", "its label says that the answer is a bad one")
    if known not in (True, 1, "true", "1", "good", "yes"):
        raise Damaged("wrong_type", "a label is true or false: whether the answer is a good one")


def meaning(values: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Returns the keys of these rows or messages that say how they are meant, and that nothing here reads."""
    return frozenset(key for value in values for key in MEANING & value.keys() if value[key] not in (None, "", [], {}))


def missing(field: str) -> Damaged:
    """Returns the error of a field that is not there."""
    return Damaged("missing_field", f"the field {field} is missing")


def refuse_weights(value: Mapping[str, Any]) -> None:
    """Raises Damaged where a row or an answer says that it counts for less than another, or not at all."""
    for name in WEIGHTS:
        weight = value.get(name)
        if weight is not None and weight not in (True, 1, 1.0):
            raise Damaged("weighted_turn", f"its {name} says that it is not to be learned, or not as others are")


def _parts(value: Any, field: str) -> str:
    """Returns what a message says: text, or the texts of its parts."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value:
        raise Damaged("wrong_type", f"what a message in {field} says is text, or a list of parts that are")
    texts = []
    for part in value:
        kind = part.get("type", "text") if isinstance(part, dict) else None
        if isinstance(kind, str) and kind != "text":
            raise Damaged("media", "a part of a message is not text, which nothing here trains")
        words = part if isinstance(part, str) else None
        if isinstance(part, dict):
            words = next((part[name] for name in ("text", "value", "content") if part.get(name) is not None), None)
        if not isinstance(words, str):
            raise Damaged("wrong_type", f"a part of a message in {field} is {{type: text, text}}")
        texts.append(words)
    return "\n\n".join(texts)
