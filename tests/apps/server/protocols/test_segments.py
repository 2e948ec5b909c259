"""`POST /v1/segments`: masks from hints, and what is refused."""

from __future__ import annotations

import asyncio
import io
import threading

import numpy as np
import pytest
from PIL import Image, ImageDraw

from overpaint.apps.server.protocols import segments
from overpaint.core.errors import Overloaded
from tests.apps.server.conftest import b64, picture, png


@pytest.fixture(scope="module")
def disc() -> Image.Image:
    image = Image.new("RGB", (96, 80), (210, 200, 180))
    ImageDraw.Draw(image).ellipse((30, 20, 60, 50), fill=(200, 30, 30))
    return image


def ask(server, image, **hints):
    return server.client.post("/v1/segments", json={"image": b64(image), **hints})


def overlap(answer) -> float:
    found = np.asarray(Image.open(io.BytesIO(answer.content))) >= 128
    true = Image.new("L", (96, 80), 0)
    ImageDraw.Draw(true).ellipse((30, 20, 60, 50), fill=255)
    wanted = np.asarray(true) >= 128
    return float((found & wanted).sum() / (found | wanted).sum())


@pytest.mark.parametrize("hints", [{"box": [25, 15, 66, 55]}, {"points": [{"x": 45, "y": 35}]}])
def test_a_hint_gives_the_mask_of_the_thing(server, disc, hints):
    answer = ask(server, disc, **hints)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    mask = Image.open(io.BytesIO(answer.content))
    assert (mask.mode, mask.size) == ("L", (96, 80))
    assert overlap(answer) > 0.9


@pytest.mark.parametrize(
    ("hints", "status", "field"),
    [
        ({}, 400, "body"),
        ({"points": [{"x": 500, "y": 5}]}, 400, "point"),
        ({"points": [{"x": 5, "y": 5, "inside": False}]}, 400, "point"),
        ({"points": [{"x": 5, "y": 5}] * 65}, 400, "points"),
        ({"points": [{"x": "5", "y": 5}]}, 400, "points.0.x"),
        ({"box": [9, 9, 3, 3]}, 400, "box"),
        ({"box": [1, 2, 3]}, 400, "box"),
        ({"text": "dog", "box": [1, 1, 9, 9]}, 400, "text"),
        ({"text": "x" * 501}, 400, "text"),
        ({"text": "the dog"}, 404, "model"),
        ({"box": [1, 1, 9, 9], "model": "/etc"}, 404, "model"),
        ({"box": [1, 1, 9, 9], "model": "grabcut+/etc"}, 404, "model"),
        ({"box": [1, 1, 9, 9], "modle": "grabcut"}, 400, "modle"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(server, disc, hints, status, field):
    answer = ask(server, disc, **hints)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["field"] == field


def test_only_json_and_only_pictures(server):
    post = server.client.post
    assert post("/v1/segments", content=b"x").status_code == 415
    answer = post("/v1/segments", json={"image": "aGFsbG8=", "box": [1, 1, 9, 9]})
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "image")


def test_pictures_are_held_to_the_servers_limit(start):
    small = start(max_megapixels=0.001)
    assert ask(small, picture(64, 64), box=[1, 1, 9, 9]).status_code == 400


def test_few_may_wait(monkeypatch):
    go_on = threading.Event()

    def find(*_) -> bytes:
        assert go_on.wait(60)
        return b"mask"

    monkeypatch.setattr(segments, "MAX_WAITING", 2)
    monkeypatch.setattr(segments, "_mask", find)

    async def run():
        desk = segments.Desk()

        def ask():
            return asyncio.create_task(desk.find(None, None, "", None))

        accepted = [ask(), ask()]  # of one caller half of them may wait, beside the one in work
        with pytest.raises(Overloaded) as refused:
            await ask()
        assert refused.value.retry_after >= 1
        go_on.set()
        assert await asyncio.gather(*accepted) == [b"mask"] * 2
        desk.close()

    asyncio.run(run())


def test_a_form_with_the_picture_as_a_file(server, disc):
    files = {"image": ("disc.png", png(disc))}

    def post(**texts):
        return server.client.post("/v1/segments", data=texts, files=files)

    for texts in ({"box": "[25, 15, 66, 55]"}, {"points": '[{"x": 45, "y": 35}]'}):
        assert overlap(post(**texts)) > 0.9
    for texts, field in (
        ({"box": "25,15"}, "box"),
        ({"box": "{}"}, "box"),
        ({"boxx": "1"}, "boxx"),
    ):
        answer = post(**texts)
        assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)
