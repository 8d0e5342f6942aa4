"""The one prompt form."""

from __future__ import annotations

from pipeline.prompt import Passage, cited, messages, sentences

TEXT = """# Breach

## Rules

The notice is due within 72 hours. Article 33 requires it! Is it short?
It is EUR 15,000 or 4.5 % at most.

- First point.
- Second point.
"""


def test_sentences_leave_headings_out_and_numbers_whole() -> None:
    assert sentences(TEXT) == [
        "The notice is due within 72 hours.",
        "Article 33 requires it!",
        "Is it short?",
        "It is EUR 15,000 or 4.5 % at most.",
        "First point.",
        "Second point.",
    ]
    assert sentences("# Only a heading") == []


def test_every_sentence_carries_its_document() -> None:
    (asked,) = messages("Why?", [Passage("breach", TEXT), Passage("audit", "It is done.")])
    assert asked["role"] == "user"
    assert asked["content"].startswith("Documents:\nThe notice is due within 72 hours. [breach] Article 33")
    assert asked["content"].endswith("\nIt is done. [audit]\n\nQuestion: Why?")


def test_without_passages_only_the_question_is_put() -> None:
    assert messages("Why?", []) == [{"role": "user", "content": "Question: Why?"}]


def test_citations_are_read_in_order_and_once() -> None:
    assert cited("It is so. [b-2] And so. [a] Again [b-2]. Not [this one] nor [-x].") == ["b-2", "a"]
    assert cited("Nothing.") == []
