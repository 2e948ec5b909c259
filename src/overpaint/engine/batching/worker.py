"""The two threads of a device, which share no module of its models.

The *encoder* runs text encoders and autoencoder: everything before the first step and after the
last, and previews. The *stepper* runs the denoiser. So a new edit is encoded, and a finished one
decoded and composited, while the steps of the others go on. What the safety policy has to see goes
to a pool beside both.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from overpaint.checkpoints.placement import make_current
from overpaint.core.errors import ContentBlocked, Overloaded, SafetyUnavailable
from overpaint.core.types import EditResult
from overpaint.engine.batching import cores
from overpaint.engine.batching.board import Board
from overpaint.engine.batching.cores import Cores, at_once
from overpaint.engine.batching.cutting import Expectation, is_long
from overpaint.engine.batching.device import Device, DeviceLoad, Preview
from overpaint.engine.batching.panics import as_errors, plain
from overpaint.engine.batching.policy import Pick
from overpaint.engine.batching.ticket import Ticket, Update
from overpaint.engine.clock import AHEAD, Watch

if TYPE_CHECKING:
    from overpaint.engine.edit import Decoded, Edit

_log = logging.getLogger(__name__)


@dataclass
class Aside:
    """Seconds of a long pass that went to passes of others, or to waiting for them."""

    seconds: float = 0.0


class Worker:
    """Runs the edits of one device.

    Args:
        board: says what is next, and moves the edits.
        device: the device; its engine is used by these threads alone from now on.
        pool: for what waits on the safety policy.
    """

    def __init__(self, board: Board, device: Device, pool: Executor) -> None:
        self._board = board
        self._device = device
        self._engine = device.engine
        self._pool = pool
        self._cores = _cores_of(device)
        self._engine.compute = at_once if self._cores is None else self._cores.run
        self._expectation = Expectation()
        device.takes_turns = self._cores is not None
        self._passes: deque[tuple[list[Pick], Watch, Aside]] = deque()
        self._threads = [
            threading.Thread(
                target=self._run, args=[work], name=f"{name} {self._engine.device}", daemon=True
            )
            for name, work in (("stepper", self._stepper), ("encoder", self._encoder))
        ]
        for thread in self._threads:
            thread.start()

    def join(self, end: float | None = None) -> None:
        """Wait until the threads have ended, or until that time of the monotonic clock."""
        for thread in self._threads:
            thread.join(None if end is None else max(0.0, end - time.monotonic()))
        self._engine.compute = at_once
        if self._cores is not None:
            self._cores.close()

    def _run(self, work: Callable[[], None]) -> None:
        try:
            make_current(self._engine.device)
            work()
        except BaseException as error:
            self._board.lose(self._device, error)

    # The stepper

    def _stepper(self) -> None:
        while batch := self._board.next_batch(self._device):
            self._step(batch)
            del batch  # Its images are not kept while there is nothing to do.

    def _step(self, batch: list[Pick]) -> None:
        before, aside = [pick.image.step for pick in batch], Aside()
        try:
            watch = self._engine.clock.start()
            tickets = [pick.ticket for pick in batch]
            with self._cuttable(partial(self._step_aside, tickets, aside), tickets[0]):
                self._engine.step(batch[0].edit.model, [pick.image for pick in batch])
            watch.stop()
        except Exception as error:
            untouched = before == [pick.image.step for pick in batch]
            self._board.stumbled(self._device, batch, error, untouched=untouched)
            batch.clear()  # An error that somebody keeps leads back to this list.
            return
        self._passes.append((batch, watch, aside))
        ends = any(not pick.ticket.remaining for pick in batch)
        self._settle(0 if ends else AHEAD)
        for ticket, edit in {pick.ticket: pick.edit for pick in batch}.items():
            update = _progress(edit)
            ticket.tell(update)
            self._board.advanced(self._device, ticket, edit, update)

    def _step_aside(self, tickets: list[Ticket], aside: Aside) -> bool:
        """While a long pass of these edits is made: end it, make a short one of others, or wait."""
        batch = self._board.passes_beside(self._device, tickets)
        started = time.perf_counter()
        if batch:
            self._step(batch)
        elif not self._expectation.wait({ticket.caller for ticket in tickets}):
            return False
        aside.seconds += time.perf_counter() - started
        return True

    @contextmanager
    def _cuttable(self, look: Callable[[], bool], ticket: Ticket) -> Iterator[None]:
        """Look around while an edit is computed; a native library's panic fails it alone."""
        is_cut = is_long(ticket, self._engine.device)
        with as_errors(), cores.looking(look if is_cut else None):
            yield
        if not is_cut:
            self._expectation.note(ticket.caller)

    def _settle(self, ahead: int) -> None:
        """Tell the board of passes that are done; wait for all but the last `ahead` of them."""
        while self._passes:
            batch, watch, aside = self._passes[0]
            try:
                if len(self._passes) <= ahead and not watch.is_done:
                    return
                seconds = watch.seconds() - aside.seconds
            except Exception as error:  # a card reports what went wrong when it is waited for
                self._board.stumbled(self._device, batch, error, untouched=False)
            else:
                self._board.stepped(self._device, batch, seconds)
            self._passes.popleft()

    # The encoder

    def _encoder(self) -> None:
        while (work := self._board.next_work(self._device)) is not None:
            match work:
                case Preview():
                    self._preview(work)
                case DeviceLoad():
                    self._load(work)
                case Ticket():
                    self._encode(work)
            del work

    def _encode(self, ticket: Ticket) -> None:
        if ticket.state == "finishing":
            self._finish(ticket)
        else:
            self._prepare(ticket)

    def _look_aside(self, ticket: Ticket) -> bool:
        """While a long edit is encoded: end it, encode a short one, or wait for one."""
        other = self._board.work_beside(self._device, ticket)
        if other is None:
            return self._expectation.wait({ticket.caller})
        self._encode(other)
        return True

    def _prepare(self, ticket: Ticket) -> None:
        now = time.monotonic()
        try:
            busy = self._board.busy_models(self._device)
            held_bytes = self._board.held_bytes(self._device)
            with self._cuttable(partial(self._look_aside, ticket), ticket):
                edit = self._engine.begin(ticket.submission, busy=busy, held_bytes=held_bytes)
            family = edit.model.family
            keys = [None if each.done else family.batch_key(each) for each in edit.prepared]
        except Overloaded:
            self._board.postponed(self._device, ticket)
        except Exception as error:
            self._board.failed(self._device, ticket, error)
        else:
            edit.timings["queued"] = now - ticket.trace.submitted
            ticket.tell(_progress(edit))
            self._board.prepared(self._device, ticket, edit, keys)

    def _finish(self, ticket: Ticket) -> None:
        edit = ticket.edit
        if edit is None:
            return  # put back meanwhile
        try:
            with self._cuttable(partial(self._look_aside, ticket), ticket):
                decoded = self._engine.decode(edit)
        except Exception as error:
            self._board.failed(self._device, ticket, error)
            del edit  # An error that somebody keeps leads back to this frame.
            return
        if self._board.decoded(self._device, ticket):
            # What a family keeps for the steps is not needed while others judge the pictures.
            edit.prepared.clear()
            ticket.begin_check()
            self._pool.submit(self._deliver, ticket, edit, decoded)

    def _deliver(self, ticket: Ticket, edit: Edit, decoded: Decoded) -> None:
        wait(ticket.preview_checks)
        try:
            outcome: EditResult | Exception = self._engine.deliver(
                edit, decoded, stop=ticket.require_wanted
            )
        except BaseException as error:
            outcome = plain(error)
        self._board.delivered(ticket, outcome)

    def _preview(self, preview: Preview) -> None:
        try:
            with as_errors():
                decoded = self._engine.decode_preview(preview.edit)
        except Exception:
            _log.exception("a preview failed")
            return
        check = self._pool.submit(self._show, preview, decoded)
        preview.ticket.preview_checks.append(check)

    def _show(self, preview: Preview, decoded: Decoded) -> None:
        try:
            picture = self._engine.deliver_preview(preview.edit, decoded)
        except (ContentBlocked, SafetyUnavailable):
            # An unfinished picture decides nothing: it is withheld, the finished one is judged.
            return
        except BaseException:
            _log.exception("a preview failed")
            return
        preview.ticket.tell(replace(preview.update, preview=picture))

    def _load(self, load: DeviceLoad) -> None:
        try:
            busy = self._board.busy_models(self._device)
            with as_errors():
                self._engine.load(load.model, busy=busy)
        except Exception as error:
            load.future.set_exception(error)
        else:
            load.future.set_result(None)


def _cores_of(device: Device) -> Cores | None:
    """The thread that computes for a processor with several cores; None = each its own."""
    name = device.engine.device
    return Cores(f"cores {name}") if name == "cpu" and torch.get_num_threads() > 1 else None


def _progress(edit: Edit) -> Update:
    slowest = max(edit.prepared, key=lambda image: (image.total - image.step, image.total))
    return Update(step=slowest.step, total=slowest.total)
