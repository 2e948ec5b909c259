"""Azure ML's entry script and the MLflow model run where `overpaint[server]` is not installed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from overpaint.apps.azure.schema import error_body
from overpaint.core.errors import InvalidImage, StoreUnavailable
from tests.jobs.forms import FIRST

SCRIPT = """
import json, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("fastapi", "starlette", "uvicorn", "multipart"):
            raise ModuleNotFoundError(f"{name} is not installed here", name=name)

sys.meta_path.insert(0, Refuse())
from overpaint.apps.azure import entry_script, mlflow_model
from overpaint.apps.azure.scoring import Scorer
from overpaint.apps.settings import Settings

entry_script._scorer = Scorer(sys.argv[1], Settings(device="cpu", dtype="float32"))
answers = entry_script.run(sys.stdin.read())
entry_script._scorer.close()
assert not {"fastapi", "starlette", "overpaint.apps.server"} & set(sys.modules)
print(json.dumps([sorted(each) for each in answers]))
"""


@pytest.mark.parametrize("model", ["erase", "sd2"])
def test_a_row_is_scored(model, checkpoint_folder):
    row = {**FIRST, "prompt": ""} if model == "erase" else FIRST
    parameters = {"seed": 7} if model == "erase" else {"seed": 7, "num_inference_steps": 2}
    folder = model if model == "erase" else str(checkpoint_folder(model))
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, folder],
        input=json.dumps({"input_data": [row], "parameters": parameters}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    answer = json.loads(ran.stdout.splitlines()[-1])
    assert answer == [["generated_image", "nsfw_content_detected", "prompt"]]


def test_an_error_as_the_contract_has_it():
    assert error_body(InvalidImage("it is torn", field="row 1, column image")) == {
        "error_code": "INVALID_IMAGE",
        "message": "row 1, column image: it is torn",
    }
    hidden = error_body(StoreUnavailable("/srv/secret cannot be read"))
    assert "secret" not in hidden["message"]
