"""`run` of the entry script over mini-batches, as batch deployments call it."""

from __future__ import annotations

import base64
import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from overpaint.apps.azure import entry_script
from overpaint.core.errors import InvalidSettings, ModelNotFound
from tests.azure.conftest import MASKS, PICTURES, PROMPTS, STEPS
from tests.azure.test_servers import b64

OPTIONS = f'{{"num_inference_steps": {STEPS}}}'
NAMES = ("image", "mask_image", "prompt", "parameters", "seed")
COLUMNS = ["row_number_per_file", "image_file_name", "nsfw_content_detected", "input_csv_name"]


def row(index: int, **changes) -> dict:
    values = (b64(PICTURES[index]), b64(MASKS[index]), PROMPTS[index], OPTIONS, "")
    return {**dict(zip(NAMES, values, strict=True)), **changes}


def outcomes(folder) -> list[dict]:
    """Lines of the files of outcomes beside the pictures."""
    lines = []
    for file in sorted(folder.glob("outcomes-*.csv")):
        with file.open(encoding="utf-8", newline="") as table:
            lines += csv.DictReader(table)
    return lines


def write(path, rows) -> str:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, NAMES)
        table.writeheader()
        table.writerows(rows)
    return str(path)


@pytest.fixture
def deployed(model_dir, tmp_path, monkeypatch):
    """`init` of a deployment; gives the output folder."""
    monkeypatch.setenv("AZUREML_MODEL_DIR", str(model_dir))
    monkeypatch.setenv("AZUREML_BI_OUTPUT_PATH", str(tmp_path / "output"))
    entry_script.init()
    yield tmp_path / "output"
    entry_script._scorer.close()
    monkeypatch.setattr(entry_script, "_scorer", None)


def test_a_mini_batch(deployed, tmp_path, expected):
    one = write(tmp_path / "one.csv", [row(0, seed="7"), row(1, seed="11")])
    bad = [
        row(0, image="!"),
        row(1, mask_image=b64(Image.new("L", PICTURES[1].size))),
        row(0, prompt=""),
        row(1, parameters='{"steps": 1}'),
        row(1),
    ]
    two = write(tmp_path / "two.csv", bad)
    torn = tmp_path / "torn.csv"
    torn.write_text("prompt,image\nonly one\n", encoding="utf-8")
    empty = tmp_path / "empty.csv"
    empty.write_text("", encoding="utf-8")

    frame = entry_script.run([one, two, str(torn), str(empty), str(tmp_path / "gone.csv")])

    assert list(frame.columns) == COLUMNS
    told = outcomes(deployed)
    assert [list(each) for each in told] == [[*COLUMNS, "status", "reason", "seed"]] * 10
    assert [each["status"] for each in told] == ["done"] * 2 + ["failed"] * 4 + ["done"] + [
        "failed"
    ] * 3
    assert frame["row_number_per_file"].tolist() == [0, 1, 0, 1, 2, 3, 4, 0, 0, 0]
    assert frame["input_csv_name"].tolist()[-3:] == ["torn.csv", "empty.csv", "gone.csv"]
    reasons = [each["reason"] for each in told]
    assert reasons[2] == "row 0, column image: the string is not base64"
    assert reasons[3].startswith("row 1, column mask_image: ")
    assert reasons[4].startswith("row 2, column prompt: ")
    assert reasons[5].startswith("row 3, column parameters.steps: ")
    assert reasons[7] == "row 0: it has 1 values for 2 columns"
    made = [name for name in frame["image_file_name"] if name]
    assert sorted(made) == sorted(file.name for file in deployed.glob("*.png"))
    for name, picture in zip(made, expected(7, 11), strict=False):
        with Image.open(deployed / name) as file:
            difference = np.asarray(file.convert("RGB"), int) - np.asarray(picture, int)
        assert np.abs(difference).max() <= 1


def test_a_mini_batch_that_is_tried_again_gives_the_same(deployed, tmp_path):
    file = write(tmp_path / "rows.csv", [row(0), row(0)])
    first = entry_script.run([file])
    again = entry_script.run([file])
    assert first.equals(again)
    assert len({each["seed"] for each in outcomes(deployed)}) == 2
    assert len(list(deployed.glob("*.png"))) == 2
    assert len(list(deployed.glob("outcomes-*.csv"))) == 1


def test_a_mini_batch_needs_somewhere_to_write(deployed, tmp_path, monkeypatch):
    monkeypatch.delenv("AZUREML_BI_OUTPUT_PATH")
    with pytest.raises(InvalidSettings, match="AZUREML_BI_OUTPUT_PATH"):
        entry_script.run([write(tmp_path / "rows.csv", [row(0)])])


def test_a_safe_deployment_marks_blocked_rows(
    model_dir, tmp_path, monkeypatch, safe_service, caplog
):
    """The environment names of the published samples, against a local Content Safety."""
    monkeypatch.setenv("AZUREML_MODEL_DIR", str(model_dir))
    monkeypatch.setenv("AZUREML_BI_OUTPUT_PATH", str(tmp_path / "output"))
    entry_script.init()
    rows = [row(0, prompt="a violent red circle"), row(1)]
    frame = entry_script.run([write(tmp_path / "rows.csv", rows)])
    assert "1 files, 2 rows: 1 blocked, 1 done" in caplog.text
    told = outcomes(tmp_path / "output")
    assert [each["status"] for each in told] == ["blocked", "done"]
    assert frame["nsfw_content_detected"].tolist() == [True, False]
    assert frame["image_file_name"].tolist()[0] == ""
    assert "violence" in told[0]["reason"]
    assert len(list((tmp_path / "output").glob("*.png"))) == 1

    body = [{name: value for name, value in each.items() if value} for each in rows]
    (blocked, passed) = entry_script.run(json.dumps({"input_data": body}))
    assert blocked["nsfw_content_detected"] is True
    black = Image.open(io.BytesIO(base64.b64decode(blocked["generated_image"])))
    assert black.size == PICTURES[0].size
    assert black.getextrema() == ((0, 0),) * 3
    assert passed["nsfw_content_detected"] is False
    entry_script._scorer.close()
    monkeypatch.setattr(entry_script, "_scorer", None)


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(ModelNotFound, match="AZUREML_MODEL_DIR"):
        entry_script.model_folder(tmp_path)
