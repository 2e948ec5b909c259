"""Modulation that is computed ahead of the steps, so that its weights need not stay in memory."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from overpaint.checkpoints.files import weights


class LayerNumbers(nn.Module):
    """In place of a layer that makes modulation: cuts its numbers, (B, n), out of those of all
    layers, (B, M).
    """

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self._start, self._stop = start, stop

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        return numbers[:, self._start : self._stop]


def of_layers(folder: Path, layers: Iterable[str], activated: torch.Tensor) -> torch.Tensor:
    """(B, M) numbers of all layers, one layer's weights in memory at a time.

    Args:
        folder: the transformer's own, with its files.
        layers: names of the linear layers.
        activated: (B, D) that they take.
    """
    parts = []
    for layer in layers:
        names = [f"{layer}.weight", f"{layer}.bias"]
        stored = dict(weights.tensors(folder, names))
        weight, bias = (stored[name].to(activated) for name in names)
        parts.append(functional.linear(activated, weight, bias))
    return torch.cat(parts, dim=1)
