"""A server of files over HTTP, for tests of sources that stand elsewhere."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """Files by name, each with what successive requests get; the last one stays."""

    address: str = ""
    files: dict[str, list[bytes]] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)  # names of files that end before their length says
    moved: dict[str, str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    def url(self, name: str) -> str:
        """Returns where a file is."""
        return f"{self.address}/{name}"


@contextmanager
def serving() -> Iterator[Served]:
    """Yields a server that runs until the end."""
    served = Served()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            served.requests.append(self.path)
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            name = self.path.removeprefix("/")
            if name in served.moved:
                self.send_response(302)
                self.send_header("Location", served.moved[name])
                self.end_headers()
                return
            if name not in served.files:
                self.send_error(404)
                return
            versions = served.files[name]
            content = versions.pop(0) if body and len(versions) > 1 else versions[0]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content[: len(content) // 2] if name in served.cut else content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
