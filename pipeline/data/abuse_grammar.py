"""How abuse is said, in English and German: who is spoken to, and what he is called, wished or threatened with.

Expressions are over skeletons of texts (normal.py): lower case, no umlauts. A space in one stands for white space and
commas between two words.
"""

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from pipeline.data import abuse_words as words
from pipeline.data.normal import skeleton

Kind = Literal["slur", "insult", "threat", "hate"]


class Form(NamedTuple):
    """A way of saying something abusive."""

    kind: Kind
    needs: tuple[frozenset[str], ...]  # a word of each stands in every text that it matches; the last are the rarest
    expression: str


def forms() -> Iterator[Form]:
    """Yields every form that is known."""
    names = [skeleton(name) for name in words.GERMAN_GROUPS]
    compounds = [
        f"{before}{name}{end}" for before in words.SLUR_PREFIXES for name in names for end in ("", "n", "s", "e")
    ]
    slurs = [*words.SLURS, *compounds]
    yield Form("slur", (_marks(slurs),), rf"\b{_any(slurs)}\b")
    yield from _english_insults()
    yield from _english_threats()
    yield from _english_wishes()
    yield from _english_hate()
    yield from _german_insults()
    yield from _german_threats()
    yield from _german_hate()


def _any(terms: Iterable[str]) -> str:
    """Returns an expression for any of these terms, longer ones first."""
    plain = {skeleton(term).replace("_", " ") for term in terms}
    return "(?:" + "|".join(sorted(plain, key=lambda term: (-len(term), term))) + ")"


_COMMON = {"a", "ein", "nichts", "fat", "dirty", "filthy", "disgusting"}  # in other texts as well


def _marks(terms: Iterable[str]) -> frozenset[str]:
    """Returns a word of each term without which it is not there."""
    split = [skeleton(term).split("_") for term in terms]
    return frozenset(next((part for part in parts if part not in _COMMON), parts[-1]) for parts in split)


# Of a sentence or a part of it. A new line alone may stand in the middle of one.
_START = r"(?:^\W{0,9}|[.!?:;,]\W{0,9}|\n\s{0,9}\n)"
_END = r"(?=\s*(?:[.!?;,]|$)|\s{0,9}\n\s{0,9}\n)"
# Before what follows in the same paragraph.
_ON = r"(?:[^\S\n]|,|\n(?!\s{0,9}\n))+"
_YOU, _YOUR = frozenset({"you", "u", "ya", "yall", "ur", "youre", "yallre"}), frozenset({"you", "u", "your"})
_DU, _DICH = frozenset({"du", "ihr", "sie"}), frozenset({"dich", "euch"})
_ANY_FILLER, _FILLER = _any([*words.ARTICLES, *words.FILLERS]), _any(words.FILLERS)
_PEOPLE = "(?: guys| people| all| both| two)?"
_BE = rf"(?:(?:you|u|ya|yall){_PEOPLE}(?:'?re| are| r| were)|ur|are (?:you|u))"
_ARE = rf"\b{_BE}{_PEOPLE}(?: {_ANY_FILLER}){{0,5}}"


def _english_insults() -> Iterator[Form]:
    nouns = {*words.INSULTS, *(f"{word}s" for word in words.INSULTS if not word.endswith("s"))}
    # Some are verbs as well: to bitch about, to prick your finger.
    verb = rf"(?!{_ON}(?:your|the|a|an|it|them|this|about|out|up|in|into|on|with|holes)\b)"
    insulted = (_YOU | {"your"}, _marks(nouns))
    yield Form("insult", insulted, rf"(?:{_ARE}|\byour an?(?: {_ANY_FILLER}){{0,4}}) {_any(nouns)}\b")
    yield Form("insult", insulted, rf"\b(?:you|u|ya|yall){_PEOPLE}(?: {_FILLER}){{0,5}} {_any(nouns)}\b{verb}")
    yield Form("insult", (_YOU, frozenset({"like"}), _marks(nouns)), rf"\b{_any(nouns)} like (?:you|u)\b")
    thing = rf"(?!{_ON}(?:question|idea|thing|luck)s?\b)"
    yield Form("insult", (_YOU, _marks(words.PREDICATES)), rf"{_ARE} {_any(words.PREDICATES)}\b{thing}")
    matter = ("shit", "crap", "garbage", "trash")
    yield Form(
        "insult",
        (_YOU, frozenset(matter)),
        rf"(?:{_ARE}|\b(?:you|u){_PEOPLE}(?: {_FILLER}){{0,5}}) (?:piece|pieces|sack|bag) of {_any(matter)}\b",
    )
    yield Form("insult", (frozenset({"fuck"}),), rf"\bfuck (?:(?:you|u)\b(?!{_ON}up)|off\b|yourself\b)")
    yield Form("insult", (frozenset({"stfu"}),), r"\bstfu\b")
    yield Form(
        "insult", (frozenset({"shut"}), frozenset({"fuck", "fucking"})), r"\bshut (?:the fuck up|your fucking \w+)\b"
    )
    yield Form(
        "insult",
        (frozenset({"suck", "eat", "kiss"}), frozenset({"dick", "cock", "shit", "ass", "arse"})),
        rf"(?:{_START}|\b(?:go|can|you|and) )(?:suck my (?:dick|cock)|eat shit|kiss my (?:\w+ )?(?:ass|arse))\b",
    )


def _english_threats() -> Iterator[Form]:
    will = (
        r"\b(?:i|we)(?:'ll| will|'m going to| am going to|'re going to| are going to|'m gonna| am gonna|'re gonna"
        r"| gonna|'?mma| want to| wanna| should|'d love to| would love to)(?: (?!not\b|never\b)\w+){0,2}"
    )
    kill = ("kill", "murder", "rape", "stab", "strangle", "behead", "slaughter", "disembowel", "dismember", "skin")
    family = "(?:family|kids|children|wife|husband|mother|father|son|daughter)"
    yield Form(
        "threat",
        (_YOUR, frozenset(kill)),
        rf"{will} {_any(kill)} (?:you|u|your {family})\b(?!{_ON}(?:a|an|some|with kindness)\b)",
    )
    harm = ("shoot", "beat", "hurt", "choke", "burn")
    how = r"dead|down|all|to death|bloody|senseless|up|alive|so bad|badly|in the (?:head|face)"
    yield Form(
        "threat",
        (_YOUR, frozenset(harm)),
        rf"{will} {_any(harm)} (?:the (?:shit|crap|hell|life) out of )?(?:you|u)\b(?: (?:{how})\b|{_END})",
    )
    wound = ("slit", "cut", "smash", "break", "bash", "blow", "crush", "kick", "rip", "snap")
    body = ("throat", "face", "skull", "neck", "head", "legs", "bones", "teeth", "brains", "guts")
    yield Form(
        "threat",
        (_YOUR, frozenset(body), frozenset(wound)),
        rf"{will} {_any(wound)} your (?:fucking |ugly |stupid ){{0,4}}{_any(body)}\b",
    )


def _english_wishes() -> Iterator[Form]:
    """Yields wishes for somebody's death, and calls to take one's own life."""
    end = (
        "die",
        "rot",
        "suffer",
        "burn",
        "choke",
        "get raped",
        "get cancer",
        "get killed",
        "get shot",
        "kill yourself",
    )
    yield Form(
        "threat",
        (frozenset(each.split()[0] for each in end), frozenset({"hope"})),
        rf"\b(?:i|we) (?:\w+ )?hope (?:that )?(?:you|your (?:\w+ )?(?:family|kids|children|mother))(?: all| both)?"
        rf" {_any(end)}\b(?!{_ON}trying)",
    )
    killed = ("killed", "shot", "raped", "hanged", "hung", "gassed", "exterminated", "lynched", "beheaded")
    yield Form(
        "threat",
        (_YOU, frozenset({*killed, "die", "hell", "yourself"}), frozenset({"deserve", "should"})),
        rf"(?<!\bif\s)(?<!\bcase\s)\b(?:you|u)(?: people| guys)?(?: all| both| just| really){{0,4}}"
        r" (?:should|deserve to)(?: all| just){0,4}"
        rf" (?:die\b{_END}|(?:rot|burn) in hell\b|(?:go )?(?:kill|hang) yourself\b|be {_any(killed)}\b)",
    )
    own = ("kill", "hang", "shoot", "drown")
    selves = ("yourself", "yourselves", "urself")
    yield Form(
        "threat",
        (frozenset(own), frozenset(selves)),
        rf"(?:{_START}|\b(?:go|just|please|now) )(?:go |just |please ){{0,4}}{_any(own)} {_any(selves)}\b",
    )
    yield Form("threat", (frozenset({"kys"}),), r"\bkys\b")
    yield Form(
        "threat", (frozenset({"go"}), frozenset({"die"})), rf"{_START}(?:just |please )?go (?:fucking )?die{_END}"
    )
    yield Form("threat", (frozenset({"hell"}), frozenset({"rot"})), rf"{_START}(?:just |please )?rot in hell\b")


def _english_hate() -> Iterator[Form]:
    groups, marks = _any(words.GROUPS), _marks(words.GROUPS)
    must = r"(?:should|must|deserve to|need to|ought to|have to|gotta)(?: all| just| really){0,4}"
    yield Form(
        "hate", (marks, _marks(words.KILLED)), rf"\b{groups} {must} (?:be|get) (?:{_FILLER} )?{_any(words.KILLED)}\b"
    )
    ends = ("die", "rot", "burn")
    yield Form("hate", (frozenset(ends), marks), rf"\b{groups} {must} {_any(ends)}\b(?: in hell)?{_END}")
    call = rf"(?:{_START}|\b(?:lets|let's|let us|we should|we must|we need to|we gotta|time to|just|please|go) )"
    kill = ("kill", "gas", "exterminate", "lynch", "hang", "slaughter", "eradicate", "behead")
    which = "(?:all|every|the|those|these|them|fucking|damn|filthy|dirty)"
    yield Form("hate", (marks, frozenset(kill)), rf"{call}{_any(kill)}(?: {which}){{1,4}} {groups}\b")
    yield Form(
        "hate",
        (marks, _marks(words.DEHUMANISED)),
        rf"\b{groups} are (?:{_ANY_FILLER} ){{0,4}}{_any(words.DEHUMANISED)}\b(?!{_ON}(?:lovers?|rights))",
    )
    yield Form(
        "hate",
        (frozenset({"country", "came", "africa"}), frozenset({"go"}), frozenset({"back"})),
        rf"{_START}(?:you )?go back to (?:(?:your|ur)(?: own| fucking| shithole){{0,2}} country|africa"
        rf"|where (?:you|u) came from)\b(?!{_ON}(?:of|page|settings|and|to)\b)",
    )


def _german_insults() -> Iterator[Form]:
    singular, plural, named = (
        _any(words.GERMAN_INSULTS),
        _any(words.GERMAN_INSULT_PLURALS),
        _marks(words.GERMAN_INSULTS),
    )
    yield Form("insult", (_DU, named), rf"\b(?:du|bist du)(?: bist)?(?: {_ANY_FILLER}){{0,5}} {singular}\b")
    yield Form(
        "insult", (_DU, _marks(words.GERMAN_INSULT_PLURALS)), rf"\bihr(?: seid)?(?: {_ANY_FILLER}){{0,5}} {plural}\b"
    )
    # Of `sie`, which is also `they`, only where the rest of it leaves no doubt.
    yield Form("insult", (_DU, named), rf"\bsie sind(?: {_ANY_FILLER}){{0,3}} eine?(?: {_FILLER}){{0,4}} {singular}\b")
    people = _any(word for word in words.GERMAN_INSULTS if word not in words.ANIMALS)
    yield Form("insult", (_DU, named), rf"{_START}sie(?: {_FILLER}){{0,4}} {people}{_END}")
    yield Form(
        "insult",
        (_DU, _marks(words.GERMAN_PREDICATES)),
        rf"\b(?:du bist|ihr seid)(?: {_ANY_FILLER}){{0,4}} {_any(words.GERMAN_PREDICATES)}\b",
    )
    away = ("fick", "fickt", "verpiss", "verpisst")
    yield Form("insult", (_DICH, frozenset(away)), rf"\b{_any(away)} (?:dich|euch)\b")
    mouths = ("maul", "fresse", "schnauze")
    mine = "(?: (?:deine?|die|das|mal|einfach|verdammte)){0,4}"
    yield Form(
        "insult",
        (frozenset(mouths),),
        rf"\bhalt(?:e|et|'?s)?{mine} {_any(mouths)}\b(?!{_ON}(?:des|der|von|eines|einer)\b)",
    )
    yield Form("insult", (frozenset({"leck"}), frozenset({"arsch"})), r"\bleck mich(?: doch)? am arsch\b")


def _german_threats() -> Iterator[Form]:
    kill = "umbringen töten abstechen erschießen vergewaltigen erwürgen abschlachten totschlagen aufschlitzen abknallen"
    some = r"(?: (?!nicht\b|nie)\w+)"
    yield Form(
        "threat",
        (_DICH, _marks(kill.split())),
        rf"\bich (?:werde|will|wurde|muss|sollte) (?:dich|euch){some}{{0,3}} {_any(kill.split())}\b",
    )
    # Um, ab: not of a time (ich bringe dich um acht).
    do = ("bring", "bringe", "stech", "steche", "mach", "mache", "schlag", "schlage", "knall", "knalle")
    done = rf"(?:{_END}|(?= (?:du|ihr|und|wenn|falls)\b))"
    yield Form(
        "threat", (_DICH, frozenset(do)), rf"\bich {_any(do)} (?:dich|euch){some}{{0,2}} (?:um|ab|kalt|tot)\b{done}"
    )
    own = ("bring", "bringt", "hang", "hangt", "erschiess")
    yield Form(
        "threat",
        (_DICH, frozenset(own)),
        rf"(?:{_START}|\b(?:geh|los|dann) ){_any(own)} (?:dich|euch)(?: doch| einfach| endlich){{0,4}}"
        rf" (?:um|auf|selbst)\b{done}",
    )
    yield Form(
        "threat",
        (frozenset({"geh", "stirb", "verreck", "verrecke"}),),
        rf"{_START}(?:geh(?: doch)? sterben\b|stirb(?: endlich| doch| du)\b|verrecke?(?: doch| endlich| du)?{_END})",
    )
    ends = ("stirbst", "sterbt", "verreckst", "verreckt")
    yield Form(
        "threat",
        (frozenset({"hoffe"}), frozenset(ends)),
        rf"\bich hoffe (?:dass )?(?:du|ihr)(?: \w+){{0,3}} {_any(ends)}\b",
    )
    fates = ("sterben", "verrecken", "vergast", "erschossen", "aufgehängt", "umgebracht")
    deserve = "(?:sollst|solltest|gehorst|sollt|solltet|gehort|verdienst es zu)"
    yield Form("threat", (_DU, _marks(fates)), rf"\b(?:du|ihr) {deserve}{some}{{0,2}} {_any(fates)}\b")


def _german_hate() -> Iterator[Form]:
    groups, marks = _any(words.GROUPS), _marks(words.GROUPS)
    must = "(?:gehoren|sollten?|mussen|soll|muss)(?: (?:man|alle|doch|endlich|einfach|werden)){0,3}"
    yield Form("hate", (marks, _marks(words.KILLED)), rf"\b{groups} {must} {_any(words.KILLED)}\b")
    yield Form(
        "hate",
        (marks, _marks(words.DEHUMANISED)),
        rf"\b{groups} sind (?:{_ANY_FILLER} |alle |nichts als ){{0,4}}{_any(words.DEHUMANISED)}\b",
    )
    yield Form("hate", (marks, frozenset({"raus"})), rf"{_START}{groups} raus\b")
    dative = {form for group in words.GROUPS for form in (group, f"{group}n")}
    yield Form("hate", (_marks(dative), frozenset({"tod"})), rf"{_START}tod (?:den|allen) {_any(dative)}\b")
