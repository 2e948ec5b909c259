"""Open Inference Protocol v2."""

from __future__ import annotations

import pytest
from PIL import Image

from tests.apps.server.conftest import b64, edit, from_b64
from tests.conftest import box_mask, picture


def tensor(name, *data, datatype="BYTES", shape=None) -> dict:
    return {"name": name, "datatype": datatype, "shape": shape or [len(data)], "data": list(data)}


def inputs() -> list[dict]:
    return [
        tensor("image", b64(picture(64, 64, seed=5))),
        tensor("mask", b64(box_mask(64, 64))),
        tensor("prompt", "a red cat"),
        tensor("seed", 5, datatype="INT64"),
    ]


class TestMetadata:
    def test_server_health_and_models(self, server):
        assert server.client.get("/v2").json()["name"] == "overpaint"
        assert server.client.get("/v2/health/live").json() == {"live": True}
        assert server.client.get("/v2/health/ready").json() == {"ready": True}
        for path in ("/v2/models/sd2", "/v2/models/sd2/versions/1"):
            told = server.client.get(path).json()
            assert told["name"] == "sd2"
            assert told["versions"] == ["1"]
            assert {"name": "image", "datatype": "BYTES", "shape": [1]} in told["inputs"]
            assert "control" not in [each["name"] for each in told["inputs"]]
            assert server.client.get(f"{path}/ready").json() == {"name": "sd2", "ready": True}

    @pytest.mark.parametrize("path", ["none", "sd2/versions/2", "none/ready"])
    def test_unknown_models_and_versions(self, server, path):
        answer = server.client.get(f"/v2/models/{path}")
        assert answer.status_code == 404
        assert isinstance(answer.json()["error"], str)


class TestInfer:
    def test_an_edit_is_the_native_one(self, server):
        body = {"id": "a1", "inputs": inputs(), "parameters": {"num_inference_steps": 3}}
        answer = server.client.post("/v2/models/sd2/versions/1/infer", json=body).json()
        assert (answer["id"], answer["model_name"], answer["model_version"]) == ("a1", "sd2", "1")
        image, seed = answer["outputs"]
        assert (image["name"], image["shape"], image["datatype"]) == ("image", [1], "BYTES")
        assert seed == {"name": "seed", "shape": [1], "datatype": "INT64", "data": [5]}
        native = server.client.post("/v1/edits", json=edit(5, 3)).json()
        assert image["data"] == native["images"]
        assert from_b64(image["data"][0]).size == (64, 64)

    def test_where_the_eraser_may_copy_from(self, server):
        told = server.client.get("/v2/models/erase").json()["inputs"]
        assert {"copy_from", "not_from"} <= {each["name"] for each in told}
        image, mask, seed = inputs()[0], inputs()[1], inputs()[3]
        source = Image.new("L", (64, 64))
        source.paste(255, (0, 0, 64, 14))
        body = {"inputs": [image, mask, seed, tensor("copy_from", b64(source))]}
        found = server.client.post("/v2/models/erase/infer", json=body).json()["outputs"]
        native = {"model": "erase", "image": image["data"][0], "mask": mask["data"][0], "seed": 5}
        free, bound = (
            server.client.post("/v1/edits", json={**native, **more}).json()["images"]
            for more in ({}, {"copy_from": b64(source)})
        )
        assert found[0]["data"] == bound != free

    def test_only_the_outputs_that_are_wanted(self, server):
        body = {
            "inputs": [*inputs(), tensor("num_images", 2, datatype="INT64")],
            "parameters": {"num_inference_steps": 1},
            "outputs": [{"name": "seed"}],
        }
        outputs = server.client.post("/v2/models/sd2/infer", json=body).json()["outputs"]
        assert [output["name"] for output in outputs] == ["seed"]
        assert outputs[0]["data"] == [5, 6]

    @pytest.mark.parametrize(
        "wrong",
        [
            {"inputs": []},
            {"inputs": [tensor("picture", "x")]},
            {"inputs": [tensor("image", "???")]},
            {"inputs": [tensor("image", 5)]},
            {"inputs": [tensor("image", "a", shape=[2])]},
            {"inputs": [tensor("image", "a", "b")]},
            {"inputs": [tensor("image", "a"), tensor("image", "a")]},
            {"inputs": [tensor("seed", "5", datatype="INT64")]},
            {"inputs": inputs(), "parameters": {"lora": "x"}},
            {"inputs": inputs(), "outputs": [{"name": "logits"}]},
            {"inputs": inputs(), "more": 1},
        ],
    )
    def test_wrong_requests(self, server, wrong):
        answer = server.client.post("/v2/models/sd2/infer", json=wrong)
        assert answer.status_code == 400
        assert isinstance(answer.json()["error"], str)

    def test_a_wrong_option_has_the_name_that_the_client_gave_it(self, server):
        body = {"inputs": inputs(), "parameters": {"steps": 1}}
        answer = server.client.post("/v2/models/sd2/infer", json=body)
        assert answer.json()["error"].startswith("parameters.steps: sd2 has no such option")
