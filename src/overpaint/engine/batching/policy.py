"""Whose steps come next, and who comes along.

A caller's edits: least remaining work first, with ageing. An edit stands before others of its
caller if the effort that it still takes, minus `AGEING` times the effort of all passes since it
arrived, is lower. A short edit so overtakes long ones, and a long one is overtaken for a bounded
time only: after `remaining / AGEING` no newcomer is before it.

Callers among each other: the score of an edit is the effort that it and its caller's edits before
it still take, plus the effort that its caller has had already, and the lowest score leads the next
pass. So short edits come first here, too, until their caller has had that much more than others;
and a caller who sends more than the device can do delays nobody who sends less than a fair share.

The effort of a step is 1 for a canvas of up to `UNIT_PIXELS`, and grows with its pixels beyond.

Images that fit the lead's forward pass come along if the device has room for them, which `Pace`
learns from the passes' times: on a device that one image fills, company would only slow the lead.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from overpaint.diffusion.denoise import MAX_BATCH
from overpaint.diffusion.family import Prepared
from overpaint.engine.batching.ticket import Ticket

if TYPE_CHECKING:
    from overpaint.engine.edit import Edit

AGEING = 0.1
"""By how much the score of an edit falls with each step's effort that it waits."""

UNIT_PIXELS = 512 * 512

FULL = 0.85
"""Cost of one more image, as a share of an image's own pass, from which batching gains nothing."""

SLOWDOWN = 1.5
"""Factor by which longer edits may slow a shorter one that they come along with."""

LONGER = 2.0
"""An edit with this many times the lead's remaining steps is a longer one."""

FORGET = 1.02
"""Factor by which a known time grows with each new one, so that old ones count for less."""

EXPLORE_EVERY = 32
"""Passes after which a device that seemed full is tried again."""

LONELY_PASSES = 4
"""Passes of one image alone after which no company is waited for."""

DEFAULT_STEPS = 50
KNOWN_PACES = 64


def step_effort(ticket: Ticket) -> float:
    """The effort of one step of an image."""
    return max(1.0, ticket.pixels / UNIT_PIXELS)


class PassEffort:
    """The effort of the passes so far.

    Attributes:
        total: of all of them.
    """

    def __init__(self) -> None:
        self.total = 0.0
        self._by_caller: dict[str, float] = {}
        self._least = 0.0

    def of(self, caller: str) -> float:
        """What the caller's edits have had; only differences between callers mean anything."""
        return self._by_caller.get(caller, self._least)

    def enter(self, caller: str, present: Collection[str]) -> None:
        """Note that an edit of the caller comes.

        A caller who had none before begins where those stand who have had the least: time without
        edits is no credit.

        Args:
            caller: whose edit it is.
            present: callers who have edits that wait or are under way.
        """
        if caller in present:
            return
        if present:
            self._least = min(map(self.of, present))
        else:
            self._by_caller.clear()
        ahead = {each: had for each, had in self._by_caller.items() if had > self._least}
        self._by_caller = ahead

    def add(self, batch: Sequence[Pick]) -> None:
        """Note a pass of these images."""
        self.total += step_effort(batch[0].ticket)
        for pick in batch:
            caller = pick.ticket.caller
            self._by_caller[caller] = self.of(caller) + step_effort(pick.ticket)


def in_order(
    tickets: Iterable[Ticket], effort: PassEffort, beside: Iterable[Ticket] = ()
) -> list[Ticket]:
    """Tickets by score, in order of arrival where it is equal.

    Args:
        tickets: those that wait for the same thing.
        effort: of the passes so far.
        beside: edits under way already; what they still take counts as their callers'.
    """
    left = {ticket: ticket.remaining * step_effort(ticket) for ticket in tickets}
    own = {
        ticket: most - AGEING * (effort.total - ticket.trace.submitted_effort)
        for ticket, most in left.items()
    }
    scores: dict[Ticket, float] = {}
    sums: dict[str, float] = {}
    for ticket in [*beside, *sorted(left, key=lambda each: (own[each], each.number))]:
        had = sums.get(ticket.caller, effort.of(ticket.caller))
        sums[ticket.caller] = had + ticket.remaining * step_effort(ticket)
        scores[ticket] = sums[ticket.caller]
    return sorted(left, key=lambda each: (scores[each], each.number))


class Pick(NamedTuple):
    """An image of a pass: its edit, itself, and what it fits together with."""

    ticket: Ticket
    edit: Edit
    image: Prepared
    key: Hashable


@dataclass
class Pace:
    """Seconds of a pass by the number of its images, and what they say about company.

    The first pass of a number of images is not counted: kernels are chosen or compiled in it.
    """

    seconds: dict[int, float] = field(default_factory=dict)
    passes: int = 0
    sizes: set[int] = field(default_factory=set)

    def learn(self, images: int, seconds: float) -> None:
        """Take in the time of one pass."""
        self.passes += 1
        if images not in self.sizes:
            self.sizes.add(images)
            return
        # Disturbance only adds time: the shortest passes say most, until they are old.
        self.seconds[images] = min(seconds, FORGET * self.seconds.get(images, seconds))

    @property
    def has_no_company(self) -> bool:
        """Whether nothing ever fitted its passes: pictures of all sizes, for example."""
        return self.passes >= LONELY_PASSES and max(self.sizes) == 1

    @property
    def cost_of_one_more(self) -> float | None:
        """Share of an image's own pass that one more image costs; None = not known yet."""
        few, many = min(self.seconds, default=0), max(self.seconds, default=0)
        if few == many:
            return None
        each = max(0.0, (self.seconds[many] - self.seconds[few]) / (many - few))
        alone = self.seconds[few] - each * (few - 1)
        return min(1.0, each / alone) if alone > 0 else 1.0

    def width(self, *, longer_company: bool) -> int:
        """Images that a pass should have at most."""
        cost = self.cost_of_one_more
        if cost is None:
            # One size says nothing about others: try a smaller one soon.
            return max(1, MAX_BATCH // 2) if self.passes in (3, 4) else MAX_BATCH
        if cost >= FULL:
            return MAX_BATCH if self.passes % EXPLORE_EVERY == 0 else 1
        if longer_company:
            return max(1, min(MAX_BATCH, int(1 + (SLOWDOWN - 1) / max(cost, 1e-3))))
        return MAX_BATCH


class PassPolicy:
    """Chooses the images of each pass.

    Args:
        width: images in a pass at most; None = learnt from the passes' times.
        in_bulk: whether a pass with room waits for edits that are still encoded.
    """

    def __init__(self, width: int | None = None, *, in_bulk: bool = False) -> None:
        self._width, self._in_bulk = width, in_bulk
        self._paces: OrderedDict[Hashable, Pace] = OrderedDict()
        self._most = MAX_BATCH

    def choose(self, running: Iterable[Ticket], effort: PassEffort) -> list[Pick]:
        """The images of the next pass; empty if none has steps left."""
        ordered = [pick for ticket in in_order(running, effort) for pick in _todo(ticket)]
        if not ordered:
            return []
        lead = ordered[0]
        if lead.ticket.alone:
            return [lead]
        pace = self._pace(lead.key)
        fitting = [pick for pick in ordered if pick.key == lead.key and not pick.ticket.alone]
        picks = fitting[: self._room(pace)]
        limit = lead.ticket.remaining * LONGER
        longer = [pick for pick in picks if pick.ticket.remaining > limit]
        if not longer:
            return picks
        near = [pick for pick in picks if pick.ticket.remaining <= limit]
        return near + longer[: max(0, self._room(pace, longer_company=True) - len(near))]

    def wants_more(self, batch: list[Pick]) -> bool:
        """Whether a pass should rather wait for company, if there will be any soon."""
        lead, pace = batch[0], self._pace(batch[0].key)
        is_open = len(batch) < self._room(pace) and not lead.ticket.alone
        return self._in_bulk and is_open and not pace.has_no_company

    def learn(self, batch: Sequence[Pick], seconds: float) -> None:
        """Take in the time of a pass of these images."""
        self._pace(batch[0].key).learn(len(batch), seconds)

    def shrink(self, images: int) -> None:
        """A pass of this many images ran out of memory: no pass as large again."""
        self._most = max(1, images // 2)

    def _pace(self, key: Hashable) -> Pace:
        pace = self._paces.setdefault(key, Pace())
        self._paces.move_to_end(key)
        if len(self._paces) > KNOWN_PACES:
            self._paces.popitem(last=False)
        return pace

    def _room(self, pace: Pace, *, longer_company: bool = False) -> int:
        width = pace.width(longer_company=longer_company) if self._width is None else self._width
        return min(width, self._most)


def _todo(ticket: Ticket) -> list[Pick]:
    assert ticket.edit is not None
    edit = ticket.edit
    together = zip(edit.prepared, ticket.keys, strict=True)
    return [Pick(ticket, edit, image, key) for image, key in together if not image.done]
