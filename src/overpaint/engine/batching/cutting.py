"""Long passes, encodings and decodings can be cut, and step aside for shorter ones.

Between two operations of the network somebody looks around: edits that nobody waits for end at
once, and much smaller edits get their turn, of the same model or of another one. An attention over
a large picture is a single operation that takes most of the time, so it is made piece by piece.
That is on processors, where a pass over a large picture takes minutes; accelerators compute later
than they are asked to. Families that compute without torch ask by themselves, see
`core.work.interruption`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from overpaint.engine.batching.ticket import Ticket

LONG_PIXELS = 512 * 512
"""Of a canvas, from which on looking around costs nothing that could be noticed."""

LOOK_EVERY = 0.01
"""Seconds."""

MOST_ASIDE = 9.0
"""Times its own seconds that long work may stand aside: a tenth of the thread is its own."""

SHORTER = 2
"""An edit is a shorter one if it has so many times fewer pixels."""

PIECE_SCORES = 2**24
"""Products of queries and keys in a piece of an attention, about."""

BLOCK, LEAST_ROWS = 256, 768
"""Queries that torch takes at once, where there are so many in all. Cut where its blocks end, and
into pieces of no fewer rows, each query gets the same bits as in one piece."""


class LongWork(TorchFunctionMode):
    """Looks around between the operations of its thread.

    Args:
        look: called now and then; does some of the work of shorter edits and says whether there was
            any. What it raises ends the long work.
    """

    def __init__(self, look: Callable[[], bool]) -> None:
        super().__init__()
        self._aside = 0.0
        self._look = look
        self._began = time.monotonic()
        self._next = self._began + LOOK_EVERY

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any | None = None
    ) -> Any:
        self.look_around()
        if func is functional.scaled_dot_product_attention:
            return self._attended(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def look_around(self) -> None:
        """Let others have their turn, if it is time for that.

        Raises:
            Cancelled: nobody waits for the long work any more.
        """
        now = time.monotonic()
        if now < self._next:
            return
        self._next = math.inf  # what others compute in between does not look around for this work
        own, before = now - self._began - self._aside, self._aside
        while self._look() and self._aside < MOST_ASIDE * own:
            self._aside = before + time.monotonic() - now
        self._aside = before + time.monotonic() - now
        self._next = time.monotonic() + LOOK_EVERY

    def _attended(self, query: Any, key: Any, value: Any, mask: Any = None, **more: Any) -> Any:
        """`scaled_dot_product_attention` in pieces of the queries, with a look between them."""
        attend = functional.scaled_dot_product_attention
        mask = more.pop("attn_mask", mask)
        pieces = _pieces(query, key)
        if len(pieces) == 1 or more.get("is_causal"):
            return attend(query, key, value, mask, **more)
        parts = []
        for start, end in pieces:
            self.look_around()
            of_piece = mask if mask is None or mask.shape[-2] == 1 else mask[..., start:end, :]
            parts.append(attend(query[..., start:end, :], key, value, of_piece, **more))
        return torch.cat(parts, dim=-2)


def _pieces(query: torch.Tensor, key: torch.Tensor) -> list[tuple[int, int]]:
    """The queries (…, rows, D) in pieces: first and last row of each."""
    rows = query.shape[-2]
    each = PIECE_SCORES * rows // max(1, query[..., 0].numel() * key.shape[-2])
    each = max(LEAST_ROWS, each // BLOCK * BLOCK)
    starts = range(0, max(1, rows - LEAST_ROWS + 1), each)
    return list(zip(starts, [*starts[1:], rows], strict=True))


def is_long(ticket: Ticket, device: str) -> bool:
    """Whether to look around during an edit: it is large, and a processor computes it."""
    on_processor = device == "cpu" or (
        ticket.edit is not None and ticket.edit.model.checkpoint is None
    )
    return on_processor and ticket.pixels >= LONG_PIXELS


def shorter(tickets: Iterable[Ticket], work: Ticket) -> list[Ticket]:
    """Those that are much smaller than the work under way."""
    return [each for each in tickets if SHORTER * each.pixels <= work.pixels]
