"""LiteLLM's client and its proxy, unchanged, in front of Overpaint."""

from __future__ import annotations

import base64
import io
import json
import os
import socket
import subprocess
import time
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

from tests.apps.server.conftest import make_settings, png, serving  # noqa: F401 - a fixture
from tests.apps.server.protocols.test_openai import transparent_mask
from tests.conftest import box_mask, picture

BIN = Path(os.environ["LITELLM_VENV"]) / "bin"
KEY = "sk-a-key-of-the-proxy"
WORDS = {"prompt": "a red cat", "model": "openai/sd2"}
EXTRA = {"seed": 7, "num_inference_steps": 2}

CLIENT = """
import json, sys
import litellm
asked = json.load(sys.stdin)
with open(asked.pop("image"), "rb") as image, open(asked.pop("mask"), "rb") as mask:
    try:
        answer = litellm.image_edit(image=image, mask=mask, api_key="-", **asked)
        print(json.dumps([each.b64_json for each in answer.data]))
    except Exception as error:
        print(json.dumps({"status": error.status_code, "message": str(error)}))
"""


@pytest.fixture(scope="module")
def server(make_settings):  # noqa: F811 - the fixture
    with serving(make_settings()) as running:
        yield running


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    local = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_PROXY": "127.0.0.1"}
    return {**kept, **local, "HOME": str(tmp_path_factory.mktemp("home"))}


@pytest.fixture(scope="module")
def proxy(server, environment, tmp_path_factory):
    """The address of LiteLLM's proxy."""
    parameters = {"model": "openai/sd2", "api_base": f"{server.url}/v1", "api_key": "-"}
    models = [{"model_name": "painter", "litellm_params": parameters}]
    settings = {"model_list": models, "general_settings": {"master_key": KEY}}
    file = tmp_path_factory.mktemp("proxy") / "litellm.yaml"
    file.write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML, too
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [BIN / "litellm", "--config", file, "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, env=environment, cwd=file.parent)
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 300
        while not _is_ready(url):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/liveliness", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def check(encoded: str) -> None:
    """An edit under the mask alone."""
    edited = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))
    outside = np.asarray(box_mask(64, 64)) == 0
    assert np.array_equal(edited[outside], np.asarray(picture(64, 64))[outside])
    assert not np.array_equal(edited, np.asarray(picture(64, 64)))


def by_client(server, environment, folder, **more):
    picture(64, 64).save(folder / "image.png")
    transparent_mask().save(folder / "mask.png")
    files = {"image": str(folder / "image.png"), "mask": str(folder / "mask.png")}
    asked = {**WORDS, **files, "api_base": f"{server.url}/v1", "extra_body": EXTRA, **more}
    done = subprocess.run(
        [BIN / "python", "-c", CLIENT], input=json.dumps(asked), env=environment, text=True,
        capture_output=True, timeout=120, check=True,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def test_the_client(server, environment, tmp_path):
    made = by_client(server, environment, tmp_path, n=2)
    assert len(made) == 2
    for each in made:
        check(each)


def test_what_is_refused_keeps_its_words(server, environment, tmp_path):
    refused = by_client(server, environment, tmp_path, size="12")
    assert refused["status"] == 400
    assert "WIDTHxHEIGHT" in refused["message"]


def test_the_proxy(proxy):
    with openai.OpenAI(base_url=f"{proxy}/v1", api_key=KEY, max_retries=0) as client:
        answer = client.images.edit(
            model="painter",
            image=("a.png", png(picture(64, 64))),
            mask=("m.png", png(transparent_mask())),
            prompt="a red cat",
            extra_body=EXTRA,
        )
        check(answer.data[0].b64_json)
        with pytest.raises(openai.BadRequestError, match="WIDTHxHEIGHT"):
            client.images.edit(
                model="painter", image=("a.png", png(picture(64, 64))), prompt="x", size="12"
            )


def test_an_edit_is_followed_by_polling(server):
    """What takes the place of a stream, which LiteLLM does not hand on."""
    files = {"image": ("a.png", png(picture(64, 64))), "mask": ("m.png", png(box_mask(64, 64)))}
    form = {"model": "sd2", "prompt": "a red cat", "seed": "7"}
    form["options"] = json.dumps({"num_inference_steps": 2})
    accepted = server.client.post(
        "/v1/edits", data=form, files=files, headers={"prefer": "respond-async"}
    )
    assert accepted.status_code == 202
    where = accepted.headers["location"]
    server.until(lambda: server.client.get(where).json()["status"] == "done")
    check(server.client.get(where).json()["images"][0])
