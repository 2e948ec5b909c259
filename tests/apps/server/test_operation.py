"""Operating it: metrics, logs, load, callers that hang up, memory."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import shutil
import threading

import httpx
import numpy as np
import psutil
import pytest

from overpaint.apps.server.errors import forget_frames
from overpaint.apps.server.logs import AccessLog, JsonFormatter
from overpaint.apps.settings import ModelSettings
from overpaint.core.errors import OutOfMemory
from tests.apps.server.conftest import asking, b64, edit, from_b64, serving
from tests.conftest import box_mask, picture


class TestMetrics:
    def test_everything_is_counted(self, start):
        server = start(max_steps=1000)
        server.client.post("/v1/edits", json=edit(num_images=2))
        server.client.post("/v1/edits", json=edit(steps=900, timeout_s=0.5))
        text = server.client.get("/metrics").text
        assert 'overpaint_images_total{model="sd2",outcome="done"} 2.0' in text
        assert 'overpaint_images_total{model="sd2",outcome="deadline_exceeded"} 1.0' in text
        assert (
            'overpaint_http_requests_total{method="POST",route="/v1/edits",status="200"} 1.0'
            in text
        )
        for name in (
            "overpaint_queue_edits",
            "overpaint_images_under_way",
            "overpaint_step_seconds_count",
            "overpaint_batch_images_sum",
            "overpaint_admission_wait_seconds_count",
            "overpaint_first_step_seconds_count",
            "overpaint_edit_seconds_count",
            "overpaint_resident_bytes",
            "overpaint_model_bytes",
            "overpaint_model_cache_total",
        ):
            assert server.metric(name) >= 0
        assert server.metric("overpaint_batch_images_sum") >= 4

    def test_unknown_paths_make_no_new_series(self, server):
        for number in range(5):
            server.client.get(f"/no/{number}")
        assert "/no/" not in server.client.get("/metrics").text


class TestLogs:
    def test_one_json_line_a_request_and_nothing_private(self, server):
        stream = io.StringIO()
        handler = logging.StreamHandler(stream)
        handler.setFormatter(JsonFormatter())
        logger = logging.getLogger("overpaint")
        logger.addHandler(handler)
        logger.setLevel("INFO")
        body = {**edit(), "prompt": "a secret wish"}
        headers = {"authorization": "Bearer a-secret-key"}
        answer = server.client.post("/v1/edits", json=body, headers=headers)
        server.client.post("/v1/edits", json={**body, "seed": -1})
        logger.removeHandler(handler)
        lines = [json.loads(line) for line in stream.getvalue().splitlines()]
        asked = [line for line in lines if line["logger"] == "overpaint.access"]
        assert [line["status"] for line in asked] == [200, 400]
        assert asked[0]["id"] == answer.headers["x-request-id"]
        assert asked[0]["edit"] == answer.json()["id"]
        assert asked[0]["model"] == "sd2"
        for private in ("secret", body["image"][:40], answer.json()["images"][0][:40]):
            assert private not in stream.getvalue()

    def test_the_line_is_there_before_the_answer_is(self):
        """Whoever has the answer may look for its line at once."""
        counted, seen = [], []

        async def answering(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
            await send({"type": "http.response.body", "body": b"b"})

        async def send(message):
            seen.append((message.get("body"), len(counted)))

        app = AccessLog(answering, lambda *request: counted.append(request))
        asyncio.run(app({"type": "http", "method": "GET"}, None, send))
        assert seen == [(None, 0), (b"a", 0), (b"b", 1)]
        assert counted == [("GET", "other", 200)]

    def test_a_refusals_line_is_there_while_the_rest_of_its_request_comes(self):
        counted, seen = [], []
        head = {
            "type": "http.response.start",
            "status": 413,
            "headers": [(b"content-length", b"2")],
        }

        async def refusing(scope, receive, send):
            await send(head)
            await send({"type": "http.response.body", "body": b"no", "more_body": True})
            await send({"type": "http.response.body", "body": b""})

        async def send(message):
            seen.append(len(counted))

        app = AccessLog(refusing, lambda *request: counted.append(request))
        asyncio.run(app({"type": "http", "method": "POST"}, None, send))
        assert seen == [0, 1, 1]

    def test_a_caller_that_hung_up_has_a_line_too(self):
        counted = []

        async def broken(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            raise ConnectionResetError

        async def send(message): ...

        app = AccessLog(broken, lambda *request: counted.append(request))
        with pytest.raises(ConnectionResetError):
            asyncio.run(app({"type": "http", "method": "GET"}, None, send))
        assert counted == [("GET", "other", 200)]

    def test_codes_for_a_terminal_are_left_out(self):
        record = logging.LogRecord("uvicorn", logging.INFO, "", 0, "up", (), None)
        record.color_message = "\x1b[36mup"
        assert "color_message" not in json.loads(JsonFormatter().format(record))

    def test_exceptions_are_one_line_too(self):
        record = logging.LogRecord("x", logging.ERROR, "", 0, "bad", (), None)
        try:
            raise ValueError("two\nlines")
        except ValueError as error:
            record.exc_info = (type(error), error, error.__traceback__)
        line = JsonFormatter().format(record)
        assert "\n" not in line
        assert "ValueError" in json.loads(line)["exception"]


def test_an_error_may_lead_back_to_itself():
    first, second = ValueError(), KeyError()
    first.__cause__, second.__context__ = second, first
    try:
        raise first
    except ValueError:
        forget_frames(first)
    assert first.__traceback__ is None


def all_at_once(server, bodies) -> list[httpx.Response]:
    async def run():
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(
            base_url=server.url, trust_env=False, timeout=60, limits=limits
        ) as client:
            return await asyncio.gather(*(client.post("/v1/edits", json=body) for body in bodies))

    return asyncio.run(run())


class TestLoad:
    def test_two_hundred_at_once(self, start):
        server = start(max_queued=24)
        answers = all_at_once(server, [edit(seed, 1, size=32) for seed in range(200)])
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {200, 429}
        assert statuses.count(200) >= 24
        for answer in answers:
            if answer.status_code == 429:
                assert int(answer.headers["retry-after"]) >= 1
            else:
                assert len(answer.json()["images"]) == 1
        server.until(lambda: server.service.batcher.idle)

    def test_mixed_edits_are_as_if_alone(self, server):
        bodies = [
            edit(1, 6),
            edit(2, 3, size=96),
            edit(3, 4, num_images=2),
            {**edit(4, 3), "model": "flex2"},
            {**edit(5, 4), "model": "kontext"},
            {**edit(6, 2), "negative_prompt": "dog"},
            {"model": "erase", "image": b64(picture()), "mask": b64(box_mask()), "seed": 7},
        ]
        together = all_at_once(server, bodies)
        for body, answer in zip(bodies, together, strict=True):
            alone = server.client.post("/v1/edits", json=body).json()
            near(alone["images"], answer.json()["images"])

    def test_callers_that_hang_up_free_their_place(self, start):
        server = start(max_images_under_way=1, max_images=1, max_steps=1000)
        batcher = server.service.batcher
        for seed in range(5):
            with asking(server, "/v1/edits", edit(seed, 900, size=96)):
                server.until(lambda: batcher.images == 1)
            server.until(lambda: batcher.idle)
        server.until(lambda: 'outcome="cancelled"} 5.0' in server.client.get("/metrics").text)

    def test_it_does_not_grow(self, server):
        """A short soak; benchmarks/serving.py has the long one."""
        process = psutil.Process()
        bodies = [edit(seed, 1, size=48) for seed in range(20)]
        all_at_once(server, bodies)
        gc.collect()
        before, threads = process.memory_info().rss, threading.active_count()
        for _ in range(3):
            all_at_once(server, bodies)
        gc.collect()
        assert process.memory_info().rss - before < 40 * 2**20
        server.until(lambda: threading.active_count() <= threads + 1)
        server.until(lambda: not server.service._tasks)


def near(one, other) -> None:
    for first, second in zip(one, other, strict=True):
        difference = np.asarray(from_b64(first)).astype(int) - np.asarray(from_b64(second))
        assert np.abs(difference).max() <= 1


class TestStopping:
    def test_a_stopping_server_takes_nothing_more_and_is_not_ready(self, start):
        server = start()
        server.service.ending.begin()
        answer = server.client.post("/v1/edits", json=edit())
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        assert server.client.get("/readyz").json() == {"status": "stopping"}
        assert server.client.get("/v2/health/ready").status_code == 503
        assert server.client.get("/healthz").status_code == 200


class TestLoading:
    """Models whose files say what nobody expects."""

    @pytest.fixture(
        params=[("vae", "block_out_channels", None), ("text_encoder", "hidden_size", "x")]
    )
    def broken(self, request, checkpoint_folder, make_settings, tmp_path):
        """(models) → settings whose sd2 cannot be loaded."""
        component, name, value = request.param
        folder = shutil.copytree(checkpoint_folder("sd2"), tmp_path / "broken")
        file = folder / component / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), name: value}))

        def settings(*models):
            made = make_settings(models=models)
            broken = {**made.models, "sd2": ModelSettings(family="sd2", folder=folder)}
            return made.model_copy(update={"models": broken})

        return settings

    def test_a_model_that_cannot_be_loaded_is_told(self, broken, caplog):
        with serving(broken("sd2")) as server:
            answer = server.client.get("/readyz")
            assert answer.status_code == 503
            assert answer.json()["status"] == "failed"
            assert set(answer.json()["failed"]) == {"sd2"}
            assert server.client.get("/v2/health/ready").status_code == 503
            told = server.client.get("/v1/models/sd2").json()
            assert (told["loaded"], "log" in told["error"]) == (False, True)
            assert server.client.post("/v1/edits", json=edit()).status_code >= 500
        said = [each for each in caplog.records if each.message == "cannot load a model"]
        assert [(each.model, bool(each.exc_info)) for each in said] == [("sd2", True)]

    def test_the_other_models_are_served(self, broken):
        with serving(broken("sd2", "erase")) as server:
            answer = server.client.get("/readyz")
            assert (answer.status_code, answer.json()["status"]) == (200, "ready")
            assert set(answer.json()["failed"]) == {"sd2"}
            body = {"model": "erase", "image": b64(picture()), "mask": b64(box_mask())}
            assert server.client.post("/v1/edits", json=body).status_code == 200
            assert server.client.get("/v1/models/erase").json()["error"] is None

    def test_one_that_can_be_loaded_after_all_is_ready(self, make_settings):
        with serving(make_settings(models=("sd2",))) as server:
            server.service.health.errors["sd2"] = OutOfMemory("another one was larger")
            assert server.client.get("/readyz").json()["failed"] == {"sd2": "out_of_memory"}
            server.client.post("/v1/edits", json=edit(steps=1))
            assert server.client.get("/readyz").json() == {"status": "ready"}
