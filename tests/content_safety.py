"""A server that speaks Azure AI Content Safety's contract, for tests of whole interfaces."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.servers import listening

CATEGORIES = ("Hate", "SelfHarm", "Sexual", "Violence")


class ContentSafety(ThreadingHTTPServer):
    """Texts with the word 'violent' have severity 4; pictures what `pictures` holds, then 0."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pictures: list[int] = []
        self.texts_asked = 0
        self.pictures_asked = 0

    @property
    def environ(self) -> dict[str, str]:
        """The environment names of the published samples."""
        return {
            "CONTENT_SAFETY_ENDPOINT": f"http://127.0.0.1:{self.server_port}",
            "CONTENT_SAFETY_KEY": "secret-key",
            "CONTENT_SAFETY_THRESHOLD": "4",
        }


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        server = self.server
        assert isinstance(server, ContentSafety)
        if "text" in body:
            server.texts_asked += 1
            severity = 4 if "violent" in body["text"] else 0
        else:
            server.pictures_asked += 1
            severity = server.pictures.pop(0) if server.pictures else 0
        found = [
            {"category": name, "severity": severity if name == "Violence" else 0}
            for name in CATEGORIES
        ]
        data = json.dumps({"categoriesAnalysis": found}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def content_safety() -> Iterator[ContentSafety]:
    """The server, until the block ends."""
    server = ContentSafety()
    with listening(server):
        yield server
