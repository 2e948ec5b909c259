"""The edits that one device has in work, and whether it should be given one more."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from overpaint.engine.batching.policy import DEFAULT_STEPS, PassEffort, PassPolicy, Pick, in_order
from overpaint.engine.batching.ticket import Ticket, Update

if TYPE_CHECKING:
    from overpaint.engine.edit import Edit
    from overpaint.engine.engine import Engine
    from overpaint.engine.model import Model

EXPRESS = 8
"""Images that may be under way beyond the limit, for edits that would lead at once."""

LOADING_STEPS = DEFAULT_STEPS
"""Steps that loading a model counts as: a device that has it is preferred until it is that much
behind."""


@dataclass(frozen=True, eq=False)
class Preview:
    """An unfinished edit to be shown, as it stood after a step."""

    ticket: Ticket
    edit: Edit
    update: Update


@dataclass(frozen=True, eq=False)
class DeviceLoad:
    """A model to be loaded ahead of its first edit."""

    model: str
    future: Future[None] = field(default_factory=Future)

    def __post_init__(self) -> None:
        # Nobody can cancel a running future.
        self.future.set_running_or_notify_cancel()


Work = Preview | DeviceLoad | Ticket
"""What an encoder does next; a ticket is prepared or, if it is 'finishing', decoded."""


@dataclass(eq=False, kw_only=True)
class Device:
    """What one device has in work. Everything here needs the board's `change` to be held.

    Attributes:
        engine: its models; used by the device's two threads alone.
        number: its place among the batcher's devices.
        max_images: images under way at most.
        of_a_caller: those of one caller among them.
        policy: chooses the images of its passes.
        preparing, running, finishing: its edits in each state.
        previews, loads: further work for its encoder.
        encodes: whether its encoder is at work.
        takes_turns: its encoder and its stepper compute in turns, so that a pass which waits for
            the encoder costs nothing.
        passes: forward passes of a denoiser so far.
        left: edits that were under way here and are no more.
        error: why it is not used any more; None = it is used.
        suspects: edits that failed here and are tried on another device.
        faults: edits that failed here and were done elsewhere, since the last one that was done
            here.
        fault: the last error of such an edit.
        seconds_per_step: of one image, on average; None = not known yet.
    """

    engine: Engine
    number: int
    max_images: int
    of_a_caller: int
    policy: PassPolicy
    preparing: list[Ticket] = field(default_factory=list)
    running: list[Ticket] = field(default_factory=list)
    finishing: list[Ticket] = field(default_factory=list)
    previews: deque[Preview] = field(default_factory=deque)
    loads: deque[DeviceLoad] = field(default_factory=deque)
    encodes: bool = False
    takes_turns: bool = False
    passes: int = 0
    left: int = 0
    error: BaseException | None = None
    suspects: set[Ticket] = field(default_factory=set)
    faults: int = 0
    fault: BaseException | None = None
    seconds_per_step: float | None = None

    @property
    def under_way(self) -> list[Ticket]:
        """All its edits."""
        return [*self.preparing, *self.running, *self.finishing]

    @property
    def images(self) -> int:
        """Images under way."""
        return sum(ticket.images for ticket in self.under_way)

    @property
    def busy_models(self) -> list[Model]:
        """Models with edits under way."""
        return [ticket.edit.model for ticket in self.under_way if ticket.edit is not None]

    @property
    def held_bytes(self) -> int:
        """What the images of its edits keep there during their steps."""
        return sum(ticket.edit.held_bytes for ticket in self.under_way if ticket.edit is not None)

    @property
    def serves(self) -> bool:
        """Whether it is still used."""
        return self.error is None

    @property
    def is_free(self) -> bool:
        """Whether its encoder could take an edit at once."""
        pending = self.encodes or self.previews or self.finishing or self.loads
        return self.serves and not pending

    def next_batch(self, effort: PassEffort) -> list[Pick]:
        """The images of its next pass; empty = none has steps left, or the pass waits for more.

        It waits where it may have more images once they are encoded, and loses nothing.
        """
        batch = self.policy.choose(self.running, effort)
        may_have_more = self.takes_turns and (self.encodes or bool(self.finishing))
        return [] if batch and may_have_more and self.policy.wants_more(batch) else batch

    def next_own(self) -> Work | None:
        """What its encoder does before it takes one more edit."""
        if self.previews:
            return self.previews.popleft()
        if self.finishing:
            return self.finishing[0]
        return self.loads.popleft() if self.loads else None

    def accepts(self, ticket: Ticket) -> bool:
        """Whether it may run the edit once it has room for the images.

        It may not where the edit failed already. While it is in doubt whether such an edit or the
        device is at fault, it takes only what failed elsewhere. An edit whose model found no room
        beside the busy ones waits until another edit has left.
        """
        if self.number in ticket.failed_on or (self.suspects and not ticket.failed_on):
            return False
        blocked = ticket.blocked_at.get(self.number) == self.left
        return not (blocked and (self.running or self.finishing))

    def has_room(self, ticket: Ticket, effort: PassEffort, reserved: int) -> bool:
        """Whether the images fit, with so many places `reserved`.

        Short edits need no place: one that would lead the next pass may use a small reserve.
        """
        room = min(self.max_images - reserved - self.images, self._part_left(ticket))
        if ticket.images <= room:
            return True
        leads = in_order([ticket, *self.running], effort)[0] is ticket
        return leads and ticket.images <= room + EXPRESS

    def has_part(self, ticket: Ticket) -> bool:
        """Whether its caller may have more images under way here."""
        return ticket.images <= self._part_left(ticket)

    def _part_left(self, ticket: Ticket) -> int:
        """Images that the edit's caller may still have; a single edit may exceed its part."""
        own = sum(each.images for each in self.under_way if each.caller == ticket.caller)
        return self.of_a_caller - own if own else self.max_images

    def steps_before(self, ticket: Ticket) -> int:
        """Steps of work that it has beside the edit, loading the edit's model included."""
        name = ticket.request.model or self.engine.default_model
        loading = 0 if name in self.engine.models.names else LOADING_STEPS
        return loading + sum(each.remaining for each in self.under_way)

    def interleaved(self, tickets: Iterable[Ticket], work: Ticket) -> list[Ticket]:
        """Those whose models can compute in the middle of the work on another edit.

        Only what needs no loading can: to load takes long itself, and its networks may have to wait
        for those at work.
        """
        return [each for each in [*tickets] if self._is_whole(each) and self._is_whole(work)]

    def _is_whole(self, ticket: Ticket) -> bool:
        name = ticket.request.model or self.engine.default_model
        model = self.engine.models.peek(name) if ticket.edit is None else ticket.edit.model
        return model is not None and model.is_whole

    def note_pass(self, batch: Sequence[Pick], seconds: float) -> None:
        """A pass of these images went well."""
        self.policy.learn(batch, seconds)
        images = len(batch)
        self.passes += 1
        each = seconds / images
        pace = each if self.seconds_per_step is None else self.seconds_per_step
        self.seconds_per_step = pace + 0.1 * (each - pace)

    def note_step(self, ticket: Ticket, edit: Edit, update: Update) -> None:
        """An edit has made a step: a preview or the end may follow."""
        step = edit.prepared[0].step
        if step in ticket.preview_steps:
            ticket.preview_steps.remove(step)
            self.previews.append(Preview(ticket, edit.snapshot(), update))
        if not ticket.remaining:
            self.move_to_finish(ticket)

    def move_to_steps(self, ticket: Ticket) -> None:
        """It is prepared; it may have no step to make."""
        self.preparing.remove(ticket)
        if ticket.remaining:
            ticket.state = "running"
            self.running.append(ticket)
        else:
            self.move_to_finish(ticket)

    def move_to_finish(self, ticket: Ticket) -> None:
        """Its steps are done."""
        if ticket in self.running:
            self.running.remove(ticket)
        ticket.state = "finishing"
        self.finishing.append(ticket)

    def absolve(self) -> None:
        """An edit was done here: what failed before is not the device's fault."""
        self.faults = 0
        self.suspects.clear()

    def give_up(self, error: BaseException) -> None:
        """Use it no more; its edits stay as they are."""
        self.error = error
        self.previews.clear()
        self.fail_loads(error)

    def add_load(self, model: str, refusal: BaseException | None) -> Future[None]:
        """Have a model loaded. The future fails at once after an error here, or with a refusal."""
        load, error = DeviceLoad(model), self.error or refusal
        if error is None:
            self.loads.append(load)
        else:
            load.future.set_exception(error)
        return load.future

    def fail_loads(self, error: BaseException) -> None:
        """No model is loaded here any more."""
        while self.loads:
            self.loads.popleft().future.set_exception(error)

    def remove(self, ticket: Ticket) -> None:
        """The edit is under way here no more, if it was."""
        if ticket not in self.under_way:
            return
        self.left += 1
        for tickets in (self.preparing, self.running, self.finishing):
            if ticket in tickets:
                tickets.remove(ticket)
