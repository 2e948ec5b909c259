"""Many edits at once on one device, their steps mixed.

Two threads own a device's models and share no module: the *encoder* runs text encoders and
autoencoder (everything before the first step and after the last, and previews), the *stepper* runs
the denoiser. So a new edit is encoded, and a finished one decoded and composited, while the steps
of the others go on.

    submit → queued → (encoder: begin) → running → (stepper: passes) → (encoder: finish) → done

Between two passes the stepper drops edits that nobody waits for, then steps what `policy` says.
Nothing here is asynchronous: callers wait on a ticket's future or listen to its updates.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from overpaint.core.errors import (
    ContentBlocked,
    InvalidRequest,
    OutOfMemory,
    Overloaded,
    SafetyUnavailable,
)
from overpaint.core.types import EditRequest, EditResult
from overpaint.engine.board import Board
from overpaint.engine.intake import CheckedRequest
from overpaint.engine.policy import DEFAULT_STEPS, Pick, Policy
from overpaint.engine.ticket import Ticket, Trace, Update

if TYPE_CHECKING:
    from overpaint.engine.engine import Edit, Engine

TICK = 0.25
"""Seconds between two looks at deadlines where nothing else happens."""

_log = logging.getLogger(__name__)


class Observer:
    """Told what happens, for metrics; by default nobody listens. Must return at once."""

    def admitted(self, waited: float) -> None:
        """An edit left the queue after `waited` seconds."""

    def first_step(self, waited: float) -> None:
        """An edit made its first step, `waited` seconds after it was submitted."""

    def stepped(self, images: int, seconds: float) -> None:
        """A pass was made."""


class Batcher:
    """Runs the edits of one engine, many at a time.

    Args:
        engine: used by this batcher's threads alone from now on.
        max_queued: edits that may wait to be encoded; more are refused.
        max_images: images under way at most, which bounds memory.
        width: images in a pass at most; None = learnt from the passes' times.
        observer: told what happens.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        max_queued: int = 64,
        max_images: int = 32,
        width: int | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.engine = engine
        self._max_queued = max_queued
        self._policy = Policy(width)
        self._observer = observer or Observer()
        self._board = Board(max_images)
        self._previews: deque[tuple[Ticket, Edit, Update]] = deque()
        self._calls: deque[Callable[[], None]] = deque()
        self._draining = False
        self._closed = False
        self._change = self._board.change
        self._threads = [
            threading.Thread(target=work, name=name, daemon=True)
            for name, work in (("stepper", self._stepper), ("encoder", self._encoder))
        ]
        for thread in self._threads:
            thread.start()

    def submit(
        self,
        request: EditRequest | CheckedRequest,
        *,
        seconds: float | None = None,
        previews: int = 0,
        on_update: Callable[[Update], None] | None = None,
    ) -> Ticket:
        """Accept an edit, or refuse it at once.

        Args:
            request: what to do; a checked one tells how many steps it takes.
            seconds: from now until nobody wants the result any more; None = no deadline.
            previews: unfinished pictures to show on the way.
            on_update: called with news from another thread; must return at once.

        Raises:
            Overloaded: the queue is full, or no edits are accepted any more.
            InvalidRequest: it has more images than can ever be under way.
        """
        most = self._board.max_images
        checked = request if isinstance(request, CheckedRequest) else None
        asked = request.request if isinstance(request, CheckedRequest) else request
        if asked.num_images > most:
            raise InvalidRequest(
                f"{asked.num_images} is more than the {most} that are made at once",
                field="num_images",
            )
        now = time.monotonic()
        steps = asked.options.get("num_inference_steps", DEFAULT_STEPS)
        ticket = Ticket(
            request=asked,
            checked=checked,
            steps=checked.steps if checked else (steps if isinstance(steps, int) else 1),
            deadline=None if seconds is None else now + seconds,
            previews=previews,
            on_update=on_update,
            trace=Trace(submitted=now, submitted_pass=self.passes),
        )
        with self._change:
            if self._draining or len(self._board.waiting) >= self._max_queued:
                why = "is stopping" if self._draining else "has a full queue"
                raise Overloaded(
                    f"the server {why}; try again later", retry_after=self._board.retry_after
                )
            self._board.waiting.append(ticket)
            self._change.notify_all()
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """End an edit before its next step; one that is done stays done."""
        with self._change:
            if ticket.state == "done":
                return
            ticket.cancelled = True
            self._board.drop_lost(self._board.waiting)
            self._change.notify_all()

    def position(self, ticket: Ticket) -> int | None:
        """How many edits are before this one in the queue; None once it left the queue."""
        with self._change:
            return self._board.position(ticket)

    @property
    def passes(self) -> int:
        """Forward passes of a denoiser so far."""
        return self._board.passes

    @property
    def queued(self) -> int:
        """Edits that wait to be encoded."""
        return len(self._board.waiting)

    @property
    def images(self) -> int:
        """Images under way."""
        with self._change:
            return self._board.images

    @property
    def idle(self) -> bool:
        """Whether nothing is waiting or under way."""
        with self._change:
            return self._board.idle

    @property
    def retry_after(self) -> float:
        """Seconds until a place in the queue is free, about."""
        with self._change:
            return self._board.retry_after

    def drain(self, timeout: float | None = None) -> bool:
        """Accept nothing more and wait until everything accepted is done.

        Returns:
            Whether that was so within `timeout` seconds.
        """
        with self._change:
            self._draining = True
            return self._change.wait_for(lambda: self._board.idle, timeout)

    def load(self, name: str) -> Future[None]:
        """Load a model ahead of its first edit; the future tells when, or what went wrong."""
        loaded: Future[None] = Future()

        def work() -> None:
            try:
                with self._change:
                    busy = self._board.busy_models
                self.engine.load(name, busy=busy)
            except Exception as error:
                loaded.set_exception(error)
            else:
                loaded.set_result(None)

        with self._change:
            self._calls.append(work)
            self._change.notify_all()
        return loaded

    def close(self) -> None:
        """Cancel what is left and end the threads."""
        with self._change:
            self._draining = self._closed = True
            for ticket in [*self._board.waiting, *self._board.running, *self._board.finishing]:
                ticket.cancelled = True
            self._board.drop_lost(self._board.waiting)
            self._change.notify_all()
        for thread in self._threads:
            thread.join()
        with self._change:
            self._board.drop_lost(self._board.running)
            self._board.drop_lost(self._board.finishing)

    # The stepper

    def _stepper(self) -> None:
        while batch := self._next_batch():
            self._step(batch)
            batch.clear()  # An error that somebody keeps leads back to this list.

    def _next_batch(self) -> list[Pick]:
        """Wait for images with steps left, choose among them; empty = closed."""
        with self._change:
            while not self._closed:
                self._board.drop_lost(self._board.running)
                self._board.drop_lost(self._board.waiting)
                if batch := self._policy.choose(self._board.running, self.passes):
                    return batch
                self._change.wait(TICK)
        return []

    def _step(self, batch: list[Pick]) -> None:
        tickets = list(dict.fromkeys(pick.ticket for pick in batch))
        before = [pick.image.step for pick in batch]
        started = time.monotonic()
        try:
            self.engine.step(_edit(tickets[0]).model, [pick.image for pick in batch])
        except Exception as error:
            untouched = before == [pick.image.step for pick in batch]
            self._stumbled(batch, tickets, error, retry=untouched and len(batch) > 1)
            return
        seconds = time.monotonic() - started
        self._policy.learn(batch, seconds)
        self._board.paced(seconds / len(batch))
        self._observer.stepped(len(batch), seconds)
        self._board.passes += 1
        for ticket in tickets:
            self._after_pass(ticket, seconds)

    def _after_pass(self, ticket: Ticket, seconds: float) -> None:
        edit, trace = _edit(ticket), ticket.trace
        edit.timings["steps"] += seconds
        trace.last_pass = self.passes
        if trace.first_pass is None:
            trace.first_pass, trace.first_step = self.passes, time.monotonic()
            self._observer.first_step(trace.first_step - trace.submitted)
        update = _progress(edit)
        ticket.tell(update)
        shown = edit.prepared[0].step in ticket.preview_steps
        if ticket.remaining and not shown:
            return
        with self._change:
            if shown:
                ticket.preview_steps.remove(edit.prepared[0].step)
                self._previews.append((ticket, edit.snapshot(), update))
            if not ticket.remaining and ticket in self._board.running:
                self._board.move_to_finish(ticket)
            self._change.notify_all()

    def _stumbled(
        self, batch: list[Pick], tickets: list[Ticket], error: Exception, *, retry: bool
    ) -> None:
        """A pass failed: try its images in smaller company, or fail the one that was alone."""
        with self._change:
            if retry and isinstance(error, OutOfMemory):
                self._policy.shrink(len(batch))
            elif retry:
                for ticket in tickets:
                    ticket.alone = True
            else:
                for ticket in tickets:
                    self._board.running.remove(ticket)
                    self._board.done += 1
                    ticket.fail(error)
            self._change.notify_all()

    # The encoder

    def _encoder(self) -> None:
        while work := self._next_work():
            work()
            del work

    def _next_work(self) -> Callable[[], None] | None:
        """Wait for something to encode, decode or load; None = closed."""
        with self._change:
            while not self._closed:
                self._board.drop_lost(self._board.waiting)
                self._board.drop_lost(self._board.finishing)
                if self._previews:
                    return partial(self._preview, *self._previews.popleft())
                if self._board.finishing:
                    return partial(self._finish, self._board.finishing[0])
                if self._calls:
                    return self._calls.popleft()
                if ticket := self._board.next_admitted():
                    self._observer.admitted(time.monotonic() - ticket.trace.submitted)
                    return partial(self._prepare, ticket)
                self._change.wait(TICK)
        return None

    def _prepare(self, ticket: Ticket) -> None:
        now = time.monotonic()
        try:
            with self._change:
                busy = self._board.busy_models
            edit = self.engine.begin(ticket.checked or ticket.request, busy=busy)
            keys = [edit.model.family.batch_key(image) for image in edit.prepared]
        except Exception as error:
            with self._change:
                self._board.preparing = None
                if isinstance(error, Overloaded):
                    ticket.state, ticket.blocked_at = "queued", self._board.done
                    self._board.waiting.append(ticket)
                else:
                    ticket.fail(error)
                self._change.notify_all()
            return
        edit.timings["queued"] = now - ticket.trace.submitted
        ticket.edit, ticket.keys, ticket.state = edit, keys, "running"
        ticket.trace.prepared, ticket.trace.prepared_pass = time.monotonic(), self.passes
        ticket.plan_previews()
        ticket.tell(_progress(edit))
        with self._change:
            self._board.preparing = None
            if ticket.remaining:
                self._board.running.append(ticket)
            else:
                self._board.move_to_finish(ticket)
            self._change.notify_all()

    def _preview(self, ticket: Ticket, edit: Edit, update: Update) -> None:
        try:
            ticket.tell(replace(update, preview=self.engine.preview(edit)))
        except (ContentBlocked, SafetyUnavailable):
            # An unfinished picture decides nothing: it is withheld, the finished one is judged.
            return
        except Exception:
            _log.exception("a preview failed")

    def _finish(self, ticket: Ticket) -> None:
        try:
            outcome: EditResult | Exception = self.engine.finish(_edit(ticket))
        except Exception as error:
            outcome = error
        with self._change:
            self._board.finishing.remove(ticket)
            self._board.done += 1
            if isinstance(outcome, Exception):
                ticket.fail(outcome)
            else:
                ticket.succeed(outcome)
            self._change.notify_all()


def _edit(ticket: Ticket) -> Edit:
    assert ticket.edit is not None
    return ticket.edit


def _progress(edit: Edit) -> Update:
    slowest = max(edit.prepared, key=lambda image: (image.total - image.step, image.total))
    return Update(step=slowest.step, total=slowest.total)
