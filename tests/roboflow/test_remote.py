"""A workflow host without a model of its own: the blocks use an Overpaint server."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from inference.core.workflows.errors import StepExecutionError

from tests.roboflow.conftest import bgr, marked, predictions, workflow

COMMAND = Path(__file__).parents[2] / ".venv/bin/overpaint"
FIELDS = {"prompt": "a red kite", "num_inference_steps": 2, "seed": 7, "keep_input_size": True}


@pytest.fixture(scope="module")
def server(settings_file):
    """The URL of a real server, in a process and an environment of its own."""
    if not COMMAND.exists():
        pytest.skip("`make setup` makes the environment that the server runs in")
    process = subprocess.Popen(
        [COMMAND, "serve", "--port", "0", "--model", "my-flex2"],
        env={"PATH": os.environ["PATH"], "OVERPAINT_CONFIG": str(settings_file)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        for line in process.stdout:
            found = re.search(r"http://127\.0\.0\.1:[1-9]\d*", line)
            if found:
                yield found.group()
                break
        else:
            pytest.fail("the server ended before it listened")
    finally:
        process.terminate()
        process.wait(30)


def test_a_batch_comes_back_from_the_server_as_made_here(run, server):
    here = workflow("flex2_inpainting", **FIELDS)
    there = workflow("flex2_inpainting", server=server, **FIELDS)
    images, found = [bgr(0), bgr(1)], [predictions(), predictions()]
    local = run(here, image=images, predictions=found)
    remote = run(there, image=images, predictions=found)
    for one, other, image in zip(local, remote, images, strict=True):
        mine, theirs = (each["image"].numpy_image.astype(int) for each in (one, other))
        # Two versions of the libraries round differently.
        assert np.abs(mine - theirs).max() <= 2
        assert (theirs[~marked()] == image[~marked()]).all()
        assert other["seed"] == 7


def test_what_the_server_refuses_stops_the_step(run, server):
    there = workflow("flex2_inpainting", server=server, model="my-sd2", **FIELDS)
    with pytest.raises(StepExecutionError, match=r"no such model here.*said by http"):
        run(there, image=bgr(), predictions=predictions())


def test_no_server_there(run):
    there = workflow("flex2_inpainting", server="http://127.0.0.1:9", **FIELDS)
    with pytest.raises(StepExecutionError, match=r"127\.0\.0\.1:9 cannot be reached"):
        run(there, image=bgr(), predictions=predictions())
