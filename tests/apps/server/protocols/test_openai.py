"""OpenAI's contract, with its official client."""

from __future__ import annotations

import asyncio
import io

import numpy as np
import openai
import pytest
from PIL import Image

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

    def test_azures_client(self, server):
        with openai.AzureOpenAI(
            azure_endpoint=server.url, api_key="k", api_version="2025-04-01-preview", max_retries=0
        ) as azure:
            assert len(ask(azure).data) == 1

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
        server.until(lambda: server.service.batcher.idle, 10)

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
            ({"response_format": "url"}, "response_format"),
            ({"output_format": "gif"}, "output_format"),
            ({"output_compression": 50}, "output_compression"),
            ({"partial_images": 2}, "partial_images"),
            ({"stream": True, "partial_images": 4}, "partial_images"),
            ({"mask": file(box_mask(64, 64))}, "mask"),
            ({"mask": file(transparent_mask(32, 32))}, "mask"),
            ({"markup": file(transparent_mask())}, "markup"),
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

    def test_json_is_refused(self, server):
        answer = server.client.post("/v1/images/edits", json={"prompt": "x"})
        assert answer.status_code == 415
        assert answer.json()["error"]["type"] == "invalid_request_error"
