"""What is freed goes back to the system."""

from __future__ import annotations

import gc
from types import SimpleNamespace

import psutil
import pytest

from overpaint.apps.server.bounds import memory
from overpaint.apps.server.bounds.memory import Trimmer
from tests.apps.server.conftest import edit, start

__all__ = ["start"]


@pytest.mark.skipif(memory._glibc() is None, reason="the C library has no malloc_trim")
def test_memory_between_what_is_kept_goes_back():
    blocks = [bytes(50_000) for _ in range(4000)]
    kept = blocks[::50]
    del blocks
    before = psutil.Process().memory_info().rss
    Trimmer().trim()
    assert before - psutil.Process().memory_info().rss > 100 * 2**20
    assert len(kept) == 80


def test_that_is_done_after_large_edits_and_not_after_each(start, monkeypatch):
    monkeypatch.setattr(memory, "LARGE_MEGAPIXELS", 0.02)
    server = start(models=("erase",))
    trimmer = server.service._trimmer
    first = trimmer._last
    for size in (64, 128):
        assert trimmer._last == first
        body = {**edit(size=size), "model": "erase", "prompt": "", "options": {}}
        assert server.client.post("/v1/edits", json=body).status_code == 200
    server.until(lambda: trimmer._last > first)


@pytest.mark.usefixtures("garbage_search")
@pytest.mark.parametrize("is_ours", [True, False])
def test_what_is_loaded_is_not_looked_through_for_garbage(start, monkeypatch, is_ours):
    """In a process of our own: in another one, it is for that program to decide."""
    monkeypatch.setattr(memory, "process", SimpleNamespace(is_ours=lambda: is_ours))
    start(models=("erase",))
    assert (gc.get_freeze_count() > 0) is is_ours
