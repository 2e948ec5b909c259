"""Servers to attack: in this process, and as processes of their own; and what strangers send."""

from __future__ import annotations

import io
import struct
import threading
import time
import zlib
from contextlib import contextmanager

import psutil
import pytest
from PIL import Image

from overpaint.apps.server.bounds.decoding import AT_ONCE
from tests.apps.server import conftest
from tests.apps.server.conftest import connected, make_settings, server, start
from tests.servers import serve_sd2

__all__ = ["connected", "make_settings", "server", "start"]

KEYS = {"good": "g" * 24, "bad": "b" * 24}


def header_of(name) -> dict[str, str]:
    return {"authorization": f"Bearer {KEYS[name]}"}


def jpeg(width=64, height=64, **options) -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(file, "JPEG", **options)
    return file.getvalue()


def filled_jpeg(fill) -> bytes:
    """A JPEG of 64 x 64 with so many filling bytes before its second piece."""
    encoded = jpeg()
    return encoded[:2] + b"\xff" * fill + encoded[2:]


def scanned_jpeg(side, scans) -> bytes:
    """A progressive JPEG that goes over its picture so many times."""
    encoded = jpeg(side, side, progressive=True)
    last = encoded.rindex(b"\xff\xda")
    return encoded[:last] + encoded[last:-2] * scans + encoded[-2:]


def blank_png(width, height) -> bytes:
    """A black picture, in few bytes."""

    def chunk(kind, data) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    rows = zlib.compressobj(9)
    row = b"\0" * (width + 1)
    data = b"".join(rows.compress(row) for _ in range(height)) + rows.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pieces = chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + pieces


def decodes(server) -> int:
    """Files that its decoding processes have in hand."""
    return AT_ONCE - server.service.decoding._others._places._value


@contextmanager
def within(seconds):
    """The block must end in so many seconds, which is many times what it takes."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


@pytest.fixture
def bounded_memory():
    """(MiB) → a block within which the process may grow by so much at any time."""

    @contextmanager
    def block(mebibytes):
        process = psutil.Process()
        before, most, ended = process.memory_info().rss, 0, threading.Event()

        def watch():
            nonlocal most
            while not ended.wait(0.01):
                most = max(most, process.memory_info().rss)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()
        assert (most - before) / 2**20 < mebibytes

    return block


def head(path, length, key=None, **headers) -> bytes:
    """The header of a POST with a JSON body, of whom that key belongs to."""
    return conftest.head(path, length, **headers, **(header_of(key) if key else {}))


@pytest.fixture
def configured(tmp_path, checkpoint_folder):
    """(**server settings) → a folder whose settings serve the tiny sd2, or other models."""

    return lambda **server: serve_sd2(tmp_path, checkpoint_folder("sd2"), **server)
