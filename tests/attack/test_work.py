"""Small requests for much work: refused with the number, before anything is computed."""

from __future__ import annotations

import base64
import contextlib
import json
import select
import threading
import time
from functools import partial

import pytest

from overpaint.apps.server import guard
from overpaint.apps.server.protocols import native
from tests.apps.server.conftest import b64, edit, png
from tests.attack.conftest import (
    KEYS,
    connected,
    decodes,
    filled_jpeg,
    head,
    header_of,
    within,
)
from tests.conftest import box_mask, picture

LARGE = {"width": 4992, "height": 4992, "num_inference_steps": 1}


def test_a_large_canvas_is_refused_with_its_size(server, bounded_memory):
    with within(20), bounded_memory(100):
        answer = server.client.post("/v1/edits", json={**edit(), "options": LARGE})
    error = answer.json()["error"]
    assert (answer.status_code, error["field"]) == (400, "options.width")
    assert "4992x4992 is 24.9 megapixels" in error["message"]
    assert "4.2" in error["message"]


def test_on_openais_route_too(server, bounded_memory):
    files = {"image": png(picture(64, 64))}
    form = {"model": "kontext", "prompt": "a cat", "size": "4992x4992"}
    with within(20), bounded_memory(100):
        answer = server.client.post("/v1/images/edits", data=form, files=files)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "size")
    assert "24.9 megapixels" in answer.json()["error"]["message"]


def test_in_tensors_and_in_rows_too(server):
    parts = {"image": png(picture(64, 64)), "mask": png(box_mask(64, 64)), "prompt": b"a cat"}
    inputs = [
        {
            "name": name,
            "shape": [1],
            "datatype": "BYTES",
            "data": [base64.b64encode(data).decode() if name != "prompt" else data.decode()],
        }
        for name, data in parts.items()
    ]
    body = {"inputs": inputs, "parameters": LARGE}
    answer = server.client.post("/v2/models/sd2/infer", json=body)
    assert (answer.status_code, "24.9 megapixels" in answer.text) == (400, True)
    row = [inputs[0]["data"][0], inputs[1]["data"][0], "a cat"]
    table = {"columns": ["image", "mask_image", "prompt"], "data": [row], "parameters": LARGE}
    answer = server.client.post("/score", json={"input_data": table})
    assert (answer.status_code, "24.9 megapixels" in answer.text) == (400, True)


@pytest.mark.parametrize(
    "more",
    [
        {"num_images": 10, "options": {"num_inference_steps": 200}},
        {"options": {"num_inference_steps": 200, "width": 2048, "height": 2048}},
    ],
    ids=["images", "pixels"],
)
def test_steps_times_images_times_pixels_are_refused_with_the_number(start, more):
    server = start(max_megapixel_steps=500)
    with within(20):
        answer = server.client.post("/v1/edits", json={**edit(), **more})
    assert answer.status_code == 400
    assert "megapixel-steps" in answer.json()["error"]["message"]
    assert "limit of 500" in answer.json()["error"]["message"]
    assert server.client.post("/v1/edits", json=edit()).status_code == 200


def test_a_key_that_has_too_much_under_way_waits_and_others_do_not(start):
    server = start(keys=KEYS, max_megapixel_steps_per_key=200, max_steps=1000)
    body = edit(steps=900, **{"async": True})
    ask = server.client.post
    answers = [ask("/v1/edits", json=body, headers=header_of("bad")) for _ in range(3)]
    assert [each.status_code for each in answers] == [202, 429, 429]
    assert "megapixel-steps" in answers[1].json()["error"]["message"]
    assert ask("/v1/edits", json=edit(), headers=header_of("good")).status_code == 200
    where = answers[0].headers["location"]
    server.client.delete(where, headers=header_of("bad"))
    server.until(lambda: server.service.batcher.idle)
    assert ask("/v1/edits", json=edit(), headers=header_of("bad")).status_code == 200


class TestOneKeyBesideOthers:
    """Of what all share, a key has half."""

    def test_pictures(self, start):
        server = start(keys=KEYS, max_queued_megapixels=0.04, max_steps=1000)
        body, ask = edit(steps=900, **{"async": True}), server.client.post
        answers = [ask("/v1/edits", json=body, headers=header_of("bad")) for _ in range(3)]
        assert [each.status_code for each in answers] == [202, 202, 429]
        assert "your pictures" in answers[2].json()["error"]["message"]
        assert ask("/v1/edits", json=edit(), headers=header_of("good")).status_code == 200
        for accepted in answers[:2]:
            server.client.delete(accepted.headers["location"], headers=header_of("bad"))

    def test_bodies(self, start, monkeypatch):
        monkeypatch.setattr(guard, "MAX_HELD", 2_000_000)
        server = start(keys=KEYS)
        with contextlib.ExitStack() as stack:
            wires = [stack.enter_context(connected(server)) for _ in range(2)]
            for wire in wires:
                wire.sendall(head("/v1/edits", 900_000, "bad") + b" " * 600_000)
            # Whichever came last is one too many.
            (refused, *_), *_ = select.select(wires, [], [], 60)
            assert b"429" in refused.recv(100)
            answer = server.client.post("/v1/edits", json=edit(), headers=header_of("good"))
            assert answer.status_code == 200

    def test_bodies_are_read_slowly_while_others_work(self, start, monkeypatch):
        sizes = []

        async def wait(_, size) -> None:
            sizes.append(size)

        monkeypatch.setattr(guard.RateLimit, "wait", wait)
        server = start(keys=KEYS, models=["erase"])
        body = b" " * (guard.LARGE_BODY + 500_000)

        def post() -> None:
            headers = {**header_of("bad"), "content-type": "application/json"}
            assert server.client.post("/v1/edits", content=body, headers=headers).status_code == 400

        post()
        assert not sizes
        with connected(server) as wire:
            wire.sendall(head("/v1/edits", 100, "bad"))
            post()
            assert not sizes
        with connected(server) as wire:
            wire.sendall(head("/v1/edits", 100, "good"))
            server.until(lambda: post() or sizes)
        assert 500_000 <= sum(sizes) < len(body)

    def test_places_to_decode(self, start):
        server = start(keys=KEYS, decode_timeout_s=60)
        hostile = base64.b64encode(filled_jpeg(20_000_000)).decode()
        body = json.dumps(edit(image=hostile)).encode()
        picture_ = b64(picture(1100, 1000))
        mask = b64(box_mask(1100, 1000, (400, 500, 420, 520)))
        large = {"model": "erase", "image": picture_, "mask": mask, "prompt": ""}
        with contextlib.ExitStack() as stack:
            wires = [stack.enter_context(connected(server)) for _ in range(4)]
            for wire in wires:
                wire.sendall(head("/v1/edits", len(body), "bad") + body)
            server.until(lambda: decodes(server) > 0)
            answer = server.client.post("/v1/edits", json=large, headers=header_of("good"))
            assert answer.status_code == 200
            assert select.select(wires, [], [], 0)[0] == []  # none of them was done before

    def test_answers(self, start, monkeypatch):
        encode, go_on = native.encode, threading.Event()

        def slow(result):
            if result.seeds == (99,):
                assert go_on.wait(60)
            return encode(result)

        monkeypatch.setattr(native, "encode", slow)
        server = start(keys=KEYS)
        body, ask = edit(99, **{"async": True}), server.client.post
        for _ in range(6):
            answer = ask("/v1/edits", json=body, headers=header_of("bad"))
            assert answer.status_code == 202
        assert ask("/v1/edits", json=edit(), headers=header_of("good")).status_code == 200
        go_on.set()
        where = answer.headers["location"]
        asked = partial(server.client.get, where, headers=header_of("bad"))
        server.until(lambda: asked().json()["status"] == "done")


def test_what_refused_requests_held_is_given_back(server):
    for more in ({"options": {"nope": 1}}, {"prompt": ""}, {"image": "AAAA"}):
        assert server.client.post("/v1/edits", json={**edit(), **more}).status_code == 400
    server.until(lambda: server.service.batcher.idle)
    server.until(lambda: server.service.accounts.megapixels == 0)


def test_the_canvas_of_a_small_edit_is_known_while_it_waits(server, monkeypatch):
    """What is taken for larger than it is waits for larger work of others."""
    sizes, submit = [], server.service.batcher.submit

    def noting(*edit, canvas, **more):
        sizes.append(canvas)
        return submit(*edit, canvas=canvas, **more)

    monkeypatch.setattr(server.service.batcher, "submit", noting)
    for size in (64, 128):
        assert server.client.post("/v1/edits", json=edit(size=size)).status_code == 200
    assert sizes == [64 * 64, 128 * 128]


HUGE = {"options": {"width": 2560, "height": 2560, "num_inference_steps": 2}}


class TestLongWork:
    """A canvas as large as an operator may allow, on a processor."""

    @pytest.fixture
    def busy(self, start):
        server = start(max_canvas_megapixels=25, max_megapixel_steps=1e6)
        for model in ("sd2", "flex2"):
            warm = {**edit(model=model), "prompt": "a cat"}
            assert server.client.post("/v1/edits", json=warm).status_code == 200
        return server

    def test_ends_at_its_deadline(self, busy):
        with within(30):
            answer = busy.client.post("/v1/edits", json={**edit(timeout_s=1), **HUGE})
        assert answer.status_code == 504
        busy.until(lambda: busy.service.batcher.idle)
        with within(30):
            assert busy.client.post("/v1/edits", json=edit()).status_code == 200

    def test_ends_when_it_is_deleted(self, busy):
        body = {**edit(**{"async": True}), **HUGE}
        where = busy.client.post("/v1/edits", json=body).headers["location"]
        time.sleep(0.5)
        busy.client.delete(where)
        with within(30):
            assert busy.client.post("/v1/edits", json=edit()).status_code == 200

    @pytest.mark.parametrize("model", ["sd2", "flex2"])
    def test_steps_aside(self, busy, model):
        """For another model, and for a much smaller edit of the same one."""
        body = {**edit(**{"async": True}), **HUGE}
        where = busy.client.post("/v1/edits", json=body).headers["location"]
        time.sleep(0.5)
        with within(20):
            answer = busy.client.post("/v1/edits", json=edit(model=model))
        assert answer.status_code == 200
        assert busy.client.get(where).json()["status"] in ("queued", "running")
        busy.client.delete(where)

    def test_of_erase_too(self, start):
        """A round of a large hole takes long: others have their turn, and it can be ended."""
        server = start()
        assert server.client.post("/v1/edits", json=edit(model="flex2")).status_code == 200
        hole = b64(box_mask(1600, 1200, (100, 100, 1300, 1100)))
        body = {"model": "erase", "image": b64(picture(1600, 1200)), "mask": hole, "prompt": ""}
        where = server.client.post("/v1/edits", json={**body, "async": True}).headers["location"]
        server.until(lambda: server.client.get(where).json()["status"] == "running")
        with within(20):
            assert server.client.post("/v1/edits", json=edit(model="flex2")).status_code == 200
        assert server.client.get(where).json()["status"] == "running"
        server.client.delete(where)
        server.until(lambda: server.service.batcher.idle)
