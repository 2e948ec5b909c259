"""Clients that send what nobody reads, that do not read, and that come in great numbers."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import json
import logging
import resource
import select
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from overpaint.apps.server.bounds import connections
from overpaint.apps.server.bounds.connections import report_shortage
from overpaint.apps.server.jobs import Listener, News
from overpaint.core.imaging.images import Picture
from overpaint.engine.batching.ticket import Update
from tests.apps.server.conftest import b64, edit
from tests.attack.conftest import KEYS, connected, head, header_of, within
from tests.conftest import box_mask, picture


class TestOpenAddresses:
    @pytest.mark.parametrize(
        "path", ["/", "/ping", "/healthz", "/v2/health/ready", "/page/main.js"]
    )
    def test_a_body_is_refused_at_its_header(self, server, path):
        with connected(server) as wire:
            wire.sendall(head(path, 60_000_000))
            assert wire.recv(100).startswith(b"HTTP/1.1 413 ")

    def test_bodies_without_a_key_cost_others_nothing(self, start):
        server = start(keys=KEYS)
        with contextlib.ExitStack() as stack:
            for n in range(24):
                wire = stack.enter_context(connected(server))
                wire.sendall(head(("/ping", "/v1/edits")[n % 2], 60_000_000) + b"x" * 10_000)
            with within(20):
                answer = server.client.post("/v1/edits", json=edit(), headers=header_of("good"))
            assert answer.status_code == 200


class TestThoseWhoDoNotRead:
    def test_their_connection_is_dropped(self, start, caplog):
        caplog.set_level(logging.INFO)
        server = start(write_timeout_s=0.5)
        body = {**large_erasure(1700), "prompt": ""}
        encoded = json.dumps(body).encode()
        with connected(server) as wire:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            wire.sendall(head("/v1/edits", len(encoded)) + encoded)
            server.until(lambda: "does not read" in caplog.text)
            with pytest.raises(ConnectionResetError):
                read_all(wire)
        assert "unexpected" not in caplog.text

    def test_those_who_do_get_all_of_a_large_answer(self, start):
        server = start(write_timeout_s=30)
        answer = server.client.post("/v1/edits", json=large_erasure(1000))
        assert answer.status_code == 200
        assert len(answer.json()["images"][0]) > 3_000_000

    def test_previews_that_nobody_takes_up_are_dropped(self):
        listener = Listener()
        large = Picture(picture(1500, 1500))
        for step in range(20):
            listener.put(News(2 * step, Update(step=step, total=20)))
            listener.put(News(2 * step + 1, Update(step=step, total=20, preview=large)))
        waiting = [each for each in listener._news if each.update.preview is not None]
        assert [each.update.step for each in waiting] == [19]
        assert len(listener._news) == 21


class TestResults:
    def test_they_are_bounded_from_the_moment_they_are_there(self, start):
        server = start(keep_results_mb=0.03)
        body = edit(steps=1, **{"async": True})
        places = []
        for seed in range(4):
            answer = server.client.post("/v1/edits", json={**body, "seed": seed})
            places.append(answer.headers["location"])
            settled(server)
            held = sum(job.size for job in server.service.jobs._jobs.values())
            assert held <= 30_000
        assert server.client.get(places[-1]).status_code == 200
        assert server.client.get(places[0]).status_code == 404

    def test_what_was_never_fetched_goes_last(self, start):
        server = start()
        body = edit(steps=1, **{"async": True})

        def done(seed):
            where = server.client.post("/v1/edits", json={**body, "seed": seed}).headers["location"]
            settled(server)
            return where

        first, second = done(1), done(2)
        assert server.client.get(second).json()["status"] == "done"
        server.service.jobs._keep_bytes = sum(map(size, server.service.jobs._jobs.values())) + 100
        done(3)
        assert server.client.get(second).status_code == 404
        assert server.client.get(first).json()["status"] == "done"


def test_large_answers_are_not_encoded_on_the_event_loop(server, monkeypatch):
    body = large_erasure(200)
    inputs = [
        {"name": name, "datatype": "BYTES", "shape": [1], "data": [body[name]]}
        for name in ("image", "mask")
    ]
    files = {name: base64.b64decode(body[name]) for name in ("image", "mask")}
    threads, dumps = set(), json.dumps

    def noting(*args, **more) -> str:
        text = dumps(*args, **more)
        if len(text) > 100_000:
            threads.add(threading.current_thread().name.partition("_")[0])
        return text

    def encoded_by(path, method="POST", **request) -> str:
        threads.clear()
        monkeypatch.setattr(json, "dumps", noting)
        answer = server.client.request(method, path, **request)
        monkeypatch.undo()
        assert answer.status_code in (200, 202), answer.text
        (thread,) = threads
        return thread

    def of_json(value) -> dict:
        return {"content": dumps(value), "headers": {"content-type": "application/json"}}

    assert encoded_by("/v1/edits", **of_json(body)) == "answers"
    assert encoded_by("/v2/models/erase/infer", **of_json({"inputs": inputs})) == "answers"
    form = {"data": {"model": "erase"}, "files": files}
    assert encoded_by("/v1/images/edits", **form) == "answers"
    where = server.client.post("/v1/edits", json={**body, "async": True}).headers["location"]
    assert encoded_by(f"{where}/events", "GET") == "answers"
    assert encoded_by(where, "GET") == "answers"


class TestConnections:
    def test_one_too_many_is_closed_and_told_once(self, start, caplog):
        server = start(max_connections=20)
        with contextlib.ExitStack() as stack:
            wires = []
            for _ in range(60):
                with contextlib.suppress(ConnectionResetError):
                    wires.append(stack.enter_context(connected(server)))
            # Of those that are closed there is something to read: that they are.
            refused = 60 - len(wires)
            server.until(lambda: refused + len(select.select(wires, [], [], 0)[0]) >= 40)
        server.until(lambda: server.client.get("/healthz").status_code == 200)
        assert len([each for each in caplog.records if "too many" in each.message]) <= 1

    def test_one_that_says_nothing_is_closed(self, start):
        server = start(body_timeout_s=0.3)
        with connected(server) as wire:
            wire.sendall(b"POST /v1/edits HT")
            with contextlib.suppress(ConnectionResetError):
                assert wire.recv(100) == b""

    def test_one_that_was_answered_stays_open_for_the_next_request(self, start):
        server = start(body_timeout_s=0.05)
        client = http.client.HTTPConnection(server.url.removeprefix("http://"))

        def ask() -> bytes:
            client.request("GET", "/healthz")
            return client.getresponse().read()

        def ask_first() -> bytes:
            client.close()
            with contextlib.suppress(ConnectionError):  # on a busy machine it comes too late
                return ask()
            return b""

        with contextlib.closing(client):
            server.until(ask_first)
            client.auto_open = False  # a connection that was closed is an error
            time.sleep(0.5)  # ten times what a first request may take to arrive
            assert ask()

    def test_one_that_was_answered_is_closed_in_the_end(self, start, monkeypatch):
        monkeypatch.setattr(connections, "KEEP_ALIVE_SECONDS", 0.3)
        server = start()
        with connected(server) as wire:
            wire.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            received = b"".join(iter(lambda: wire.recv(1000), b""))
        assert received.startswith(b"HTTP/1.1 200")

    def test_running_out_of_descriptors_is_one_line(self, start, caplog):
        server = start()
        caplog.set_level(logging.WARNING)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wires = [socket.socket() for _ in range(30)]
        address = server.url.removeprefix("http://").split(":")
        taken = len(list(Path("/proc/self/fd").iterdir()))
        resource.setrlimit(resource.RLIMIT_NOFILE, (taken + 5, hard))
        try:
            for wire in wires:
                wire.connect((address[0], int(address[1])))
            time.sleep(2.5)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for wire in wires:
                wire.close()
        lines = [each for each in caplog.records if each.levelno >= logging.WARNING]
        assert len([each for each in lines if "descriptors" in each.message]) <= 1
        assert not [each for each in lines if "accept" in each.message]
        server.until(lambda: server.client.get("/healthz").status_code == 200)

    def test_nor_are_its_traces_after_the_end(self, caplog):
        loop = asyncio.new_event_loop()
        message = "Exception in callback BaseSelectorEventLoop._start_serving(...)"
        report_shortage(loop, {"message": message, "exception": ValueError("closed")})
        loop.close()
        assert not caplog.records

    def test_other_errors_of_the_loop_are_told_as_ever(self, server, caplog):
        loop = asyncio.new_event_loop()
        report_shortage(loop, {"message": "something else", "exception": ValueError("no")})
        loop.close()
        assert "something else" in caplog.text


def size(job) -> int:
    return job.size


def settled(server) -> None:
    """Nothing is under way, and what follows the end of an edit on the event loop is done."""
    server.until(lambda: server.service.batcher.idle and not server.service._tasks)
    server.client.get("/healthz")


def large_erasure(side) -> dict:
    """An edit whose answer is large: noise cannot be compressed."""
    values = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    mask = box_mask(side, side, (0, 0, 20, 20))
    return {"model": "erase", "image": b64(Image.fromarray(values)), "mask": b64(mask)}


def read_all(wire) -> bytes:
    wire.settimeout(10)
    data = b""
    while piece := wire.recv(2**20):
        data += piece
    return data
