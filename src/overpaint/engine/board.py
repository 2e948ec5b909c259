"""Where each accepted edit stands."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from overpaint.engine.policy import in_order
from overpaint.engine.ticket import Ticket

if TYPE_CHECKING:
    from overpaint.engine.model import Model

EXPRESS = 8
"""Images that may be under way beyond the limit, for edits that would lead at once."""

LONGEST_RETRY = 120.0


class Board:
    """The edits of a batcher, by state. Everything here needs `change` to be held.

    Args:
        max_images: images under way at most.

    Attributes:
        waiting, preparing, running, finishing: the edits in each state.
        passes: forward passes of a denoiser so far.
        done: edits that were under way and are no more.
        change: guards all of it, and is notified when something is to be done.
    """

    def __init__(self, max_images: int) -> None:
        self.max_images = max_images
        self.waiting: list[Ticket] = []
        self.preparing: Ticket | None = None
        self.running: list[Ticket] = []
        self.finishing: list[Ticket] = []
        self.passes = 0
        self.done = 0
        # An RLock inside: what holds it may ask the batcher's own questions.
        self.change = threading.Condition()
        self._seconds_per_step = 0.0

    @property
    def images(self) -> int:
        """Images under way."""
        preparing = [self.preparing] if self.preparing is not None else []
        busy = [*preparing, *self.running, *self.finishing]
        return sum(ticket.images for ticket in busy)

    @property
    def idle(self) -> bool:
        """Whether nothing is waiting or under way."""
        return not self.waiting and self.images == 0

    @property
    def busy_models(self) -> list[Model]:
        """Models with edits under way."""
        under_way = [*self.running, *self.finishing]
        return [ticket.edit.model for ticket in under_way if ticket.edit is not None]

    @property
    def retry_after(self) -> float:
        """Seconds until a place in the queue is free, about."""
        left = sum(ticket.remaining for ticket in [*self.waiting, *self.running])
        seconds = left * self._seconds_per_step / max(1, len(self.waiting))
        return min(LONGEST_RETRY, max(1.0, seconds))

    def paced(self, seconds: float) -> None:
        """Take in how long one step of one image took."""
        self._seconds_per_step += 0.1 * (seconds - self._seconds_per_step)

    def position(self, ticket: Ticket) -> int | None:
        """How many edits are before this one in the queue; None once it left the queue."""
        order = in_order(self.waiting, self.passes)
        return order.index(ticket) if ticket in order else None

    def next_admitted(self) -> Ticket | None:
        """The first in the queue for which there is room, moved on to be prepared."""
        room = self.max_images - self.images
        order = [ticket for ticket in in_order(self.waiting, self.passes) if self._may_load(ticket)]
        if not order:
            return None
        first = order[0]
        if first.images > room and not self._is_express(first, room):
            return None
        self.waiting.remove(first)
        first.state, self.preparing = "preparing", first
        return first

    def move_to_finish(self, ticket: Ticket) -> None:
        """Its steps are done."""
        if ticket in self.running:
            self.running.remove(ticket)
        ticket.state = "finishing"
        self.finishing.append(ticket)

    def drop_lost(self, tickets: list[Ticket]) -> None:
        """Let go of edits that were cancelled or are past their deadline."""
        now = time.monotonic()
        for ticket in list(tickets):
            if (error := ticket.lost(now)) is not None:
                tickets.remove(ticket)
                self.done += 1
                ticket.fail(error)
                self.change.notify_all()

    def _is_express(self, ticket: Ticket, room: int) -> bool:
        """Whether it would lead at once and fits the small reserve: short edits need no slot."""
        leads = in_order([ticket, *self.running], self.passes)[0] is ticket
        return leads and ticket.images <= room + EXPRESS

    def _may_load(self, ticket: Ticket) -> bool:
        """Not before another edit is done, if its model found no room beside the busy ones."""
        return ticket.blocked_at != self.done or not (self.running or self.finishing)
