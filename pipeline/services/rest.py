"""Airflow's REST API, as much of it as starting up and the demo need."""

import time
from collections.abc import Callable
from typing import Any

import httpx

from pipeline.errors import BadInput, NotAvailable, Refused


class Airflow:
    """A session at the API server as one of its users. Close it, or use it in a `with` block."""

    def __init__(self, url: str, user: str, password: str | None = None, token: str | None = None) -> None:
        """Begins a session by a password, or by a token that an earlier login left. Raises BadInput for no URL."""
        # No proxy of the environment stands between two processes of one machine.
        try:
            self._http = httpx.Client(base_url=url, timeout=60.0, trust_env=False)
        except httpx.InvalidURL as error:
            raise BadInput("this is not a server's address", found=url, allowed=f"http://HOST:PORT ({error})") from None
        self.user = user
        self._password = password
        if token is not None:
            self._http.headers["Authorization"] = f"Bearer {token}"

    def __enter__(self) -> "Airflow":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """Returns the answer's JSON, or None where it has no body.

        Raises NotAvailable where the server does not answer, and Answered for every status of 400 and above.
        """
        try:
            answer = self._send(method, path, body, query)
            # The token is not there yet, or too old.
            if answer.status_code == httpx.codes.UNAUTHORIZED and self._password is not None:
                self.log_in()
                answer = self._send(method, path, body, query)
        except httpx.HTTPError as error:
            raise self._silent(error) from error
        if answer.is_error:
            raise Answered(answer)
        return self._json(answer) if answer.content else None

    def log_in(self) -> str:
        """Returns a new token for the user and the password of this session. Raises Answered where they are wrong,
        NotAvailable where the server does not answer or is no Airflow."""
        try:
            answer = self._http.post("/auth/token", json={"username": self.user, "password": self._password})
        except httpx.HTTPError as error:
            raise self._silent(error) from error
        if answer.is_error:
            raise Answered(answer)
        given = self._json(answer)
        if not isinstance(given, dict) or not isinstance(given.get("access_token"), str):
            raise self._stranger("no token")
        token: str = given["access_token"]
        self._http.headers["Authorization"] = f"Bearer {token}"
        return token

    def me(self) -> str:
        """Returns the id of the user whom the server takes this session for."""
        return str(self.call("GET", "/ui/auth/me")["id"])

    def _json(self, answer: httpx.Response) -> Any:
        try:
            return answer.json()
        except ValueError:
            raise self._stranger(answer.headers.get("content-type", "an answer without a type")) from None

    def _silent(self, error: httpx.HTTPError) -> NotAvailable:
        return NotAvailable(
            "Airflow does not answer",
            where=self._http.base_url,
            found=type(error).__name__,
            next_step="`make up` starts it; its logs stand under the home folder in airflow/logs",
        )

    def _stranger(self, found: str) -> NotAvailable:
        return NotAvailable(
            "the server at this address is not Airflow",
            where=self._http.base_url,
            found=found,
            next_step="`make up` says the address of the one that it starts",
        )

    def _send(self, method: str, path: str, body: Any, query: dict[str, Any]) -> httpx.Response:
        url = path if path.startswith("/") else f"/api/v2/{path}"
        return self._http.request(method, url, json=body, params=query)

    def everything(self, path: str, key: str, **query: Any) -> list[dict[str, Any]]:
        """Returns all entries of a collection, page by page."""
        entries: list[dict[str, Any]] = []
        while True:
            page = self.call("GET", path, limit=100, offset=len(entries), **query)
            entries += page[key]
            if len(entries) >= page["total_entries"] or not page[key]:
                return entries

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None) -> str:
        """Returns the id of a new run of a DAG, asked for by this session's user."""
        run = self.call("POST", f"dags/{dag_id}/dagRuns", {"logical_date": None, "conf": conf or {}})
        return str(run["dag_run_id"])

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Returns one run of a DAG."""
        run: dict[str, Any] = self.call("GET", f"dags/{dag_id}/dagRuns/{run_id}")
        return run

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Returns the task instances of a run."""
        return self.everything(f"dags/{dag_id}/dagRuns/{run_id}/taskInstances", "task_instances")

    def result(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """Returns what a task returned."""
        entry = self.call("GET", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value")
        return entry["value"]

    def log(self, dag_id: str, run_id: str, instance: dict[str, Any], lines: int = 40) -> list[str]:
        """Returns the last lines that a try of a task wrote."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{instance['task_id']}/logs/{instance['try_number']}"
        answer = self.call("GET", path, map_index=instance["map_index"], full_content=True)
        content = answer["content"]
        text = [entry if isinstance(entry, str) else _line(entry) for entry in content]
        return [line for entry in text for line in entry.splitlines()][-lines:]


class Answered(Refused):
    """The API server said no: `status` and what it said."""

    def __init__(self, answer: httpx.Response) -> None:
        self.status = answer.status_code
        request = f"{answer.request.method} {answer.request.url.path}"
        super().__init__(f"Airflow refused: {request}", found=f"{answer.status_code} {answer.text[:500]}")


def _line(entry: dict[str, Any]) -> str:
    """Returns a structured log entry as a line, with the error that it carries."""
    error = "; ".join(f"{each['exc_type']}: {each['exc_value']}" for each in entry.get("error_detail") or [])
    return " ".join(filter(None, [str(entry.get("event", "")), error]))


def wait(until: Callable[[], Any], seconds: float, every: float = 0.5) -> Any:
    """Returns the first true answer of `until`, or its last false one when the time is over."""
    deadline = time.monotonic() + seconds
    while not (answer := until()) and time.monotonic() < deadline:
        time.sleep(every)
    return answer
