"""Who is at fault where an edit fails: the edit, or its device?

A device is at fault, and not the edit, if the edit is done on another device after it failed here.
A device with `MOST_FAULTS` such edits, and none that it did between them, is not used any more.
One whose accelerator itself reports an error, or whose thread died, is given up at once. Its edits
go back into the queue. An edit that fails on two devices fails, and the only device left goes on.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from overpaint.core.errors import OutOfMemory, OverpaintError
from overpaint.engine.batching.device import Device
from overpaint.engine.batching.ticket import Ticket

MOST_FAULTS = 2
TRIES = 2
"""Devices that an edit may fail on."""


def others(device: Device, devices: Sequence[Device]) -> list[Device]:
    """Other devices that are still used."""
    return [each for each in devices if each.serves and each is not device]


def ends_device(device: Device, devices: Sequence[Device], error: BaseException) -> bool:
    """Whether nothing on the device can be relied on after an error, and another one is there."""
    return isinstance(error, torch.AcceleratorError) and bool(others(device, devices))


def ends_edit(
    device: Device, devices: Sequence[Device], ticket: Ticket, error: BaseException
) -> bool:
    """Whether an edit fails for good; else it is tried elsewhere, and the device is a suspect."""
    ticket.failed_on.add(device.number)
    untried = [each for each in others(device, devices) if each.number not in ticket.failed_on]
    is_full = isinstance(error, OutOfMemory)
    is_the_edits = isinstance(error, OverpaintError) and not is_full
    if is_the_edits or not untried or len(ticket.failed_on) >= TRIES:
        return True
    if not is_full:
        device.suspects.add(ticket)
        device.fault = error
    return False


def at_fault(
    devices: Sequence[Device], ticket: Ticket, *, is_done: bool
) -> list[tuple[Device, BaseException]]:
    """Devices to use no more and why, now that an edit which failed on them has ended elsewhere."""
    faulty = []
    for device in devices:
        if ticket not in device.suspects:
            continue
        device.suspects.remove(ticket)
        device.faults += is_done
        if device.faults >= MOST_FAULTS and device.fault and others(device, devices):
            faulty.append((device, device.fault))
    return faulty
