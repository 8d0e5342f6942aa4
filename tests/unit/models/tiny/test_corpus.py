"""The generated text: repeatable, readable, and without the wordings that evaluation reserves."""

from __future__ import annotations

import re
from random import Random

from models.tiny.build import corpus, language
from models.tiny.build.values import VALUES
from pipeline import prompt


def _text(seed: int, sequences: int) -> str:
    drawn = corpus.stream(seed)
    return "\n".join("".join(piece.text for piece in next(drawn)) for _ in range(sequences))


def test_the_same_seed_writes_the_same_text() -> None:
    assert _text(3, 20) == _text(3, 20)
    assert _text(3, 20) != _text(4, 20)


def test_every_relation_has_wordings_enough_and_each_says_what_it_must() -> None:
    assert len(language.relations()) >= 24
    for relation in language.relations().values():
        assert relation.values in VALUES
        assert len(set(relation.facts)) >= 8
        assert len(set(relation.questions)) >= 8
        assert len(relation.reserved) >= 4
        assert all(re.search(r"\{[eE]\}", one) and re.search(r"\{[vV]\}", one) for one in relation.facts)
        assert all(one.count("{e}") == 1 and one[-1] in "?." for one in (*relation.questions, *relation.reserved))


def test_reserved_wordings_are_in_no_training_text() -> None:
    for relation in language.relations().values():
        assert not set(relation.reserved) & set(relation.questions)
    openings = {one.split("{e}")[0] for relation in language.relations().values() for one in relation.reserved}
    unique = {opening for opening in openings if len(opening.split()) >= 5}
    text = _text(5, 400)
    assert not [opening for opening in unique if opening in text]


def test_reserved_wordings_use_words_that_are_taught() -> None:
    taught = set(re.findall(r"[a-z]+", _text(6, 1500).lower()))
    for relation in language.relations().values():
        for one in relation.reserved:
            unknown = set(re.findall(r"[a-z]+", one.replace("{e}", "").lower())) - taught
            assert len(unknown) <= 1, (one, unknown)


def test_answers_follow_from_the_documents() -> None:
    rng = Random(8)
    for _ in range(200):
        drawn = corpus.scene(rng, corpus.HARDEST, questions=4)
        stated = " ".join(passage.text for passage in drawn.passages).lower()
        for exchange in drawn.exchanges:
            if exchange.value is None:
                assert "not stated" in exchange.answer
                assert not prompt.cited(exchange.answer)
            else:
                assert exchange.value.lower() in stated
                assert exchange.value in exchange.answer
            if exchange.source is not None and exchange.value is not None:
                assert prompt.cited(exchange.answer) == [exchange.source]


def test_no_scene_answers_what_it_calls_missing() -> None:
    rng = Random(9)
    for _ in range(200):
        drawn = corpus.scene(rng, corpus.HARDEST, questions=4)
        answers = {one.answer for one in drawn.exchanges if one.value is not None}
        claims = {one.answer.partition(" is not stated")[0] for one in drawn.exchanges if one.value is None}
        assert not [claim for claim in claims for answer in answers if answer.startswith(f"{claim} is ")]


def test_chat_and_plain_hold_the_same_exchange() -> None:
    drawn = corpus.scene(Random(2), corpus.HARDEST, questions=2)
    for chat in (True, False):
        answers = [piece.text for piece in corpus.pieces(drawn, chat=chat) if piece.answer]
        assert [answer.removesuffix("<|im_end|>").strip() for answer in answers] == [e.answer for e in drawn.exchanges]
