"""A server says whether it works, and ends where it never will again."""

from __future__ import annotations

import sys

import pytest

from overpaint.apps.server.lifetime import ending
from tests.apps.server.conftest import b64, edit
from tests.conftest import box_mask, picture
from tests.servers import PATIENCE, serve, until

ERASE = {"model": "erase", "image": b64(picture()), "mask": b64(box_mask())}


class Panic(BaseException):
    """As pyo3 raises it: no `Exception`."""


def breaking(engine, method, error, when=lambda *_: True) -> None:
    """A method of an engine raises where `when` says so of its arguments."""
    work = getattr(engine, method)

    def call(*args, **more):
        if when(*args):
            raise error
        return work(*args, **more)

    setattr(engine, method, call)


def is_evil(submission) -> bool:
    asked = getattr(submission, "submission", submission)
    return getattr(asked, "request", asked).prompt == "evil"


class TestOneEdit:
    @pytest.mark.parametrize("error", [Panic("a library in Rust"), ValueError("a bug")])
    def test_that_fails_often_takes_nothing_with_it(self, start, error):
        """Nobody can end the server by an edit that no model survives."""
        server = start(models=("sd2",))
        breaking(server.service.batcher.engine, "begin", error, is_evil)
        for _ in range(7):
            answer = server.client.post("/v1/edits", json=edit(steps=1, prompt="evil"))
            assert answer.status_code == 500
        server.until(lambda: not server.service._tasks)
        assert server.client.get("/readyz").json() == {"status": "ready"}
        assert server.client.post("/v1/edits", json=edit(steps=1)).status_code == 200
        assert not server.service.is_lost

    @pytest.mark.parametrize("method", ["begin", "step", "decode", "deliver"])
    def test_a_panic_at_any_stage_is_answered(self, start, method):
        server = start(models=("erase",))
        breaking(server.service.batcher.engine, method, Panic("no"))
        assert server.client.post("/v1/edits", json=ERASE).status_code == 500
        assert not server.service.is_lost


def is_sd2(model, _) -> bool:
    return model.record["name"] == "sd2"


class TestEveryEdit:
    def test_a_model_that_fails_is_named_and_the_others_are_served(self, start):
        server = start(models=("sd2", "erase"))
        breaking(server.service.batcher.engine, "step", RuntimeError("bad"), is_sd2)
        for _ in range(3):
            assert server.client.post("/v1/edits", json=edit(steps=1)).status_code == 500
        server.until(lambda: server.service.health.errors)
        answer = server.client.get("/readyz")
        assert (answer.status_code, answer.json()["failed"]) == (200, {"sd2": "internal_error"})
        assert server.client.get("/v2/models/sd2/ready").status_code == 503
        assert server.client.get("/v2/models/erase/ready").json()["ready"]
        assert server.client.post("/v1/edits", json=ERASE).status_code == 200
        assert not server.service.is_lost

    def test_where_none_is_left_the_server_is_lost(self, start):
        server = start(models=("erase",))
        breaking(server.service.batcher.engine, "step", RuntimeError("bad"))
        for _ in range(3):
            assert server.client.post("/v1/edits", json=ERASE).status_code == 500
        server.until(lambda: server.service.is_lost)
        assert server.client.get("/readyz").json()["status"] == "failed"

    def test_a_thread_that_ends_is_noticed(self, start):
        server = start(models=("erase",))
        breaking(server.service.batcher.engine, "begin", SystemExit("ended"))
        assert server.client.post("/v1/edits", json=ERASE).status_code == 500
        server.until(lambda: server.service.is_lost)
        assert server.client.get("/readyz").json()["status"] == "failed"
        answer = server.client.post("/v1/edits", json=ERASE)
        assert (answer.status_code, bool(answer.headers["retry-after"])) == (503, True)


DYING = """
from overpaint.engine.engine import Engine
def die(*args, **more):
    raise SystemExit("a thread ends")
Engine.step = die
from overpaint.apps.cli import main
main()
"""


def test_a_supervisor_sees_that_the_server_is_lost(configured):
    folder = configured(models=["erase"], drain_s=5)
    with serve(folder, entry=[sys.executable, "-c", DYING]) as serving:
        assert serving.client.post("/v1/edits", json=ERASE).status_code == 500
        assert serving.process.wait(PATIENCE) == ending.LOST_EXIT
        until(lambda: any(line["level"] == "critical" for line in serving.log()))
