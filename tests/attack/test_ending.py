"""A server that is asked to end ends, whatever its clients do."""

from __future__ import annotations

import json
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.apps.server.conftest import b64, edit
from tests.conftest import box_mask, picture
from tests.servers import PATIENCE, serve, until

LONG = 900
"""Steps that nobody waits for."""


def erase(size=64, **more) -> dict:
    """An edit that is soon done."""
    picture_, mask = picture(size, size), box_mask(size, size)
    return {"model": "erase", "image": b64(picture_), "mask": b64(mask), **more}


def unread(serving) -> socket.socket:
    """A client that asks for large answers and never reads one."""
    wire = socket.socket()
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    wire.connect(serving.address)
    body = json.dumps(erase(640)).encode()
    head = (
        "POST /v1/edits HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    wire.sendall(head + body)
    return wire


def test_a_client_that_never_reads_does_not_hold_it(configured):
    with (
        ExitStack() as stack,
        serve(configured(models=["erase"], drain_s=3)) as serving,
    ):
        stack.callback(unread(serving).close)
        counted = 'overpaint_images_total{model="erase",outcome="done"}'
        until(lambda: counted in serving.client.get("/metrics").text)
        serving.process.send_signal(signal.SIGTERM)
        assert serving.process.wait(PATIENCE) == 0


def test_an_edit_that_takes_longer_is_refused_and_its_caller_learns_of_it(configured):
    with (
        serve(configured(drain_s=2, max_steps=LONG)) as serving,
        ThreadPoolExecutor(1) as pool,
    ):
        waiting = pool.submit(serving.client.post, "/v1/edits", json=edit(0, LONG))
        until(lambda: "overpaint_images_under_way 1.0" in serving.client.get("/metrics").text)
        serving.process.send_signal(signal.SIGTERM)
        answer = waiting.result(PATIENCE)
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "stopping"
        assert answer.headers["retry-after"]
        assert serving.process.wait(PATIENCE) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(configured, number):
    with serve(configured(models=["erase"], drain_s=600)) as serving:
        where = {"async": True}
        assert serving.client.post("/v1/edits", json=erase(**where)).status_code == 202
        serving.process.send_signal(number)
        until(lambda: serving.client.get("/readyz").json()["status"] == "stopping")
        serving.process.send_signal(number)
        assert serving.process.wait(PATIENCE) == -number


STUCK = """
import sys, time
from overpaint.engine.engine import Engine
begin = Engine.begin
Engine.begin = lambda *args, **more: time.sleep(600)
from overpaint.apps.cli import main
main()
"""


def test_what_cannot_be_stopped_ends_with_the_process(configured):
    """A native call that hangs: nothing in Python ends its thread."""
    with serve(
        configured(models=["erase"], drain_s=2), entry=[sys.executable, "-c", STUCK]
    ) as serving:
        serving.client.post("/v1/edits", json=erase(**{"async": True}))
        serving.process.send_signal(signal.SIGTERM)
        assert serving.process.wait(PATIENCE) == 1
