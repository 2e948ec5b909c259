"""A small server on the loopback interface that speaks the hub's protocol."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants

from tests.servers import listening

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What the server has, and how it misbehaves.

    Attributes:
        url: of the server.
        files: by path inside the repository `repository`.
        gated: files (not their list) are refused.
        truncate: path → bytes after which the connection drops, once.
        corrupt: paths that are served with a flipped byte.
        missing: paths that are listed, but not there when asked for.
        name: of the repository by now, as the hub answers; empty = `repository`.
        head: commit of the main branch; empty = `commit`.
        requests: (method, path, Range header) in order.
        open: files are sent while it is set.
    """

    repository: str = "owner/model"
    url: str = ""
    commit: str = COMMIT
    files: dict[str, bytes] = field(default_factory=dict)
    gated: bool = False
    truncate: dict[str, int] = field(default_factory=dict)
    corrupt: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    name: str = ""
    head: str = ""
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    open: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.open.set()

    def add(self, folder: Path) -> None:
        """Offer the files of a folder."""
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                self.files[file.relative_to(folder).as_posix()] = file.read_bytes()

    def downloads(self) -> list[str]:
        """Paths whose bytes were asked for."""
        marker = f"/{self.repository}/resolve/{self.commit}/"
        return [
            path.removeprefix(marker)
            for method, path, _ in self.requests
            if method == "GET" and path.startswith(marker)
        ]

    def listing(self, commit: str = "") -> dict[str, object]:
        return {
            "id": self.name or self.repository,
            "sha": commit or self.commit,
            "siblings": [self._sibling(name) for name in self.files],
        }

    def _sibling(self, name: str) -> dict[str, object]:
        data = self.files[name]
        entry: dict[str, object] = {"rfilename": name, "size": len(data), "blobId": etag(data)}
        if is_lfs(name):
            digest = hashlib.sha256(data).hexdigest()
            entry["lfs"] = {"sha256": digest, "size": len(data), "pointerSize": 130}
        return entry


def is_lfs(name: str) -> bool:
    return name.endswith((".safetensors", ".bin"))


def etag(data: bytes) -> str:
    """The git hash of a file, as the hub has it."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Run the server as long as the block runs."""

    class Handler(_Handler):
        has = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    with listening(server):
        yield hub


def point_client_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the hub's client in this process ask that server, until the test ends."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


class _Handler(BaseHTTPRequestHandler):
    has: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: object) -> None:
        return

    def _answer(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.has.requests.append((self.command, path, self.headers.get("Range")))
        repository = self.has.repository
        if path == f"/api/models/{repository}":
            return self._send_json(self.has.listing(self.has.head))
        if path.startswith(f"/api/models/{repository}/revision/"):
            if path.rsplit("/", 1)[-1] not in {"main", self.has.commit}:
                return self._refuse(404, "RevisionNotFound")
            return self._send_json(self.has.listing())
        if path.startswith("/api/models/"):
            return self._refuse(404, "RepoNotFound")
        marker = f"/{repository}/resolve/{self.has.commit}/"
        if self.has.gated:
            return self._refuse(401, "GatedRepo")
        name = path.removeprefix(marker)
        if not path.startswith(marker) or name not in self.has.files.keys() - self.has.missing:
            return self._refuse(404, "EntryNotFound")
        return self._send_file(name, body=body)

    def _send_json(self, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_file(self, name: str, *, body: bool) -> None:
        data = self.has.files[name]
        sent = bytes([data[0] ^ 1]) + data[1:] if name in self.has.corrupt else data
        start = 0
        if wanted := self.headers.get("Range"):
            start = int(wanted.removeprefix("bytes=").split("-")[0])
        self.send_response(206 if wanted else 200)
        self.send_header("X-Repo-Commit", self.has.commit)
        self.send_header("ETag", f'"{etag(data)}"')
        if is_lfs(name):
            self.send_header("X-Linked-Etag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("X-Linked-Size", str(len(data)))
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if not body:
            return
        self.has.open.wait(60)
        limit = self.has.truncate.pop(name, None)
        if limit is not None:
            self.wfile.write(sent[start:limit])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(sent[start:])
