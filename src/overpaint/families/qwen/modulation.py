"""Qwen-Image's modulation computed ahead of the steps, so that its weights need not stay in memory.

Every block scales and shifts its tokens by numbers that depend on the timestep alone. The layers
that make them are a third of the transformer's weights, used for one vector a step. With them
evicted, a schedule's numbers are computed once, layer by layer from the checkpoint's files, and
serve every edit of that schedule: equal up to the last bits, which matrix products of other shapes
round differently.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from overpaint.checkpoints.files import weights

STREAMS = ("img_mod", "txt_mod")


class BlockNumbers(nn.Module):
    """In place of a block's modulation: cuts its numbers, (B, M), out of those of all blocks."""

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self._start, self._stop = start, stop

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        return numbers[:, self._start : self._stop]


def evict(transformer: Any) -> None:
    """Take the modulation's layers out; steps then have to be given their numbers.

    Args:
        transformer: a `QwenImageTransformer2DModel`, with or without memory for its weights.
    """
    start = 0
    for block in transformer.transformer_blocks:
        for stream in STREAMS:
            stop = start + getattr(block, stream)[1].out_features
            setattr(block, stream, BlockNumbers(start, stop))
            start = stop
    norm = transformer.norm_out
    stop = start + norm.linear.out_features
    norm.linear, norm.silu = BlockNumbers(start, stop), nn.Identity()


def evicted(transformer: Any) -> bool:
    """Whether `evict` was called."""
    return isinstance(transformer.norm_out.linear, BlockNumbers)


@torch.inference_mode()
def compute(transformer: Any, folder: Path, times: torch.Tensor) -> torch.Tensor:
    """(steps, M) numbers for all layers at each time.

    Args:
        transformer: one with its modulation evicted.
        folder: the component's own, with its files.
        times: (steps,) in [0, 1], on the transformer's device and in its precision.
    """
    activated = functional.silu(transformer.time_text_embed(times, times))
    parts = []
    for layer in _layers(transformer):
        names = [f"{layer}.weight", f"{layer}.bias"]
        read = dict(weights.tensors(folder, names))
        weight, bias = (read[name].to(activated) for name in names)
        parts.append(functional.linear(activated, weight, bias))
    return torch.cat(parts, dim=1)


def _layers(transformer: Any) -> Iterator[str]:
    for index in range(len(transformer.transformer_blocks)):
        for stream in STREAMS:
            yield f"transformer_blocks.{index}.{stream}.1"
    yield "norm_out.linear"
