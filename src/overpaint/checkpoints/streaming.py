"""Blocks of a network that lie in the host's memory and visit the card one after the other.

The first blocks stay on the card. The others share two places there: while one block computes, the
next one is copied into the other place, in a stream of its own. Each block's results are bit for
bit those of a network that stays on the card.
"""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import nn

SLOTS = 2
ALIGNMENT = 128
"""Numbers; kernels want a weight to begin at a multiple of some bytes."""

Flat = dict[torch.dtype, torch.Tensor]
"""One tensor for all numbers of a precision."""


class Copies:
    """Copies at once, where a device has no streams."""

    def fetch(self, slot: int, copy: Callable[[], None]) -> None:
        """Copy into a place, once nothing computes with its contents."""
        copy()

    def arrive(self, slot: int) -> None:
        """Make later computations wait until the place has been filled."""

    def leave(self, slot: int) -> None:
        """Mark the computations launched so far as the last ones that need the place's contents."""


class StreamedCopies(Copies):
    """Copies in a CUDA stream of their own, beside the computation."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._fill_events, self._leave_events = (
            [torch.cuda.Event() for _ in range(SLOTS)]  # type: ignore[no-untyped-call]
            for _ in range(2)
        )

    def fetch(self, slot: int, copy: Callable[[], None]) -> None:
        self._stream.wait_event(self._leave_events[slot])
        with torch.cuda.stream(self._stream):
            copy()
        self._fill_events[slot].record(self._stream)

    def arrive(self, slot: int) -> None:
        torch.cuda.current_stream(self._device).wait_event(self._fill_events[slot])

    def leave(self, slot: int) -> None:
        self._leave_events[slot].record(torch.cuda.current_stream(self._device))


@dataclass
class Visits:
    """Which block is in which place, and which one is fetched next.

    Attributes:
        fetches: copies each block into its place, in the order in which they compute.
        copies: when that is done.
    """

    fetches: Sequence[Callable[[], None]]
    copies: Copies

    def __post_init__(self) -> None:
        self._present: list[int | None] = [None] * SLOTS

    def begin(self, index: int) -> None:
        """A block is about to compute; the next one comes meanwhile."""
        self._fetch(index)
        self.copies.arrive(index % SLOTS)
        if index + 1 < len(self.fetches):
            self._fetch(index + 1)

    def end(self, index: int) -> None:
        """A block has computed; after the last one the first comes again."""
        self.copies.leave(index % SLOTS)
        if index + 1 == len(self.fetches):
            self._fetch(0)

    def _fetch(self, index: int) -> None:
        slot = index % SLOTS
        if self._present[slot] != index:
            self._present[slot] = index
            self.copies.fetch(slot, self.fetches[index])


def place(
    model: nn.Module,
    lists: Sequence[str],
    resident: int,
    device: torch.device,
    copies: Copies | None = None,
) -> None:
    """Put a network on a device, but for the blocks that visit it.

    Args:
        model: on the processor.
        lists: names of its lists of blocks, in the order in which they compute.
        resident: blocks that stay; the first ones.
        device: where it computes.
        copies: how blocks come; None = as the device can.
    """
    blocks: list[nn.Module] = []
    for name in lists:
        blocks.extend(model.get_submodule(name).children())
    blocks = blocks[resident:]
    sizes = [_numbers(block) for block in blocks]
    places = [
        {
            dtype: torch.empty(max(size[dtype] for size in sizes), dtype=dtype, device=device)
            for dtype in set(chain.from_iterable(sizes))
        }
        for _ in range(min(SLOTS, len(blocks)))
    ]
    fetches = []
    for index, block in enumerate(blocks):
        slot = places[index % SLOTS]
        host = _packed(block, sizes[index], slot, pinned=device.type == "cuda")
        fetches.append(partial(_copy, host, slot))
    model.to(device)
    if copies is None:
        copies = StreamedCopies(device) if device.type == "cuda" else Copies()
    visits = Visits(fetches, copies)
    for index, block in enumerate(blocks):
        # torch's own seam for calling a module by something else; compiled blocks use it too.
        block._compiled_call_impl = _visiting(block, visits, index)


def _visiting(block: nn.Module, visits: Visits, index: int) -> Callable[..., Any]:
    compiled, reference = block._compiled_call_impl, weakref.ref(block)

    def call(*arguments: Any, **keywords: Any) -> Any:
        present = reference()
        assert present is not None
        visits.begin(index)
        try:
            return (compiled or present._call_impl)(*arguments, **keywords)
        finally:
            visits.end(index)

    return call


def _tensors(block: nn.Module) -> Iterator[tuple[dict[str, Any], str, torch.Tensor]]:
    """Each parameter and buffer of a block: the mapping that holds it, its name, and the tensor."""
    for module in block.modules():
        for mapping in (module._parameters, module._buffers):
            for name, tensor in mapping.items():
                if tensor is not None:
                    yield mapping, name, tensor


def _aligned(tensor: torch.Tensor) -> int:
    return -(-tensor.numel() // ALIGNMENT) * ALIGNMENT


def _numbers(block: nn.Module) -> Mapping[torch.dtype, int]:
    """How many numbers of each precision a block takes."""
    sizes: dict[torch.dtype, int] = defaultdict(int)
    for _, _, tensor in _tensors(block):
        sizes[tensor.dtype] += _aligned(tensor)
    return sizes


@torch.inference_mode()
def _packed(block: nn.Module, size: Mapping[torch.dtype, int], slot: Flat, *, pinned: bool) -> Flat:
    """A block's numbers in the host's memory; its parameters become views of its place."""
    host = {dtype: torch.empty(n, dtype=dtype, pin_memory=pinned) for dtype, n in size.items()}
    starts: dict[torch.dtype, int] = defaultdict(int)
    for mapping, name, tensor in list(_tensors(block)):
        start, dtype = starts[tensor.dtype], tensor.dtype
        stop = start + tensor.numel()
        host[dtype][start:stop].copy_(tensor.detach().reshape(-1))
        view = slot[dtype][start:stop].view(tensor.shape)
        is_parameter = isinstance(tensor, nn.Parameter)
        mapping[name] = nn.Parameter(view, requires_grad=False) if is_parameter else view
        starts[dtype] += _aligned(tensor)
    return host


@torch.inference_mode()
def _copy(host: Flat, slot: Flat) -> None:
    for dtype, numbers in host.items():
        slot[dtype][: len(numbers)].copy_(numbers, non_blocking=True)
