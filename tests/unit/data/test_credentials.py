"""Credentials are found, and no pattern of the library is lost to the look that comes before it."""

import importlib
import inspect
import pkgutil
import re

import detect_secrets.plugins
import pytest
from detect_secrets.plugins.base import RegexBasedDetector
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.data import credentials

pytestmark = pytest.mark.unit

PATTERNS = [
    (module, name, number)
    for module, name in credentials.PLUGINS
    for number in range(len(credentials._plugin(module, name)[1]))
]
# Guesses, which a text is not rejected for.
LEFT_OUT = {"IPPublicDetector"}


def test_every_plugin_that_knows_a_form_is_used() -> None:
    there = {
        name
        for each in pkgutil.iter_modules(detect_secrets.plugins.__path__)
        for name, kind in vars(importlib.import_module(f"detect_secrets.plugins.{each.name}")).items()
        if inspect.isclass(kind) and issubclass(kind, RegexBasedDetector) and not inspect.isabstract(kind)
    }
    assert {name for _, name in credentials.PLUGINS} == there - LEFT_OUT


@pytest.mark.parametrize(("module", "name", "number"), PATTERNS)
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_the_look_before_loses_no_match(module: str, name: str, number: int, data: st.DataObject) -> None:
    kind, patterns = credentials._plugin(module, name)
    pattern = patterns[number]
    ascii_pattern = re.compile(pattern.pattern, pattern.flags & ~re.UNICODE | re.ASCII)
    text = data.draw(st.from_regex(ascii_pattern))
    if any(pattern.search(line) for line in text.splitlines()):
        assert kind in credentials.kinds(text)


KEY = "0123456789abcdefABCDEF0123456789abcd"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("AKIA" + "ABCDEFGHIJKLMNOP", "AWS Access Key"),
        ("ghp_" + KEY, "GitHub Token"),
        ("github_pat_" + KEY * 2, "GitHub token"),
        ("-----BEGIN RSA PRIVATE KEY-----", "Private Key"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "Private Key"),
        ("postgresql://app:hunter2hunter2@db.internal/prod", "Basic Auth Credentials"),
        ("Server=db;User Id=app;Password=hunter2hunter2;", "connection string"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc", "JSON Web Token"),
        ("AIza" + "0123456789abcdefABCDEF0123456789abc", "Google API key"),
        ("hf_" + "abcdefghijklmnopqrstuvwxyzABCDEFGH", "Hugging Face token"),
        ("sk-proj-" + KEY, "API key"),
        ("sk_live_" + "0123456789abcdefABCDEF01", "Stripe Access Key"),
        ("xoxb-1234567890-abcdefghij", "Slack Token"),
        ("AccountKey=" + "a" * 86 + "==", "Azure Storage Account access key"),
        ("SG." + "a" * 22 + "." + "b" * 43, "SendGrid API Key"),
    ],
)
@pytest.mark.parametrize("around", ["{}", 'export KEY="{}"\nand more', "the key is {} "])
def test_what_is_planted_is_found(text: str, kind: str, around: str) -> None:
    assert kind in credentials.kinds(around.format(text))


@pytest.mark.parametrize(
    "text",
    [
        "Never tell anybody your password; a bank does not ask for it.",
        "password = <your password>; user = me",
        "Set PASSWORD=${DB_PASSWORD}; then start it",
        "The public key begins with ssh-rsa and the private one stays at home.",
        "https://example.org/path?x=1:2@3",
        "the class Sk and the account AC of 2026",
        "a task-oriented desk-top risk-averse approach",
    ],
)
def test_talk_about_credentials_is_none(text: str) -> None:
    assert credentials.kinds(text) == []
