"""Many edits at once on one device or several, their steps mixed.

    submit → queued → (encoder: begin) → running → (stepper: passes) → (encoder: decode) → done

The board has one queue for all devices and moves the edits; a worker per device has its threads.
Between two passes a stepper drops edits that nobody waits for, then steps what `policy` says. The
safety policy judges requests while they are queued, and pictures after they are decoded, in
threads of its own: a slow check holds up the edit that it is about and no other.
Nothing here is asynchronous: callers wait on a ticket's future or listen to its updates.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from overpaint.core.errors import InvalidRequest
from overpaint.core.types import EditRequest
from overpaint.engine.batching.board import Board
from overpaint.engine.batching.device import Device
from overpaint.engine.batching.observer import Observer
from overpaint.engine.batching.panics import plain
from overpaint.engine.batching.policy import DEFAULT_STEPS, PassPolicy
from overpaint.engine.batching.ticket import Ticket, Trace, Update
from overpaint.engine.batching.worker import Worker
from overpaint.engine.checking import CheckedRequest
from overpaint.engine.windows import canvas_pixels

if TYPE_CHECKING:
    from overpaint.engine.edit import Screened
    from overpaint.engine.engine import Engine


_log = logging.getLogger(__name__)


class Batcher:
    """Runs edits, many at a time.

    Args:
        engines: one, or one per device; used by this batcher's threads alone from now on.
        max_queued: edits that may wait to be encoded; more are refused.
        callers: of queue and images under way, one caller has one of so many parts at most.
        max_images: images under way on a device at most, which bounds memory.
        width: images in a pass at most; None = learnt from the passes' times.
        in_bulk: nobody waits for a single edit, so passes wait until what is being encoded has
            filled them, where that costs nothing.
        check_seconds: that the safety policy may take for a request, and for a result; None = as
            long as it takes.
        observer: told what happens.
    """

    def __init__(
        self,
        engines: Engine | Sequence[Engine],
        *,
        max_queued: int = 64,
        callers: int = 1,
        max_images: int = 32,
        width: int | None = None,
        in_bulk: bool = False,
        check_seconds: float | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._check_seconds = check_seconds
        self.engines = tuple(engines) if isinstance(engines, Sequence) else (engines,)
        self._board = Board(
            self.engines,
            max_images=max_images,
            max_queued=max_queued,
            callers=callers,
            policy=partial(PassPolicy, width, in_bulk=in_bulk),
            observer=observer or Observer(),
        )
        # One thread for each edit that can be judged: a slow check holds up its own edit alone.
        most_judged = max_queued + 2 * max_images * len(self.engines)
        self._pool = ThreadPoolExecutor(most_judged, "safety")
        self._workers = [Worker(self._board, each, self._pool) for each in self._board.devices]

    @property
    def engine(self) -> Engine:
        """The first device's engine; its safety policy is that of all."""
        return self.engines[0]

    @property
    def devices(self) -> tuple[Device, ...]:
        """The devices, to be looked at."""
        return self._board.devices

    def submit(
        self,
        request: EditRequest | CheckedRequest,
        *,
        seconds: float | None = None,
        previews: int = 0,
        on_update: Callable[[Update], None] | None = None,
        caller: str = "",
        canvas: int | None = None,
    ) -> Ticket:
        """Accept an edit, or refuse it at once.

        Args:
            request: what to do; a checked one tells how many steps it takes.
            caller: name of who sent it; callers share the devices evenly.
            canvas: pixels that are computed for an image, as `canvas_of` says, or likely so;
                None = the picture's own.
            seconds: from now until nobody wants the result any more; None = no deadline.
            previews: unfinished pictures to show on the way.
            on_update: called with news from another thread; must return at once.

        Raises:
            Overloaded: the queue is full, or no edits are accepted any more.
            InvalidRequest: it has more images than can ever be under way.
        """
        most = self._board.max_images
        checked = request if isinstance(request, CheckedRequest) else None
        plain = request.request if isinstance(request, CheckedRequest) else request
        if plain.num_images > most:
            raise InvalidRequest(
                f"{plain.num_images} is more than the {most} that are made at once",
                field="num_images",
            )
        now = time.monotonic()
        steps = plain.options.get("num_inference_steps", DEFAULT_STEPS)
        ticket = Ticket(
            request=plain,
            checked=checked,
            screening=self.engine.screens,
            steps=checked.steps if checked else (steps if isinstance(steps, int) else 1),
            deadline=None if seconds is None else now + seconds,
            check_seconds=self._check_seconds,
            previews=previews,
            on_update=on_update,
            canvas=_area(plain) if canvas is None else canvas,
            caller=caller,
            trace=Trace(submitted=now, submitted_effort=self._board.effort.total),
        )
        with self._board.change:
            self._board.add(ticket)
            if ticket.screening:
                ticket.begin_check()
                self._pool.submit(self._screen, ticket)
        return ticket

    def canvas_of(self, edit: CheckedRequest) -> int | None:
        """Pixels that are computed for an image, at most; may be called from any thread.

        None = that is not known yet: the model is not loaded, or the picture grows.

        Raises:
            InvalidRequest: its model cannot make the edit.
        """
        for engine in self.engines:
            model = engine.models.peek(edit.request.model or engine.default_model)
            if model is not None and model.is_whole and edit.request.extend is None:
                return canvas_pixels(model.family, edit)
        return None

    def cancel(self, ticket: Ticket) -> None:
        """End an edit before its next step; one that is done stays done."""
        self._board.cancel(ticket)

    def position(self, ticket: Ticket) -> int | None:
        """How many edits are before this one in the queue; None once it left the queue."""
        with self._board.change:
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
        """Images under way on the devices."""
        with self._board.change:
            return self._board.images

    @property
    def idle(self) -> bool:
        """Whether nothing is waiting or under way."""
        with self._board.change:
            return self._board.idle

    @property
    def retry_after(self) -> float:
        """Seconds until a place in the queue is free, about."""
        with self._board.change:
            return self._board.retry_after

    @property
    def device_states(self) -> dict[str, str] | None:
        """Which of several devices are used, 'ok' or 'failed' by name; None = there is one."""
        if len(self.devices) == 1:
            return None
        return {each.engine.device: "ok" if each.serves else "failed" for each in self.devices}

    @property
    def loaded(self) -> list[str]:
        """Names of the models that are loaded on any device."""
        names = (name for engine in self.engines for name in engine.models.names)
        return list(dict.fromkeys(names))

    def drain(self, timeout: float | None = None) -> bool:
        """Accept nothing more and wait until everything accepted is done.

        Returns:
            Whether that was so within `timeout` seconds.
        """
        return self._board.drain(timeout)

    def load(self, name: str) -> Future[None]:
        """Load a model ahead of its first edit, on every device.

        The future tells when, or what went wrong if no device could load it. It ends with
        `Cancelled` if the batcher is closed before.
        """
        return _joined(self._board.add_loads(name))

    def close(self, timeout: float | None = None) -> None:
        """Cancel what is left and end the threads.

        Args:
            timeout: seconds to wait for the threads; None = until they have ended.
        """
        self._board.close()
        self._board.drop_all()
        end = None if timeout is None else time.monotonic() + timeout
        for worker in self._workers:
            worker.join(end)
        self._board.drop_all()
        self._pool.shutdown(wait=timeout is None)

    def _screen(self, ticket: Ticket) -> None:
        if ticket.state == "done":
            return
        try:
            outcome: Screened | Exception = self.engine.screen(
                ticket.checked or ticket.request, stop=ticket.require_wanted
            )
        except BaseException as error:
            outcome = plain(error)
        self._board.screened(ticket, outcome)


def _area(request: EditRequest) -> int:
    width, height = request.image.size
    return width * height


def _joined(futures: Sequence[Future[None]]) -> Future[None]:
    """Done when all are; fails only if all failed, with the first error."""
    joined: Future[None] = Future()
    joined.set_running_or_notify_cancel()
    left = len(futures)
    lock = threading.Lock()

    def count_down(_: Future[None]) -> None:
        nonlocal left
        with lock:
            left -= 1
            is_last = left == 0
        if not is_last:
            return
        errors = [error for each in futures if (error := each.exception()) is not None]
        if len(errors) == len(futures):
            joined.set_exception(plain(errors[0]))
            return
        for error in errors:
            _log.error("a model cannot be loaded on one of the devices", exc_info=error)
        joined.set_result(None)

    for future in futures:
        future.add_done_callback(count_down)
    return joined
