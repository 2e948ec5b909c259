"""A stand-in for a vision model behind OpenAI's chat completions, with faults on demand."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

from tests.servers import listening

Answer = Callable[[Image.Image, str], Any]
"""From the picture and the words to the answer, plain data; or a `Fault`."""


class Fault(Exception):
    """What goes wrong: 'timeout', 'garbage', 'wrong', 'refusal', 'filtered', or a status."""


class Text(str):
    """An answer's content as it stands."""


@dataclass(frozen=True)
class Reply:
    """A whole answer of the server."""

    body: str
    status: int = 200
    kind: str = "application/json"


class VisionServer:
    """Answers on loopback; `asked` has the words of each request."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[str] = []
        self.requests: list[dict[str, Any]] = []
        handler = type("Handler", (_Handler,), {"server_": self})
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.http.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/v1"


@contextmanager
def serving(answer: Answer) -> Iterator[VisionServer]:
    server = VisionServer(answer)
    with listening(server.http):
        yield server


class _Handler(BaseHTTPRequestHandler):
    server_: VisionServer

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        words, picture = _read(body)
        self.server_.asked.append(words)
        self.server_.requests.append(body)
        message: dict[str, Any] = {"role": "assistant", "content": None}
        finish = "stop"
        try:
            answer = self.server_.answer(picture, words)
            if isinstance(answer, Reply):
                self._write(answer.status, answer.kind, answer.body.encode())
                return
            message["content"] = str(answer) if isinstance(answer, Text) else json.dumps(answer)
        except Fault as fault:
            kind = str(fault)
            if kind.isdecimal():
                self._send(int(kind), {"error": {"message": "secret detail", "type": "x"}})
                return
            if kind == "timeout":
                self.connection.settimeout(60)
                self.connection.recv(1)  # the caller gives up
            elif kind == "garbage":
                message["content"] = "I see a {circle"
            elif kind == "wrong":
                message["content"] = json.dumps({"objects": "many", "true": "maybe"})
            elif kind == "refusal":
                message["refusal"] = "I cannot help with that."
            elif kind == "filtered":
                finish = "content_filter"
        choice = {"index": 0, "message": message, "finish_reason": finish}
        self._send(
            200,
            {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": body["model"],
                "choices": [choice],
            },
        )

    def _send(self, status: int, told: dict[str, Any]) -> None:
        self._write(status, "application/json", json.dumps(told).encode())

    def _write(self, status: int, kind: str, data: bytes) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("retry-after-ms", "1")
            self.end_headers()
            self.wfile.write(data)
        except (BrokenPipeError, ConnectionResetError):
            return


def _read(body: dict[str, Any]) -> tuple[str, Image.Image]:
    text, *pictures = body["messages"][0]["content"]
    if not pictures:
        return text["text"], Image.new("RGB", (1, 1))
    (shown,) = pictures
    data = shown["image_url"]["url"].partition(",")[2]
    return text["text"], Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
