"""What a row asks for, by the verb or the question word that says it: a word of a list that stands here, never one of
the row's own. English and German."""

import re
from collections.abc import Mapping

from pipeline.data.normal import skeleton

OTHER = "other"
YES_OR_NO = "is it so"
_HEAD = 1_000  # characters of a question that are looked at
_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")
_CLAUSE = re.compile(r"[^.!?:;,\n]+\??")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Of each task the words that ask for it.
_VERBS: Mapping[str, frozenset[str]] = {
    "analyse": _words("analyse analyze analysiere analysieren"),
    "answer": _words("answer reply respond beantworte beantworten antworte"),
    "arrange": _words(
        "arrange rearrange order reorder organize organise reorganize sort rank "
        "group divide split connect link reverse rotate ordne sortiere"
    ),
    "brainstorm": _words("brainstorm"),
    "calculate": _words("calculate compute solve resolve perform prove multiply berechne berechnen rechne lose"),
    "change": _words(
        "change modify edit replace convert transform adapt add insert delete remove cut andere ersetze wandle"
    ),
    "check": _words("check verify validate review test prufe uberprufe"),
    "choose": _words("choose select pick wahle"),
    "classify": _words("classify categorize categorise label identify detect determine klassifiziere erkenne bestimme"),
    "combine": _words("combine merge join"),
    "compare": _words("compare contrast vergleiche"),
    "complete": _words("complete finish continue fill erganze vervollstandige"),
    "correct": _words("correct fix proofread improve korrigiere verbessere"),
    "count": _words("count zahle"),
    "create": _words(
        "create make generate produce build develop construct invent "
        "craft devise come formulate implement think erstelle erzeuge"
    ),
    "define": _words("define definiere"),
    "describe": _words("describe outline illustrate beschreibe schildere"),
    "design": _words("design plan entwirf plane"),
    "discuss": _words("discuss argue evaluate assess diskutiere bewerte beurteile"),
    "explain": _words("explain clarify elaborate erklare erlautere"),
    "extract": _words("extract find locate retrieve finde extrahiere suche"),
    "give": _words(
        "give provide offer name tell show say state share present "
        "output print display indicate recall recite gib nenne zeige sag"
    ),
    "imagine": _words("imagine pretend act play role stell"),
    "list": _words("list enumerate liste zahl"),
    "predict": _words("predict estimate forecast schatze"),
    "rewrite": _words("rewrite rephrase paraphrase reword simplify formuliere umformuliere vereinfache"),
    "suggest": _words("suggest recommend propose advise empfiehl schlage"),
    "summarise": _words("summarize summarise shorten condense fasse kurze"),
    "translate": _words("translate ubersetze ubersetzen"),
    "write": _words("write compose draft schreibe schreib verfasse"),
}
_QUESTIONS: Mapping[str, frozenset[str]] = {
    "how": _words("how how's wie"),
    "what": _words("what what's whats was"),
    "when": _words("when wann"),
    "where": _words("where where's wo woher wohin"),
    "which": _words("which welche welcher welches welchen welchem"),
    "who": _words("who who's whom whose wer wem wen wessen"),
    "why": _words("why warum wieso weshalb"),
}
_ASKING = _words(
    """is are am was were do does did has have had can could may might must shall should will would isn't aren't don't
    doesn't can't ist sind war waren hat haben hatte kann konnen konnte darf durfen durfte muss mussen soll sollen
    sollte wird werden wurde gibt gilt gelten braucht brauche brauchen"""
)
_SOMEBODY = _words("you u du sie ihr someone anyone we wir please bitte")
# What may stand before it.
_LEADING = _words(
    """please kindly hi hello hey dear now then and also so ok okay well first next finally just your task job goal to
    the following given using based in on for bitte hallo nun dann und auch zunachst mal assistant question q frage"""
)
_WORK = _words("task job goal")
_WANTED = re.compile(r"\b(?:want|need|like|help|ask|task is|job is|goal is|have) (?:you |me |us )?to ([a-z]+)\b")
# After `was` they make it the German one, which is `what`.
_GERMAN = _words(
    """ist sind war heisst bedeutet passiert gilt muss kann darf soll wird macht tun mache tue kostet unterscheidet
    versteht geschieht fur"""
)
_TASKS = {word: task for table in (_VERBS, _QUESTIONS) for task, words in table.items() for word in words}
_VERB = frozenset().union(*_VERBS.values())


def task_of(question: str) -> str:
    """Returns what a question asks for: a verb, a question word, `is it so`, or `other`."""
    clauses = _CLAUSE.findall(skeleton(question[:_HEAD]))
    for clause in clauses:
        if (task := _beginning(_WORD.findall(clause))) is not None:
            return task
        wanted = _WANTED.search(clause)
        if wanted is not None and wanted[1] in _VERB:
            return _TASKS[wanted[1]]
    # As in `with which of them, if any?`
    inside = (word for clause in clauses if clause.endswith("?") for word in _WORD.findall(clause))
    return next((_TASKS[word] for word in inside if word in _TASKS and word not in _VERB), OTHER)


def _beginning(words: list[str]) -> str | None:
    """Returns what a clause asks for that begins with these words; None where its beginning does not say."""
    place = next((place for place in range(len(words)) if not _leads(words, place)), None)
    if place is None:
        return None
    word, following = words[place], words[place + 1 : place + 6]
    if word not in _ASKING or (word == "was" and following[:1] and following[0] in _GERMAN):
        return _TASKS.get(word)
    if following[:1] and following[0] in _SOMEBODY:  # of `could you explain` it is the verb
        return next((_TASKS[each] for each in following if each in _VERB), YES_OR_NO)
    return YES_OR_NO


def _leads(words: list[str], place: int) -> bool:
    """Returns whether a word stands before what is asked: `your task is to`."""
    word = words[place]
    if word in _ASKING:
        return place > 0 and words[place - 1] in _WORK
    return word in _LEADING and word not in _TASKS
