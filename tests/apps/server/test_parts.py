"""Every part of an edit at every door: taken where the model takes it, else refused by name."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from overpaint.apps.wiring.models import families
from overpaint.core.imaging.borders import Borders
from overpaint.core.parts import Part
from overpaint.core.types import FAMILY_PARTS, PARTS
from tests.apps.server.conftest import FAMILIES, png
from tests.apps.server.protocols.test_oip import tensor
from tests.conftest import box_mask, picture

MODELS = (*FAMILIES, "erase")
STRIP = box_mask(64, 64, box=(0, 0, 64, 14))
BESIDE = tuple(part for part in PARTS if part.kind in ("number", "borders"))
OPENAI = {"num_images": "n"}
"""OpenAI's name of what has no field of its own there, or another one."""

Values = dict[str, Any]


def sample(part: Part) -> Any:
    """A value of the part's kind."""
    if part.kind == "pictures":
        return (picture(64, 64, seed=3), picture(48, 40, seed=4))
    values = {
        "picture": picture(64, 64, seed=5),
        "mask": box_mask(64, 64, box=(24, 24, 40, 40)) if part.name == "mask" else STRIP,
        "text": "a red kite",
        "number": 2,
        "borders": Borders(left=8, bottom=8),
    }
    return values[part.kind]


def least(model: str) -> Values:
    """What the model needs, and the picture."""
    needed = [part for part in FAMILY_PARTS if families.find(model).need(part.name) == "required"]
    return {"image": picture(64, 64), **{part.name: sample(part) for part in needed}}


def options(model: str) -> dict[str, Any]:
    return {} if model == "erase" else {"num_inference_steps": 1}


def as_text(value: Any) -> Any:
    """A value in JSON."""
    if isinstance(value, tuple):
        return [as_text(each) for each in value]
    if isinstance(value, Borders):
        return value.as_json()
    return base64.b64encode(png(value)).decode() if isinstance(value, Image.Image) else value


def as_files(values: Values) -> tuple[Values, list[tuple[str, Any]]]:
    """Texts and files of a form."""
    files = [
        (name, (f"{name}.png", png(each)))
        for name, value in values.items()
        for each in (value if isinstance(value, tuple) else (value,))
        if isinstance(each, Image.Image)
    ]
    pixels = {name for name, _ in files}
    texts = {name: as_text(value) for name, value in values.items() if name not in pixels}
    return {name: in_form(text) for name, text in texts.items()}, files


def in_form(value: Any) -> str:
    """A value as a form's text: objects are JSON."""
    return json.dumps(value) if isinstance(value, dict) else str(value)


def by_json(server, model: str, values: Values):
    body = {name: as_text(value) for name, value in values.items()}
    return server.client.post("/v1/edits", json={"model": model, **body, "options": options(model)})


def by_form(server, model: str, values: Values):
    texts, files = as_files(values)
    form = {"model": model, **texts, "options": json.dumps(options(model))}
    return server.client.post("/v1/edits", data=form, files=files)


def by_oip(server, model: str, values: Values):
    def of(name: str, value: Any) -> dict:
        texts = as_text(value)
        data = texts if isinstance(texts, list) else [texts]
        data = [json.dumps(each) if isinstance(each, dict) else each for each in data]
        return tensor(name, *data, datatype="INT64" if isinstance(value, int) else "BYTES")

    body = {"inputs": [of(*each) for each in values.items()], "parameters": options(model)}
    return server.client.post(f"/v2/models/{model}/infer", json=body)


def by_openai(server, model: str, values: Values):
    given = {OPENAI.get(name, name): value for name, value in values.items()}
    if "mask" in given:  # transparent where it is edited
        mask = given["mask"]
        given["mask"] = picture(64, 64).convert("RGBA")
        given["mask"].putalpha(mask.point(lambda value: 255 - value))
    given["image[]"] = (given.pop("image"), *given.pop("references", ()))
    texts, files = as_files({"prompt": "", **given})
    form = {"model": model, **texts, **options(model)}
    return server.client.post("/v1/images/edits", data=form, files=files)


@pytest.mark.parametrize("door", [by_json, by_form, by_oip], ids=lambda door: door.__name__)
def test_how_a_mask_is_read_can_be_said(server, requests, door):
    paint = Image.new("RGB", (64, 64), "white")
    paint.paste("red", (16, 16, 40, 40))
    edit = {"image": picture(64, 64), "mask": paint}
    assert door(server, "erase", edit).status_code == 400
    assert door(server, "erase", {**edit, "mask_is": "paint"}).status_code == 200
    assert requests[-1].mask.getpixel((20, 20)) == 255
    assert door(server, "erase", {**edit, "mask_is": "black"}).status_code in (400, 422)


def test_openais_masks_are_transparent_where_they_have_transparency(server, requests):
    def post(mask, **more):
        form = {"model": "erase", "prompt": "", **more}
        files = [("image", ("i.png", png(picture(64, 64)))), ("mask", ("m.png", png(mask)))]
        return server.client.post("/v1/images/edits", data=form, files=files)

    assert post(box_mask(64, 64)).status_code == 200
    assert same(box_mask(64, 64), requests[-1].mask)
    refused = post(box_mask(64, 64), mask_is="alpha")
    assert refused.status_code == 400
    assert "no transparency" in refused.json()["error"]["message"]
    island = Image.new("RGBA", (64, 64))
    island.paste("red", (16, 16, 40, 40))  # which looks like paint on an empty layer
    assert post(island).status_code == 200
    assert requests[-1].mask.getpixel((20, 20)) == 0


def field_of(answer) -> str:
    """The field that an answer names, whatever its protocol."""
    error = answer.json()["error"]
    return error.split(":")[0] if isinstance(error, str) else error.get("param") or error["field"]


DOORS: list[Callable[..., Any]] = [by_json, by_form, by_oip, by_openai]


def same(given: Any, taken: Any) -> bool:
    if isinstance(given, tuple):
        return len(given) == len(taken) and all(map(same, given, taken))
    if isinstance(given, Image.Image):
        return np.array_equal(np.asarray(given), np.asarray(taken))
    return bool(given == taken)


@pytest.fixture
def requests(server, monkeypatch):
    """What the server's batcher is handed."""
    accept, seen = server.service.accept, []

    def watched(checked, *rest):
        seen.append(checked.request)
        return accept(checked, *rest)

    monkeypatch.setattr(server.service, "accept", watched)
    return seen


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("part", [*FAMILY_PARTS, *BESIDE], ids=lambda part: part.name)
def test_a_part_is_taken_or_refused_by_name(server, requests, part, model, door):
    value = sample(part)
    answer = door(server, model, {**least(model), part.name: value})
    if (part.name, model, door) == ("prompt", "erase", by_openai):
        # OpenAI's clients always send one.
        assert answer.status_code == 200, answer.text
        assert "erase takes no prompt" in answer.json()["warnings"][0]
    elif part.family and families.find(model).need(part.name) == "refused":
        assert answer.status_code == 400, answer.text
        named = "image" if door is by_openai and part.kind == "pictures" else part.name
        assert field_of(answer) == named
        assert requests == []
    else:
        assert answer.status_code == 200, answer.text
        assert same(value, getattr(requests[0], part.name))


@pytest.mark.parametrize("model", MODELS)
def test_a_model_says_what_it_takes(server, model):
    family = families.find(model)
    taken = [part for part in FAMILY_PARTS if family.need(part.name) != "refused"]
    listed = server.client.get(f"/v1/models/{model}").json()["parts"]
    assert listed == [
        {"name": each.name, "kind": each.kind, "need": family.need(each.name), "help": each.help}
        for each in taken
    ]
    tensors = server.client.get(f"/v2/models/{model}").json()["inputs"]
    assert {each["name"] for each in tensors} == {
        "image",
        "mask_is",
        *(part.name for part in (*taken, *BESIDE)),
    }


def test_the_document_has_every_part(server):
    paths = server.client.get("/openapi.json").json()["paths"]

    def fields(path: str, kind: str = "application/json") -> dict[str, Any]:
        content = paths[path]["post"]["requestBody"]["content"]
        found: dict[str, Any] = content[kind]["schema"]["properties"]
        return found

    names = {part.name for part in PARTS}
    assert names <= set(fields("/v1/edits"))
    assert names - {"image"} <= set(fields("/v1/sessions/{id}/turns"))
    form = fields("/v1/edits", "multipart/form-data")
    openai = fields("/v1/images/edits", "multipart/form-data")
    for part in PARTS:
        files = [form[part.name], *([openai[part.name]] if part.name in openai else [])]
        for each in files if part.is_visual else []:
            assert each.get("items", each)["format"] == "binary"
    extra = names - {"references", "num_images", "options"}
    assert extra <= set(openai)
