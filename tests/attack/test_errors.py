"""What errors say to clients, and to those who read the log."""

from __future__ import annotations

import io
import json
import logging

import openai
import pytest

from overpaint.apps.server.errors import response
from overpaint.apps.server.logs import JsonFormatter
from overpaint.core import errors
from tests.apps.server.conftest import b64, edit
from tests.apps.server.protocols.test_openai import file, transparent_mask
from tests.attack.test_readiness import ERASE, breaking
from tests.conftest import box_mask, picture


@pytest.fixture
def log():
    """Lines that the server writes."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("overpaint")
    logger.addHandler(handler)
    logger.setLevel("INFO")
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logger.removeHandler(handler)


EVERY = [each for each in vars(errors).values() if isinstance(each, type)]


def made(kind):
    if issubclass(kind, errors.InvalidRequest):
        return kind("no", field="mask")
    if issubclass(kind, errors.ContentBlocked):
        return kind("no", stage="prompt", category="hate")
    return kind("no", retry_after=7) if issubclass(kind, errors.Overloaded) else kind("no")


@pytest.mark.parametrize("path", ["/v1/edits", "/v1/images/edits", "/v2/models/a/infer", "/score"])
@pytest.mark.parametrize(
    "kind", [each for each in EVERY if issubclass(each, errors.OverpaintError)]
)
def test_an_answer_says_when_and_whether_to_try_again(kind, path):
    answer = response(made(kind), path)
    if answer.status_code in (429, 503):
        assert int(answer.headers["retry-after"]) > 0
    useless = (
        errors.ModelLoadError, errors.BrokenResult, errors.InvalidSettings, errors.OutputError,
        errors.SessionConflict, errors.Cancelled,
    )  # fmt: skip
    assert ("x-should-retry" in answer.headers) == issubclass(kind, useless)


def test_openais_client_does_not_repeat_what_is_useless(start):
    server = start(models=("erase",))
    calls = []

    def broken(*_, **__):
        calls.append(1)
        raise errors.BrokenResult("no numbers")

    server.service.batcher.engine.begin = broken
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=2) as client:
        files = {"image": file(picture(64, 64)), "mask": file(transparent_mask())}
        with pytest.raises(openai.InternalServerError):
            client.images.edit(model="erase", prompt="", **files)
    assert len(calls) == 1


@pytest.mark.parametrize("path", ["/v1/edits", "/score"])
@pytest.mark.parametrize("kind", [RuntimeError, errors.OutOfMemory])
def test_a_fault_is_logged_once_under_the_requests_id(start, log, path, kind):
    error = kind("a fault")
    server = start(models=("sd2",))
    breaking(server.service.batcher.engine, "begin", error)
    row = {"prompt": "a cat", "image": b64(picture()), "mask_image": b64(box_mask())}
    body = edit() if path == "/v1/edits" else {"input_data": [row]}
    answer = server.client.post(path, json=body)
    assert answer.status_code >= 500
    traces = [line for line in log() if "exception" in line]
    assert [line["id"] for line in traces] == [answer.headers["x-request-id"]]
    assert str(error) in traces[0]["exception"]


def test_a_fault_beside_the_edits_has_the_id_too(start, log, monkeypatch):
    from overpaint.apps.server.protocols import models

    def fail(*_):
        raise RuntimeError("a bug")

    server = start(models=("erase",))
    monkeypatch.setattr(models, "_info", fail)
    answer = server.client.get("/v1/models")
    assert answer.status_code == 500
    traces = [line for line in log() if "exception" in line]
    assert [line["id"] for line in traces] == [answer.headers["x-request-id"]]


def test_an_answer_that_is_kept_is_not_logged_again(start, log):
    server = start(models=("erase",))
    breaking(server.service.batcher.engine, "begin", errors.BrokenResult("no numbers"))
    for _ in range(3):
        headers = {"idempotency-key": "k"}
        assert server.client.post("/v1/edits", json=ERASE, headers=headers).status_code == 502
    assert len([line for line in log() if "exception" in line]) == 1


def test_a_stopping_server_fills_no_log(start, log):
    server = start(models=("erase",))
    server.service.ending.begin()
    for _ in range(3):
        assert server.client.post("/v1/edits", json=ERASE).status_code == 503
    assert not [line for line in log() if "exception" in line]
