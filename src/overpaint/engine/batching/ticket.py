"""One edit in the batcher's hands, as its caller sees it."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from overpaint.checkpoints import shortage
from overpaint.core.errors import Cancelled, DeadlineExceeded, SafetyUnavailable
from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest, EditResult
from overpaint.engine.batching.panics import plain

if TYPE_CHECKING:
    from overpaint.engine.checking import CheckedRequest
    from overpaint.engine.edit import Edit, Screened

TicketState = Literal["waiting", "preparing", "running", "finishing", "done"]

_log = logging.getLogger(__name__)
_sequence = itertools.count()


@dataclass(frozen=True, kw_only=True)
class Update:
    """News of an edit.

    Attributes:
        step: steps done by its slowest image; 0 = prepared, none done yet.
        total: steps of that image.
        preview: the whole picture with the first image's unfinished edit in it, where one was
            asked for.
        is_result: the preview is the result itself, before it is encoded and kept.
    """

    step: int
    total: int
    preview: Picture | None = None
    is_result: bool = False


@dataclass
class Trace:
    """When things happened, in seconds of the batcher's clock and in passes of its devices.

    A pass is one forward pass of a denoiser; `submitted_effort` is the effort of all passes before
    it came (`policy.PassEffort`). None = not yet.
    """

    submitted: float
    submitted_effort: float = 0.0
    prepared: float | None = None
    prepared_pass: int | None = None
    first_step: float | None = None
    first_pass: int | None = None
    last_pass: int | None = None

    def note_pass(self, passes: int) -> bool:
        """A pass of the edit was made; whether that was its first step."""
        self.last_pass = passes
        if self.first_pass is not None:
            return False
        self.first_pass, self.first_step = passes, time.monotonic()
        return True


@dataclass(eq=False, kw_only=True)
class Ticket:
    """An accepted edit.

    Attributes:
        request: what is asked for.
        checked: the same, where it was checked already.
        screened: the same, where the safety policy has judged it.
        screening: whether it has yet to be judged by the safety policy, or rewritten.
        steps: denoising steps expected of each image; exact once it is prepared.
        canvas: pixels that are likely computed for an image; exact once it is prepared.
        caller: name of the key that it was sent with.
        deadline: time of the batcher's clock after which nobody wants the result; None = never.
        check_seconds: that the safety policy may take for the request, and for the result.
        check_by: when it must be done with the one that it judges now.
        previews: unfinished pictures to show on the way, evenly spread over the steps.
        on_update: called with news from the batcher's threads; must return at once.
        state: where it stands.
        future: gets the `EditResult` or the error.
        trace: when things happened.
        edit, keys: what `Engine.begin` made, and what each image fits together with.
        alone: a pass with others failed; it is stepped by itself from then on.
        blocked_at: by device, edits that had left it when there was no room for its model.
        failed_on: devices on which it failed.
        preview_steps: steps of the first image after which to show it.
        preview_checks: previews handed to the safety policy; the result comes after them.
    """

    request: EditRequest
    steps: int
    trace: Trace
    canvas: int = 0
    caller: str = ""
    checked: CheckedRequest | None = None
    screened: Screened | None = None
    screening: bool = False
    deadline: float | None = None
    check_seconds: float | None = None
    check_by: float | None = None
    previews: int = 0
    on_update: Callable[[Update], None] | None = None
    state: TicketState = "waiting"
    future: Future[EditResult] = field(default_factory=Future)
    cancelled: bool = False
    edit: Edit | None = None
    keys: list[Hashable] = field(default_factory=list)
    alone: bool = False
    blocked_at: dict[int, int] = field(default_factory=dict)
    failed_on: set[int] = field(default_factory=set)
    preview_steps: set[int] = field(default_factory=set)
    preview_checks: list[Future[None]] = field(default_factory=list)
    number: int = field(default_factory=lambda: next(_sequence))

    def __post_init__(self) -> None:
        # Nobody can cancel a running future: cancelling goes through the batcher.
        self.future.set_running_or_notify_cancel()

    def result(self, timeout: float | None = None) -> EditResult:
        """Wait for the result.

        Raises:
            OverpaintError: what went wrong.
            TimeoutError: it is not there after `timeout` seconds; the edit goes on.
        """
        return self.future.result(timeout)

    @property
    def submission(self) -> EditRequest | CheckedRequest | Screened:
        """The request as the engine gets it."""
        return self.screened or self.checked or self.request

    @property
    def images(self) -> int:
        """Images that it makes."""
        return self.request.num_images

    @property
    def remaining(self) -> int:
        """Steps left, of all its images together."""
        edit = self.edit
        if edit is None:
            return self.steps * self.images
        return sum(image.total - image.step for image in edit.prepared)

    @property
    def pixels(self) -> int:
        """Of the canvas that is computed for an image, about."""
        if self.edit is None:
            return self.canvas
        sizes = [region.plan.canvas for region in self.edit.regions]
        return max(columns * rows for columns, rows in sizes)

    def begin_check(self) -> None:
        """The safety policy is asked to judge it."""
        if self.check_seconds is not None:
            self.check_by = time.monotonic() + self.check_seconds

    def require_wanted(self) -> None:
        """Asked between two checks.

        Raises:
            Cancelled: nobody waits for the result any more.
        """
        if self.state == "done":
            raise Cancelled("the caller disconnected")

    def lost(self, now: float) -> Cancelled | DeadlineExceeded | SafetyUnavailable | None:
        """Why nobody waits for the result any more, if so."""
        if self.cancelled:
            return Cancelled("the edit was cancelled")
        if self.deadline is not None and now >= self.deadline:
            return DeadlineExceeded("the edit was not done before its deadline")
        if self.check_by is not None and now >= self.check_by:
            return SafetyUnavailable(
                "the safety policy or the rewriter took longer than "
                f"{self.check_seconds:g} seconds, so the content was refused; try again later"
            )
        return None

    def plan_previews(self) -> None:
        """Spread the previews evenly over the steps, none after the last one."""
        assert self.edit is not None
        total = self.edit.prepared[0].total
        parts = range(1, self.previews + 1)
        due = (max(1, round(total * part / (self.previews + 1))) for part in parts)
        self.preview_steps = {step for step in due if step < total}

    def restart(self) -> None:
        """Back to the queue: nothing is made of it yet."""
        self.state = "waiting"
        self.edit, self.keys = None, []
        self.preview_steps.clear()
        self.trace = Trace(self.trace.submitted, self.trace.submitted_effort)

    def tell(self, update: Update) -> None:
        """Pass on news; a listener that fails harms nobody else."""
        if self.on_update is None or self.future.done():
            return
        try:
            self.on_update(update)
        except Exception:
            _log.exception("a listener of an edit failed")

    def succeed(self, result: EditResult) -> None:
        """Hand over the result."""
        self._leave()
        self.future.set_result(result)

    def fail(self, error: BaseException) -> None:
        """Hand over what went wrong; the error keeps nothing of the edit in memory."""
        self._leave()
        shortage.empty_frames(error)
        self.future.set_exception(plain(error))

    def _leave(self) -> None:
        self.state = "done"
        self.edit = None
