"""The card's sample request at Azure ML's and MLflow's own servers, and at ours."""

from __future__ import annotations

import base64
import io
import json
import sys

import numpy as np
import pytest
from PIL import Image

from tests.azure.conftest import ENTRY, MASKS, MODEL, PICTURES, PROMPTS, STEPS, running

SEEDS = (7, 11)
PARAMETERS = {"num_inference_steps": STEPS}


def b64(image: Image.Image) -> str:
    """As the published samples encode: with line breaks."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return base64.encodebytes(file.getvalue()).decode()


ROWS = [
    {"prompt": prompt, "image": b64(image), "mask_image": b64(mask)}
    for prompt, image, mask in zip(PROMPTS, PICTURES, MASKS, strict=True)
]
CARD = {"columns": ["prompt", "image", "mask"], "data": ROWS, "index": [0, 1]}
"""The model card's sample: `mask` among the columns, `mask_image` in the rows."""


def assert_answers(found, expected) -> None:
    """The card's reply, with the engine's pictures; in a batch the last bit may differ."""
    assert [row["prompt"] for row in found] == list(PROMPTS)
    for row, picture in zip(found, expected, strict=True):
        assert list(row) == ["prompt", "generated_image", "nsfw_content_detected"]
        assert row["nsfw_content_detected"] is None
        made = Image.open(io.BytesIO(base64.b64decode(row["generated_image"])))
        assert made.size == picture.size
        assert np.abs(np.asarray(made, int) - np.asarray(picture, int)).max() <= 1


@pytest.fixture(scope="module")
def azmlinfsrv(model_dir, tmp_path_factory):
    command = ["azmlinfsrv", "--entry_script", str(ENTRY), "--model_dir", str(model_dir)]
    log = tmp_path_factory.mktemp("azmlinfsrv") / "log"
    with running(command, log, ready="/") as client:
        yield client


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The model that `overpaint export mlflow` writes."""
    import subprocess

    folder = tmp_path_factory.mktemp("mlflow") / "model"
    start = "from overpaint.apps.cli import main; main()"
    command = [sys.executable, "-c", start, "export", "mlflow", MODEL, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(folder)
    return folder


@pytest.fixture(scope="module")
def mlflow_server(exported, tmp_path_factory):
    command = ["mlflow", "models", "serve", "--model-uri", str(exported), "--env-manager", "local"]
    log = tmp_path_factory.mktemp("mlflow-server") / "log"
    with running(command, log, ready="/ping") as client:
        yield client


def test_azmlinfsrv_answers_the_cards_sample(azmlinfsrv, expected):
    body = {"input_data": {**CARD, "parameters": {**PARAMETERS, "seed": SEEDS[0]}}}
    answer = azmlinfsrv.post("/score", json=body, headers={"x-ms-client-request-id": "mine"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-ms-client-request-id"] == "mine"
    assert_answers(answer.json(), expected(SEEDS[0], SEEDS[0]))


def test_azmlinfsrv_takes_a_seed_for_each_row(azmlinfsrv, expected):
    data = [{**row, "seed": seed} for row, seed in zip(ROWS, SEEDS, strict=True)]
    body = {"input_data": {"data": data, "parameters": PARAMETERS}}
    assert_answers(azmlinfsrv.post("/score", json=body).json(), expected(*SEEDS))


def test_the_cards_sample_without_parameters(azmlinfsrv):
    """As it stands, with the model's default steps."""
    answer = azmlinfsrv.post("/score", json={"input_data": CARD})
    assert answer.status_code == 200
    assert [row["prompt"] for row in answer.json()] == list(PROMPTS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": "!"}, "row 1, column image: the string is not base64"),
        ({"promt": "x"}, "row 1, column promt: there is no such column"),
        ({"parameters": {"steps": 2}}, "row 1, column parameters.steps: "),
    ],
)
def test_azmlinfsrv_names_row_and_column(azmlinfsrv, changes, message):
    body = {"input_data": [ROWS[0], {**ROWS[1], **changes}]}
    answer = azmlinfsrv.post("/score", json=body)
    assert answer.status_code == 400
    assert answer.json()["message"].startswith(message)
    assert answer.headers["x-ms-run-function-failed"] == "False"


def test_mlflow_answers_the_cards_rows(mlflow_server, expected):
    body = {"dataframe_records": CARD["data"], "params": {**PARAMETERS, "seed": SEEDS[0]}}
    answer = mlflow_server.post("/invocations", json=body)
    assert answer.status_code == 200, answer.text
    assert_answers(answer.json()["predictions"], expected(SEEDS[0], SEEDS[0]))


@pytest.mark.parametrize("form", ["dataframe_split", "inputs", "csv"])
def test_mlflow_takes_its_other_forms(mlflow_server, expected, form):
    own = json.dumps({**PARAMETERS, "seed": SEEDS[0]})
    names = [*ROWS[0], "parameters"]
    data = [[*row.values(), own] for row in ROWS]
    if form == "dataframe_split":
        asked = {"json": {form: {"columns": names, "data": data}}}
    elif form == "inputs":
        asked = {"json": {form: [dict(zip(names, row, strict=True)) for row in data]}}
    else:
        quoted = [
            ",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in [names, *data]
        ]
        asked = {"content": "\n".join(quoted), "headers": {"content-type": "text/csv"}}
    answer = mlflow_server.post("/invocations", **asked)
    assert answer.status_code == 200, answer.text
    assert_answers(answer.json()["predictions"], expected(SEEDS[0], SEEDS[0]))


def test_mlflow_names_row_and_column(mlflow_server):
    data = [ROWS[0], {**ROWS[1], "parameters": '{"steps": 2}'}]
    answer = mlflow_server.post("/invocations", json={"dataframe_records": data})
    assert answer.status_code == 400
    assert "row 1, column parameters.steps: sd2 has no such option" in answer.json()["message"]
