"""Pictures in a folder, each under the sha256 of its bytes.

Written once and never changed, so that a picture that several turns share is there once. A file is
complete and on the disk before its name exists.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from pathlib import Path

from PIL import Image

from overpaint.core.errors import OutputError, StoreUnavailable
from overpaint.core.files import atomic_write
from overpaint.core.imaging import images
from overpaint.core.imaging.images import ImageLimits, Picture

GRACE_SECONDS = 3600.0
"""Files that nobody names are kept this long: a turn may be about to name them."""

MOST_PIXELS = 32_000_000
"""Of decoded pictures that are held together."""

THUMBNAIL = 256
"""Longer side, in pixels."""

LIMITS = ImageLimits(max_bytes=2**32, max_pixels=2**30)
"""Of pictures that were let in once: as PNG they may be larger than they came."""

_KEY = re.compile(r"[0-9a-f]{64}")
_TRASH = ".trash"


class RecentPictures:
    """Decoded pictures that were used last, by the keys of their files: the next turn goes on from
    the last. Safe for several threads: one that asks for a picture that is being read waits for it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pictures: OrderedDict[str, Future[Picture]] = OrderedDict()

    def get(self, key: str, read: Callable[[str], Picture]) -> Picture:
        """A picture, from `read` where it is not held.

        Raises:
            StoreUnavailable: from `read`; nothing is held then.
        """
        with self._lock:
            future = self._pictures.get(key)
            if future is None:
                own = self._pictures[key] = Future()
            else:
                self._pictures.move_to_end(key)
        if future is not None:
            return future.result()
        try:
            own.set_result(read(key))
        except BaseException as error:
            with self._lock:
                self._pictures.pop(key, None)
            own.set_exception(error)
            raise
        with self._lock:
            while sum(map(_pixels, self._pictures.values())) > MOST_PIXELS:
                self._pictures.popitem(last=False)
        return own.result()


class Pictures:
    """The folder.

    Args:
        folder: made where it is missing, with the one above it; readable by their owner alone.

    Raises:
        StoreUnavailable: it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._recent = RecentPictures()
        try:
            for each in (folder.parent, folder):
                each.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"{folder} cannot be made: {error.strerror}") from error

    def put(self, data: bytes) -> str:
        """Keep a file; gives its name.

        Raises:
            StoreUnavailable: the folder is not writable, or the disk is full.
        """
        key = hashlib.sha256(data).hexdigest()
        path = self._path(key)
        try:
            # Young again, so that `collect` leaves it; if it took it just now, this fails.
            os.utime(path)
            if path.exists():
                return key
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StoreUnavailable(f"{path} cannot be used: {error.strerror}") from error
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            atomic_write(path, data)
            _sync(path.parent)
            _sync(self.folder)
        except OutputError as error:
            raise StoreUnavailable(error.message) from error
        except OSError as error:
            raise StoreUnavailable(f"{path} cannot be written: {error.strerror}") from error
        return key

    def get(self, key: str) -> bytes:
        """The file of that name.

        Raises:
            StoreUnavailable: it is not there, or it is not what it was.
        """
        path = self._path(key)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise StoreUnavailable(f"{path} cannot be read: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest() != key:
            raise StoreUnavailable(f"{path} is damaged: it is not what its name says")
        return data

    def put_picture(self, picture: Picture) -> str:
        """Keep a picture, as a PNG with its profile; gives its name. Raises as `put` does."""
        return self.put(images.encode(picture))

    def put_mask(self, image: Image.Image) -> str:
        """Keep a mask or another plain picture; gives its name. Raises as `put` does."""
        file = io.BytesIO()
        image.save(file, "PNG", compress_level=1)
        return self.put(file.getvalue())

    def put_thumbnail(self, picture: Picture) -> str:
        """Keep a small WebP of a picture, in sRGB; gives its name. Raises as `put` does."""
        small = Picture(picture.to_srgb(), picture.alpha).to_pil()
        small.thumbnail((THUMBNAIL, THUMBNAIL))
        return self.put(images.encode(Picture.from_pil(small), "WEBP", quality=80, lossless=False))

    def picture(self, key: str) -> Picture:
        """A picture that `put_picture` kept. Raises as `get` does."""
        return self._recent.get(key, lambda each: images.decode(self.get(each), limits=LIMITS))

    def mask(self, key: str) -> Image.Image:
        """A mask that `put_mask` kept, 'L'. Raises as `get` does."""
        return images.decode_mask(self.get(key), limits=LIMITS)

    def size(self, key: str) -> int:
        """Bytes of a file.

        Raises:
            StoreUnavailable: it is not there.
        """
        path = self._path(key)
        try:
            return path.stat().st_size
        except OSError as error:
            raise StoreUnavailable(f"{path} cannot be read: {error.strerror}") from error

    def collect(self, keys: Collection[str], *, grace: float = GRACE_SECONDS) -> tuple[int, int]:
        """Delete files that nobody names and that are older than `grace` seconds.

        Returns:
            How many files, and how many bytes.
        """
        before, files, size = time.time() - grace, 0, 0
        for path in self._files():
            with contextlib.suppress(OSError):
                if path.name.removesuffix(_TRASH) in keys:
                    path.replace(path.with_name(path.name.removesuffix(_TRASH)))
                    continue
                if path.stat().st_mtime > before:
                    continue
                size += _delete(path, before)
                files += 1
        return files, size

    def _files(self) -> Iterator[Path]:
        for path in sorted(self.folder.glob("*/*")):
            if _KEY.fullmatch(path.name) or path.suffix in (".tmp", _TRASH):
                yield path

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise StoreUnavailable(f"'{key[:80]}' is not the name of a picture")
        return self.folder / key[:2] / key


def _delete(path: Path, before: float) -> int:
    """Delete a file unless `put` wanted it meanwhile; its bytes, or 0."""
    trash = path.with_name(path.name.removesuffix(_TRASH) + _TRASH)
    path.replace(trash)
    # Out of reach now: an earlier touch shows in its time, and a later writer writes it anew.
    status = trash.stat()
    if status.st_mtime > before:
        trash.replace(path)
        raise OSError("somebody wants it")
    trash.unlink()
    return status.st_size


def _sync(folder: Path) -> None:
    """Make a new name in the folder last; Windows has no way to ask for it and needs none."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _pixels(future: Future[Picture]) -> int:
    """Of a picture; 0 while it is read, or where it could not be."""
    if not future.done() or future.exception() is not None:
        return 0
    width, height = future.result().size
    return width * height
