"""What was asked for is done, or refused before anything is made."""

from __future__ import annotations

import base64
import io
import shutil

import numpy as np
import openai
import pytest
from PIL import Image

from overpaint.apps.settings import ModelSettings
from overpaint.apps.wiring.models import families
from overpaint.apps.wiring.served import ServedModels
from overpaint.checkpoints.files import layout
from overpaint.core.errors import InvalidSettings, ModelLoadError, UnsupportedOption
from overpaint.engine.checking import check
from overpaint.engine.intake import request_of
from tests.apps.server.conftest import b64, edit, png, serving
from tests.apps.server.protocols.test_openai import transparent_mask
from tests.conftest import box_mask, picture

WITH_WEIGHTS = [family for family in families.importable() if family.components]

FEW = {"num_inference_steps": "1"}


def ask(server, image, **fields):
    data = {"model": "sd2", "prompt": "a red cat", **FEW, **fields}
    files = {"image": ("a", image), "mask": ("m.png", png(transparent_mask()))}
    return server.client.post("/v1/images/edits", data=data, files=files)


def made(answer) -> Image.Image:
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(base64.b64decode(answer.json()["data"][0]["b64_json"])))


def with_exif(size=0) -> bytes:
    exif = Image.Exif()
    exif[0x010F] = "Maker" + "x" * size
    file = io.BytesIO()
    picture(64, 64).save(file, "PNG", exif=exif)
    return file.getvalue()


def half_transparent() -> Image.Image:
    image = picture(64, 64).convert("RGBA")
    image.putalpha(Image.new("L", (64, 64), 128))
    return image


class TestFormats:
    @pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
    def test_exif_is_kept_in_every_format(self, server, kind):
        image = made(ask(server, with_exif(), output_format=kind))
        assert image.getexif()[0x010F] == "Maker"

    def test_what_jpeg_cannot_hold_is_refused_before_anything_is_made(self, server):
        server.until(lambda: server.service.batcher.idle)  # other tests may have cancelled edits
        for image in (with_exif(70_000), png(half_transparent())):
            before = server.service.batcher.passes
            answer = ask(server, image, output_format="jpeg")
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, "output_format")
            assert server.service.batcher.passes == before

    @pytest.mark.parametrize("kind", ["png", "jpeg"])
    def test_an_opaque_background_is_white_behind_the_picture(self, server, kind):
        answer = ask(server, png(half_transparent()), background="opaque", output_format=kind)
        image = made(answer)
        assert (image.mode, answer.json()["background"]) == ("RGB", "opaque")
        outside = np.asarray(box_mask(64, 64)) == 0
        over_white = 255 - (255 - np.asarray(picture(64, 64)).astype(int)) * 128 / 255
        away = np.abs(np.asarray(image) - over_white)[outside]
        assert away.max() < (1.01 if kind == "png" else 60)

    def test_transparency_survives_else(self, server):
        image = made(ask(server, png(half_transparent())))
        assert image.mode == "RGBA"
        assert image.getchannel("A").getextrema() == (128, 128)


class TestSizes:
    @pytest.mark.parametrize(
        ("path", "size", "field"),
        [("openai", "65x64", "size"), ("native", (65, 64), "options.width"),
         ("native", (64, 33), "options.height"), ("native", (None, 64), "options.width")],
    )  # fmt: skip
    def test_are_checked_before_the_edit_waits(self, server, path, size, field):
        accept, server.service.accept = server.service.accept, None
        try:
            if path == "openai":
                answer = ask(server, png(picture(64, 64)), size=size)
            else:
                names = {"width": size[0], "height": size[1]}
                options = {name: value for name, value in names.items() if value}
                answer = server.client.post("/v1/edits", json={**edit(), "options": options})
        finally:
            server.service.accept = accept
        error = answer.json()["error"]
        assert answer.status_code == 400
        assert error.get("field", error.get("param")) == field
        assert "multiple of" in error["message"] or "both" in error["message"]

    @pytest.mark.parametrize("family", WITH_WEIGHTS, ids=lambda family: family.name)
    def test_are_those_of_the_model(self, make_engine, checkpoint_folder, family):
        """The step that is known before the model is there is the one that its plan uses."""
        step = layout.size_step(checkpoint_folder(family.name), family.cells)
        sides = {"width": 4 * step, "height": 3 * step}
        parts = {"image": png(picture(64, 64)), "prompt": "a cat", "model": family.name}
        if family.need("mask") == "required":
            parts["mask"] = box_mask(64, 64)
        asked = [sides, {**sides, "width": 4 * step + step // 2}, {**sides, "height": 5 * step + 1}]
        plan = make_engine(family.name).model().family.plan
        first, *others = (check(family, request_of({**parts, "options": each})) for each in asked)
        assert plan(first.request, first.options).canvas == (4 * step, 3 * step)
        for each in others:
            with pytest.raises(UnsupportedOption, match=f"is not a multiple of {step};"):
                plan(each.request, each.options)


class TestErase:
    def test_works_with_a_prompt_and_says_that_it_was_not_used(self, server):
        answer = ask(server, png(picture(64, 64)), model="erase", num_inference_steps=())
        assert made(answer).size == (64, 64)
        assert any("no prompt" in each for each in answer.json()["warnings"])

    @pytest.mark.parametrize("prompt", ["", ()])
    def test_works_without(self, server, prompt):
        answer = ask(
            server, png(picture(64, 64)), model="erase", prompt=prompt, num_inference_steps=()
        )
        made(answer)
        assert answer.json()["warnings"] == []

    def test_openais_client_may_leave_it_empty(self, server):
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0) as client:
            answer = client.images.edit(
                model="erase",
                prompt="",
                image=("a.png", png(picture(64, 64))),
                mask=("m.png", png(transparent_mask())),
            )
        assert answer.data[0].b64_json

    def test_others_still_need_one(self, server):
        answer = ask(server, png(picture(64, 64)), prompt="")
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "prompt")


class TestAliases:
    @pytest.mark.parametrize("target", ["flex2", "none", "gpt-1", "*"])
    def test_of_what_is_not_served_end_the_start(self, make_settings, target):
        aliases = {"gpt-1": "sd2", "gpt-2": target}
        with pytest.raises(InvalidSettings, match="is not served") as caught:
            ServedModels(make_settings(models=("sd2",), aliases=aliases))
        assert caught.value.field == "server.aliases.gpt-2"

    def test_no_name_means_a_model_that_is_made_for_the_task(self, make_settings):
        served = ServedModels(make_settings(models=("erase", "tiny-kontext", "tiny-sd2")))
        tasks = ("inpaint", "edit", "erase", "extend")
        names = [served.resolve(None, task).spec.name for task in tasks]
        assert names == ["tiny-sd2", "tiny-kontext", "erase", "tiny-sd2"]

    def test_are_listed_and_may_catch_all(self, start):
        aliases = {"gpt-image-2": "sd2", "*": "erase"}
        server = start(models=("sd2", "erase"), aliases=aliases)
        listed = server.client.get("/v1/models").json()["data"]
        assert [each["aliases"] for each in listed] == [["gpt-image-2"], ["*"]]
        body = {"image": b64(picture(64, 64)), "mask": b64(box_mask(64, 64))}
        for name in ("anything", "dall-e-2", "*"):
            answer = server.client.post("/v1/edits", json={**body, "model": name})
            assert answer.json()["recipe"]["model"]["name"] == "erase"
        for name in ("sd2", "gpt-image-2"):
            answer = server.client.post("/v1/edits", json={**edit(steps=1), "model": name})
            assert answer.json()["recipe"]["model"]["name"] == "sd2"


@pytest.mark.parametrize(
    ("component", "file"), [("tokenizer", "tokenizer.json"), ("tokenizer", "vocab.json")]
)
def test_a_tokenizer_that_lacks_its_words_is_refused_at_load(
    checkpoint_folder, make_settings, tmp_path, component, file
):
    """transformers makes one of nothing, and every prompt would mean the same."""
    folder = shutil.copytree(checkpoint_folder("sd2"), tmp_path / "sd2")
    if file == "vocab.json":  # of the older layout, half of it
        (folder / component / "merges.txt").write_text("#version: 0.2\n")
    (folder / component / "tokenizer.json").unlink()
    settings = make_settings(models=("sd2",))
    broken = ModelSettings(family="sd2", folder=folder)
    settings = settings.model_copy(update={"models": {**settings.models, "sd2": broken}})
    with serving(settings) as server:
        assert server.client.get("/readyz").json()["failed"] == {"sd2": "model_load_error"}
        error = server.service.health.errors["sd2"]
        assert isinstance(error, ModelLoadError)
        assert "vocab.json" in error.message
        assert server.client.post("/v1/edits", json=edit(steps=1)).status_code == 503
