"""Linear layers in float8 (e4m3): half of bfloat16's memory, and faster on cards that multiply it.

Weights are scaled per output, activations per token as they come, so that what a token becomes does
not depend on the tokens beside it. Tokens that several layers multiply are scaled once. Norms,
modulation, embeddings and the last projection keep their precision. Scheme: Micikevicius et al.
2022 (arXiv:2209.05433), with one scale per row as in torchao's
`Float8DynamicActivationFloat8WeightConfig(PerRow())`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from overpaint.core.errors import ModelLoadError, UnsupportedOption

MULTIPLE = 16
"""The kernels want both sides of a weight to be multiples of it."""

LARGEST = torch.finfo(torch.float8_e4m3fn).max

CAPABILITY = (8, 9)
"""CUDA cards from which on float8 is multiplied in hardware."""


SHARED_INPUTS = tuple(
    re.compile(pattern)
    for pattern in (
        r"(.*)\.(?:attn\.to_[qkv]|proj_mlp)$",
        r"(.*)\.attn\.add_[qkv]_proj$",
        r"(.*)\.attn1\.to_[qkv]$",
        r"(.*)\.attn2\.to_[kv]$",
    )
)
"""Layers of one block that are given the same tokens: FLUX's, then those of Stable Diffusion."""


class SharedInput:
    """Tokens that several layers multiply, quantized once.

    Args:
        users: layers that are given the same tensor one after the other.
    """

    def __init__(self, users: int) -> None:
        self._users = users
        self._uses_left = 0
        self._tokens: torch.Tensor | None = None
        self._quantized: tuple[torch.Tensor, torch.Tensor] | None = None

    def quantized(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As `_quantized` of the tokens; forgotten when the last of the layers has them."""
        quantized = self._quantized
        if quantized is None or self._tokens is not tokens:
            quantized = _quantized(tokens.flatten(0, -2))
            self._tokens, self._quantized, self._uses_left = tokens, quantized, self._users
        self._uses_left -= 1
        if self._uses_left == 0:
            self._tokens = self._quantized = None
        return quantized


class Float8Linear(nn.Module):
    """A linear layer whose weight is held, and multiplied, in float8.

    Args:
        linear: with weights of any precision, on the device that computes.
        shared: what it has in common with others that are given the same tokens.
    """

    weight: torch.Tensor
    scale: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, linear: nn.Linear, shared: SharedInput | None = None) -> None:
        super().__init__()
        weight, scale = _quantized(linear.weight.detach())
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale.t())
        # The kernel adds it, in its own precision.
        bias = None if linear.bias is None else linear.bias.detach().to(torch.bfloat16)
        self.register_buffer("bias", bias)
        self._input = shared or SharedInput(1)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(…, in) → (…, out) in the precision of `tokens`."""
        rows, scale = self._input.quantized(tokens)
        kind = functional.ScalingType.RowWise
        product: torch.Tensor = functional.scaled_mm(
            rows,
            self.weight.t(),
            scale,
            kind,
            self.scale,
            kind,
            bias=self.bias,
            output_dtype=torch.bfloat16,
            # Else partial sums are moved to other registers all the time: several times slower.
            use_fast_accum=True,
        )
        return product.to(tokens.dtype).reshape(*tokens.shape[:-1], len(self.weight))


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
    names = [
        name.removesuffix(".weight")
        for name, weight in model.named_parameters()
        if pattern.search(name) and all(side % MULTIPLE == 0 for side in weight.shape)
    ]
    shared = _shared_inputs(names)
    for name in names:
        parent, _, child = name.rpartition(".")
        holder = model.get_submodule(parent)
        linear = getattr(holder, child).to(device)
        setattr(holder, child, Float8Linear(linear, shared.get(name)))
    model.to(device)


def _shared_inputs(names: Iterable[str]) -> dict[str, SharedInput]:
    """What each layer shares with others, by name; layers that share nothing are left out."""
    groups: dict[tuple[int, str], list[str]] = defaultdict(list)
    for name in names:
        for index, pattern in enumerate(SHARED_INPUTS):
            if match := pattern.match(name):
                groups[index, match[1]].append(name)
    shared = {}
    for group in groups.values():
        shared.update(dict.fromkeys(group, SharedInput(len(group))))
    return shared


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
    scale = rows.abs().amax(dim=1, keepdim=True).float().clamp_min(1e-12) / LARGEST
    # Division may round up, and a value above the largest number would become NaN.
    return (rows.float() / scale).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn), scale
