"""Which edit of the queue a device takes next, and how fast the queue moves.

The device that is likely to run an edit first takes it: the one with the least work before it,
where loading a model counts as work.
"""

from __future__ import annotations

from collections.abc import Sequence

from overpaint.engine.batching.device import Device
from overpaint.engine.batching.policy import PassEffort
from overpaint.engine.batching.ticket import Ticket

SHORTEST_RETRY, LONGEST_RETRY = 1.0, 120.0
"""Seconds after which a refused caller is asked to try again."""


def next_ticket(
    device: Device,
    devices: Sequence[Device],
    queue: Sequence[Ticket],
    *,
    effort: PassEffort,
    reserved: int,
) -> Ticket | None:
    """The first edit of the queue that this device should take; None = it waits.

    Args:
        device: whose encoder is free.
        devices: all of them.
        queue: edits in the order of their scores.
        effort: of the passes so far.
        reserved: images that no device may take, since so many are being delivered.
    """
    free = [each for each in devices if each.is_free or each is device]
    full: set[str] = set()
    for ticket in queue:
        if ticket.caller in full:
            continue
        willing = [each for each in free if each.accepts(ticket)]
        able = [each for each in willing if each.has_room(ticket, effort, reserved)]
        if willing and not able:
            # Nothing behind it may take the room that it waits for: of its caller's, if that is it.
            if any(each.has_part(ticket) for each in willing):
                return None
            full.add(ticket.caller)
            continue
        soonest = min(able, key=lambda each: _seconds_before(each, devices, ticket), default=None)
        if soonest is device:
            return ticket
        if soonest is not None:
            free.remove(soonest)
    return None


def _seconds_before(device: Device, devices: Sequence[Device], ticket: Ticket) -> float:
    """Of work before an edit on a device; where no time is known a step counts as one."""
    paces = [each.seconds_per_step for each in devices if each.seconds_per_step]
    pace = device.seconds_per_step or min(paces, default=1.0)
    return pace * device.steps_before(ticket)


def seconds_per_place(devices: Sequence[Device], queue: Sequence[Ticket]) -> float:
    """Until the queue is one edit shorter, about: `SHORTEST_RETRY` to `LONGEST_RETRY`."""
    running = [ticket for device in devices for ticket in device.running]
    left = sum(ticket.remaining for ticket in [*queue, *running])
    paces = [device.seconds_per_step or 0.0 for device in devices if device.serves]
    pace = sum(paces) / max(1, len(paces)) ** 2
    return min(LONGEST_RETRY, max(SHORTEST_RETRY, left * pace / max(1, len(queue))))
