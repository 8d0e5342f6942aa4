"""The login of a person at Airflow, kept between commands: a token in a file that its owner alone can read."""

import base64
import binascii
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipeline.errors import NotAvailable
from pipeline.services import airflow, rest
from pipeline.settings import Settings, write_secret


@dataclass(frozen=True)
class Session:
    """One login. What the file says about the user is never believed: the server says whose token it is."""

    server: str
    user: str
    token: str
    expires_at: str  # ISO 8601, UTC

    def expired(self) -> bool:
        """Returns whether the token is too old to be of use."""
        return datetime.fromisoformat(self.expires_at) <= datetime.now(UTC)

    def open(self) -> rest.Airflow:
        """Returns a session at the server that the token is for."""
        return rest.Airflow(self.server, self.user, token=self.token)


def file(settings: Settings) -> Path:
    """Returns where the login is kept."""
    return settings.home / "session.json"


def server(settings: Settings) -> str:
    """Returns the address of the Airflow that `make up` started last. Raises NotAvailable where none was."""
    try:
        return airflow.url(settings)
    except FileNotFoundError:
        raise NotAvailable(
            "no Airflow has been started here", next_step="`make up`, or `nightshift login --server URL` for another"
        ) from None


def log_in(settings: Settings, url: str, user: str, password: str) -> Session:
    """Returns a new login, kept until it expires or `log_out`. Raises Answered for a wrong name or password,
    NotAvailable where the server does not answer."""
    with rest.Airflow(url, user, password) as opened:
        token = opened.log_in()
        session = Session(url, opened.me(), token, _expiry(token).isoformat())
    write_secret(file(settings), json.dumps(asdict(session)))
    return session


def log_out(settings: Settings) -> bool:
    """Forgets the login. Returns whether there was one."""
    there = file(settings).exists()
    file(settings).unlink(missing_ok=True)
    return there


def current(settings: Settings) -> Session | None:
    """Returns the login that is kept, None where there is none that is of use."""
    try:
        session = Session(**json.loads(file(settings).read_text()))
        return None if session.expired() else session
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _expiry(token: str) -> datetime:
    """Returns when a token (JSON Web Token, RFC 7519) ends; its signature is the server's to check."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return datetime.fromtimestamp(float(claims["exp"]), UTC)
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, binascii.Error):
        return datetime.now(UTC)
