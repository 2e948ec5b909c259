"""What is freed goes back to the system."""

from __future__ import annotations

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
