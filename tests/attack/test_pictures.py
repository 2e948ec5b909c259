"""Files that cost much to decode, many pictures in one request, and callers that hang up."""

from __future__ import annotations

import base64
import contextlib
import json
import select

import pytest

from overpaint.apps.server.bounds.decoding import AT_ONCE
from overpaint.core.imaging.codecs import headers
from tests.apps.server.conftest import b64, edit, from_b64, png
from tests.attack.conftest import (
    blank_png,
    connected,
    decodes,
    filled_jpeg,
    head,
    jpeg,
    scanned_jpeg,
    within,
)
from tests.conftest import box_mask, picture


def text(encoded) -> str:
    return base64.b64encode(encoded).decode()


def kontext(**more) -> dict:
    body = edit(model="kontext", **more)
    return {name: value for name, value in body.items() if name != "mask"}


def erased(width, height=1000) -> dict:
    """An edit of a large picture without steps."""
    mask = box_mask(width, height, (400, 500, 420, 520))
    image = picture(width, height)
    return {"model": "erase", "image": b64(image), "mask": b64(mask), "prompt": ""}


class TestEveryPictureCounts:
    def test_many_references_are_refused_before_they_are_decoded(self, start, bounded_memory):
        server = start(max_queued_megapixels=100)
        large = text(blank_png(5000, 5000))
        body = kontext(references=[large] * 15)
        with within(30), bounded_memory(200):
            answer = server.client.post("/v1/edits", json=body)
        assert answer.status_code == 400
        assert "375.00 megapixels together" in answer.json()["error"]["message"]
        assert server.client.post("/v1/edits", json=edit()).status_code == 200

    def test_they_count_while_others_wait(self, start):
        server = start(max_queued_megapixels=0.05)
        body = kontext(steps=200, references=[b64(picture(160, 160))])
        first, second = (
            server.client.post("/v1/edits", json={**body, "async": True}) for _ in range(2)
        )
        assert (first.status_code, second.status_code) == (202, 429)
        server.client.delete(first.headers["location"])

    @pytest.mark.parametrize("part", ["mask", "control"])
    def test_a_part_is_no_larger_than_a_picture(self, start, part):
        server = start(max_megapixels=0.01)
        body = edit(model="flex2", **{part: text(blank_png(200, 200))})
        answer = server.client.post("/v1/edits", json=body)
        assert (answer.status_code, answer.json()["error"]["field"]) == (400, part)

    def test_uploads_of_sessions_and_of_segments_count(self, start):
        server = start(max_queued_megapixels=0.005, max_megapixels=1)
        for path, more in (("/v1/sessions", {}), ("/v1/segments", {"box": [1, 1, 50, 50]})):
            answer = server.client.post(path, json={"image": b64(picture(100, 100)), **more})
            assert (answer.status_code, answer.json()["error"]["field"]) == (400, "image")
            assert "0.01 megapixels" in answer.json()["error"]["message"]

    def test_an_archive_counts_as_its_largest_turn(self, server, start):
        body = {"image": b64(picture(100, 100))}
        where = server.client.post("/v1/sessions", json=body).headers["location"]
        archive = server.client.get(f"{where}/export").content
        for limit, status in ((0.005, 400), (0.02, 201)):
            other = start(max_queued_megapixels=limit, max_megapixels=1)
            kind = {"content-type": "application/zip"}
            answer = other.client.post("/v1/sessions/import", content=archive, headers=kind)
            assert answer.status_code == status, answer.text
            if status == 400:
                error = answer.json()["error"]
                assert error["field"] == "archive"
                assert "0.01 megapixels" in error["message"]
            assert other.service.accounts.megapixels == 0


class TestHostileFiles:
    def test_a_file_that_takes_too_long_is_given_up(self, start):
        server = start(decode_timeout_s=2)
        body = edit(image=text(filled_jpeg(20_000_000)))
        answer = server.client.post("/v1/edits", json=body)
        assert answer.status_code == 400
        assert "longer than 2 seconds" in answer.json()["error"]["message"]
        # Another process waits: its start takes nothing of the next file's time.
        server.until(lambda: server.service.decoding._free.qsize() == 1)
        body = erased(1100)
        assert server.client.post("/v1/edits", json=body).status_code == 200

    @pytest.mark.parametrize(
        "hostile",
        [filled_jpeg(20_000_000), scanned_jpeg(2048, 3_000)],
        ids=["filling", "scans"],
    )
    def test_others_do_not_wait_for_them(self, start, hostile):
        server = start(decode_timeout_s=60)
        assert server.client.post("/v1/edits", json=edit()).status_code == 200
        body = json.dumps(edit(image=text(hostile))).encode()
        with contextlib.ExitStack() as stack:
            wires = [stack.enter_context(connected(server)) for _ in range(4)]
            for wire in wires:
                wire.sendall(head("/v1/edits", len(body)) + body)
            server.until(lambda: decodes(server) == AT_ONCE)
            assert server.client.post("/v1/edits", json=edit()).status_code == 200
            assert select.select(wires, [], [], 0)[0] == []  # none of them was done before
        server.until(lambda: server.service.accounts.megapixels == 0)

    def test_a_caller_that_hangs_up_frees_the_place(self, start):
        server = start(decode_timeout_s=120)
        body = json.dumps(edit(image=text(filled_jpeg(20_000_000)))).encode()
        for _ in range(6):
            with connected(server) as wire:
                wire.sendall(head("/v1/edits", len(body)) + body)
                server.until(lambda: decodes(server) > 0)
        with within(30):
            body = erased(1100)
            assert server.client.post("/v1/edits", json=body).status_code == 200
        server.until(lambda: server.service.accounts.megapixels == 0)

    def test_a_deadline_counts_from_the_arrival(self, start):
        server = start(decode_timeout_s=120)
        body = edit(image=text(filled_jpeg(20_000_000)), timeout_s=1)
        answer = server.client.post("/v1/edits", json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_exceeded")

    def test_a_large_honest_picture_comes_back_whole(self, server):
        """It was decoded in a process of its own."""
        large = picture(1200, 1000)
        large.putalpha(picture(1200, 1000, seed=1).convert("L"))
        answer = server.client.post("/v1/edits", json={**erased(1200, 1000), "image": b64(large)})
        edited = from_b64(answer.json()["images"][0])
        assert edited.mode == "RGBA"
        kept = (0, 0, 1200, 400)
        assert edited.crop(kept).tobytes() == large.crop(kept).tobytes()


class TestHeaders:
    def test_hostile_ones_are_told_from_plain_ones(self):
        assert headers.is_plain(jpeg(progressive=True))
        assert headers.is_plain(png(picture(64, 64)))
        assert not headers.is_plain(filled_jpeg(5000))
        assert not headers.is_plain(scanned_jpeg(64, 100))
        assert not headers.is_plain(blank_png(2000, 2000))
        assert not headers.is_plain(b"\xff\xd8\xff")

    def test_they_are_read_quickly(self):
        pieces = jpeg()
        pieces = pieces[:2] + b"\xff\xfe\x00\x02" * 2_000_000 + pieces[2:]
        with within(30):
            assert not headers.is_plain(pieces)
            assert not headers.is_plain(filled_jpeg(60_000_000))
