"""Decodes files in a process of its own, which can be ended if a file takes too long.

It reads tasks from its standard input and writes planes to its standard output. A message is a line
of JSON, which gives the lengths of the bytes that follow it. So a decoder that an attacker has
taken over can return a picture, and nothing else.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from typing import Any, BinaryIO, get_args

import numpy as np
from PIL import Image

from overpaint.core.errors import InvalidImage
from overpaint.core.imaging.codecs import reading
from overpaint.core.imaging.codecs.formats import FileFormat
from overpaint.core.imaging.codecs.reading import Raw
from overpaint.core.imaging.images import ImageLimits
from overpaint.core.imaging.pixels import Planes

MOST_LINE = 2**16
MODES: dict[str, int] = {"L": 1, "RGB": 3, "CMYK": 4, "LAB": 3}
"""Bytes of a pixel by the modes that `Raw` has."""

TOO_MUCH_MEMORY = "decoding it takes more memory than a picture may; give a smaller one"
_FORMATS: dict[str, FileFormat] = {name: name for name in get_args(FileFormat)}


def send(stream: BinaryIO, message: dict[str, Any], *blocks: bytes) -> None:
    """Write a message and the bytes that belong to it."""
    line = json.dumps({**message, "lengths": [len(block) for block in blocks]})
    stream.write(line.encode() + b"\n")
    for block in blocks:
        stream.write(block)
    stream.flush()


def receive(stream: BinaryIO, most: int) -> tuple[dict[str, Any], list[bytes]]:
    """The next message and its bytes.

    Args:
        stream: to read from.
        most: bytes that may belong to it.

    Raises:
        EOFError: the other side has ended, or says nonsense.
    """
    try:
        message = json.loads(stream.readline(MOST_LINE))
        lengths = [int(each) for each in message["lengths"]]
    except (ValueError, KeyError, TypeError) as error:
        raise EOFError from error
    if any(each < 0 for each in lengths) or sum(lengths) > most:
        raise EOFError
    blocks = [stream.read(length) for length in lengths]
    if [len(block) for block in blocks] != lengths:
        raise EOFError
    return message, blocks


def packed(raw: Raw) -> tuple[dict[str, Any], list[bytes]]:
    """A decoded file as a message."""
    colours, alpha, deep = raw.planes
    message = {
        "mode": colours.mode,
        "size": colours.size,
        "channels": 0 if deep is None else deep.shape[2],
        "format": raw.format,
        "dpi": raw.dpi,
    }
    pixels = [
        colours.tobytes(),
        b"" if alpha is None else alpha.tobytes(),
        b"" if deep is None else deep.tobytes(),
    ]
    text = json.dumps(raw.text).encode()
    return message, [*pixels, raw.icc_profile or b"", raw.exif or b"", raw.xmp or b"", text]


def unpacked(message: dict[str, Any], blocks: list[bytes], encoded: bytes, most: int) -> Raw:
    """A decoded file from a message; it is never larger than it may be.

    Raises:
        EOFError: it is not a picture.
    """
    try:
        colours, alpha, deep, icc, exif, xmp, text = blocks
        return Raw(
            _planes(message, colours, alpha, deep, most),
            icc or None,
            exif or None,
            _FORMATS[message["format"]],
            xmp or None,
            tuple((str(keyword), str(words)) for keyword, words in json.loads(text)),
            _pair(message["dpi"]),
            encoded if reading.has_credentials(encoded) else None,
        )
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise EOFError from error


def _pair(values: Any) -> tuple[float, float] | None:
    return None if values is None else (float(values[0]), float(values[1]))


def _planes(
    message: dict[str, Any], colours: bytes, alpha: bytes, deep: bytes, most: int
) -> Planes:
    mode, (width, height), channels = message["mode"], message["size"], message["channels"]
    if not 0 < width * height <= most or len(colours) != width * height * MODES[mode]:
        raise EOFError
    return Planes(
        Image.frombytes(mode, (width, height), colours),
        Image.frombytes("L", (width, height), alpha) if alpha else None,
        np.frombuffer(deep, np.uint16).reshape(height, width, channels) if deep else None,
    )


def serve(memory: int) -> None:
    """Say that it is ready, and decode until the standard input ends.

    Args:
        memory: bytes of address space that decoding may take; 0 = as much as there is.
    """
    _limit(memory)
    tasks, results = sys.stdin.buffer, sys.stdout.buffer
    send(results, {})
    while True:
        try:
            task, (encoded,) = receive(tasks, sys.maxsize)
        except EOFError:
            return
        limits = ImageLimits(task["max_bytes"], task["max_pixels"])
        try:
            message, blocks = packed(reading.read(encoded, task["field"], limits))
        except InvalidImage as error:
            send(results, {"error": error.message})
        except MemoryError:
            send(results, {"error": TOO_MUCH_MEMORY})
        else:
            send(results, message, *blocks)
        del encoded


def _limit(memory: int) -> None:
    with suppress(ImportError):  # there is no such thing on Windows
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if memory:
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
