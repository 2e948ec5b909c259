"""The door: keys, origins, and input that means harm. Afterwards the server still serves."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import time
import zlib
from types import SimpleNamespace

import pytest

from overpaint.apps.server import guard
from tests.apps.server.conftest import b64, connected, edit, head, png, serving
from tests.conftest import box_mask, picture

KEYS = {"studio": "s" * 24, "kiosk": "k" * 24}


@pytest.fixture(scope="module")
def guarded(make_settings):
    """A server that wants keys; its client has one."""
    headers = {"authorization": f"Bearer {KEYS['studio']}"}
    with serving(make_settings(keys=KEYS), headers=headers) as running:
        yield running


class TestKeys:
    @pytest.mark.parametrize(
        "headers",
        [
            {"authorization": f"Bearer {KEYS['kiosk']}"},
            {"authorization": f"bearer  {KEYS['kiosk']}"},
            {"authorization": "", "api-key": KEYS["kiosk"]},
            {"authorization": "", "x-api-key": KEYS["kiosk"]},
        ],
    )
    def test_a_known_key_opens(self, guarded, headers):
        assert guarded.client.get("/v1/models", headers=headers).status_code == 200

    @pytest.mark.parametrize(
        "value",
        ["", "Bearer", "Bearer x", f"Basic {KEYS['kiosk']}", "Bearer " + "s" * 23, "Bearer é"],
    )
    def test_others_do_not(self, guarded, value):
        headers = {"authorization": value.encode()}
        for path in ("/v1/models", "/metrics", "/openapi.json", "/v2/models/sd2", "/nothing"):
            answer = guarded.client.get(path, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
        answer = guarded.client.post("/v1/images/edits", headers=headers)
        assert answer.json()["error"]["code"] == "invalid_api_key"

    def test_health_needs_no_key(self, guarded):
        for path in ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"):
            assert guarded.client.get(path, headers={"authorization": ""}).status_code == 200

    def test_edits_belong_to_their_key(self, guarded):
        body = edit(**{"async": True})
        where = guarded.client.post("/v1/edits", json=body).headers["location"]
        other = {"authorization": f"Bearer {KEYS['kiosk']}"}
        assert guarded.client.get(where, headers=other).status_code == 404
        assert guarded.client.delete(where, headers=other).status_code == 404
        assert guarded.client.get(where).status_code == 200


class TestOrigins:
    @pytest.mark.parametrize(
        "headers",
        [
            {"origin": "https://example.org"},
            {"origin": "null"},
            {"host": "example.org"},
            {"host": "example.org:80"},
            {"host": "[::1"},
        ],
    )
    def test_foreign_pages_and_names_are_refused(self, server, headers):
        answer = server.client.post("/v1/edits", json=edit(), headers=headers)
        assert answer.status_code == 403

    def test_its_own_pages_are_not(self, server):
        assert server.client.get("/v1/models", headers={"origin": server.url}).status_code == 200


def bomb(width, height) -> bytes:
    """A PNG whose header promises more pixels than anybody wants."""

    def chunk(kind, data) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 10_000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def deep(levels) -> str:
    return '{"options":' + '{"a":' * levels + "1" + "}" * levels + "}"


PART = b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n'

HOSTILE_JSON = {
    "empty": b"",
    "not json": b"\xff\xfe\x00",
    "half": b'{"image": "aGk',
    "null": b"null",
    "list": b"[]",
    "number": b"1e999",
    "huge number": b'{"image":"","seed":' + b"9" * 5000 + b"}",
    "huge float": b'{"image":"","timeout_s":1e400}',
    "not a number": b'{"image":"","timeout_s":NaN}',
    "infinite option": b'{"image":"","options":{"guidance_scale":Infinity}}',
    "deep": deep(20_000).encode(),
    "lone surrogate": b'{"image":"","prompt":"\\ud800"}',
    "null byte": b'{"image":"\\u0000"}',
    "same key twice": b'{"image":"a","image":"b"}',
}


class TestHostileBodies:
    @pytest.mark.parametrize("name", HOSTILE_JSON)
    @pytest.mark.parametrize("path", ["/v1/edits", "/v2/models/sd2/infer"])
    def test_json(self, server, name, path):
        answer = server.client.post(
            path, content=HOSTILE_JSON[name], headers={"content-type": "application/json"}
        )
        refused(answer, 400)

    @pytest.mark.parametrize(
        "image",
        [
            b"",
            b"GIF89a" + b"\0" * 50,
            b"\x89PNG\r\n\x1a\n",
            bomb(60_000, 60_000),
            bomb(1000, 1000),
            bomb(0, 10),
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            b"RIFF\xff\xff\xff\xffWEBPVP8 ",
            b"\xff\xd8\xff\xe1\xff\xff" + b"Exif\0\0" * 100,
            b"%!PS-Adobe",
        ],
        ids=range(10),
    )
    def test_pictures(self, server, image):
        body = {**edit(), "image": base64.b64encode(image).decode()}
        refused(server.client.post("/v1/edits", json=body), 400)
        files = {"image": ("../../etc/passwd", image), "mask": ("m", png(box_mask(64, 64)))}
        refused(server.client.post("/v1/images/edits", data={"prompt": "x"}, files=files), 400)

    @pytest.mark.parametrize("path", ["/v1/edits", "/v1/images/edits"])
    @pytest.mark.parametrize(
        ("kind", "content"),
        [
            ("multipart/form-data", b"--x\r\n"),
            ("multipart/form-data; boundary=", b"--x--"),
            ("multipart/form-data; boundary=x", b""),
            ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\n1"),
            ("multipart/form-data; boundary=x", b"--x\r\nA: b\r\n\r\n1\r\n--x--\r\n"),
            (
                "multipart/form-data; boundary=x",
                PART % b"prompt" + b"\xff\xfe\r\n--x--\r\n",
            ),
            (
                "multipart/form-data; boundary=x; charset=no-such",
                PART % b"prompt" + b"a\r\n--x--\r\n",
            ),
            (
                "multipart/form-data; boundary=x",
                b'--x\r\nContent-Disposition: form-data; name="p"\r\n\r\n1\r\n' * 500
                + b"--x--\r\n",
            ),
            ("multipart/form-data; boundary=" + "x" * 10_000, b"--x--"),
        ],
        ids=range(9),
    )
    def test_forms(self, server, path, kind, content):
        answer = server.client.post(path, content=content, headers={"content-type": kind})
        refused(answer, 400)

    @pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", ";;"])
    def test_other_kinds_of_bodies(self, server, kind):
        for path in ("/v1/edits", "/v1/images/edits", "/v2/models/sd2/infer"):
            answer = server.client.post(path, content=b"a=1", headers={"content-type": kind})
            refused(answer, 415)

    def test_idempotency_keys_have_a_length(self, server):
        answer = server.client.post(
            "/v1/edits", json=edit(), headers={"idempotency-key": "k" * 201}
        )
        refused(answer, 400)

    def test_the_server_still_serves(self, server):
        assert server.client.post("/v1/edits", json=edit()).status_code == 200


def refused(answer, status) -> None:
    """A clean refusal: the right status, an error object, nothing of the server's inside."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error
    for leak in ("Traceback", "/site-packages", ".py", "pydantic", "starlette"):
        assert leak not in json.dumps(error)


class TestLimits:
    def test_an_announced_large_body_is_refused_before_it_comes(self, start):
        server = start(max_body_mb=0.1)
        with connected(server) as wire:
            wire.sendall(head("/v1/edits", 2**40))
            assert b" 413 " in wire.recv(4096).split(b"\r\n")[0]

    def test_a_body_of_unknown_length_is_cut_off(self, start):
        server = start(max_body_mb=0.1)

        def chunks():
            for _ in range(100):
                yield b"x" * 10_000

        answer = server.client.post(
            "/v1/edits", content=chunks(), headers={"content-type": "application/json"}
        )
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "body_too_large"
        assert server.client.post("/v1/edits", json=edit()).status_code == 200

    def test_a_slow_body_is_not_waited_for(self, start):
        server = start(body_timeout_s=1)
        with connected(server) as wire:
            wire.sendall(head("/v1/edits", 10_000))
            end = time.monotonic() + 60
            answer = b""
            while time.monotonic() < end and b" 408 " not in answer:
                wire.sendall(b"x")
                wire.settimeout(0.05)
                try:
                    answer += wire.recv(4096)
                except TimeoutError:
                    continue
            assert b" 408 " in answer
        assert server.client.get("/healthz").status_code == 200

    def test_a_caller_that_leaves_while_sending_is_forgotten(self, server):
        with connected(server) as wire:
            wire.sendall(head("/v1/edits", 1000) + b"half")
        assert server.client.get("/healthz").status_code == 200

    def test_pixels(self, start):
        server = start(max_megapixels=0.01)
        body = {**edit(), "image": b64(picture(128, 128)), "mask": b64(box_mask(128, 128))}
        answer = server.client.post("/v1/edits", json=body)
        assert (answer.status_code, answer.json()["error"]["field"]) == (400, "image")

    def test_pixels_of_all_that_wait(self, start):
        server = start(max_queued_megapixels=0.02, max_steps=1000)
        body = edit(steps=900, **{"async": True})
        answers = [server.client.post("/v1/edits", json=body) for _ in range(3)]
        assert [each.status_code for each in answers] == [202, 202, 429]
        for accepted in answers[:2]:
            server.client.delete(accepted.headers["location"])


def test_a_rate_limit_counts_what_came_before(monkeypatch):
    now, waits = 100.0, []

    async def sleep(seconds) -> None:
        waits.append(seconds)

    monkeypatch.setattr(guard, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(guard, "asyncio", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr(guard, "BYTES_PER_SECOND", 10)

    async def run() -> None:
        nonlocal now
        rate = guard.RateLimit()
        for _ in range(2):
            await rate.wait(10)
        now = 130.0
        await rate.wait(5)

    asyncio.run(run())
    assert waits == [1, 2, 0.5]
