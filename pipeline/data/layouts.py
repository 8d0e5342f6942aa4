"""The forms in which training rows arrive, a function each: from a row to the contents that it holds. Most hold one; a
tree or a ranking holds several."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pipeline.data.rows import Damaged
from pipeline.data.turns import (
    WEIGHTS,
    Message,
    missing,
    refuse_label,
    refuse_media,
    refuse_tools,
    refuse_weights,
    said,
    text,
    transcript,
    turns,
)
from pipeline.usecase import ExampleKind

Content = dict[str, list[Message]]


class Layout(NamedTuple):
    """One form of rows."""

    fields: str  # for people
    reads: frozenset[str]  # the keys that it looks at
    contents: Callable[[dict[str, Any]], list[Content]]  # raises Damaged


def _messages(row: dict[str, Any]) -> list[Content]:
    return [{"messages": _with_system(row, turns(row, "messages"))}]


def _conversations(row: dict[str, Any]) -> list[Content]:
    field = "conversations" if "conversations" in row else "conversation"
    return [{"messages": _with_system(row, turns(row, field))}]


def _alpaca(row: dict[str, Any]) -> list[Content]:
    instruction = text(row, "instruction")
    before: list[Message] = []
    for pair in row.get("history") or []:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(each, str) for each in pair):
            raise Damaged("wrong_type", "the field history is a list of pairs of question and answer")
        before += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    instances = row.get("instances")
    if instances is None:
        instances = [row]
    if not isinstance(instances, list) or not instances or not all(isinstance(each, dict) for each in instances):
        raise Damaged("wrong_type", "the field instances is a list of objects with input and output, at least one")
    return [{"messages": _with_system(row, [*before, *_instance(instruction, instance)])} for instance in instances]


def _instance(instruction: str, row: Mapping[str, Any]) -> list[Message]:
    given = [text(row, name) for name in ("input", "context") if row.get(name) is not None]
    question = "\n\n".join([instruction, *(each for each in given if each.strip())])
    answer = text(row, "output", "response")
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _completion(row: dict[str, Any]) -> list[Content]:
    prompt = _with_system(row, said(row, _prompt(row), "user"))
    answer = next((name for name in ("completion", "response", "answer") if row.get(name) is not None), "completion")
    return [{"messages": [*prompt, *said(row, answer, "assistant")]}]


def _text(row: dict[str, Any]) -> list[Content]:
    for refuse in (refuse_tools, refuse_media, refuse_label, refuse_weights):
        refuse(row)
    return [{"text": [{"role": "document", "content": text(row, "text")}]}]


def _tree(row: dict[str, Any]) -> list[Content]:
    """Returns the conversation that people ranked best, message by message."""
    path: list[Message] = []
    node: Any = _root(row)
    while node is not None:
        path.append(_spoken(node))
        node = next(iter(_ranked(node)), None)
    while path and path[-1]["role"] != "assistant":
        path.pop()
    if not path:
        raise missing("replies")
    return [{"messages": path}]


def _preference(row: dict[str, Any]) -> list[Content]:
    if row.get("prompt") is None and row.get("question") is None:
        return [_implicit(row)]
    prompt = _with_system(row, said(row, _prompt(row), "user"))
    chosen, rejected = said(row, "chosen", "assistant"), said(row, "rejected", "assistant")
    # Both may hold the whole conversation, as some trainers take it.
    if len(chosen) > len(prompt) and chosen[: len(prompt)] == prompt == rejected[: len(prompt)]:
        chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
    return [{"prompt": prompt, "chosen": chosen, "rejected": rejected}]


def _implicit(row: dict[str, Any]) -> Content:
    """Returns a pair whose prompt is what both conversations begin with."""
    both = []
    for field in ("chosen", "rejected"):
        value = row.get(field)
        spoken = transcript(value) if isinstance(value, str) else turns(row, field)
        if spoken is None:
            raise missing("prompt")
        both.append(spoken)
    chosen, rejected = both
    shared = 0
    while shared < min(map(len, both)) - 1 and chosen[shared] == rejected[shared]:
        shared += 1
    # The prompt ends with a question: two answers that are alike at first are still answers.
    while shared and chosen[shared - 1]["role"] != "user":
        shared -= 1
    if not shared:
        raise Damaged("no_shared_prompt", "chosen and rejected do not begin with the same question")
    return {"prompt": chosen[:shared], "chosen": chosen[shared:], "rejected": rejected[shared:]}


def _sharegpt_preference(row: dict[str, Any]) -> list[Content]:
    prompt = _with_system(row, turns(row, "conversations"))
    return [
        {"prompt": prompt, "chosen": said(row, "chosen", "assistant"), "rejected": said(row, "rejected", "assistant")}
    ]


def _ranking(row: dict[str, Any]) -> list[Content]:
    """Returns one pair: the best answer beside the worst."""
    prompt = _with_system(row, said(row, _prompt(row), "user"))
    field = next((name for name in ("responses", "completions", "answers") if row.get(name) is not None), "responses")
    answers = row.get(field)
    if answers is None:
        raise missing(field)
    if not isinstance(answers, list) or len(answers) < 2:
        raise Damaged("wrong_type", f"the field {field} is a list of two answers or more")
    marked = sorted(zip(_marks(row, answers, field), range(len(answers)), strict=True))
    (worst, last), (best, first) = marked[0], marked[-1]
    if worst == best:
        raise Damaged("no_preference", "all answers are ranked alike")
    return [{"prompt": prompt, "chosen": _answer(answers[first], field), "rejected": _answer(answers[last], field)}]


def _marks(row: Mapping[str, Any], answers: list[Any], field: str) -> list[float]:
    """Returns a number for each answer, the larger the better."""
    for names, sign in ((("scores", "score", "overall_score", "rating"), 1), (("ranks", "rank"), -1)):
        for name in names:
            marks = row.get(name)
            if marks is None and all(isinstance(each, dict) and name in each for each in answers):
                marks = [each[name] for each in answers]
            if marks is None:
                continue
            if (
                not isinstance(marks, list)
                or len(marks) != len(answers)
                or not all(isinstance(mark, int | float) and not math.isnan(mark) for mark in marks)
            ):
                raise Damaged("wrong_type", f"the field {name} has a number for each of {field}")
            return [sign * float(mark) for mark in marks]
    raise missing("scores or ranks")


def _answer(value: Any, field: str) -> list[Message]:
    if isinstance(value, dict) and "role" not in value and "from" not in value:
        value = next((value[name] for name in ("text", "response", "content", "answer") if name in value), None)
    return said({field: value}, field, "assistant")


def _tree_preference(row: dict[str, Any]) -> list[Content]:
    """Returns a pair for each question whose answers people ranked: the best beside the worst."""
    pairs: list[Content] = []
    waiting: list[tuple[Any, list[Message]]] = [(_root(row), [])]
    while waiting:
        node, before = waiting.pop()
        path = [*before, _spoken(node)]
        replies = _ranked(node)
        if path[-1]["role"] == "user" and len(replies) > 1:
            best, worst = ([_spoken(replies[place])] for place in (0, -1))
            pairs.append({"prompt": path, "chosen": best, "rejected": worst})
        waiting += [(reply, path) for reply in reversed(replies)]
    if not pairs:
        raise Damaged("no_preference", "no question of the tree has two ranked answers")
    return pairs


def _root(row: Mapping[str, Any]) -> Mapping[str, Any]:
    root = row.get("prompt") if isinstance(row.get("prompt"), dict) else row
    if not isinstance(root, dict) or "replies" not in root:
        raise missing("replies")
    return root


def _ranked(node: Mapping[str, Any]) -> list[Any]:
    """Returns the replies that were not withdrawn, the best ranked first. Of several, those without a rank are none."""
    replies = node.get("replies") or []
    if not isinstance(replies, list) or not all(isinstance(reply, dict) for reply in replies):
        raise Damaged("wrong_type", "the field replies is a list of messages")
    kept = [reply for reply in replies if not reply.get("deleted") and not reply.get("synthetic")]
    ranked = [reply for reply in kept if isinstance(reply.get("rank"), int | float)]
    return sorted(ranked, key=lambda reply: float(reply["rank"])) if len(kept) > 1 else kept


def _spoken(node: Mapping[str, Any]) -> Message:
    role = {"prompter": "user", "assistant": "assistant"}.get(str(node.get("role")))
    if role is None:
        raise Damaged("wrong_type", "a message of a tree is the prompter's or the assistant's")
    return {"role": role, "content": text(node, "text")}


def _prompt(row: Mapping[str, Any]) -> str:
    return next((name for name in ("prompt", "question", "instruction") if row.get(name) is not None), "prompt")


def _with_system(row: Mapping[str, Any], messages: list[Message]) -> list[Message]:
    """Returns the messages of a row, after its system message where that stands in a field of its own."""
    refuse_tools(row)
    refuse_media(row)
    refuse_label(row)
    refuse_weights(row)
    if row.get("system") is None or row.get("system") == "":
        return messages
    system = {"role": "system", "content": text(row, "system")}
    if messages[0]["role"] == "system":
        if messages[0] == system:
            return messages
        raise Damaged("two_systems", "it has a system message in a field of its own and another among its messages")
    return [system, *messages]


_ROW = frozenset({"system", "label", "tools", "functions", "images", "videos", "audios", *WEIGHTS})
_PROMPT = frozenset({"prompt", "question", "instruction"})
_ANSWERS = frozenset({"chosen", "rejected"})

# By kind, in the order in which they are tried.
LAYOUTS: Mapping[ExampleKind, Mapping[str, Layout]] = {
    "sft": {
        "messages": Layout("messages", _ROW | {"messages"}, _messages),
        "sharegpt": Layout("conversations", _ROW | {"conversations", "conversation"}, _conversations),
        "alpaca": Layout(
            "instruction, output (input, context, history, instances)",
            _ROW | {"instruction", "input", "context", "output", "response", "history", "instances"},
            _alpaca,
        ),
        "prompt_completion": Layout(
            "prompt, completion", _ROW | _PROMPT | {"completion", "response", "answer"}, _completion
        ),
        "oasst": Layout("prompt with replies", frozenset({"prompt", "role", "text", "replies"}), _tree),
    },
    "preference": {
        "preference": Layout("prompt, chosen, rejected", _ROW | _PROMPT | _ANSWERS, _preference),
        "sharegpt": Layout(
            "conversations, chosen, rejected", _ROW | _ANSWERS | {"conversations"}, _sharegpt_preference
        ),
        "ranking": Layout(
            "prompt, responses, scores or ranks",
            _ROW
            | _PROMPT
            | {"responses", "completions", "answers", "scores", "score", "overall_score", "rating", "ranks", "rank"},
            _ranking,
        ),
        "oasst": Layout("prompt with replies", frozenset({"prompt", "role", "text", "replies"}), _tree_preference),
    },
    "text": {"text": Layout("text", (_ROW - {"system"}) | {"text"}, _text)},
}


def parts(content: Content) -> list[list[Message]]:
    """Returns what a row's content consists of: its conversation, or its text, or prompt, chosen and rejected."""
    whole = next((content[name] for name in ("messages", "text") if name in content), None)
    return [content[name] for name in ("prompt", "chosen", "rejected")] if whole is None else [whole]
