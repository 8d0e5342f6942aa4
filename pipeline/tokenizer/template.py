"""A chat template as text: rendered as `apply_chat_template` of transformers renders it, for messages that are text.

Templates come with models, and are code from elsewhere: they run in Jinja's sandbox, and see messages and names alone.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import Template, TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace


def render(template: str, messages: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]) -> str:
    """Returns the conversation as the template writes it.

    Raises jinja2.TemplateError for a template that cannot be compiled or that refuses the conversation, and what its
    expressions raise: TypeError, ValueError, KeyError, IndexError.
    """
    # Templates ask whether these two are None, and would take a name that is not defined for tools.
    given = {"tools": None, "documents": None, **variables}
    return _compiled(template).render(messages=list(messages), **given)


@lru_cache(maxsize=64)
def _compiled(template: str) -> Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _json
    environment.globals |= {
        "raise_exception": _refuse,
        "strftime_now": lambda form: datetime.now().strftime(form),  # local time, as transformers has it
        "dict": _Dict(),
        "namespace": _Namespace,
    }
    return environment.from_string(template)


class _Generation(Extension):
    """The tag around an assistant's words by which transformers masks them. It writes nothing itself."""

    tags = frozenset({"generation"})  # type: ignore[assignment]  # a set, to jinja2, which no one changes

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)


class _Dict:
    """`dict`, as far as templates call it: the class itself would be a way to others."""

    def __call__(self, *args: Any, **named: Any) -> dict[Any, Any]:
        return dict(*args, **named)

    def fromkeys(self, keys: Any, value: Any = None) -> dict[Any, Any]:
        return dict.fromkeys(keys, value)


class _Namespace(Namespace):
    """`namespace`, without names that begin with an underscore: Python keeps its own there."""

    def __init__(self, /, *given: Any, **named: Any) -> None:
        values = dict(*given, **named)
        for name in values:
            _require_public(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _require_public(name)
        super().__setitem__(name, value)


def _require_public(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a template keeps no variable called {name}")


def _refuse(message: str) -> None:
    raise TemplateError(message)


def _json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    # Jinja's own filter escapes for HTML.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
