"""How each family fits cards of several sizes: the memory plan that `overpaint doctor` shows.

    python -m benchmarks.performance.memory

Bytes are counted from the real models' configurations, in bfloat16 and with the backend
`torch-float8`, without memory for a weight.
Activations are the plan's own: `live_peak` measures those of the autoencoder without a card, and
`Peaks` what the phases of an edit take on one. Of a card's memory 0.6 GiB is taken for the driver.
"""

from __future__ import annotations

import itertools
import re
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks import real_size, report
from overpaint.apps.wiring.models import families
from overpaint.checkpoints.checkpoint import Checkpoint
from overpaint.checkpoints.component import Component, Components
from overpaint.checkpoints.placement import DECODED, GIB, KERNELS, MemoryNeed, preflight
from overpaint.core.errors import OutOfMemory

FAMILIES = ("sd2", "sdxl", "flex2", "fill", "kontext", *real_size.KLEIN, "qwen-edit")
CARDS = (8, 12, 16, 24, 80)
DRIVER = int(0.6 * GIB)
WIDTH = 2


def main() -> None:
    """Write the table."""
    lines = []
    for family, float8 in itertools.product(FAMILIES, (False, True)):
        need = need_of(
            real_size.layout(family),
            families.find(family.removesuffix("-9b")).components,
            float8=float8,
        )
        line = {"family": f"{family}, float8" if float8 else family}
        line["weights GB"] = f"{need.weights / 1e9:.1f}"
        line["modulation GB"] = f"{need.ahead / 1e9:.1f}" if need.ahead else "-"
        for card in CARDS:
            line[f"{card} GiB card"] = _fits(family, need, card * GIB - DRIVER)
        lines.append(line)
    report.write(
        "performance-memory",
        "Which plan fits which card, bfloat16 or float8, pictures of up to 1024x1024",
        "python -m benchmarks.performance.memory",
        lines,
    )


def live_peak(work: Callable[[], object]) -> int:
    """Bytes that `work` holds at once in tensors of its own; those on 'meta' count too."""
    live = _Live()
    with torch.inference_mode(), live:
        work()
    return live.peak


class _Live(TorchDispatchMode):
    """Counts the memory of tensors that operators make, once for all that share it."""

    def __init__(self) -> None:
        super().__init__()
        self.held = self.peak = 0
        self._users: Counter[int] = Counter()

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = operator(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._take(tensor)
        return result

    def _take(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if not self._users[key]:
            self.held += size
            self.peak = max(self.peak, self.held)
        self._users[key] += 1
        weakref.finalize(tensor, self._leave, key, size)

    def _leave(self, key: int, size: int) -> None:
        self._users[key] -= 1
        if not self._users[key]:
            self.held -= size


class Peaks:
    """Most bytes of tensors that each phase of edits held on a card.

        peaks = Peaks(model.checkpoint)
        with peaks:
            engine.run([request])
        peaks.bytes  # {'text_encoder': …, 'vae': …, 'transformer': …}

    A phase is what is computed with one component. Phases of two threads are not told apart.

    Args:
        checkpoint: on a card; its components are watched while they are lent.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.bytes: dict[str, int] = {}
        self._checkpoint = checkpoint
        self._device = checkpoint.placement.device

    def __enter__(self) -> Peaks:
        lend = self._checkpoint.borrowed

        @contextmanager
        def watched(name: str) -> Iterator[Any]:
            with lend(name) as component, self.phase(name):
                yield component

        vars(self._checkpoint)["borrowed"] = watched
        return self

    def __exit__(self, *_: object) -> None:
        del vars(self._checkpoint)["borrowed"]

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure what is done within, loading for example."""
        module = torch.get_device_module(self._device)
        module.synchronize(self._device)
        module.reset_peak_memory_stats(self._device)
        try:
            yield
        finally:
            module.synchronize(self._device)
            peak = int(module.max_memory_allocated(self._device))
            self.bytes[name] = max(peak, self.bytes.get(name, 0))


def need_of(
    parts: dict[str, torch.nn.Module], components: Components, *, float8: bool
) -> MemoryNeed:
    """What `Checkpoint.need` says of a real model's files in bfloat16.

    Args:
        parts: its networks, without memory for a weight.
        components: of its family.
        float8: whether the denoiser's blocks are held in float8.
    """
    widths = {name: _width(components[name], part.config) for name, part in parts.items()}
    sizes = {name: widths[name] * _count(part) for name, part in parts.items()}
    ahead = 0
    for name, part in parts.items():
        component = components[name]
        if component.surplus is not None:
            sizes[name] -= widths[name] * _count(part, component.surplus.weights)
        if component.ahead is not None:
            ahead += WIDTH * _count(part, component.ahead.weights)
        if float8 and component.float8 is not None:
            sizes[name] -= (WIDTH - 1) * _count(part, component.float8)
    vae, config, width = components["vae"], parts["vae"].config, widths["vae"]
    assert vae.decoding is not None
    assert vae.encoding is not None
    return MemoryNeed(
        sizes,
        text=frozenset(name for name in sizes if components[name].role == "text encoder"),
        ahead=ahead,
        decode=int(DECODED * KERNELS * vae.decoding(config, width)),
        encode=int(DECODED * KERNELS * vae.encoding(config, width)),
        blocks={
            name: _blocks(part, components[name], float8=float8)
            for name, part in parts.items()
            if components[name].blocks
        },
    )


def _blocks(part: torch.nn.Module, component: Component, *, float8: bool) -> list[int]:
    """Bytes of each of its blocks, without weights that are computed ahead."""

    def size(name: str, weight: torch.Tensor) -> int:
        if component.ahead is not None and component.ahead.weights.search(name):
            return 0
        small = float8 and component.float8 is not None and component.float8.search(name)
        return weight.numel() * (1 if small else WIDTH)

    return [
        sum(size(f"{listed}.{index}.{name}", weight) for name, weight in block.named_parameters())
        for listed in component.blocks
        for index, block in enumerate(part.get_submodule(listed).children())
    ]


def _width(component: Component, config: Any) -> int:
    """Bytes of each number of a component."""
    needs_float32 = component.float32 is not None and component.float32(config)
    return 4 if needs_float32 else WIDTH


def _count(part: torch.nn.Module, named: re.Pattern[str] = re.compile("")) -> int:
    return sum(weight.numel() for name, weight in part.named_parameters() if named.search(name))


def _fits(family: str, need: MemoryNeed, free: int) -> str:
    try:
        plan = preflight(family, need, free)
    except OutOfMemory:
        return "no"
    return f"{plan.tier}, {plan.peak / 1e9:.1f} GB"


if __name__ == "__main__":
    main()
