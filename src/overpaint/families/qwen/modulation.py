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

from overpaint.diffusion.tokens.modulation import LayerNumbers, of_layers

STREAMS = ("img_mod", "txt_mod")


def evict(transformer: Any) -> None:
    """Take the modulation's layers out; steps then have to be given their numbers.

    Args:
        transformer: a `QwenImageTransformer2DModel`, with or without memory for its weights.
    """
    start = 0
    for block in transformer.transformer_blocks:
        for stream in STREAMS:
            stop = start + getattr(block, stream)[1].out_features
            setattr(block, stream, LayerNumbers(start, stop))
            start = stop
    norm = transformer.norm_out
    stop = start + norm.linear.out_features
    norm.linear, norm.silu = LayerNumbers(start, stop), nn.Identity()


def evicted(transformer: Any) -> bool:
    """Whether `evict` was called."""
    return isinstance(transformer.norm_out.linear, LayerNumbers)


@torch.inference_mode()
def compute(transformer: Any, folder: Path, times: torch.Tensor) -> torch.Tensor:
    """(steps, M) numbers for all layers at each time.

    Args:
        transformer: one with its modulation evicted.
        folder: the component's own, with its files.
        times: (steps,) in [0, 1], on the transformer's device and in its precision.
    """
    activated = functional.silu(transformer.time_text_embed(times, times))
    return of_layers(folder, _layers(transformer), activated)


def _layers(transformer: Any) -> Iterator[str]:
    for index in range(len(transformer.transformer_blocks)):
        for stream in STREAMS:
            yield f"transformer_blocks.{index}.{stream}.1"
    yield "norm_out.linear"
