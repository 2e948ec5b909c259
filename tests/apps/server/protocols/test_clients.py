"""Forms as programs in front of the server write them, which are too large for a test."""

from __future__ import annotations

import pytest

from tests.apps.server.conftest import from_b64, png
from tests.conftest import picture

IMAGE = ("image.png", png(picture(64, 64)), "image/png")


def post(server, at="/v1/images/edits", **form):
    data = {name: value for name, value in form.items() if name != "files"}
    return server.client.post(at, data=data, files=form.get("files", [("image", IMAGE)]))


@pytest.mark.parametrize("files", [[("image", IMAGE)], [("image[]", IMAGE), ("image[]", IMAGE)]])
def test_open_webui(start, files):
    server = start(models=("kontext",), aliases={"*": "kontext"})
    answer = post(
        server,
        "/v1/images/edits?api-version=2026-01-01",
        files=files,
        model="gpt-image-2",
        prompt="make it winter",
        n="1",
        size="64x64",
        background="auto",
        response_format="b64_json",
        num_inference_steps="1",
    )
    assert answer.status_code == 200, answer.text
    [made] = answer.json()["data"]
    assert from_b64(made["b64_json"]).size == (64, 64)


def test_aiperf(server):
    form = {"model": "kontext", "prompt": "make it winter", "response_format": "b64_json", "n": "1"}
    answer = post(server, **form, num_inference_steps="1").json()
    assert from_b64(answer["data"][0]["b64_json"]).size == (64, 64)
    assert answer["usage"]["total_tokens"] > 0
    assert {"size", "quality", "output_format", "background"} <= set(answer)
    refused = post(server, **form, url="http://a.example/a.png")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "url")
    assert "fetches nothing" in refused.json()["error"]["message"]
