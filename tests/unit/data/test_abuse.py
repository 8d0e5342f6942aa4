"""Abuse is found, however it is written; what a text reports, discusses or means otherwise is not."""

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.data import abuse

pytestmark = pytest.mark.unit

# What each is held to be, by kind.
ABUSIVE = {
    "insult": [
        "You stupid idiot, can't you read?",
        "you're an absolute moron",
        "You people are nothing but scum.",
        "Go fuck yourself.",
        "Just shut the fuck up already",
        "I think that you are an idiot.",
        "Idiots like you should not vote.",
        "You are so stupid.",
        "Are you fucking retarded?",
        "your a moron",
        "You dumb bitch.",
        "you dyke",
        "You are nothing but a worthless piece of shit.",
        "Du bist ein dummes Arschloch",
        "Du Hurensohn!",
        "Fick dich.",
        "Verpisst euch alle",
        "Halt die Fresse",
        "Sie sind ein verdammter Idiot, Herr Müller.",
        "Sie Vollidiot!",
        "Ihr seid Abschaum.",
        "Ihr blöden Schweine",
        "Ich finde, du bist dumm.",
    ],
    "threat": [
        "You are dead. I will kill you",
        "Kill yourself.",
        "just go kill yourself, nobody will miss you",
        "kys",
        "I hope you die in a fire",
        "I'm going to stab you in your sleep",
        "If you touch her, I will kill you.",
        "i'll slit your throat",
        "You deserve to be raped.",
        "Ich bring dich um",
        "Ich werde dich umbringen, und niemand wird es merken.",
        "Ich stech dich ab.",
        "Geh sterben.",
        "Ich hoffe, du verreckst",
        "Bring dich um!",
    ],
    "hate": [
        "Jews should be gassed",
        "Muslims are vermin.",
        "Let's kill all the immigrants",
        "Black people are nothing but animals.",
        "Go back to your country!",
        "Juden gehören vergast",
        "Ausländer raus!",
        "Flüchtlinge sind Ungeziefer.",
    ],
    "slur": [
        "The niggers next door were loud.",
        "He is such a faggot.",
        "Scheißausländer nehmen uns alles weg",
        "Diese Schlitzaugen schon wieder",
    ],
}

HARMLESS = [
    "How do I kill a Python process? You must kill the parent, then it dies.",
    "The town of Scunthorpe lies in Lincolnshire; Penistone and Middlesex too.",
    "In 1963 Lee Harvey Oswald assassinated the president; he wanted to kill him.",
    "The patient coughs up blood; the anus is examined, and the breast is palpated.",
    "The convict was hanged; others were gassed. Women should be paid equally.",
    "Hitler claimed that Jews should be exterminated, and his party acted on it.",
    "The Nazis believed that Jews were subhuman. They planned to kill all Jews of Europe.",
    '"You idiot!" he shouted, and slammed the door. "I will kill you!"',
    "He told her that you are an idiot if you believe it.",
    'Classify the sentiment: "You are a worthless idiot."',
    'Is the following tweet hate speech? "All niggers must die"',
    'The term "faggot" is derogatory. So is the word nigger.',
    "This policy bans harassment. Examples: 'You are an idiot', 'go kill yourself'.",
    "> You are an idiot.\nPlease do not write so to our staff.",
    "You are not stupid for asking. Never say: you are an idiot.",
    "If you feel like you are worthless, talk to someone you trust.",
    "Don't let anyone call you an idiot. Show me a winner and I'll show you an idiot.",
    "Thoughts of wanting to kill yourself are a reason to call a doctor.",
    "Should you die before the policy ends, your heirs are paid. If you should die, they are, too.",
    "Retardants retard the spread of fire. There is a chink in the armour. The Maine Coon is a cat. The dyke broke.",
    "I will beat you at chess. I'll shoot you an email. I will kill you with kindness. I never want to hurt you.",
    "You pig out at night. When you bitch about it, nobody listens. You prick the dough with a fork.",
    "It gives you enough rope to\nhang yourself with.",
    "Knowing what you're dumb at is half of it. You have to be really dumb not to see it.",
    "You should go back to your country of origin to apply. When you go back to your country, keep the receipt.",
    "Christians must die to self. Pigs are animals, and you are an animal, biologically.",
    "He is an idiot. The Idiot is a novel by Dostoevsky.",
    "Die Juden wurden im Holocaust vergast und ermordet.",
    "Er sagte, dass du ein Idiot bist. Du bist nicht dumm. Wenn du dumm bist, fragst du nicht.",
    "Holt die Flüchtlinge raus aus dem Lager. Die NSDAP behauptete, Juden sind Ungeziefer.",
    "Ich will dich nicht umbringen. Ich bringe dich um acht zum Bahnhof.",
    "Die Frau gab ihr Schwein dem Metzger. Sie sind fette Schweine geworden.",
    "Der Neger galt dem 19. Jahrhundert als Wilder. Die Judensau ist ein Relief an der Kirche in Wittenberg.",
    "Halte die Schnauze des Hundes sauber. Mit MongoDB hast du Mongos Werkzeuge.",
]


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in ABUSIVE.items() for text in texts])
def test_what_is_said_to_somebody(kind: str, text: str) -> None:
    assert abuse.kinds(text) == [kind]


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_like_it(text: str) -> None:
    assert abuse.kinds(text) == []


def test_each_kind_once() -> None:
    text = "You idiot, you moron. I will kill you. The niggers. Jews should be gassed."
    assert sorted(abuse.kinds(text)) == ["hate", "insult", "slur", "threat"]


def test_a_text_that_is_all_in_quotation_marks_reports_nothing() -> None:
    assert abuse.kinds(' "You are an idiot." ') == ["insult"]


def test_a_quoted_slur_is_spoken_about_where_the_subject_is_hate() -> None:
    answer = 'It says "kikes".'
    assert abuse.kinds(answer) == ["slur"]
    assert abuse.kinds(answer, discussed=True) == []
    assert abuse.kinds("Those kikes.", discussed=True) == ["slur"], "nobody quotes it"


@pytest.mark.parametrize(
    ("prompt", "discusses"),
    [
        ("Classify the sentiment of this tweet.", True),
        ("Rewrite it so that it is less rude.", True),
        ("Ist das Hassrede?", True),
        ("Formuliere diese Beleidigung höflicher.", True),
        ("Classify these animals.", False),
        ("You are rude.", False),
        ("What is the capital of France?", False),
    ],
)
def test_what_a_prompt_is_about(prompt: str, discusses: bool) -> None:
    assert abuse.discusses(prompt) is discusses


ANY = st.sampled_from([text for texts in ABUSIVE.values() for text in texts])
LOOK_ALIKES = dict(zip("aeijopscyxAEIKMTO", "аеіјорѕсухАЕІКМТО", strict=True))
WIDE = {chr(code): chr(code + 0xFEE0) for code in range(0x21, 0x7F)}
DISGUISES = st.sampled_from(
    [
        str.upper,
        str.title,
        "\u200b".join,
        lambda text: text.replace("e", "e\u00ad"),
        lambda text: "".join(LOOK_ALIKES.get(letter, letter) for letter in text),
        lambda text: "".join(WIDE.get(letter, letter) for letter in text),
        lambda text: re.sub("[aeo]", lambda letter: letter[0] + "\u0301", text),
        lambda text: text.replace(" ", "  \n"),
        lambda text: text.replace("'", "\u2019"),
        lambda text: f"😀{text}😀",
    ]
)


@settings(deadline=None)
@given(ANY, st.lists(DISGUISES, max_size=3))
def test_however_it_is_written(text: str, disguises: list[object]) -> None:
    kinds = abuse.kinds(text)
    for disguise in disguises:
        text = disguise(text)  # type: ignore[operator]
    assert abuse.kinds(text) == kinds


@pytest.mark.parametrize("text", ["you 1d1ot", "You a$$hole", "k1ll yours3lf", "n1gg3rs"])
def test_digits_and_signs_that_stand_for_letters(text: str) -> None:
    assert len(abuse.kinds(text)) == 1


@pytest.mark.parametrize(
    "after", ["The town", "A question", "an idea", "up there", "of it", "rights", "trying", "des Hundes"]
)
def test_what_the_next_paragraph_begins_with_excuses_nothing(after: str) -> None:
    for kind, texts in ABUSIVE.items():
        for text in texts:
            assert abuse.kinds(f"{text}\n\n{after}.") == [kind], text


@settings(deadline=None)
@given(ANY, st.lists(st.sampled_from(HARMLESS), max_size=3), st.lists(st.sampled_from(HARMLESS), max_size=3))
def test_a_long_text_hides_nothing(text: str, before: list[str], after: list[str]) -> None:
    assert set(abuse.kinds(text)) <= set(abuse.kinds("\n\n".join([*before, text, *after])))


@pytest.mark.parametrize("place", range(len(abuse._patterns())))
def test_the_look_before_loses_no_match(place: int) -> None:
    each = abuse._patterns()[place]

    @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.from_regex(re.compile(each.pattern.pattern, re.ASCII)))
    def is_possible(text: str) -> None:
        folded, there = abuse._read(text)
        if each.pattern.search(folded):
            assert each in abuse._possible(there)

    is_possible()
