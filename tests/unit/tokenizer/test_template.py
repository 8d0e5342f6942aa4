"""A template renders here as transformers renders it, and gets no further into Python."""

from typing import Any

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from pipeline.tokenizer import template
from tests.unit.test_chat import FAMILIES, FIRST, ODD, SECOND, SYSTEM, conversations, tokenizer_for

pytestmark = pytest.mark.unit

REFUSALS = (jinja2.TemplateError, TypeError, ValueError, KeyError, IndexError)


def theirs(name: str, messages: list[dict[str, Any]], **options: Any) -> str | type[Exception]:
    """What transformers renders, or the error."""
    try:
        return str(tokenizer_for(name).apply_chat_template(messages, tokenize=False, **options))
    except REFUSALS as error:
        return type(error)


def ours(name: str, messages: list[dict[str, Any]], **options: Any) -> str | type[Exception]:
    """What is rendered here, or the error."""
    tokenizer = tokenizer_for(name)
    variables = {**tokenizer.special_tokens_map, "add_generation_prompt": False, **options}
    try:
        return template.render(tokenizer.chat_template, messages, variables)
    except REFUSALS as error:
        return type(error)


@pytest.mark.parametrize("name", [*FAMILIES, *ODD])
@pytest.mark.parametrize("options", [{}, {"add_generation_prompt": True}, {"enable_thinking": False}], ids=str)
def test_every_template_is_rendered_as_by_transformers(name: str, options: dict[str, bool]) -> None:
    for messages in ([*FIRST], [SYSTEM, *FIRST, *SECOND], FIRST[:1], FIRST[1:], [*FIRST, FIRST[1]]):
        assert ours(name, messages, **options) == theirs(name, messages, **options)
        parts = [{**each, "content": [{"type": "text", "text": each["content"]}]} for each in messages]
        assert ours(name, parts, **options) == theirs(name, parts, **options)


@given(name=st.sampled_from([*FAMILIES, *ODD]), messages=conversations())
@settings(max_examples=200, deadline=None)
def test_any_conversation_is_rendered_as_by_transformers(name: str, messages: list[dict[str, str]]) -> None:
    assert ours(name, messages) == theirs(name, messages)


@pytest.mark.parametrize(
    "text",
    [
        "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m.content }}{% endfor %}",
        "{% for m in messages %}{% generation %}{% set x = m.role %}{{ x }}{% endgeneration %}{{ x }}{% endfor %}",
        "{{ messages | tojson }} {{ {'b': '<ü>', 'a': 1} | tojson(indent=2, sort_keys=true) }}",
        "{% set ns = namespace(n=0, self=2) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
        "{{ dict(a=1) }}{{ dict.fromkeys(['a', 'b'], 0) }}{{ dict([('c', 2)]) }}",
        "  {% if tools is none %}\n    no tools\n  {% endif %}\n{{ documents is none }}{{ nothing is defined }}",
        "{{ raise_exception('roles') }}",
        "{% for m in messages %}{% endgeneration %}{% endfor %}",
        "{{ messages[9].content.x }}",
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__ }}",
        "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
        "{{ namespace(_x=1) }}",
        "{{ dict.__init__.__globals__ }}",
        "{{ dict.mro() }}",
        "{{ cycler.__init__.__globals__.os }}",
    ],
)
def test_what_a_template_may_do_is_what_transformers_lets_it_do(text: str) -> None:
    messages = [dict(message) for message in FIRST]

    def by_transformers() -> object:
        return render_jinja_template([messages], chat_template=text)[0][0]

    def here() -> object:
        return template.render(text, messages, {"add_generation_prompt": False})

    results: list[object] = []
    for render in (by_transformers, here):
        try:
            results.append(render())
        except REFUSALS as error:
            results.append(type(error))
    assert results[0] == results[1]


@pytest.mark.parametrize(
    "text",
    [
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ dict.__init__.__globals__ }}",
        "{{ namespace(_x=1) }}",
        "{{ raise_exception.__globals__['json'] }}",
        "{{ strftime_now.__globals__['json'] }}",
    ],
)
def test_a_template_reaches_nothing_but_its_messages(text: str) -> None:
    with pytest.raises(jinja2.TemplateError):
        template.render(text, FIRST, {})
