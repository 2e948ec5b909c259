"""Long passes, encodings and decodings can be cut, and step aside for shorter ones.

Between two operations of the network (`cores.py`) somebody looks around: edits that
nobody waits for end at once, and edits of other models get their turn. That is on processors, where
a pass over a large picture takes minutes; accelerators compute later than they are told to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from overpaint.engine.batching import cores
from overpaint.engine.batching.ticket import Ticket

LONG_PIXELS = 512 * 512
"""Of a canvas, from which on looking around costs nothing that could be noticed."""

SHORTER = 2
"""An edit is a shorter one if it has so many times fewer pixels."""


@contextmanager
def looking(look: Callable[[], None], tickets: Iterable[Ticket], device: str) -> Iterator[None]:
    """Look around within, where what is computed is large and on a processor."""
    is_long = device == "cpu" and max(map(pixels, tickets), default=0) >= LONG_PIXELS
    with cores.looking(look if is_long else None):
        yield


def pixels(ticket: Ticket) -> int:
    """Of what is computed for an edit, about: of the size that is asked for, or the picture's."""
    if ticket.edit is not None:
        sizes = [region.plan.canvas for region in ticket.edit.regions]
        return max(columns * rows for columns, rows in sizes)
    options = ticket.request.options
    width, height = options.get("width"), options.get("height")
    if isinstance(width, int) and isinstance(height, int):
        return width * height
    across, down = ticket.request.image.size
    return across * down


def shorter(tickets: Iterable[Ticket], work: Ticket, default_model: str) -> list[Ticket]:
    """Those of other models that are much smaller than the work under way."""
    name = work.request.model or default_model
    return [
        each
        for each in tickets
        if (each.request.model or default_model) != name and SHORTER * pixels(each) <= pixels(work)
    ]
