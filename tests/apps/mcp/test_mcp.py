"""`overpaint mcp` with the official client, over the standard streams of a process."""

from __future__ import annotations

import asyncio
import base64
import io
import json

import anyio
import numpy as np
import pytest
from anyio.from_thread import start_blocking_portal
from mcp import Client, StdioServerParameters, stdio_client
from PIL import Image

from overpaint.apps.mcp.door import Door
from overpaint.apps.mcp.tools import EraseArguments
from overpaint.apps.server.service import EditService
from overpaint.apps.settings import ServerSettings, Settings
from overpaint.core.errors import InvalidRequest
from overpaint.core.types import PARTS
from tests.apps.server.conftest import FEW, b64
from tests.conftest import box_mask, picture
from tests.servers import ENTRY, environment, serve_sd2

IMAGES = {"image": "a.png", "mask": "mask.png"}
SD2 = {"model": "sd2", "prompt": "a red cat", "seed": 7, "options": FEW}


def data_url(image) -> str:
    return f"data:image/png;base64,{b64(image)}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, checkpoint_folder):
    """Settings, and beside them a folder of pictures."""
    where = tmp_path_factory.mktemp("mcp")
    (where / "words").write_text('[[lists]]\nwords = ["dragon"]\n', encoding="utf-8")
    safety = '[safety]\nblocklist = "words"\n'
    served = {"models": ["sd2", "erase"], "max_megapixels": 0.05}
    serve_sd2(where, checkpoint_folder("sd2"), safety, **served)
    pictures = where / "pictures"
    pictures.mkdir()
    picture(64, 64).save(pictures / "a.png")
    box_mask(64, 64).save(pictures / "mask.png")
    picture(300, 300).save(pictures / "large.png")
    return where


@pytest.fixture(scope="module")
def client(folder):
    """The client of a server with the folder; its calls wait."""
    command, *entry = ENTRY
    arguments = [*entry, "mcp", "--folder", "pictures"]
    process = StdioServerParameters(command=command, args=arguments, cwd=folder, env=environment())
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Client(stdio_client(process))) as opened,
    ):
        yield Calls(portal, opened)


class Calls:
    """A client from a thread without a loop."""

    def __init__(self, portal, client) -> None:
        self._portal, self._client = portal, client

    def tools(self):
        return {tool.name: tool for tool in self._portal.call(self._client.list_tools).tools}

    def call(self, tool, on_step=None, **arguments):
        async def ask():
            return await self._client.call_tool(tool, arguments, progress_callback=on_step)

        return self._portal.call(ask)

    def cancelled(self, tool, seconds, **arguments) -> bool:
        async def ask():
            with anyio.move_on_after(seconds) as scope:
                await self._client.call_tool(tool, arguments)
            return scope.cancelled_caught

        return self._portal.call(ask)


def shown(result) -> list[Image.Image]:
    return [
        Image.open(io.BytesIO(base64.b64decode(each.data)))
        for each in result.content
        if each.type == "image"
    ]


def facts(result) -> dict:
    assert not result.is_error, result.content
    assert json.loads(result.content[-1].text) == result.structured_content
    return result.structured_content


def failure(result) -> dict:
    assert result.is_error
    return result.structured_content["error"]


def test_the_tools_and_their_arguments(client):
    tools = client.tools()
    of_parts = {"extend"} & {part.name for part in PARTS}
    assert set(tools) == {"edit", "erase", "segment", "verify", *of_parts}
    edit = tools["edit"].input_schema
    assert set(edit["properties"]) == {"output", *(part.name for part in PARTS)}
    assert edit["required"] == ["image"]
    assert "prompt" not in tools["erase"].input_schema["properties"]
    assert "copy_from" in tools["erase"].input_schema["properties"]
    assert tools["verify"].annotations.read_only_hint
    assert all(tool.description and not tool.annotations.open_world_hint for tool in tools.values())


def test_an_edit_of_pictures_as_data(client):
    image, mask = picture(64, 64), box_mask(64, 64)
    steps = []

    async def on_step(step, total, _):
        steps.append((step, total))

    result = client.call(
        "edit", on_step, image=data_url(image), mask=data_url(mask), num_images=2, **SD2
    )
    assert facts(result)["seeds"] == [7, 8]
    outside = np.asarray(mask) == 0
    for edited in shown(result):
        assert np.array_equal(np.asarray(edited)[outside], np.asarray(image)[outside])
        assert not np.array_equal(np.asarray(edited), np.asarray(image))
    assert steps[-1] == (2, 2)


def test_files_below_the_folder(client, folder):
    from_data = client.call(
        "edit", image=data_url(picture(64, 64)), mask=data_url(box_mask(64, 64)), **SD2
    )
    result = client.call("edit", **IMAGES, output="edited.png", **SD2)
    assert facts(result)["files"] == ["edited.png"]
    written = Image.open(folder / "pictures" / "edited.png")
    assert np.array_equal(np.asarray(written), np.asarray(shown(from_data)[0]))
    again = client.call("edit", **IMAGES, output="edited.png", **SD2)
    assert failure(again)["field"] == "output"
    verified = facts(client.call("verify", image="edited.png"))
    assert verified["digital_source_type"] == "compositeWithTrainedAlgorithmicMedia"


def test_find_then_erase(client, folder):
    scene = Image.new("RGB", (96, 80), (210, 200, 180))
    scene.paste((200, 30, 30), (30, 20, 60, 50))
    scene.save(folder / "pictures" / "scene.png")
    found = client.call("segment", image="scene.png", box=[25, 15, 66, 55], output="found.png")
    assert facts(found)["files"] == ["found.png"]
    assert np.asarray(shown(found)[0])[35, 45] == 255
    erased = client.call("erase", image="scene.png", mask="found.png", seed=1)
    assert np.abs(np.asarray(shown(erased)[0])[35, 45].astype(int) - (210, 200, 180)).max() < 8


@pytest.mark.parametrize(
    ("tool", "arguments", "code", "field"),
    [
        ("edit", {"image": "../overpaint.toml"}, "invalid_request", "image"),
        ("edit", {"image": "none.png"}, "invalid_image", "image"),
        ("edit", {"image": "a.png", "mask": "../mask.png"}, "invalid_request", "mask"),
        ("edit", {"image": "large.png", "mask": "mask.png"}, "invalid_image", "image"),
        ("edit", {"image": "http://a.example/a.png"}, "invalid_image", "image"),
        ("edit", {**IMAGES, "prompt": "a dragon"}, "content_blocked", None),
        ("edit", {"image": "a.png", "num_images": 11}, "invalid_request", "num_images"),
        ("edit", {"image": "a.png", "options": {"a": 3}}, "unsupported_option", "options.a"),
        ("edit", {"image": "a.png", "imag": 1}, "invalid_request", "imag"),
        ("edit", {"image": "a.png", "model": "none"}, "model_not_found", "model"),
        ("edit", {"image": "a.png", "output": "/tmp/o.png"}, "invalid_request", "output"),
        ("erase", {"image": "a.png"}, "invalid_mask", "mask"),
        ("segment", {"image": "a.png"}, "invalid_request", "body"),
        ("verify", {"image": "mask.txt"}, "invalid_image", "image"),
        ("paint", {}, "invalid_request", "name"),
    ],
)  # fmt: skip
def test_what_is_refused(client, tool, arguments, code, field):
    words = {"model": "sd2", "prompt": "a cat"} if tool == "edit" else {}
    error = failure(client.call(tool, **{**words, **arguments}))
    assert (error["code"], error.get("field")) == (code, field)


def test_a_call_that_is_cancelled_frees_its_place(client):
    long = {**SD2, "options": {"num_inference_steps": 200}}
    assert client.cancelled("edit", 0.5, **IMAGES, **long)
    assert facts(client.call("edit", **IMAGES, **SD2))["seeds"] == [7]


def test_a_server_without_a_folder_opens_no_files():
    async def nobody(*_):
        pass

    async def refusals():
        service = EditService(Settings(server=ServerSettings(models=("erase",))))
        await service.start()
        door = Door(service, None)
        image, mask = data_url(picture(64, 64)), data_url(box_mask(64, 64))
        for field, arguments in (
            ("image", {"image": "a.png"}),
            ("mask", {"image": image, "mask": "m.png"}),
            ("output", {"image": image, "mask": mask, "output": "o.png"}),
        ):
            with pytest.raises(InvalidRequest, match="--folder") as raised:
                await door.erase(EraseArguments(**arguments), nobody)
            assert raised.value.field == field
        erased = await door.erase(EraseArguments(image=image, mask=mask), nobody)
        await service.stop()
        door.close()
        return erased

    assert len(shown(asyncio.run(refusals()))) == 1
