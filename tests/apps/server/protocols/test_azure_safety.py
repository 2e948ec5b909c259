"""The safe variants of the scoring routes: the policy of the samples' environment names."""

from __future__ import annotations

import numpy as np
import pytest

from overpaint.apps import settings as settings_
from tests.apps.server.conftest import b64, from_b64, serving
from tests.conftest import box_mask, picture
from tests.content_safety import content_safety

pytest.importorskip("azure.ai.contentsafety", exc_type=ImportError)

SIZE = (40, 24)
GOOD = {"prompt": "a cat", "image": b64(picture(*SIZE)), "mask_image": b64(box_mask(*SIZE))}
BAD = {**GOOD, "prompt": "a violent cat"}
PARAMETERS = {"num_inference_steps": 2, "seed": 3}


@pytest.fixture(scope="module")
def safe(make_settings):
    """A server whose policy comes from the environment, and the service that it asks."""
    with content_safety() as service:
        safety = settings_.load(service.environ).safety
        with serving(make_settings().model_copy(update={"safety": safety})) as running:
            yield running, service


def scored(server, *rows, path="/score", **parameters):
    body = {"input_data": list(rows), "params": {**PARAMETERS, **parameters}}
    answer = server.client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def is_black(row) -> bool:
    made = from_b64(row["generated_image"])
    return made.size == SIZE and not np.asarray(made).any()


@pytest.mark.parametrize("path", ["/score", "/invocations"])
def test_a_blocked_row_is_marked_and_the_others_are_made(safe, path):
    server, _ = safe
    found = scored(server, GOOD, BAD, GOOD, path=path)
    rows = found if path == "/score" else found["predictions"]
    assert [row["nsfw_content_detected"] for row in rows] == [False, True, False]
    assert [is_black(row) for row in rows] == [False, True, False]
    assert [row["prompt"] for row in rows] == ["a cat", "a violent cat", "a cat"]


def test_a_blocked_row_is_never_computed(safe):
    server, service = safe
    passes, pictures = server.service.batcher.passes, service.pictures_asked
    scored(server, BAD, {**GOOD, "negative_prompt": "violent"})
    assert server.service.batcher.passes == passes
    assert service.pictures_asked == pictures


def test_a_picture_that_is_given_can_be_blocked(safe):
    server, service = safe
    passes = server.service.batcher.passes
    service.pictures = [4]
    (row,) = scored(server, GOOD)
    assert row["nsfw_content_detected"] is True
    assert is_black(row)
    assert server.service.batcher.passes == passes


def test_a_picture_that_is_made_can_be_blocked(safe):
    server, service = safe
    service.pictures = [0, 4]
    (row,) = scored(server, GOOD)
    assert row["nsfw_content_detected"] is True
    assert is_black(row)


def test_the_threshold_of_the_environment_decides(safe):
    server, service = safe
    service.pictures = [3, 3]
    (row,) = scored(server, GOOD)
    assert row["nsfw_content_detected"] is False


def test_nothing_passes_when_nobody_answers(make_settings):
    environ = {"CONTENT_SAFETY_ENDPOINT": "http://127.0.0.1:9", "CONTENT_SAFETY_KEY": "key"}
    table = settings_.load(environ).safety
    azure = table.azure.model_copy(update={"timeout_s": 0.5})
    safety = table.model_copy(update={"azure": azure})
    with serving(make_settings().model_copy(update={"safety": safety})) as server:
        answer = server.client.post("/score", json={"input_data": [GOOD]})
        assert answer.status_code == 503
        assert answer.json()["error_code"] == "SAFETY_UNAVAILABLE"
        assert answer.headers["x-ms-run-function-failed"] == "True"
