"""Encoding and decoding beside the steps of others, on a card.

A card computes the work of one stream in order. So the encoders have a stream of their own;
otherwise each encoding would wait until the card has done the steps that it was given.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from overpaint.diffusion.family import Prepared
from overpaint.engine.model import Model

if TYPE_CHECKING:
    import torch


@contextmanager
def encoding(model: Model) -> Iterator[None]:
    """Compute in the encoders' stream within; all of it is done at the end.

    Args:
        model: whose encoders compute. If its denoiser leaves memory for them, there is nothing to
            do meanwhile, and one stream keeps the order in which memory is used again.
    """
    device = _device(model)
    if device is None:
        yield
        return
    module = _module(device)
    stream = _stream(device)
    stream.wait_stream(module.default_stream(device))
    with module.stream(stream):
        yield
    stream.synchronize()


def hand_over(model: Model, prepared: Sequence[Prepared]) -> None:
    """Tell the card's memory that the steps, in their own stream, read what was encoded."""
    device = _device(model)
    if device is None:
        return
    stepping = _module(device).default_stream(device)
    for tensor in tensors(prepared):
        if tensor.device == device:
            tensor.record_stream(stepping)


def tensors(value: object) -> Iterator[torch.Tensor]:
    """The tensors in containers and dataclasses."""
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from tensors(tuple(value.values()))
    elif isinstance(value, list | tuple | deque):
        for each in value:
            yield from tensors(each)
    elif is_dataclass(value) and not isinstance(value, type):
        yield from tensors([getattr(value, field.name) for field in fields(value)])


def _device(model: Model) -> torch.device | None:
    """The device, where it has streams and the encoders may have their own."""
    checkpoint = model.checkpoint
    if checkpoint is None or checkpoint.take_turns:
        return None
    device = checkpoint.placement.device
    has_streams = device.type != "cpu" and hasattr(_module(device), "Stream")
    return device if has_streams else None


def _module(device: torch.device) -> Any:
    """torch's module for the kind of device; a model without weights needs no torch."""
    import torch

    return torch.get_device_module(device)


@cache
def _stream(device: torch.device) -> Any:
    """The encoders' stream of a device, in which all its models' encoders compute."""
    return _module(device).Stream(device=device)
