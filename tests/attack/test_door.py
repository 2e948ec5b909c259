"""Names, origins and framing: who may come in, and through what."""

from __future__ import annotations

import json
import socket

import pytest

from overpaint.apps import settings
from overpaint.core.errors import InvalidSettings
from tests.apps.server.conftest import edit, serving

PUBLIC = "edit.example.org"
PROBES = ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/ping", "/health", "/")


@pytest.fixture(scope="module")
def proxied(make_settings):
    """Behind a proxy that sends the public name on, or one that does not."""
    names = {"allowed_hosts": (PUBLIC,), "origins": (f"https://{PUBLIC}",)}
    with serving(make_settings(models=("erase",), **names)) as running:
        yield running


class TestNames:
    @pytest.mark.parametrize(
        "headers",
        [
            {"host": PUBLIC},
            {"host": f"{PUBLIC}:8443"},
            {"host": PUBLIC.upper()},
            {"host": PUBLIC, "origin": f"https://{PUBLIC}"},
            {"origin": f"https://{PUBLIC}"},
            {},
        ],
    )
    def test_are_answered_to(self, proxied, headers):
        assert proxied.client.get("/v1/models", headers=headers).status_code == 200

    @pytest.mark.parametrize(
        "headers",
        [
            {"host": "example.org"},
            {"host": f"{PUBLIC}.evil.org"},
            {"host": ""},
            {"host": "[::1"},
            {"origin": f"https://{PUBLIC}.evil.org"},
            {"origin": f"https://evil.org/{PUBLIC}"},
            {"origin": f"https://{PUBLIC}@evil.org"},
            {"origin": "null"},
            {"origin": "http://["},
            {"origin": "http:\\\\127.0.0.1"},
            {"origin": ""},
        ],
    )
    def test_or_refused(self, proxied, headers):
        answer = proxied.client.get("/v1/models", headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("allowed_hosts", "https://example.org"),
            ("allowed_hosts", "example.org:80"),
            ("allowed_hosts", "*"),
            ("origins", "example.org"),
            ("origins", "https://example.org/page"),
            ("origins", "https://a@example.org"),
            ("origins", "*"),
        ],
    )
    def test_of_settings_are_plain(self, tmp_path, name, value):
        file = tmp_path / "overpaint.toml"
        file.write_text(f"[server]\n{name} = [{json.dumps(value)}]\n")
        with pytest.raises(InvalidSettings, match=name):
            settings.load({"OVERPAINT_CONFIG": str(file)})


@pytest.mark.parametrize("path", PROBES)
def test_probes_may_ask_for_the_head_alone(server, path):
    head, whole = server.client.head(path), server.client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == whole.headers["content-length"]


def test_elsewhere_there_is_no_head(server):
    assert server.client.head("/v1/models").status_code == 405


def test_a_body_of_two_lengths_is_refused(server):
    """A proxy that believes one and a server that believes the other disagree on what follows."""
    host, port = server.url.removeprefix("http://").split(":")
    smuggled = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    head = (
        "POST /v1/edits HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(smuggled) + 5}\r\nTransfer-Encoding: chunked\r\n\r\n"
    ).encode()
    with socket.create_connection((host, int(port)), timeout=10) as wire:
        wire.sendall(head + b"0\r\n\r\n" + smuggled)
        answers = b""
        while received := wire.recv(4096):
            answers += received
    assert answers.startswith(b"HTTP/1.1 400 ")
    assert answers.count(b"HTTP/1.1 ") == 1
    assert b"Content-Length" in answers


class TestListeners:
    def test_a_ninth_gets_429(self, server):
        where = later(server, 200, size=256)
        with _listeners(server, where, 8):
            answer = server.client.get(f"{where}/events")
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "5")
        server.client.delete(where)

    def test_one_that_comes_back_goes_on(self, server):
        where = later(server, 3)
        events = listen(server, where)
        ids = [each.get("id") for each in events if each["event"] != "queued"]
        assert ids[-1] == "end"
        assert ids[:-1] == sorted(ids[:-1], key=int)
        assert len(set(ids)) == len(ids)
        again = listen(server, where, ids[-2])
        assert [each["event"] for each in again] == ["done"]
        assert [each["event"] for each in listen(server, where)] == ["step", "done"]
        headers = {"last-event-id": "end"}
        assert server.client.get(f"{where}/events", headers=headers).status_code == 204

    @pytest.mark.parametrize("last", ["", "x", "9" * 5000, "-1", "²"])
    def test_other_ids_mean_nothing(self, server, last):
        where = later(server, 1)
        assert listen(server, where, last.encode())[-1]["event"] == "done"


def later(server, steps, **more) -> str:
    body = edit(0, steps, **{"async": True, **more})
    return server.client.post("/v1/edits", json=body).headers["location"]


def listen(server, where, last=None) -> list[dict]:
    headers = {} if last is None else {"last-event-id": last}
    text = server.client.get(f"{where}/events", headers=headers).text
    return [
        dict(line.split(": ", 1) for line in each.splitlines()) for each in text.split("\n\n")[:-1]
    ]


class _listeners:  # noqa: N801 - reads as a function
    """So many that listen until the block ends."""

    def __init__(self, server, where, count) -> None:
        self._open = [server.client.stream("GET", f"{where}/events") for _ in range(count)]

    def __enter__(self) -> None:
        # Kept: a stream whose iterator is forgotten is closed.
        self._lines = [each.__enter__().iter_lines() for each in self._open]
        for lines in self._lines:
            next(lines)

    def __exit__(self, *error) -> None:
        for each in self._open:
            each.__exit__(None, None, None)
