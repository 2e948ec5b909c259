"""Blocks that use a real Overpaint server instead of this machine."""

from __future__ import annotations

import base64
import json
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from PIL import Image

from overpaint import blocks
from overpaint.apps.server.errors import response
from overpaint.apps.settings import RemoteSettings
from overpaint.apps.wiring import remote
from overpaint.core import errors
from overpaint.core.errors import (
    ContentBlocked,
    InvalidMask,
    InvalidRequest,
    OverpaintError,
    UnsupportedOption,
)
from overpaint.core.imaging import images
from overpaint.core.imaging.borders import Borders
from overpaint.core.types import PARTS
from overpaint.engine.intake import request_of
from tests.apps.server.conftest import make_settings as make_settings
from tests.apps.server.conftest import serving
from tests.conftest import box_mask, picture
from tests.every_part import plain
from tests.servers import listening

KEY = "a-key-of-the-test-000"
PAINT = {"prompt": "a red kite", "num_inference_steps": 2, "seed": 7, "keep_input_size": True}


@pytest.fixture
def no_settings(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def server(make_settings):
    with serving(make_settings(), headers={}) as running:
        yield running


@pytest.fixture
def answering():
    """(status, body, headers) → URL of a server that answers nothing else, and what it is sent.

    That is the headers of each request, and the bodies.
    """

    def start(status, body, **headers):
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                seen.append({name.lower(): value for name, value in self.headers.items()})
                bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        seen: list[dict[str, str]] = []
        bodies: list[dict[str, Any]] = []
        running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        stack.enter_context(listening(running))
        return f"http://127.0.0.1:{running.server_port}", seen, bodies

    with ExitStack() as stack:
        yield start


def edit(url, **more):
    mask = box_mask(96, 80)
    return blocks.flex2_inpainting(picture(96, 80), mask, server=url, **{**PAINT, **more})


def test_the_answer_is_the_one_made_here(no_settings, server, checkpoint_folder):
    (no_settings / "overpaint.toml").write_text(
        f"device = 'cpu'\ndtype = 'float32'\n[models.mine]\nfamily = 'flex2'\n"
        f"folder = '{checkpoint_folder('flex2')}'\n",
        encoding="utf-8",
    )
    there = edit(server.url, negative_prompt="people", control_image=picture(96, 80, seed=3))
    here = edit(None, model="mine", negative_prompt="people", control_image=picture(96, 80, seed=3))
    np.testing.assert_array_equal(np.asarray(there.image), np.asarray(here.image))
    assert there.seed == here.seed == 7
    assert there.recipe["negative_prompt"] == "people"


def test_every_part_of_a_request_is_sent(no_settings, answering):
    url, _, bodies = answering(200, b"{}")
    samples = {
        "picture": picture(96, 80),
        "pictures": (picture(40, 30), picture(30, 40)),
        "mask": box_mask(96, 80),
        "text": "a kite",
        "number": 2,
        "name": "flex2",
        "choice": "white",
        "borders": Borders(left=8),
        "options": {"grow": 2},
    }
    values = {part.name: samples[part.kind] for part in PARTS}
    with pytest.raises(remote.RemoteError):  # the answer is no edit
        remote.Server(url, RemoteSettings()).run([request_of(values)])
    sent = bodies[0]
    parts = [part for part in PARTS if part.kind != "choice"]  # how the mask was read
    assert list(sent) == [part.name for part in parts]
    for part in parts:
        value, decode = sent[part.name], images.decode_mask if part.kind == "mask" else decoded
        if part.is_visual:
            many = value if part.kind == "pictures" else [value]
            value = tuple(decode(base64.b64decode(each)).tobytes() for each in many)
            given = values[part.name] if part.kind == "pictures" else (values[part.name],)
            assert value == tuple(each.tobytes() for each in given)
        else:
            assert value == plain(values[part.name])


def decoded(file: bytes) -> Image.Image:
    return images.decode(file).to_pil()


def test_what_was_not_given_is_not_sent(no_settings, answering):
    url, _, bodies = answering(200, b"{}")
    with pytest.raises(remote.RemoteError):
        remote.Server(url, RemoteSettings()).run([request_of({"image": picture(96, 80)})])
    assert list(bodies[0]) == ["image"]


def test_the_eraser_on_a_server_copies_from_where_it_may(no_settings, server):
    left = box_mask(96, 80, box=(0, 0, 20, 80))
    given = {"copy_from": left, "not_from": box_mask(96, 80, box=(0, 0, 96, 10)), "seed": 7}
    there = blocks.erase(picture(96, 80), box_mask(96, 80), server=server.url, **given)
    here = blocks.erase(picture(96, 80), box_mask(96, 80), **given)
    np.testing.assert_array_equal(np.asarray(there.image), np.asarray(here.image))


def test_the_server_may_stand_in_the_settings(no_settings, server):
    (no_settings / "overpaint.toml").write_text(f"remote = '{server.url}'\n", encoding="utf-8")
    result = edit(None, model="flex2")
    assert result.recipe["model"]["name"] == "flex2"


@pytest.mark.parametrize(
    ("error", "field", "more"),
    [
        (UnsupportedOption, "options.guidance_scale", {"guidance_scale": -1.0}),
        (InvalidRequest, "prompt", {"prompt": ""}),
        (InvalidRequest, "model", {"model": "nobody"}),
    ],
)
def test_what_the_server_refuses_is_the_same_error_here(no_settings, server, error, field, more):
    with pytest.raises(error, match="said by http://127") as caught:
        edit(server.url, **more)
    assert caught.value.field == field


def test_what_is_wrong_with_the_mask_is_seen_before_anything_is_sent(no_settings):
    with pytest.raises(InvalidMask):
        blocks.erase(picture(96, 80), box_mask(10, 10), server="http://127.0.0.1:9")


def test_no_server(no_settings):
    with pytest.raises(remote.RemoteError, match=r"127\.0\.0\.1:9 cannot be reached"):
        edit("http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, b"<html>", "did not answer with JSON"),
        (200, b"[]", "did not answer with a JSON object"),
        (200, b"{}", "did not answer with an edit"),
        (200, b'{"images": ["#"], "seeds": [1]}', "did not answer with an edit"),
        (502, b'{"detail": "bad gateway"}', "HTTP status 502"),
        (502, b"<html>", "HTTP status 502"),
        (503, b'{"error": {"code": "stopping", "message": "is stopping"}}', "is stopping"),
    ],
)
def test_answers_of_other_servers(no_settings, answering, status, body, said):
    url, _, _ = answering(status, body)
    with pytest.raises(remote.RemoteError, match=said):
        edit(url)


ERRORS = [
    each
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, OverpaintError)
]


def raised(kind: type[OverpaintError]) -> OverpaintError:
    """An error of that kind, as it arises in the server."""
    if issubclass(kind, InvalidRequest):
        return kind("no", field="prompt")
    if issubclass(kind, ContentBlocked):
        return kind("no", stage="prompt", category="hate")
    return kind("no", retry_after=7) if issubclass(kind, errors.Overloaded) else kind("no")


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_an_error_of_the_server_is_of_the_same_kind_here(no_settings, answering, kind):
    told = raised(kind)
    sent = response(told, "/v1/edits")
    headers = {name: sent.headers[name] for name in ("retry-after",) if name in sent.headers}
    url, _, _ = answering(sent.status_code, sent.body, **headers)
    with pytest.raises(kind) as caught:
        edit(url)
    assert type(caught.value) is kind
    for name in ("field", "stage", "category"):
        assert getattr(caught.value, name, None) == getattr(told, name, None)
    seconds = float(headers["retry-after"]) if headers else None
    assert caught.value.retry_after == seconds


@pytest.mark.parametrize(("header", "seconds"), [("5", 5.0), ("soon", None), (None, None)])
def test_of_other_errors_the_status_is_kept(no_settings, answering, header, seconds):
    body = b'{"error": {"code": "stopping", "message": "is stopping"}}'
    url, _, _ = answering(503, body, **({} if header is None else {"retry-after": header}))
    with pytest.raises(remote.RemoteError, match="is stopping") as caught:
        edit(url)
    assert (caught.value.status, caught.value.retry_after) == (503, seconds)


def test_a_full_server_that_names_no_seconds(no_settings, answering):
    url, _, _ = answering(429, b'{"error": {"code": "overloaded", "message": "full"}}')
    with pytest.raises(errors.Overloaded) as caught:
        edit(url)
    assert caught.value.retry_after > 0


def test_redirects_are_not_followed(no_settings, answering, server):
    url, _, _ = answering(307, b"{}", location=f"{server.url}/v1/edits")
    with pytest.raises(remote.RemoteError, match="HTTP status 307"):
        edit(url)


def test_the_key_goes_only_to_the_server_it_is_for(no_settings, answering):
    (mine, seen, _), (other, seen_by_other, _) = answering(200, b"{}"), answering(200, b"{}")
    table = f"[remote]\nurl = '{mine}'\nkey = '{KEY}'\n"
    (no_settings / "overpaint.toml").write_text(table, encoding="utf-8")
    for url in (None, f"{mine}/", other):
        with pytest.raises(remote.RemoteError):
            edit(url)
    assert [each["authorization"] for each in seen] == [f"Bearer {KEY}"] * 2
    assert "authorization" not in seen_by_other[0]
