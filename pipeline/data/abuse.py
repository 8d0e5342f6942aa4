"""Abuse in a text: slurs, insults and threats that are said to somebody, calls for hate. English and German.

A swear word alone is no abuse, nor is what is said of somebody who is not spoken to: a word counts by who is addressed
and by what stands around it. What stands in quotation marks is speech that a text reports. A slur is spoken about where
it is named as a word, or quoted in a text about hate, insults or moods. A look at a text's words comes first: most have
none of those without which nothing matches.

Not seen: irony, allusion, contempt for somebody absent, sexual content, words that abuse_words.py does not have,
letters that stand apart or are masked by stars, other languages. alt-profanity-check 1.9, a linear model, was tried in
its place: it knows English swear words alone, and does not see one insult in a long row.
"""

import re
import string
from functools import cache
from typing import NamedTuple

from pipeline.data import abuse_grammar
from pipeline.data.abuse_grammar import Kind
from pipeline.data.normal import skeleton


class _Pattern(NamedTuple):
    kind: Kind
    needs: tuple[frozenset[str], ...]
    pattern: re.Pattern[str]
    reported: re.Pattern[str]  # what, before a match in the same clause, says that it is not meant


def kinds(text: str, *, discussed: bool = False) -> list[Kind]:
    """Returns what kinds of abuse a text holds, each once.

    `discussed` says that what the text answers is about hate, insults or moods: slurs that it quotes are spoken about,
    as where it is about them itself.
    """
    folded, there = _read(text)
    patterns = _possible(there)
    if not any(each.pattern.search(folded) for each in patterns):
        return []
    spoken, _ = _read(_without_quotations(text))
    about = discussed or discusses(text)
    held = (each.kind for each in patterns if _holds(each, folded if each.kind == "slur" and not about else spoken))
    return list(dict.fromkeys(held))


_SUBJECT = re.compile(
    r"\b(?:hate.?speech|hateful|slurs?|epithets?|derogatory|pejorative|profanit\w+|toxicity|content.moderation|sentiments?"
    r"|cyber.?bull\w+|verbal.abuse|swear.?words?"
    r"|hassrede|schimpfw\w+|abwertend\w*|beschimpfung\w*|volksverhetzung|stimmungsanalyse)\b"
)
_TASK = re.compile(
    r"\b(?:classif|categor|detect|identif|label|flag|rate|moderat|rewrit|rephras|paraphras|translat|edit|analy|explain"
    r"|defin|summar|determin|evaluat|respond|reply|decide"
    r"|klassifi|erkenn|einordn|ordne|bewert|umformulier|formulier|ubersetz|erklar|entscheid|antwort)"
)
_MATTER = re.compile(
    r"\b(?:offensiv|insult|toxic|rude|impolite|abus|polite|bully|harass|tone\b|threat|racis|sexis|emotion|mood\b"
    r"|beleidig|hoflich|unhoflich|bedroh|drohung|rassis|tonfall)"
)


def discusses(text: str) -> bool:
    """Returns whether a text is about hate, insults or moods, as the prompt of a classification is."""
    folded = skeleton(text)
    if _SUBJECT.search(folded):
        return True
    return _TASK.search(folded) is not None and _MATTER.search(folded) is not None


# Digits and signs that may stand for letters, since a letter follows: 1d1ot.
_STANDS_FOR = re.compile(r"[013457@$](?=[a-z@$])")
_STAND_FOR = re.compile(r"[013457@$]{1,8}(?=[a-z])")
_LETTERS = str.maketrans("013457@$", "oieastas")
_BREAKS = {code: " " for code in range(128) if not chr(code).isalnum()}


def _read(text: str) -> tuple[str, set[str]]:
    """Returns a text as it is matched, and its words."""
    folded = skeleton(text)
    if _STANDS_FOR.search(folded):
        folded = _STAND_FOR.sub(lambda signs: signs[0].translate(_LETTERS), folded)
    return folded, set(folded.translate(_BREAKS).split())


_LINE = r"\n(?![ \t]*\n)"  # a quotation ends with its paragraph
_QUOTATION = re.compile(
    rf'"(?:[^"\n]|{_LINE}){{1,2000}}"|“(?:[^“”\n]|{_LINE}){{1,2000}}”|„(?:[^„“”\n]|{_LINE}){{1,2000}}[“”]'
    rf"|«(?:[^«»\n]|{_LINE}){{1,2000}}»|»(?:[^«»\n]|{_LINE}){{1,2000}}«"
    r"|‘[^‘\n]{1,600}?’(?!\w)|‚[^‚‘\n]{1,600}‘|(?<![\w'])'(?:[^'\n]|(?<=\w)'(?=\w)){1,600}'(?![\w'])"
    r"|^[ \t]*>.*$",
    re.MULTILINE,
)


def _without_quotations(text: str) -> str:
    """Returns a text without what stands in quotation marks, unless that is all of it."""
    whole = text.strip()
    return _QUOTATION.sub(lambda quotation: whole if quotation[0] == whole else ' "" ', whole)


_NEAR = 80  # characters before a match that are looked at
_CLAUSE = re.compile(r"[.!?;\n]")
_BETWEEN = string.punctuation + string.whitespace
# Whoever says `I think that` says himself what follows.
_MYSELF = re.compile(
    r"\bi (?:\w+ )?(?:think|believe|say|said|swear|told you|guess|know|mean|tell you)(?: that)?\b"
    r"|\bich (?:\w+ )?(?:finde?|glaube?|denke?|sage?|meine?)\b,?(?: dass)?"
)


def _holds(each: _Pattern, text: str) -> bool:
    return any(not each.reported.search(_before(text, match)) for match in each.pattern.finditer(text))


def _before(text: str, match: re.Match[str]) -> str:
    """Returns what stands before a match in its clause."""
    start = match.end() - len(match[0].lstrip(_BETWEEN))  # the end of another clause may be part of the match
    clause = _CLAUSE.split(text[max(0, start - _NEAR) : start])[-1]
    return _MYSELF.sub(" ", clause)


_NOT = r"not|never|nobody|nicht|nie|niemals|kein\w*"
_SAYS = (
    r"sa(?:y|ys|id|ying)|tells?|told|telling|call(?:s|ed|ing)?|shout\w*|yell\w*|scream\w*|wrote|writes|claim\w*|argu\w*"
    r"|sag(?:t|te|en|ten)?|nenn\w*|behaupt\w*|schrei\w*|schrieb\w*|rief(?:en)?"
)
_REPORTED: dict[Kind, re.Pattern[str]] = {
    "slur": re.compile(
        r"\b(?:words?|terms?|slurs?|epithets?|called|name|wort|worte|worter|begriff\w*|bezeichnung\w*)\W+(?:\w+\W+){0,2}\Z"
    ),
    "insult": re.compile(
        rf"\b(?:{_NOT}|{_SAYS}|if|whether|unless|that|like|though|feel\w*|felt|think\w*|thought|believ\w*|consider\w*|means?"
        r"|mak(?:e|es|ing)|made|why|how|what|who|show\w*|suppos\w*|accus\w*|convinc\w*|imply\w*|because|when|wherever|until"
        r"|before|wenn|ob|dass|falls|find\w*|glaub\w*|denk\w*|mein\w*|fuhl\w*|weil|halt\w*|warum|als)\b|n't\b"
    ),
    "threat": re.compile(rf"\b(?:{_NOT}|{_SAYS}|threat\w*|lyrics?|droh\w*)\b|n't\b"),
    "hate": re.compile(
        rf"\b(?:{_NOT}|{_SAYS}|that|whether|if|why|how|believ\w*|belief\w*|ideolog\w*|propagand\w*|nazis?|hitler\w*|to|idea"
        r"|views?|notion|myth|dass|ob|wenn|warum|als|laut|angeblich)\b|n't\b"
    ),
}


@cache
def _patterns() -> tuple[_Pattern, ...]:
    return tuple(
        _Pattern(form.kind, form.needs, re.compile(form.expression.replace(" ", r"[\s,]+")), _REPORTED[form.kind])
        for form in abuse_grammar.forms()
    )


@cache
def _by_sign() -> dict[str, list[int]]:
    """Returns the places of the patterns that need a word, by the words of the last of their needs."""
    signs: dict[str, list[int]] = {}
    for place, each in enumerate(_patterns()):
        for sign in each.needs[-1]:
            signs.setdefault(sign, []).append(place)
    return signs


def _possible(there: set[str]) -> list[_Pattern]:
    """Returns the patterns that can match a text with these words."""
    signs = _by_sign()
    near = {place for sign in there & signs.keys() for place in signs[sign]}
    return [_patterns()[place] for place in sorted(near) if not any(map(there.isdisjoint, _patterns()[place].needs))]
