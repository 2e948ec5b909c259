"""Pictures that grow, over HTTP: the native API, OpenAI's route, sessions, limits."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from tests.apps.server.conftest import FEW, b64, from_b64, png
from tests.conftest import box_mask, picture

SIDE = 64


@pytest.fixture
def client(server):
    return server.client


def asked(**more) -> dict:
    return {"image": b64(picture(SIDE, SIDE)), "seed": 1, **more}


def inside(image: Image.Image, left: int, top: int) -> np.ndarray:
    return np.asarray(image.convert("RGB"))[top : top + SIDE, left : left + SIDE]


def test_json_and_form_without_words_go_to_the_eraser(client):
    extend = {"left": 8, "to": "2:1", "anchor": "left"}
    body = client.post("/v1/edits", json=asked(extend=extend)).json()
    assert body["recipe"]["model"]["name"] == "erase"
    assert body["recipe"]["extend"] == {"left": 8, "right": 56}
    made = from_b64(body["images"][0])
    assert made.size == (128, 64)
    assert np.array_equal(inside(made, 8, 0), np.asarray(picture(SIDE, SIDE)))
    files = {"image": ("a.png", png(picture(SIDE, SIDE)))}
    form = client.post("/v1/edits", data={"extend": json.dumps(extend), "seed": "1"}, files=files)
    assert form.json()["images"] == body["images"]


def test_with_words_it_goes_to_a_model_that_paints(client):
    answer = client.post(
        "/v1/edits", json=asked(extend={"top": 16}, prompt="a field", options=FEW)
    ).json()
    assert answer["recipe"]["model"]["name"] == "flex2"
    assert np.array_equal(inside(from_b64(answer["images"][0]), 0, 16), picture(SIDE, SIDE))


@pytest.mark.parametrize(
    ("extend", "field"),
    [
        ({"left": -1}, "extend.left"),
        ({"left": 0}, "extend"),
        ({"to": "1:1"}, "extend.to"),
        ({"far": 1}, "extend.far"),
        ({"left": 60_000, "top": 60_000}, "extend"),
        ({}, "extend"),
    ],
)
def test_what_cannot_be_is_a_400_with_the_field(client, extend, field):
    answer = client.post("/v1/edits", json=asked(extend=extend))
    assert answer.status_code == 400
    assert answer.json()["error"]["field"] == field


def test_text_that_is_no_object_is_refused(client):
    files = {"image": ("a.png", png(picture(SIDE, SIDE)))}
    answer = client.post("/v1/edits", data={"extend": "wide"}, files=files)
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "extend")
    answer = client.post("/v1/edits", json=asked(extend="16:9"))
    assert answer.status_code in (400, 422)


def test_limits_count_the_larger_picture_before_anything_is_decoded(start):
    client = start(max_megapixels=0.01, max_megapixel_steps=0.03).client
    small = asked(model="erase")
    broken = png(picture(SIDE, SIDE))[:-40]  # its header says enough
    files = {"image": ("a.png", broken)}
    form = {"model": "erase", "extend": json.dumps({"left": 200})}
    answer = client.post("/v1/edits", data=form, files=files)
    assert answer.json()["error"]["field"] == "extend"
    assert "0.01 megapixels" in answer.json()["error"]["message"]
    assert client.post("/v1/edits", json={**small, "extend": {"left": 16}}).status_code == 200
    work = client.post("/v1/edits", json={**small, "extend": {"left": 80}})
    assert "megapixel-steps" in work.json()["error"]["message"]


def framed(shape: Image.Image | None = None) -> Image.Image:
    """A canvas with a picture in it and nothing around."""
    canvas = picture(SIDE, SIDE).convert("RGBA")
    canvas.putalpha(shape or box_mask(SIDE, SIDE, box=(0, 0, 44, SIDE)))
    return canvas


def by_openai(client, image: Image.Image, mask: Image.Image | None = None, **more):
    files = [("image", ("i.png", png(image)))]
    if mask is not None:
        files.append(("mask", ("m.png", png(mask))))
    form = {"prompt": "", "model": "erase", "seed": "1", **more}
    return client.post("/v1/images/edits", data=form, files=files)


def test_a_canvas_sent_as_openais_clients_do_is_filled(client):
    for mask in (None, framed()):
        answer = by_openai(client, framed(), mask, output_format="jpeg")
        assert answer.status_code == 200, answer.text
        assert answer.json()["background"] == "opaque"
    made = from_b64(by_openai(client, framed()).json()["data"][0]["b64_json"])
    assert np.array_equal(np.asarray(made)[:, :44], np.asarray(picture(SIDE, SIDE))[:, :44])


def test_a_thing_that_was_cut_out_keeps_its_background(client):
    round_ = box_mask(SIDE, SIDE, box=(8, 8, 40, 40))
    round_.paste(0, (8, 8, 12, 12))
    answer = by_openai(client, framed(round_), mask_of(box_mask(SIDE, SIDE, box=(20, 20, 30, 30))))
    assert answer.json()["background"] == "transparent"
    answer = by_openai(client, framed(round_))
    assert answer.status_code == 400
    assert "mask" in answer.json()["error"]["message"]


def mask_of(white: Image.Image) -> Image.Image:
    """As OpenAI reads masks: transparent where it is edited."""
    mask = picture(SIDE, SIDE).convert("RGBA")
    mask.putalpha(white.point(lambda value: 255 - value))
    return mask


def test_openais_route_takes_the_field_too(client):
    answer = by_openai(client, picture(SIDE, SIDE), extend='{"left": 8}')
    assert answer.json()["size"] == "72x64"
    answer = by_openai(client, picture(SIDE, SIDE), extend='{"left": 8}', size="64x64")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "size"


def test_a_turn_of_a_session_grows(client):
    session = client.post(
        "/v1/sessions", json={"name": "wide", "image": b64(picture(SIDE, SIDE))}
    ).json()
    body = {"prompt": "", "extend": {"right": "25%"}, "revision": 1, "async": False, "seed": 2}
    told = client.post(f"/v1/sessions/{session['id']}/turns", json=body).json()
    turn = told["turn"]
    assert (turn["kind"], turn["extend"], turn["inputs"]) == (
        "extend",
        {"right": 16},
        {"extend": {"right": 16}},
    )
    assert turn["measures"]["original"]["kept_identical"] == 1.0
