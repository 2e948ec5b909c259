"""Decoding of pictures within limits of place and time, which a caller that hangs up ends.

Files that are as ordinary programs write them, and small, are decoded in threads: that takes a
fraction of a second. All others go to processes that can be ended (`child`), a few at a time.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from queue import Empty, SimpleQueue
from typing import BinaryIO, TypeVar, cast

from overpaint.apps.server import bounds
from overpaint.apps.server.bounds import child
from overpaint.apps.server.bounds.lanes import Lane, watched
from overpaint.apps.settings import ServerSettings
from overpaint.apps.wire.intake import image_limits
from overpaint.core.errors import Cancelled, InvalidImage
from overpaint.core.imaging.codecs import headers, reading
from overpaint.core.imaging.codecs.reading import Raw
from overpaint.core.imaging.images import ImageLimits

Value = TypeVar("Value")

AT_ONCE = 2
"""Requests that are decoded at the same time, in threads and in processes each; where there are
several keys, one has half of the places at most."""

ARCHIVE_SECONDS = 12
"""Times the limit of a request's pictures that those of an archive may take."""

FREE_MEMORY, BYTES_PER_PIXEL = 2**30, 80
"""Address space of a process: what it takes by itself, and what 16-bit pixels take at worst."""


class DecoderProcess:
    """A process that decodes one file after another."""

    def __init__(self, memory: int) -> None:
        paths = os.pathsep.join(path for path in sys.path if path)
        # Nothing else of the environment: it has the server's keys.
        environment = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(  # noqa: S603 - this very interpreter
            [sys.executable, "-m", bounds.__name__, str(memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        self._is_ready = self._is_ended = False

    @property
    def is_alive(self) -> bool:
        """Whether it can be given a task."""
        return not self._is_ended and self._process.poll() is None

    def wait(self) -> None:
        """Wait until it can begin with a file.

        Raises:
            EOFError, OSError: it has ended.
        """
        if not self._is_ready:
            child.receive(cast("BinaryIO", self._process.stdout), 0)
            self._is_ready = True

    def decode(self, encoded: bytes, field: str, limits: ImageLimits) -> Raw:
        """Decode a file. Blocks, and fails once another thread ends the process.

        Raises:
            InvalidImage: as `reading.read`; or the process ended over it.
        """
        task = {
            "field": field,
            "max_bytes": limits.max_bytes,
            "max_pixels": limits.max_pixels,
        }
        try:
            self.wait()
            child.send(cast("BinaryIO", self._process.stdin), task, encoded)
            most = limits.max_pixels * 13 + 2 * len(encoded) + 2**26
            message, blocks = child.receive(cast("BinaryIO", self._process.stdout), most)
            if "error" not in message:
                return child.unpacked(message, blocks, encoded, limits.max_pixels)
        except (EOFError, OSError, ValueError) as error:
            self.end()
            raise InvalidImage(
                "the file cannot be decoded; export it again", field=field
            ) from error
        raise InvalidImage(str(message["error"]), field=field)

    def end(self) -> None:
        """End it, whatever it does."""
        self._is_ended = True
        self._process.kill()

    def close(self) -> None:
        """End it and let go of its pipes."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):  # what was not sent is not needed
                cast("BinaryIO", pipe).close()


class FileReader:
    """Decodes the files of one request, until `stop` is called.

    Args:
        take: gives a process that is free.
        give_back: takes it back.
    """

    def __init__(
        self, take: Callable[[], DecoderProcess], give_back: Callable[[DecoderProcess], None]
    ) -> None:
        self._take = take
        self._give_back = give_back
        self._lock = threading.Lock()
        self._process: DecoderProcess | None = None
        self._is_stopped = False

    def read(self, encoded: bytes, field: str, limits: ImageLimits) -> Raw:
        """Decode a file; `ImageLimits.reader` of the request's pictures.

        Raises:
            InvalidImage: it cannot be decoded.
            Cancelled: nobody waits for it any more.
        """
        with self._lock:
            if self._is_stopped:
                raise Cancelled("the caller disconnected")
            plain = headers.is_plain(encoded)
            if not plain and self._process is None:
                self._process = self._take()
        if plain or self._process is None:
            return reading.read(encoded, field, limits)
        try:
            return self._process.decode(encoded, field, limits)
        except InvalidImage:
            if self._is_stopped:
                raise Cancelled("the caller disconnected") from None
            raise
        finally:
            self.release()

    def stop(self) -> None:
        """End what is decoded, and decode nothing more."""
        with self._lock:
            self._is_stopped = True
            if self._process is not None:
                self._process.end()

    def release(self) -> None:
        """Give the process back."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            self._give_back(process)


class DecodingDesk:
    """Decodes all pictures of requests.

    Args:
        limits: what each picture may cost, and how long it may take.
    """

    def __init__(self, limits: ServerSettings) -> None:
        self._limits = limits
        of_a_key = int(limits.of_a_key(AT_ONCE))
        self._plain = Lane("pictures", AT_ONCE, of_a_key)
        self._others = Lane("decoders", AT_ONCE, of_a_key)
        self._archives = Lane("archives", 1, 1)
        self._free: SimpleQueue[DecoderProcess] = SimpleQueue()

    async def run(
        self,
        work: Callable[[ImageLimits], Value],
        *,
        is_plain: bool,
        deadline: float | None = None,
    ) -> Value:
        """Do work that decodes files, beside the event loop.

        Args:
            work: gets the limits to decode with.
            is_plain: whether it decodes nothing but files that are `headers.is_plain`.
            deadline: time of `time.monotonic` after which nobody wants it; None = never.

        Raises:
            Overloaded: too many wait.
            DeadlineExceeded: the deadline passed.
            Cancelled: the caller disconnected.
            InvalidImage: it took too long.
        """
        lane = self._plain if is_plain else self._others
        return await self._decoded(lane, work, self._limits.decode_timeout_s, deadline)

    async def run_archive(self, work: Callable[[ImageLimits], Value]) -> Value:
        """The same for many pictures at once, one archive at a time."""
        seconds = ARCHIVE_SECONDS * self._limits.decode_timeout_s
        return await self._decoded(self._archives, work, seconds, None)

    def close(self) -> None:
        """End the threads and processes."""
        for lane in (self._plain, self._others, self._archives):
            lane.pool.shutdown()
        while not self._free.empty():
            self._free.get().close()

    async def _decoded(
        self,
        lane: Lane,
        work: Callable[[ImageLimits], Value],
        seconds: float,
        deadline: float | None,
    ) -> Value:
        reader = FileReader(self._take, self._give_back)
        limits = replace(image_limits(self._limits), reader=reader.read)
        late = InvalidImage(
            f"decoding took longer than {seconds:g} seconds: either the server is busy, or the "
            "file is an unusual one; try again, or export it smaller",
            field="image",
        )
        return await watched(
            lane,
            partial(work, limits),
            stop=reader.stop,
            seconds=seconds,
            late=late,
            deadline=deadline,
        )

    def _take(self) -> DecoderProcess:
        while not self._free.empty():
            with suppress(Empty):
                process = self._free.get_nowait()
                if process.is_alive:
                    return process
                process.close()
        return self._new_process()

    def _give_back(self, process: DecoderProcess) -> None:
        if not process.is_alive:
            process.close()
            # The request whose file ended a process waits for a new one; the request after it does
            # not.
            process = self._new_process()
            with suppress(EOFError, OSError):
                process.wait()
        self._free.put(process)

    def _new_process(self) -> DecoderProcess:
        pixels = image_limits(self._limits).max_pixels
        return DecoderProcess(FREE_MEMORY + BYTES_PER_PIXEL * pixels)
