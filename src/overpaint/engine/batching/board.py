"""Where each accepted edit stands: one queue for all devices, and every move out of it.

    waiting ─→ preparing ─→ running ─→ finishing ─→ delivering ─→ done
       ↑      └────── on one device ──────────┘
       └─ put back: no room for its model, or the device failed

An edit leaves the queue once the safety policy has judged it. `assignment` says where to, and
`faults` what becomes of edits and devices where something fails.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

from overpaint.core.errors import Cancelled, OutOfMemory, Overloaded
from overpaint.core.types import EditResult
from overpaint.engine.batching import faults
from overpaint.engine.batching.assignment import next_ticket, seconds_per_place
from overpaint.engine.batching.cutting import shorter, smaller
from overpaint.engine.batching.device import Device, Work
from overpaint.engine.batching.observer import Observer
from overpaint.engine.batching.policy import PassEffort, PassPolicy, Pick, in_order
from overpaint.engine.batching.ticket import Ticket, Update

if TYPE_CHECKING:
    from overpaint.engine.edit import Edit, Screened
    from overpaint.engine.engine import Engine
    from overpaint.engine.model import Model

TICK = 0.25
"""Seconds between two looks at deadlines where nothing else happens."""

_log = logging.getLogger(__name__)


class Board:
    """The edits of a batcher, by state. It owns the lock and every move; its methods may be called
    from any thread.

    Args:
        engines: one per device.
        max_images: images under way on a device at most.
        max_queued: edits that may wait at most.
        callers: one caller has one of so many parts of the queue and of the images at most.
        policy: makes what chooses the images of a device's passes.
        observer: told what happens.

    Attributes:
        change: guards all of it, and is notified when something is to be done.
        devices: with their edits.
        effort: of their passes.
        waiting, delivering: edits that are on no device: before and after it.
        closed: whether the threads are to end.
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        *,
        max_images: int,
        max_queued: int,
        callers: int,
        policy: Callable[[], PassPolicy],
        observer: Observer,
    ) -> None:
        self.devices = tuple(
            Device(
                engine=engine,
                number=number,
                max_images=max_images,
                of_a_caller=max_images // callers,
                policy=policy(),
            )
            for number, engine in enumerate(engines)
        )
        self.effort = PassEffort()
        self.max_images = max_images
        self.waiting: list[Ticket] = []
        self.delivering: list[Ticket] = []
        self.closed = False
        # An RLock inside: what holds it may ask the batcher's own questions.
        self.change = threading.Condition()
        self._max_queued, self._of_a_caller = max_queued, math.ceil(max_queued / callers)
        self._observer = observer
        self._draining = False

    # What others ask

    @property
    def passes(self) -> int:
        """Forward passes of a denoiser so far, on all devices."""
        return sum(device.passes for device in self.devices)

    @property
    def images(self) -> int:
        """Images under way on the devices."""
        return sum(device.images for device in self.devices)

    @property
    def idle(self) -> bool:
        """Whether nothing is waiting or under way."""
        return not self.waiting and not self.delivering and self.images == 0

    @property
    def retry_after(self) -> float:
        """Seconds until a place in the queue is free, about."""
        return seconds_per_place(self.devices, self.waiting)

    def position(self, ticket: Ticket) -> int | None:
        """How many edits are before this one in the queue; None once it left the queue."""
        order = in_order(self.waiting, self.effort, self._active)
        return order.index(ticket) if ticket in order else None

    def busy_models(self, device: Device) -> list[Model]:
        """Models of a device with edits under way."""
        with self.change:
            return device.busy_models

    def held_bytes(self, device: Device) -> int:
        """What the images under way on a device keep there during their steps."""
        with self.change:
            return device.held_bytes

    # Into the queue, and out of it on demand

    def add(self, ticket: Ticket) -> None:
        """Accept an edit.

        Raises:
            Overloaded: the queue is full, or no edits are accepted any more.
        """
        with self.change:
            if (reason := self._refusal(ticket)) is not None:
                raise Overloaded(f"{reason}; try again later", retry_after=self.retry_after)
            present = {each.caller for each in [*self.waiting, *self._active]}
            self.effort.enter(ticket.caller, present)
            self.waiting.append(ticket)
            self.change.notify_all()

    def _refusal(self, ticket: Ticket) -> str | None:
        """Why an edit is not accepted now, if so."""
        if self._draining:
            return "the server is stopping"
        if not any(device.serves for device in self.devices):
            return "the server has no working device left"
        if len(self.waiting) >= self._max_queued:
            return "the server's queue is full"
        own = sum(each.caller == ticket.caller for each in self.waiting)
        return "your edits fill your share of the queue" if own >= self._of_a_caller else None

    def screened(self, ticket: Ticket, outcome: Screened | Exception) -> None:
        """The safety policy has judged an edit that waits."""
        with self.change:
            if isinstance(outcome, Exception):
                self._end(ticket, outcome)
            else:
                ticket.screened, ticket.screening, ticket.check_by = outcome, False, None
            self.change.notify_all()

    def cancel(self, ticket: Ticket) -> None:
        """End an edit before its next step; one that is done stays done."""
        with self.change:
            if ticket.state != "done":
                ticket.cancelled = True
                self._drop_lost(self.waiting)
                self.change.notify_all()

    def add_loads(self, model: str) -> list[Future[None]]:
        """Have a model loaded on every device; the futures tell when."""
        with self.change:
            refusal = _closed() if self.closed else None
            loads = [device.add_load(model, refusal) for device in self.devices]
            self.change.notify_all()
        return loads

    def drain(self, timeout: float | None) -> bool:
        """Accept nothing more and wait until everything accepted is done, if so in time."""
        with self.change:
            self._draining = True
            return self.change.wait_for(lambda: self.idle, timeout)

    def close(self) -> None:
        """Cancel what is left, and let the threads end."""
        with self.change:
            self._draining = self.closed = True
            for ticket in self._all():
                ticket.cancelled = True
            self._drop_lost(self.waiting)
            for device in self.devices:
                device.fail_loads(_closed())
            self.change.notify_all()

    def drop_all(self) -> None:
        """End what is left once the threads have ended."""
        with self.change:
            self._drop_lost(self._all())

    # What the threads of a device do next

    def next_batch(self, device: Device) -> list[Pick]:
        """Wait for images with steps left, and choose among them; empty = the stepper ends."""
        with self.change:
            while not self.closed and device.serves:
                self._drop_lost(self._all())
                if batch := device.next_batch(self.effort):
                    return batch
                self.change.wait(TICK)
        return []

    def next_work(self, device: Device) -> Work | None:
        """Wait for something to encode, decode or load; None = the encoder ends."""
        with self.change:
            if device.encodes:
                device.encodes = False
                self.change.notify_all()
            while not self.closed and device.serves:
                self._drop_lost(self._all())
                work = device.next_own() or self._admitted(device, self.waiting)
                if work is not None:
                    device.encodes = True
                    self.change.notify_all()
                    return work
                self.change.wait(TICK)
        return None

    def passes_beside(self, device: Device, work: Sequence[Ticket]) -> list[Pick]:
        """Images for a short pass, while a long pass of these edits goes on.

        Raises:
            Cancelled: nobody waits for any of them any more.
        """
        with self.change:
            self._require_wanted(work)
            running = device.interleaved(smaller(device.running, work[0]), work[0])
            return device.policy.choose(running, self.effort)

    def work_beside(self, device: Device, work: Ticket) -> Ticket | None:
        """A short edit to prepare or decode, while a long one is.

        Raises:
            Cancelled: nobody waits for the long one any more.
        """
        with self.change:
            self._require_wanted([work])
            if finished := device.interleaved(shorter(device.finishing, work), work):
                return finished[0]
            return self._admitted(device, device.interleaved(shorter(self.waiting, work), work))

    def _require_wanted(self, work: Sequence[Ticket]) -> None:
        self._drop_lost(self._all())
        if all(ticket.state == "done" for ticket in work):
            raise Cancelled("the caller disconnected")

    def _admitted(self, device: Device, waiting: Sequence[Ticket]) -> Ticket | None:
        """The first of those that this device should take, moved on to be prepared."""
        delivering = sum(ticket.images for ticket in self.delivering)
        ticket = next_ticket(
            device,
            self.devices,
            in_order([each for each in waiting if not each.screening], self.effort, self._active),
            effort=self.effort,
            reserved=max(0, delivering - self.max_images),
        )
        if ticket is not None:
            self.waiting.remove(ticket)
            ticket.state = "preparing"
            device.preparing.append(ticket)
            self._observer.admitted(time.monotonic() - ticket.trace.submitted)
        return ticket

    # What became of it

    def prepared(self, device: Device, ticket: Ticket, edit: Edit, keys: list[Hashable]) -> None:
        """An edit can make its first step."""
        with self.change:
            if ticket not in device.preparing:
                return  # put back meanwhile
            ticket.edit, ticket.keys = edit, keys
            ticket.trace.prepared, ticket.trace.prepared_pass = time.monotonic(), self.passes
            ticket.plan_previews()
            device.move_to_steps(ticket)
            self.change.notify_all()

    def postponed(self, device: Device, ticket: Ticket) -> None:
        """There is no room for an edit's model beside the busy ones."""
        with self.change:
            if ticket not in device.preparing:
                return
            device.preparing.remove(ticket)
            ticket.state, ticket.blocked_at[device.number] = "waiting", device.left
            self.waiting.append(ticket)
            self.change.notify_all()

    def stepped(self, device: Device, batch: list[Pick], seconds: float) -> None:
        """A pass went well; it took the device so many seconds."""
        with self.change:
            device.note_pass(batch, seconds)
            self.effort.add(batch)
            self._observer.stepped(len(batch), seconds)
            edits = {pick.ticket: pick.edit for pick in batch if pick.ticket in device.running}
            for ticket, edit in edits.items():
                edit.timings["steps"] += seconds
                if ticket.trace.note_pass(self.passes):
                    self._observer.first_step(time.monotonic() - ticket.trace.submitted)

    def advanced(self, device: Device, ticket: Ticket, edit: Edit, update: Update) -> None:
        """The news of a step were told; on to the next one, a preview, or the end."""
        with self.change:
            if ticket in device.running:
                device.note_step(ticket, edit, update)
                self.change.notify_all()

    def stumbled(
        self, device: Device, batch: list[Pick], error: Exception, *, untouched: bool
    ) -> None:
        """A pass failed: try its images in smaller company, or fail the edit that was alone.

        Args:
            device: where.
            batch: its images.
            error: why.
            untouched: whether no image has changed.
        """
        with self.change:
            tickets = dict.fromkeys(pick.ticket for pick in batch if pick.ticket in device.running)
            retry = untouched and len(batch) > 1
            if faults.ends_device(device, self.devices, error):
                for ticket in tickets:
                    ticket.alone = True
                self.lose(device, error, tickets)
            elif retry and isinstance(error, OutOfMemory):
                device.policy.shrink(len(batch))
            elif retry:
                for ticket in tickets:
                    ticket.alone = True
            else:
                for ticket in tickets:
                    self._failed_on(device, ticket, error)
            self.change.notify_all()

    def failed(self, device: Device, ticket: Ticket, error: Exception) -> None:
        """An edit could not be prepared or decoded."""
        with self.change:
            if ticket not in device.under_way:
                return
            if faults.ends_device(device, self.devices, error):
                self.lose(device, error, [ticket])
            else:
                self._failed_on(device, ticket, error)

    def decoded(self, device: Device, ticket: Ticket) -> bool:
        """An edit's pictures are made; it leaves the device.

        Returns:
            Whether anybody still waits for them here.
        """
        with self.change:
            if ticket not in device.finishing:
                return False
            device.remove(ticket)
            device.absolve()
            self.delivering.append(ticket)
            self.change.notify_all()
            return True

    def delivered(self, ticket: Ticket, outcome: EditResult | Exception) -> None:
        """The last of an edit: its result, or why there is none."""
        with self.change:
            self._end(ticket, outcome)

    def lose(self, device: Device, error: BaseException, suspects: Iterable[Ticket] = ()) -> None:
        """Use a device no more; its edits go back into the queue.

        Args:
            device: which.
            error: why.
            suspects: edits that may be the cause; they may fail on one more device.
        """
        with self.change:
            if not device.serves:
                return
            _log.error("device %s is not used any more", device.engine.device, exc_info=error)
            device.give_up(error)
            for ticket in suspects:
                self._failed_on(device, ticket, error)
            for ticket in device.under_way:
                self._put_back(device, ticket)
            if not any(each.serves for each in self.devices):
                for ticket in list(self.waiting):
                    self._end(ticket, error)
            self.change.notify_all()

    def _failed_on(self, device: Device, ticket: Ticket, error: BaseException) -> None:
        """An edit failed: for good, or it is tried on another device."""
        if faults.ends_edit(device, self.devices, ticket, error):
            self._end(ticket, error)
            return
        _log.warning(
            "an edit failed on %s and is tried on another device",
            device.engine.device,
            exc_info=error,
        )
        self._put_back(device, ticket)

    def _put_back(self, device: Device, ticket: Ticket) -> None:
        device.remove(ticket)
        ticket.restart()
        self.waiting.append(ticket)

    def _end(self, ticket: Ticket, outcome: EditResult | BaseException) -> None:
        """The one way to 'done', from every state."""
        if ticket.state == "done":
            return
        for tickets in (self.waiting, self.delivering):
            if ticket in tickets:
                tickets.remove(ticket)
        for device in self.devices:
            device.remove(ticket)
        if isinstance(outcome, BaseException):
            ticket.fail(outcome)
        else:
            ticket.succeed(outcome)
        is_done = isinstance(outcome, EditResult)
        for device, fault in faults.at_fault(self.devices, ticket, is_done=is_done):
            self.lose(device, fault)
        self.change.notify_all()

    @property
    def _active(self) -> list[Ticket]:
        return [ticket for device in self.devices for ticket in device.under_way]

    def _all(self) -> list[Ticket]:
        return [*self.waiting, *self._active, *self.delivering]

    def _drop_lost(self, tickets: Iterable[Ticket]) -> None:
        """Let go of edits that were cancelled or are past their deadline."""
        now = time.monotonic()
        for ticket in list(tickets):
            if (error := ticket.lost(now)) is not None:
                self._end(ticket, error)


def _closed() -> Cancelled:
    return Cancelled("the server stopped before the model was loaded")
