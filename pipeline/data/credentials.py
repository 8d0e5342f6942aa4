"""Credentials in a text: keys, tokens, private keys, connection strings with a password.

The patterns are detect-secrets', all but those that take a guess (entropy, any word "password", public addresses), and
those of newer tokens. Its own scan does some hundred rows a second; here a pattern is tried only where a text has one
of the signs without which it cannot match.
"""

import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module

# By the plugin's module and class: signs, one of which every match of its patterns holds, in lower case.
PLUGINS: dict[tuple[str, str], tuple[str, ...]] = {
    ("artifactory", "ArtifactoryDetector"): ("akc", "ap"),
    ("aws", "AWSKeyDetector"): ("a3t", "abia", "acca", "akia", "asia", "aws"),
    ("azure_storage_key", "AzureStorageKeyDetector"): ("accountkey=",),
    ("basic_auth", "BasicAuthDetector"): ("://",),
    ("cloudant", "CloudantDetector"): ("cl", "cloudant"),
    ("discord", "DiscordBotTokenDetector"): (".",),
    ("github_token", "GitHubTokenDetector"): ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"),
    ("gitlab_token", "GitLabTokenDetector"): ("gl", "gr1348941"),
    ("ibm_cloud_iam", "IbmCloudIamDetector"): ("key", "pwd", "password", "pass", "token"),
    ("ibm_cos_hmac", "IbmCosHmacDetector"): ("secret",),
    ("jwt", "JwtTokenDetector"): ("eyj",),
    ("mailchimp", "MailchimpDetector"): ("-us",),
    ("npm", "NpmDetector"): ("_authtoken",),
    ("openai", "OpenAIDetector"): ("sk-",),
    ("private_key", "PrivateKeyDetector"): ("private key", "putty-user-key-file-2"),
    ("pypi_token", "PypiTokenDetector"): ("pypi-",),
    ("sendgrid", "SendGridDetector"): ("sg.",),
    ("slack", "SlackDetector"): ("xox", "hooks.slack.com"),
    ("softlayer", "SoftlayerDetector"): ("sl", "softlayer"),
    ("square_oauth", "SquareOAuthDetector"): ("sq0csp-",),
    ("stripe", "StripeDetector"): ("k_live_",),
    ("telegram_token", "TelegramBotTokenDetector"): (":",),
    ("twilio", "TwilioKeyDetector"): ("ac", "sk"),
}
# Where a sign alone is in every other text: what must stand there, too, for a match to be possible.
_LONG = {
    "DiscordBotTokenDetector": re.compile(r"[MNO][\w-]{23,25}\.[\w-]{6}\."),
    "TelegramBotTokenDetector": re.compile(r"\d{8}:[\w-]"),
    "TwilioKeyDetector": re.compile(r"[a-z0-9]{32}"),
    "ArtifactoryDetector": re.compile(r"A[KP][A-F\d][A-Za-z0-9]{8}"),
    "CloudantDetector": re.compile(
        r"cl(?:ou(?:dant)?)?[_-]?(?:api)?[_-]?(?:key|pwd|pw|pass|token)|cloudant\.com", re.I
    ),
    "SoftlayerDetector": re.compile(r"(?:softlayer|sl)[_-]?(?:api)?[_-]?(?:key|pwd|pass|token)|softlayer.com", re.I),
    "IbmCloudIamDetector": re.compile(r"[\w-]{44}"),
    "IbmCosHmacDetector": re.compile(r"[a-f0-9]{48}", re.IGNORECASE),
}
# Newer than detect-secrets 1.5, or not its concern.
_OWN: tuple[tuple[str, str, re.Pattern[str]], ...] = (
    ("Google API key", "aiza", re.compile(r"\bAIza[0-9A-Za-z_-]{35}\b")),
    ("GitHub token", "github_pat_", re.compile(r"\bgithub_pat_\w{60,}")),
    ("Hugging Face token", "hf_", re.compile(r"\bhf_[A-Za-z0-9]{30,}\b")),
    ("API key", "sk-", re.compile(r"\bsk-(?:proj|ant|svcacct|or)-[\w-]{20,}")),
    ("GCP key", "private_key_id", re.compile(r'"private_key_id"\s*:\s*"[0-9a-f]{40}"')),
    (
        "connection string",
        ";",
        re.compile(
            r"\b(?:password|pwd)\s*=\s*(?![<{$%*\[])[^;\s\"']{4,}\s*;|;\s*(?:password|pwd)\s*=\s*(?![<{$%*\[])[^;\s\"']{4,}",
            re.IGNORECASE,
        ),
    ),
)


def kinds(text: str) -> list[str]:
    """Returns what kinds of credentials a text holds, each once; never the credential."""
    return list(dict.fromkeys(_kinds(text)))


def _kinds(text: str) -> Iterator[str]:
    lowered = text.lower()
    for (module, name), signs in PLUGINS.items():
        if not any(sign in lowered for sign in signs):
            continue
        if name in _LONG and not _LONG[name].search(text):
            continue
        kind, patterns = _plugin(module, name)
        # As the library does: line by line.
        if any(pattern.search(line) for pattern in patterns for line in text.splitlines()):
            yield kind
    for kind, sign, pattern in _OWN:
        if sign in lowered and pattern.search(text):
            yield kind


@cache
def _plugin(module: str, name: str) -> tuple[str, tuple[re.Pattern[str], ...]]:
    plugin = getattr(import_module(f"detect_secrets.plugins.{module}"), name)()
    return plugin.secret_type, tuple(plugin.denylist)
