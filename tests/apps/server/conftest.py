"""A real server on loopback, with tiny random checkpoints, and what requests are made of."""

from __future__ import annotations

import base64
import io
import json
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import pytest
import uvicorn
from PIL import Image

from overpaint.apps.server.app import create_app
from overpaint.apps.server.bounds.connections import connection_class
from overpaint.apps.settings import ModelSettings, ServerSettings, SessionSettings, Settings
from tests.conftest import box_mask, picture

FAMILIES = ("sd2", "flex2", "kontext")
FEW = {"num_inference_steps": 2}


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def b64(image: Image.Image) -> str:
    return base64.b64encode(png(image)).decode()


def from_b64(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


def edit(seed=0, steps=2, size=64, **more) -> dict:
    """A native JSON body for sd2."""
    return {
        "model": "sd2",
        "image": b64(picture(size, size, seed=seed)),
        "mask": b64(box_mask(size, size)),
        "prompt": "a red cat",
        "seed": seed,
        "options": {"num_inference_steps": steps},
        **more,
    }


@dataclass
class Running:
    """A server that runs: its address, a client for it, and its service."""

    url: str
    client: httpx.Client
    service: object

    def until(self, condition, seconds=60) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.005)

    def metric(self, name) -> float:
        for line in self.client.get("/metrics").text.splitlines():
            if line.startswith((f"{name} ", name + "{")):
                return float(line.rsplit(" ", 1)[1])
        raise AssertionError(f"no metric {name}")


@pytest.fixture(scope="session")
def make_settings(checkpoint_folder, tmp_path_factory):
    """(**server settings) → settings that serve the tiny checkpoints in float32."""

    def settings(**server) -> Settings:
        return Settings(
            device="cpu",
            dtype="float32",
            models={
                name: ModelSettings(family=name, folder=checkpoint_folder(name))
                for name in FAMILIES
            },
            server=ServerSettings(**{"models": (*FAMILIES, "erase"), **server}),
            sessions=SessionSettings(folder=tmp_path_factory.mktemp("sessions")),
        )

    return settings


def head(path, length, **headers) -> bytes:
    """The header of a POST with a JSON body."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    fields = ["Host: 127.0.0.1", "Content-Type: application/json", f"Content-Length: {length}"]
    return "\r\n".join([f"POST {path} HTTP/1.1", *fields, *lines, "", ""]).encode()


def connected(server) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=60)


@contextmanager
def asking(server, path, body, **headers):
    """A caller who has asked for something, and hangs up at the end of the block."""
    encoded = json.dumps(body).encode()
    with connected(server) as wire:
        wire.sendall(head(path, len(encoded), **headers) + encoded)
        yield wire


@contextmanager
def serving(settings, **client):
    """Run a server in a thread until the block ends."""
    app = create_app(settings)
    limits = settings.server
    connections = connection_class(limits.max_connections, limits.body_timeout_s)
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_config=None, ws="none", http=connections
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=url, trust_env=False, timeout=60, **client) as session:
        running = Running(url, session, app.state.service)
        running.until(lambda: not app.state.service.loading)
        try:
            yield running
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()


@pytest.fixture(scope="session")
def server(make_settings):
    """One server that many tests share."""
    with serving(make_settings()) as running:
        yield running


@pytest.fixture
def start(make_settings):
    """(**server settings) → a server of the test's own."""
    stack = []

    def run(headers=None, **settings) -> Running:
        context = serving(make_settings(**settings), headers=headers)
        running = context.__enter__()
        stack.append(context)
        return running

    yield run
    for context in reversed(stack):
        context.__exit__(None, None, None)
