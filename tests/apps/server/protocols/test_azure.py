"""The scoring routes of Azure ML and MLflow: every form of rows on a real server."""

from __future__ import annotations

import base64
import copy
import json

import numpy as np
import pytest
from PIL import Image

from overpaint import __version__
from overpaint.diffusion.denoiser import Denoiser
from tests.apps.server.conftest import asking, b64, from_b64
from tests.conftest import box_mask, picture
from tests.jobs.forms import BOTH, CARD, FIRST, FORMS, IMAGE, MALFORMED, ROWS, SECOND

PARAMETERS = {"num_inference_steps": 2, "seed": 7}
SIZE = (24, 16)


def with_parameters(form):
    """The form with parameters for all rows, where it has a place for them."""
    form = copy.deepcopy(form)
    if isinstance(form, list):
        return [{**row, "parameters": PARAMETERS} for row in form]
    key = "parameters" if "data" in form else "params"
    return {**form, key: PARAMETERS}


@pytest.fixture(scope="module")
def expected(make_engine):
    """The engine's own pictures of the two rows, seed 7."""
    engine = make_engine("sd2")
    prompts = [row["prompt"] for row in CARD["input_data"]["data"]]
    short = [FIRST["prompt"], SECOND["prompt"]]
    images = {}
    for index, (image, mask) in enumerate(
        [(picture(*SIZE, seed=0), box_mask(*SIZE)),
         (picture(*SIZE, seed=1), box_mask(*SIZE, (0, 0, 9, 9)))]
    ):  # fmt: skip
        for prompt in (prompts[index], short[index]):
            result = engine.edit(image, prompt, mask=mask, **PARAMETERS)
            images[prompt] = np.asarray(result.images[0], int)
    return images


def assert_made(row, expected) -> None:
    """The answered row is the engine's picture; in a batch the last bit may differ."""
    made = np.asarray(from_b64(row["generated_image"]), int)
    assert made.shape == expected[row["prompt"]].shape
    assert np.abs(made - expected[row["prompt"]]).max() <= 1


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_answered_with_the_engines_pictures(server, expected, form):
    answer = server.client.post("/score", json=with_parameters(FORMS[form]))
    assert answer.status_code == 200, answer.text
    rows = answer.json()
    assert [list(row) for row in rows] == [
        ["prompt", "generated_image", "nsfw_content_detected"]
    ] * 2
    for row in rows:
        assert row["nsfw_content_detected"] is None
        assert_made(row, expected)
    wrapped = server.client.post("/invocations", json=with_parameters(FORMS[form])).json()
    assert list(wrapped) == ["predictions"]
    assert [row["prompt"] for row in wrapped["predictions"]] == [row["prompt"] for row in rows]


def test_csv(server, expected):
    lines = ["prompt,image,mask_image,parameters"]
    lines += [
        f'{row["prompt"]},"{base64.encodebytes(base64.b64decode(row["image"])).decode()}",'
        f'{row["mask_image"]},"{{""num_inference_steps"": 2, ""seed"": 7}}"'
        for row in BOTH
    ]
    headers = {"content-type": "text/csv; charset=utf-8"}
    for path in ("/score", "/invocations"):
        answer = server.client.post(path, content="\n".join(lines), headers=headers)
        assert answer.status_code == 200, answer.text
        found = answer.json()
        for row in found if path == "/score" else found["predictions"]:
            assert_made(row, expected)


def test_the_output_has_the_inputs_size_and_its_pixels_outside_the_mask(server):
    given = picture(90, 70)
    row = {"prompt": "a cat", "image": b64(given), "mask_image": b64(box_mask(90, 70))}
    body = {"input_data": {"data": [row], "parameters": PARAMETERS}}
    (answer,) = server.client.post("/score", json=body).json()
    made = np.asarray(from_b64(answer["generated_image"]))
    kept = np.asarray(box_mask(90, 70)) == 0
    assert (made[kept] == np.asarray(given)[kept]).all()
    assert (made[~kept] != np.asarray(given)[~kept]).any()


def test_a_mask_of_another_size_is_stretched_to_the_picture(server):
    small = {"prompt": "a cat", "image": b64(picture(64, 48))}
    answers = []
    for size in ((64, 48), (128, 96)):
        row = {**small, "mask_image": b64(box_mask(*size))}
        body = {"input_data": [row], "params": {**PARAMETERS, "feather": 0, "hold": False}}
        answers.append(
            from_b64(server.client.post("/score", json=body).json()[0]["generated_image"])
        )
    assert [each.size for each in answers] == [(64, 48)] * 2
    away = np.abs(np.asarray(answers[0], int) - np.asarray(answers[1], int)).max(axis=2)
    inner = (slice(14, 34), slice(18, 46))
    assert away[inner].max() <= 1


def test_rows_go_through_the_batcher_together(start, monkeypatch):
    server = start()
    batcher, advance = server.service.batcher, Denoiser.advance

    def patient(family, images):
        """The first pass waits until all rows are there."""
        if not batcher.passes:
            server.until(lambda: batcher.queued + batcher.images == 4)
        advance(family, images)

    monkeypatch.setattr(Denoiser, "advance", patient)
    body = {"input_data": [FIRST] * 4, "params": {"num_inference_steps": 20}}
    assert server.client.post("/score", json=body).status_code == 200
    assert 20 <= batcher.passes < 30


def refused(answer, status, code=None) -> str:
    """The message of an error of the scoring routes."""
    assert answer.status_code == status, answer.text
    error = answer.json()
    assert set(error) == {"error_code", "message"}
    assert code is None or error["error_code"] == code
    return error["message"]


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_table(server, case):
    body, field, message = MALFORMED[case]
    content = body if isinstance(body, str) else json.dumps(body)
    headers = {"content-type": "application/json"}
    answer = server.client.post("/score", content=content, headers=headers)
    told = refused(answer, 400)
    assert told.startswith(f"{field}: ")
    assert message in told


@pytest.mark.parametrize("case", ROWS)
def test_a_malformed_row(server, case):
    changes, column, message = ROWS[case]
    body = {"dataframe_records": [FIRST, {**SECOND, **changes}]}
    headers = {"content-type": "application/json"}
    answer = server.client.post("/invocations", content=json.dumps(body), headers=headers)
    told = refused(answer, 400)
    assert told.startswith(f"row 1, column {column}: ")
    assert message in told


NOT_A_PICTURE = base64.b64encode(b"GIF89a" * 9).decode()


@pytest.mark.parametrize(
    ("changes", "column", "message"),
    [
        ({"image": NOT_A_PICTURE}, "image", "not a PNG, JPEG, WebP, AVIF"),
        ({"image": IMAGE[:400]}, "image", "damaged"),
        ({"mask_image": NOT_A_PICTURE}, "mask_image", "not a PNG"),
        ({"mask_image": None}, "mask_image", "needs a mask"),
        ({"mask_image": b64(Image.new("L", SIZE))}, "mask_image", "marks nothing"),
        ({"mask_image": None, "mask": b64(Image.new("L", SIZE))}, "mask", "marks nothing"),
        ({"prompt": ""}, "prompt", "is empty"),
        ({"prompt": None}, "prompt", "is empty"),
        ({"prompt": "x" * 33000}, "prompt", "more than the limit"),
        ({"negative_prompt": "x" * 33000}, "negative_prompt", "more than the limit"),
        ({"parameters": {"steps": 3}}, "parameters.steps", "no such option"),
        ({"parameters": {"num_inference_steps": 10**6}}, "parameters.num_inference_steps", ""),
        ({"parameters": {"num_inference_steps": 300}}, "parameters.num_inference_steps", "300"),
        ({"parameters": {"guidance_scale": "x"}}, "parameters.guidance_scale", "'x'"),
        ({"parameters": {"guidance_scale": "NaN"}}, "parameters.guidance_scale", ""),
        ({"parameters": {"strength": 2}}, "parameters.strength", "2"),
        ({"parameters": {"width": 8192, "height": 8192}}, "parameters.width", "megapixels"),
        ({"parameters": {"num_images_per_prompt": 2}}, "parameters.num_images_per_prompt", ""),
    ],
)  # fmt: skip
def test_what_the_engine_refuses_names_row_and_column(server, changes, column, message):
    answer = server.client.post("/score", json={"input_data": [FIRST, {**SECOND, **changes}]})
    told = refused(answer, 400)
    assert told.startswith(f"row 1, column {column}: ")
    assert message in told


def test_parameters_for_all_rows_are_checked(server):
    body = {"input_data": [FIRST], "params": {"promt": 1}}
    told = refused(server.client.post("/score", json=body), 400, "UNSUPPORTED_OPTION")
    assert told.startswith("row 0, column parameters.promt: ")


def test_limits(start):
    server = start(max_images=2, max_body_mb=0.1)
    told = refused(server.client.post("/score", json={"input_data": [FIRST] * 3}), 400)
    assert "3 rows are more than the 2" in told
    huge = {"input_data": [{**FIRST, "image": "A" * 200_000}]}
    refused(server.client.post("/invocations", json=huge), 413, "BODY_TOO_LARGE")


def test_other_kinds_of_bodies_and_methods(server):
    headers = {"content-type": "application/x-www-form-urlencoded"}
    refused(server.client.post("/score", content="a=b", headers=headers), 415)
    refused(server.client.get("/score"), 405)
    headers = {"content-type": "text/csv"}
    refused(server.client.post("/invocations", content=b"\xff", headers=headers), 400)
    refused(server.client.post("/invocations", content=b"image\n", headers=headers), 400)
    assert server.client.options("/score").status_code == 200


def test_a_full_queue_takes_none_of_the_rows(start):
    server = start(max_queued=1, max_images_under_way=1, max_images=4)
    body = {"input_data": [FIRST] * 4, "params": {"num_inference_steps": 50}}
    answer = server.client.post("/score", json=body)
    refused(answer, 429, "OVERLOADED")
    assert int(answer.headers["retry-after"]) > 0
    server.until(lambda: server.service.batcher.idle)


def test_a_caller_who_hangs_up_frees_the_place_of_all_rows(start):
    server = start(max_steps=1000)
    body = {"input_data": [FIRST] * 4, "params": {"num_inference_steps": 900}}
    with asking(server, "/score", body):
        server.until(lambda: server.service.batcher.passes > 0)
    server.until(lambda: server.service.batcher.idle)
    assert server.service.batcher.passes < 900


def test_keys_count_here_too(start):
    server = start(keys={"me": "k" * 24})
    refused(server.client.post("/score", json=CARD), 401, "UNAUTHORIZED")
    body = {"input_data": [FIRST], "params": PARAMETERS}
    headers = {"authorization": f"Bearer {'k' * 24}"}
    assert server.client.post("/score", json=body, headers=headers).status_code == 200
    for path in ("/", "/ping", "/health"):
        assert server.client.get(path).status_code == 200


def test_request_ids(server):
    body = {"input_data": [FIRST], "params": PARAMETERS}
    headers = {"x-request-id": "mine", "x-ms-client-request-id": "yours"}
    answer = server.client.post("/score", json=body, headers=headers)
    assert answer.headers["x-request-id"] == "mine"
    assert answer.headers["x-ms-client-request-id"] == "yours"
    assert answer.headers["x-ms-request-id"] == "yours"
    assert float(answer.headers["x-ms-run-fn-exec-ms"]) > 0
    answer = server.client.post("/score", json={}, headers=headers)
    assert answer.status_code == 400
    assert answer.headers["x-ms-client-request-id"] == "yours"
    assert "x-ms-run-function-failed" not in answer.headers
    for name in ("x-request-id", "x-ms-request-id", "x-ms-client-request-id"):
        answer = server.client.post("/score", json=body, headers={name: "x" * 101})
        assert name in refused(answer, 431)


def test_probes(server):
    assert server.client.get("/").text == "Healthy"
    assert server.client.get("/ping").status_code == 200
    assert server.client.get("/health").status_code == 200
    assert server.client.get("/version").text == __version__


def test_swagger(server):
    assert server.client.get("/swagger.json").json()["swagger"] == "2.0"
    for version, key in (("2", "swagger"), ("3", "openapi"), ("3.1", "openapi")):
        document = server.client.get("/swagger.json", params={"version": version}).json()
        assert document[key].startswith(version)
        assert "/score" in document["paths"]
        models = document.get("definitions") or document["components"]["schemas"]
        example = models["ServiceInput"]["example"]
        answer = server.client.post("/score", json=example)
        assert answer.status_code == 200
        assert set(answer.json()[0]) == set(models["ServiceOutput"]["items"]["properties"])
    refused(server.client.get("/swagger.json", params={"version": "4"}), 404)
