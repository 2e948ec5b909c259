"""OpenAI's contract, with its official client."""

from __future__ import annotations

import asyncio
import io
import json
from typing import ClassVar

import numpy as np
import openai
import pytest
from PIL import Image

from overpaint.apps.server.bodies import forms, openai_fields
from overpaint.apps.wiring.models import families
from tests.apps.server.conftest import b64, from_b64, png
from tests.conftest import box_mask, picture


def file(image, name="a.png") -> io.BytesIO:
    made = io.BytesIO(png(image))
    made.name = name
    return made


def transparent_mask(width=64, height=64):
    """Alpha 0 where the box is."""
    image = picture(width, height).convert("RGBA")
    image.putalpha(box_mask(width, height).point(lambda value: 255 - value))
    return image


def drawing(side=64):
    """A red stroke on an empty layer."""
    image = Image.new("RGBA", (side, side))
    image.paste((255, 0, 0, 255), (side // 4, side // 3, side // 2, side // 2))
    return image


def data_url(image) -> str:
    return f"data:image/png;base64,{b64(image)}"


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as made:
        yield made


def ask(client, **more):
    extra = {"num_inference_steps": 2, "seed": 7, **more.pop("extra_body", {})}
    given = {
        "model": "sd2",
        "image": file(picture(64, 64)),
        "mask": file(transparent_mask()),
        "prompt": "a red cat",
        **more,
    }
    return client.images.edit(**given, extra_body=extra)


class TestEdit:
    def test_transparent_is_edited_and_the_rest_is_kept(self, client):
        answer = ask(client)
        before = np.asarray(picture(64, 64))
        after = np.asarray(from_b64(answer.data[0].b64_json))
        outside = np.asarray(box_mask(64, 64)) == 0
        assert np.array_equal(before[outside], after[outside])
        assert not np.array_equal(before, after)
        assert answer.size == "64x64"
        assert answer.output_format == "png"
        assert answer.background == "opaque"
        assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
        assert answer.seeds == [7]

    def test_several_images(self, client):
        answer = ask(client, n=2)
        assert len(answer.data) == 2
        assert answer.seeds == [7, 8]

    def test_lists_tuples_and_bytes_are_files_too(self, client):
        plain = png(picture(64, 64))
        expected = ask(client).data[0].b64_json
        for image in ([file(picture(64, 64))], ("n.png", plain, "image/png"), plain):
            assert ask(client, image=image).data[0].b64_json == expected

    def test_where_the_eraser_may_copy_from(self, server):
        source = Image.new("L", (64, 64))
        source.paste(255, (0, 0, 64, 14))
        files = {"image": png(picture(64, 64)), "mask": png(transparent_mask())}
        fields = {"model": "erase", "prompt": "", "seed": "7"}

        def erased(**more):
            form = {name: (f"{name}.png", file) for name, file in {**files, **more}.items()}
            answer = server.client.post("/v1/images/edits", data=fields, files=form).json()
            return answer["data"][0]["b64_json"]

        native = {"model": "erase", "image": b64(picture(64, 64)), "mask": b64(box_mask(64, 64))}
        native |= {"seed": 7, "copy_from": b64(source)}
        expected = server.client.post("/v1/edits", json=native).json()["images"][0]
        assert erased(copy_from=png(source)) == expected
        assert erased() != expected

    def test_further_pictures_are_references(self, client):
        answer = ask(
            client,
            model="kontext",
            image=[file(picture(64, 64)), file(picture(48, 48, seed=3))],
            mask=openai.omit,
        )
        assert from_b64(answer.data[0].b64_json).size == (64, 64)

    def test_size_format_and_quality(self, client):
        answer = ask(client, size="96x80", output_format="webp", output_compression=60)
        image = from_b64(answer.data[0].b64_json)
        assert (image.size, image.format, answer.size) == ((96, 80), "WEBP", "96x80")
        answer = ask(client, output_format="jpeg", quality="low", input_fidelity="high", user="u")
        assert from_b64(answer.data[0].b64_json).format == "JPEG"
        assert answer.quality == "low"
        assert answer.safety_identifier == "u"

    def test_azures_clients(self, server):
        with openai.AzureOpenAI(
            azure_endpoint=server.url, api_key="k", api_version="2025-04-01-preview", max_retries=0
        ) as azure:
            older = ask(azure).data[0].b64_json
        with openai.OpenAI(base_url=f"{server.url}/openai/v1", api_key="k", max_retries=0) as azure:
            assert ask(azure).data[0].b64_json == older

    @pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
    def test_a_mask_without_transparency_is_white_on_black(self, client, mode):
        mask = file(box_mask(64, 64).convert(mode))
        assert ask(client, mask=mask).data[0].b64_json == ask(client).data[0].b64_json

    def test_markup_is_the_mask_of_a_family_that_follows_no_pictures(self, client):
        drawn = ask(client, mask=openai.omit, markup=file(drawing())).data[0].b64_json
        before, after = np.asarray(picture(64, 64)), np.asarray(from_b64(drawn))
        changed = np.argwhere((before != after).any(axis=2))
        left_top, right_bottom = changed.min(axis=0)[::-1], changed.max(axis=0)[::-1]
        assert (left_top >= (16, 21)).all()
        assert (right_bottom < (32, 32)).all()

    def test_markup_is_one_more_reference_where_a_family_takes_them(self, client):
        plain = ask(client, model="kontext", mask=openai.omit)
        drawn = ask(client, model="kontext", mask=openai.omit, markup=file(drawing()))
        assert drawn.data[0].b64_json != plain.data[0].b64_json
        assert drawn.usage.input_tokens_details.image_tokens == 2 * 16

    def test_a_transparent_picture_stays_transparent(self, client):
        answer = ask(client, image=file(transparent_mask()), background="transparent")
        assert answer.background == "transparent"
        assert from_b64(answer.data[0].b64_json).mode == "RGBA"

    def test_a_prompt_as_long_as_openai_takes_it(self, client):
        answer = ask(client, prompt="a red cat " * 3200)
        assert any("tokens" in warning for warning in answer.warnings)

    def test_the_asynchronous_client(self, server):
        async def run():
            async with openai.AsyncOpenAI(
                base_url=f"{server.url}/v1", api_key="any", max_retries=0
            ) as client:
                return await asyncio.gather(*(ask(client) for _ in range(3)))

        answers = asyncio.run(run())
        assert len({answer.data[0].b64_json for answer in answers}) == 1


class TestStream:
    @pytest.mark.parametrize("partial", [0, 1, 3])
    def test_partial_images_and_the_last_one(self, client, partial):
        steps = {"num_inference_steps": 8}
        events = list(ask(client, stream=True, partial_images=partial, extra_body=steps))
        kinds = [event.type for event in events]
        assert kinds == ["image_edit.partial_image"] * partial + ["image_edit.completed"]
        assert [event.partial_image_index for event in events[:-1]] == list(range(partial))
        for event in events:
            assert from_b64(event.b64_json).size == (64, 64)
            assert event.size == "64x64"
        assert events[-1].usage.total_tokens > 0
        assert events[-1].b64_json == ask(client, extra_body=steps).data[0].b64_json

    def test_several_images_are_completed_one_by_one(self, client):
        events = list(ask(client, stream=True, n=2))
        assert [event.type for event in events] == ["image_edit.completed"] * 2

    def test_leaving_a_stream_frees_the_place(self, server, client):
        stream = ask(client, stream=True, partial_images=1, extra_body={"num_inference_steps": 200})
        stream.close()
        server.until(lambda: server.service.batcher.idle)

    def test_an_error_on_the_way_is_an_event(self, start):
        server = start(timeout_s=0.001)
        with (
            openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client,
            pytest.raises(openai.APIError) as raised,
        ):
            list(ask(client, stream=True))
        assert raised.value.body["code"] == "deadline_exceeded"


class TestErrors:
    @pytest.mark.parametrize(
        ("change", "param"),
        [
            ({"extra_body": {"lora": ["a", "b"]}}, "lora[]"),
            ({"extra_body": {"opts": {"a": 1}}}, "opts[a]"),
            ({"extra_body": {"guidance_scale": "high"}}, "guidance_scale"),
            ({"size": "12"}, "size"),
            ({"size": "9999x9999"}, "size"),
            ({"n": 11}, "n"),
            ({"background": "transparent"}, "background"),
            ({"output_format": "svg"}, "output_format"),
            ({"response_format": "url"}, "response_format"),
            ({"output_format": "gif"}, "output_format"),
            ({"output_compression": 50}, "output_compression"),
            ({"partial_images": 2}, "partial_images"),
            ({"stream": True, "partial_images": 4}, "partial_images"),
            ({"mask": file(transparent_mask(32, 32))}, "mask"),
            ({"mask": file(Image.new("L", (64, 64)))}, "mask"),
            ({"markup": file(transparent_mask())}, "markup"),
            ({"markup": file(picture(64, 64)), "mask": openai.omit, "model": "kontext"}, "markup"),
            ({"markup": file(drawing(32)), "mask": openai.omit, "model": "kontext"}, "markup"),
            ({"markup": file(drawing(32)), "mask": openai.omit}, "markup"),
            ({"complexity": "high"}, "complexity"),
            ({"frame_count": 3}, "frame_count"),
            ({"frame_duration_ms": 40}, "frame_duration_ms"),
            ({"svg": {"model": "any"}}, "svg[model]"),
            ({"prompt": "x" * 32001}, "prompt"),
            ({"image": [file(picture(64, 64)), file(picture(64, 64))]}, "image"),
            ({"prompt": ""}, "prompt"),
        ],
    )
    def test_what_is_wrong_is_named(self, client, change, param):
        with pytest.raises(openai.BadRequestError) as raised:
            ask(client, **change)
        assert raised.value.param == param
        assert raised.value.type == "invalid_request_error"

    def test_an_unknown_model(self, client):
        with pytest.raises(openai.NotFoundError) as raised:
            ask(client, model="gpt-image-9")
        assert raised.value.code == "model_not_found"

    def test_transparency_does_not_fit_jpeg(self, client):
        with pytest.raises(openai.BadRequestError) as raised:
            ask(client, image=file(transparent_mask()), output_format="jpeg")
        assert raised.value.param == "output_format"


class TestJson:
    """Bodies of JSON with data URLs, as OpenAI's newer clients send them."""

    BODY: ClassVar = {
        "model": "sd2",
        "images": [{"image_url": data_url(picture(64, 64))}],
        "mask": {"image_url": data_url(transparent_mask())},
        "prompt": "a red cat",
        "quality": None,
        "seed": 7,
        "num_inference_steps": 2,
    }

    def post(self, server, at="/v1/images/edits", **more):
        return server.client.post(at, json={**self.BODY, **more})

    @pytest.mark.parametrize("at", ["/v1/images/edits", "/openai/v1/images/edits"])
    def test_the_same_as_a_form(self, server, client, at):
        answer = self.post(server, at)
        assert answer.status_code == 200, answer.text
        assert answer.json()["data"][0]["b64_json"] == ask(client).data[0].b64_json

    def test_a_stream(self, server):
        lines = self.post(server, stream=True).text.splitlines()
        assert "event: image_edit.completed" in lines
        assert lines[-2] == "data: [DONE]"

    def test_references_and_markup(self, server):
        kontext = {"model": "kontext", "mask": None, "seed": 7}
        two = [*self.BODY["images"], {"image_url": data_url(picture(48, 48, seed=3))}]
        plain = self.post(server, images=two, **kontext).json()
        drawn = {"image_url": data_url(drawing())}
        marked = self.post(server, images=two, markup=drawn, **kontext).json()
        assert marked["data"] != plain["data"]
        tokens = [each["usage"]["input_tokens_details"]["image_tokens"] for each in (plain, marked)]
        assert tokens == [2 * 16, 3 * 16]

    @pytest.mark.parametrize(
        ("change", "param"),
        [
            ({"images": []}, "images"),
            ({"images": None}, "images"),
            ({"images": [{}]}, "images.0.image_url"),
            ({"images": [{"image_url": "http://a.example/a.png"}]}, "images.0.image_url"),
            ({"images": [{"image_url": "HTTPS://a.example/a.png"}]}, "images.0.image_url"),
            ({"images": [{"image_url": "file:///etc/passwd"}]}, "images.0.image_url"),
            ({"images": [{"image_url": "not base64!"}]}, "images.0.image_url"),
            ({"images": [{"file_id": "file-1"}]}, "images.0.file_id"),
            ({"images": [{"url": "x"}]}, "images.0.url"),
            ({"images": [{"image_url": "data:image/png;base64,AAAA"}]}, "images"),
            ({"images": 2 * BODY["images"]}, "images"),
            ({"images": 17 * BODY["images"]}, "images"),
            ({"mask": {"image_url": "https://a.example/m.png"}}, "mask.image_url"),
            ({"markup": {"file_id": "file-2"}}, "markup.file_id"),
            ({"n": "2"}, "n"),
            ({"size": "12"}, "size"),
            ({"svg": {"model": "any"}}, "svg"),
            ({"guidance_scale": "high"}, "guidance_scale"),
            ({"control": "http://a.example/c.png"}, "control"),
        ],
    )
    def test_what_is_wrong_is_named(self, server, change, param):
        answer = self.post(server, **change)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == param
        assert answer.json()["error"]["message"].startswith(f"{param}: ")

    @pytest.mark.parametrize("body", [b"", b"[]", b"{", b'"x"', b"\xff", b"[" * 9999])
    def test_what_is_no_object(self, server, body):
        answer = server.client.post(
            "/v1/images/edits", content=body, headers={"content-type": "application/json"}
        )
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "body"

    def test_a_form_and_json_are_one_request(self, server):
        key = {"idempotency-key": "either way"}
        first = server.client.post("/v1/images/edits", json=self.BODY, headers=key).json()
        texts = {"model": "sd2", "prompt": "a red cat", "seed": "7", "num_inference_steps": "2"}
        files = {"image": ("a", png(picture(64, 64))), "mask": ("m", png(transparent_mask()))}
        again = server.client.post("/v1/images/edits", data=texts, files=files, headers=key)
        assert again.json() == first


class TestBarePicture:
    def post(self, server, accept, **more):
        return server.client.post(
            "/v1/images/edits", json={**TestJson.BODY, **more}, headers={"accept": accept}
        )

    @pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
    def test_the_file_itself(self, server, kind):
        answer = self.post(server, f"image/{kind}")
        assert answer.headers["content-type"] == f"image/{kind}"
        assert Image.open(io.BytesIO(answer.content)).format == kind.upper()
        assert answer.headers["x-overpaint-seed"] == "7"
        assert json.loads(answer.headers["x-overpaint-warnings"]) == []

    def test_the_same_picture(self, server):
        bare = self.post(server, "image/png, application/json;q=0.5").content
        text = self.post(server, "application/json, image/png").json()["data"][0]["b64_json"]
        assert np.array_equal(np.asarray(from_b64(text)), np.asarray(Image.open(io.BytesIO(bare))))

    @pytest.mark.parametrize(
        ("change", "param"),
        [
            ({"n": 2}, "n"),
            ({"stream": True}, "stream"),
            ({"output_format": "webp"}, "output_format"),
        ],
    )
    def test_what_does_not_fit_one_picture(self, server, change, param):
        answer = self.post(server, "image/png", **change)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == param


class TestQuality:
    @pytest.mark.parametrize(
        ("model", "quality", "options"),
        [
            ("sd2", "low", {"num_inference_steps": 25, "preset": "fast"}),
            ("sd2", "medium", {"num_inference_steps": 50}),
            ("kontext", "max", {"num_inference_steps": 84}),
            ("sd2", "auto", {}),
            ("klein", "low", {"preset": "fast"}),
            ("klein", "high", {}),
            ("erase", "max", {}),
        ],
    )
    def test_it_is_steps_and_a_preset_of_the_family(self, model, quality, options):
        form = forms.Form({"quality": quality, "prompt": "a cat"}, {"image": [b"file"]})
        edit = openai_fields.from_form(form).edit(families.find(model), 200)
        assert edit.values["options"] == options

    def test_what_is_asked_for_by_itself_counts(self):
        texts = {"quality": "low", "num_inference_steps": "7", "preset": "exact"}
        form = forms.Form(texts, {"image": [b"file"]})
        options = openai_fields.from_form(form).edit(families.find("sd2"), 200).values["options"]
        assert options == {"num_inference_steps": "7", "preset": "exact"}
