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
import threading
import time
from collections.abc import Callable, Container, Iterable
from functools import partial
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

MOST_CREDIT = 10.0
"""Seconds that long work may stand aside at once, however long it had the thread before; or that it
stood aside too long, which it makes up for before it looks around again."""

MORE_WITHIN = 0.05
"""Seconds after a caller's short work within which more of it is likely: long work of others waits
for it, since one of its operations may take longer."""

MOMENT = 0.002
"""Seconds between two looks while it waits."""

SHORTER = 2
"""An edit is a shorter one if so many times fewer pixels are computed for it."""

PIECE_SCORES = 2**22
"""Products of queries and keys in a piece of an attention, for each thread of torch, about."""

BLOCK, LEAST_ROWS = 256, 768
"""Queries that torch takes at once, where there are so many in all. Cut where its blocks end, and
into pieces of no fewer rows, each query gets the same bits as in one piece."""

Attend = Callable[[Any, Any, Any, Any], torch.Tensor]


class TimeShare(threading.local):
    """How a thread is shared between long work and shorter.

    Attributes:
        credit: seconds that the long work of now and of later may stand aside, for those in which
            it had the thread.
    """

    credit = 0.0


class LongWork(TorchFunctionMode):
    """Looks around before it begins and between the operations of its thread.

    Args:
        look: called now and then; does some of the work of shorter edits and says whether there was
            any. What it raises ends the long work.
    """

    _share = TimeShare()

    def __init__(self, look: Callable[[], bool]) -> None:
        super().__init__()
        self._look = look
        self._last = self._next = time.monotonic()

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
        share = self._share
        share.credit = min(MOST_CREDIT, share.credit + MOST_ASIDE * (now - self._last))
        while share.credit >= 0 and self._look():
            started, now = now, time.monotonic()
            share.credit -= now - started
        share.credit = max(-MOST_CREDIT, share.credit)
        self._last = time.monotonic()
        self._next = self._last + LOOK_EVERY

    def _attended(self, query: Any, key: Any, value: Any, mask: Any = None, **more: Any) -> Any:
        mask = more.pop("attn_mask", mask)

        def attend(queries: Any, keys: Any, values: Any, of_mask: Any) -> torch.Tensor:
            return functional.scaled_dot_product_attention(queries, keys, values, of_mask, **more)

        if more.get("is_causal"):
            return attend(query, key, value, mask)
        return self._in_pieces(attend, query, key, value, mask)

    def _in_pieces(
        self, attend: Attend, query: Any, key: Any, value: Any, mask: Any, dim: int = 0
    ) -> torch.Tensor:
        """Attend in pieces of the images, the heads and the queries, with a look before each.

        Args:
            attend: to queries (…, rows, D), keys, values, with a mask or None.
            query, key, value, mask: its arguments.
            dim: along which to cut, and along all after it.
        """
        is_of_rows = dim == query.dim() - 2
        parts = []
        for piece in _pieces(query, key, dim):
            narrowed = partial(_narrowed, dim=dim - query.dim(), piece=piece)
            queries, of_mask = narrowed(query), narrowed(mask)
            if is_of_rows:
                self.look_around()
                parts.append(attend(queries, key, value, of_mask))
            else:
                keys, values = narrowed(key), narrowed(value)
                parts.append(self._in_pieces(attend, queries, keys, values, of_mask, dim + 1))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim)


class Expectation:
    """Callers who are likely to have more short work soon: they had some a moment ago."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def note(self, caller: str) -> None:
        """Short work of a caller was done."""
        self._until[caller] = time.monotonic() + MORE_WITHIN

    def wait(self, callers: Container[str]) -> bool:
        """Wait a moment, if others than these callers are likely to have more; whether they are."""
        now = time.monotonic()
        is_likely = any(
            until > now and caller not in callers for caller, until in list(self._until.items())
        )
        if is_likely:
            time.sleep(MOMENT)
        return is_likely


def _pieces(query: torch.Tensor, key: torch.Tensor, dim: int) -> list[tuple[int, int]]:
    """The queries (…, rows, D) in pieces along a dimension: first and last index of each."""
    length = query.shape[dim]
    scores = query[..., 0].numel() * key.shape[-2]
    each = max(1, PIECE_SCORES * torch.get_num_threads() * length // max(1, scores))
    if dim < query.dim() - 2:
        if key.shape[dim] != length:  # several heads share one of the keys
            return [(0, length)]
        starts = range(0, max(1, length), each)
    else:
        each = max(LEAST_ROWS, each // BLOCK * BLOCK)
        starts = range(0, max(1, length - LEAST_ROWS + 1), each)
    return list(zip(starts, [*starts[1:], length], strict=True))


def _narrowed(tensor: torch.Tensor | None, dim: int, piece: tuple[int, int]) -> Any:
    """The part of a tensor that belongs to a piece; all of it where it has one for all pieces."""
    start, end = piece
    if tensor is None or tensor.dim() < -dim or tensor.shape[dim] <= end - start:
        return tensor
    return tensor.narrow(dim, start, end - start)


def is_long(ticket: Ticket, device: str) -> bool:
    """Whether to look around during an edit: it is large, and a processor computes it."""
    on_processor = device == "cpu" or (
        ticket.edit is not None and ticket.edit.model.checkpoint is None
    )
    return on_processor and ticket.pixels >= LONG_PIXELS


def smaller(tickets: Iterable[Ticket], work: Ticket) -> list[Ticket]:
    """Those whose images are much smaller: their passes are shorter."""
    return [each for each in tickets if SHORTER * each.pixels <= work.pixels]


def shorter(tickets: Iterable[Ticket], work: Ticket) -> list[Ticket]:
    """Those that are encoded and decoded in much less time: their images together are smaller."""
    most = work.pixels * work.images
    return [each for each in tickets if SHORTER * each.pixels * each.images <= most]
