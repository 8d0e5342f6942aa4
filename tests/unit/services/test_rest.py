"""The session at Airflow's API: what does not answer, and what answers and is no Airflow."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pipeline.errors import BadInput, NotAvailable
from pipeline.services.rest import Airflow

pytestmark = pytest.mark.unit


@contextmanager
def server(answer: bytes) -> Iterator[str]:
    """Yields the address of a server that gives the same answer to everything."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1 << 16)
            self.request.sendall(answer)

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_address[1]}"
        listening.shutdown()
        thread.join()


def answer(body: bytes, kind: str = "application/json") -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n%s" % (kind.encode(), len(body), body)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://host.invalid", "ftp://127.0.0.1", "airflow"])
def test_a_server_that_is_not_there_is_not_available(url: str) -> None:
    with Airflow(url, "engineer", "secret") as airflow:
        for ask in (airflow.log_in, airflow.me):
            with pytest.raises(NotAvailable, match="does not answer") as caught:
                ask()
            assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://[::1", "http://host:port", "http://a b\x00"])
def test_what_is_no_address_is_bad_input(url: str) -> None:
    with pytest.raises(BadInput, match="not a server's address"):
        Airflow(url, "engineer", "secret")


@pytest.mark.parametrize(
    "given",
    [
        answer(b"<html>It works!</html>", "text/html"),
        answer(b"[]"),
        answer(b"{}"),
        answer(b'{"access_token": null}'),
        answer(b"\xff\xfe"),
    ],
    ids=["html", "list", "empty", "null", "bytes"],
)
def test_a_server_that_is_no_airflow_says_so(given: bytes) -> None:
    with (
        server(given) as url,
        Airflow(url, "engineer", "secret") as airflow,
        pytest.raises(NotAvailable, match="is not Airflow"),
    ):
        airflow.log_in()


@pytest.mark.parametrize("given", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{}"])
def test_a_server_that_speaks_something_else_does_not_answer(given: bytes) -> None:
    with (
        server(given) as url,
        Airflow(url, "engineer", "secret") as airflow,
        pytest.raises(NotAvailable, match="not"),
    ):
        airflow.log_in()
