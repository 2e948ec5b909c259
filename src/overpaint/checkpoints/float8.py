"""Linear layers in float8 (e4m3): half of bfloat16's memory, and faster on cards that multiply it.

Weights are scaled per output, activations per token as they come, so that what a token becomes does
not depend on the tokens beside it. Norms, modulation, embeddings and the last projection keep their
precision. Scheme: Micikevicius et al. 2022 (arXiv:2209.05433), with one scale per row as in
torchao's `Float8DynamicActivationFloat8WeightConfig(PerRow())`.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from overpaint.core.errors import ModelLoadError, UnsupportedOption

MULTIPLE = 16
"""Of which the kernels want both sides of a weight to be."""

LARGEST = torch.finfo(torch.float8_e4m3fn).max

CAPABILITY = (8, 9)
"""CUDA cards from which on float8 is multiplied in hardware."""


class Float8Linear(nn.Module):
    """A linear layer whose weight is held, and multiplied, in float8.

    Args:
        linear: with weights of any precision, on the device where it shall compute.
    """

    weight: torch.Tensor
    scale: torch.Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight, scale = _quantized(linear.weight.detach())
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale.t())
        self.bias = linear.bias

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(…, in) → (…, out) in the precision of `tokens`."""
        rows, scale = _quantized(tokens.flatten(0, -2))
        kind = functional.ScalingType.RowWise
        found: torch.Tensor = functional.scaled_mm(
            rows, self.weight.t(), scale, kind, self.scale, kind, output_dtype=torch.bfloat16
        ).to(tokens.dtype)
        if self.bias is not None:
            found = found + self.bias
        return found.reshape(*tokens.shape[:-1], -1)


def quantize(model: Any, device: torch.device, pattern: re.Pattern[str]) -> None:
    """Put a denoiser on a device, its blocks' linear layers in float8, one after the other.

    Args:
        model: loaded on the CPU, so that the card never holds it in its first precision.
        device: where it will compute.
        pattern: of the names of the weights that become float8.

    Raises:
        UnsupportedOption: this card cannot multiply float8.
        ModelLoadError: this torch is too old.
    """
    require(device)
    chosen = [
        (name.removesuffix(".weight"), weight)
        for name, weight in model.named_parameters()
        if pattern.search(name) and all(side % MULTIPLE == 0 for side in weight.shape)
    ]
    for name, _ in chosen:
        parent, _, child = name.rpartition(".")
        holder = model.get_submodule(parent)
        setattr(holder, child, Float8Linear(getattr(holder, child).to(device)))
    model.to(device)


def require(device: torch.device) -> None:
    """Refuse a device, or a torch, that cannot multiply float8.

    Raises:
        UnsupportedOption, ModelLoadError.
    """
    if not hasattr(functional, "scaled_mm"):
        raise ModelLoadError(
            f"backend 'torch-float8' needs torch 2.10, this is {torch.__version__}; install a "
            'newer one, or set backend = "torch-compiled"'
        )
    if device.type not in ("cuda", "cpu"):
        raise UnsupportedOption(
            f"'torch-float8' is for CUDA cards, not for {device.type}; set backend = \"torch\"",
            field="backend",
        )
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < CAPABILITY:
        raise UnsupportedOption(
            f"'torch-float8' needs a card that multiplies float8, which "
            f'{torch.cuda.get_device_name(device)} does not; set backend = "torch-compiled"',
            field="backend",
        )


def _quantized(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, k) → the same in float8, and (n, 1) float32 scales to multiply it with."""
    exact = rows.float()
    scale = exact.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / LARGEST
    return (exact / scale).to(torch.float8_e4m3fn), scale
