"""Decoded pictures that are held: each is read once, whoever asks."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from overpaint.core.errors import StoreUnavailable
from overpaint.core.imaging.images import Picture
from overpaint.sessions import pictures
from overpaint.sessions.pictures import RecentPictures


def small(side: int = 4) -> Picture:
    return Picture(Image.new("RGB", (side, side)))


def test_who_asks_for_a_picture_that_is_being_read_waits_for_it():
    recent, begun, go_on = RecentPictures(), threading.Event(), threading.Event()
    reads = []

    def read(key: str) -> Picture:
        reads.append(key)
        begun.set()
        assert go_on.wait(60)
        return small()

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(recent.get, "a", read)
        assert begun.wait(60)
        second = pool.submit(recent.get, "a", read)
        go_on.set()
        assert first.result() is second.result()
    assert reads == ["a"]


def test_what_could_not_be_read_is_tried_again():
    recent = RecentPictures()

    def missing(key: str) -> Picture:
        raise StoreUnavailable(f"{key} is missing")

    with pytest.raises(StoreUnavailable):
        recent.get("a", missing)
    picture = small()
    assert recent.get("a", lambda _: picture) is picture


def test_those_used_last_stay(monkeypatch):
    monkeypatch.setattr(pictures, "MOST_PIXELS", 2 * 16)
    recent, reads = RecentPictures(), []

    def read(key: str) -> Picture:
        reads.append(key)
        return small()

    for key in ("a", "b", "a", "c", "a", "b"):
        recent.get(key, read)
    assert reads == ["a", "b", "c", "b"]
