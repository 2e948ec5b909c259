"""Azure ML's entry script without Azure ML's server, which tests/azure has; and the examples."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from overpaint.apps.azure import entry_script
from overpaint.apps.azure.scoring import Scorer
from overpaint.apps.settings import SafetySettings, Settings
from overpaint.apps.settings.azureml import Deployment, deployment
from overpaint.core.errors import InvalidImage, InvalidRequest, ModelNotFound
from overpaint.jobs import rows
from tests.jobs.forms import BOTH, CARD, FIRST, IMAGE

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "azureml"
PARAMETERS = {"num_inference_steps": 2, "seed": 7}


@pytest.fixture(scope="module")
def scorer(checkpoint_folder):
    """Rows through the tiny sd2 checkpoint, with a blocklist."""
    words = checkpoint_folder("sd2").parent / "azureml-words.toml"
    words.write_text('[[lists]]\ncategory = "violence"\nwords = ["violent"]\n', encoding="utf-8")
    settings = Settings(device="cpu", dtype="float32", safety=SafetySettings(blocklist=words))
    made = Scorer(str(checkpoint_folder("sd2")), settings)
    yield made
    made.close()


def parsed(*records):
    return [rows.parse(record, number, PARAMETERS) for number, record in enumerate(records)]


def test_rows_come_back_in_their_order_and_fail_alone(scorer):
    given = parsed(
        {**FIRST, "prompt": ""},
        {**FIRST, "prompt": "a violent cat"},
        *BOTH,
        {**FIRST, "image": IMAGE[:400]},
    )
    broken = InvalidImage("the string is not base64", field="row 5, column image")
    found = list(scorer.stream([*given, broken, *parsed(FIRST)]))
    told = ["failed" if each.picture is None else "made" for each in found]
    assert told == ["failed", "made", "made", "made", "failed", "failed", "made"]
    assert [each.blocked for each in found] == [False, True, *[False] * 5]
    assert found[1].flagged is True
    assert found[1].picture.rgb.getextrema() == ((0, 0),) * 3
    assert found[0].error.field == "row 0, column prompt"
    assert found[4].error.field == "row 4, column image"
    assert found[5].error is broken
    assert found[2].picture.sha256 == found[6].picture.sha256


def test_a_bad_row_fails_its_request(scorer):
    with pytest.raises(InvalidRequest) as caught:
        scorer.score(parsed(FIRST, {**FIRST, "prompt": " "}))
    assert caught.value.field == "row 1, column prompt"


def test_the_limits_of_the_server_hold(scorer):
    steps = {"num_inference_steps": scorer.limits.max_steps + 1}
    with pytest.raises(InvalidRequest) as caught:
        scorer.score([rows.parse({**FIRST, "parameters": steps}, 0)])
    assert caught.value.field == "row 0, column parameters.num_inference_steps"


def test_run_answers_the_cards_sample(scorer, monkeypatch):
    monkeypatch.setattr(entry_script, "_scorer", scorer)
    body = {"input_data": {**CARD["input_data"], "parameters": PARAMETERS}}
    answers = entry_script.run(json.dumps(body))
    names = ["prompt", "generated_image", "nsfw_content_detected"]
    assert [list(each) for each in answers] == [names] * 2
    # No checker of pictures is configured: nobody checked.
    assert [each["nsfw_content_detected"] for each in answers] == [None, None]


def test_the_model_is_found_wherever_it_lies(tmp_path, checkpoint_folder):
    deep = tmp_path / "model" / "1" / "artifacts"
    deep.mkdir(parents=True)
    (deep / "INPUT_model_path").symlink_to(checkpoint_folder("sd2"))
    assert entry_script.model_folder(tmp_path) == deep / "INPUT_model_path"
    with pytest.raises(ModelNotFound, match=r"model_index\.json"):
        entry_script.model_folder(deep.parent / "nothing")


def test_a_batchs_lines_are_the_notebooks_four_columns(scorer, tmp_path, monkeypatch):
    """The published client names the columns of a file without a header by their place."""
    monkeypatch.setattr(entry_script, "_scorer", scorer)
    monkeypatch.setenv("AZUREML_BI_OUTPUT_PATH", str(tmp_path / "out"))
    row = {**FIRST, "parameters": json.dumps(PARAMETERS)}
    table = tmp_path / "rows.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        lines = csv.DictWriter(file, list(row))
        lines.writeheader()
        lines.writerows([row, {**row, "prompt": ""}])
    frame = entry_script.run([str(table)])
    # As Azure ML appends lines, with the settings file of the example.
    options = json.loads((EXAMPLES / "code" / "parallel_run_step.settings.json").read_text())
    text = frame.to_csv(
        index=False, header=False, **options["append_row"]["pandas.DataFrame.to_csv"]
    )
    names = ["row_number_per_file", "image_file_name", "nsfw_content_detected", "input_csv_name"]
    read = pd.read_csv(io.StringIO(text), header=None, names=names)
    assert read["row_number_per_file"].tolist() == [0, 1]
    assert read["input_csv_name"].tolist() == ["rows.csv"] * 2
    assert (tmp_path / "out" / read["image_file_name"][0]).is_file()
    (beside,) = (tmp_path / "out").glob("outcomes-*.csv")
    with beside.open(encoding="utf-8", newline="") as file:
        told = list(csv.DictReader(file))
    assert [each["status"] for each in told] == ["done", "failed"]
    assert "row 1, column prompt" in told[1]["reason"]
    assert entry_script.run([str(table)]).equals(frame)
    assert len(list((tmp_path / "out").glob("outcomes-*.csv"))) == 1


def test_the_environment_of_a_deployment():
    assert deployment({}) == Deployment(None, None)
    given = {"AZUREML_MODEL_DIR": "/models", "AZUREML_BI_OUTPUT_PATH": "/out"}
    assert deployment(given) == Deployment(Path("/models"), Path("/out"))


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*-deployment.yml")), ids=lambda f: f.stem)
def test_the_examples_name_what_is_there(file):
    asked = yaml.safe_load(file.read_text(encoding="utf-8"))
    code = EXAMPLES / asked["code_configuration"]["code"]
    assert (code / asked["code_configuration"]["scoring_script"]).is_file()
    assert (EXAMPLES / asked["environment"]["build"]["path"] / "Dockerfile").is_file()
    endpoint = "batch" if "batch" in file.stem else "online"
    named = yaml.safe_load((EXAMPLES / f"{endpoint}-endpoint.yml").read_text(encoding="utf-8"))
    assert asked["endpoint_name"] == named["name"]
    environ = asked.get("environment_variables") or asked.get("settings", {}).get(
        "environment_variables", {}
    )
    assert ("CONTENT_SAFETY_ENDPOINT" in environ) == file.stem.startswith("safe")
