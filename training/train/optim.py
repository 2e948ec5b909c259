"""Muon for matrices and convolutions, AdamW for the rest.

Muon (Jordan et al. 2024) orthogonalises the momentum by a Newton-Schulz iteration; its update is
scaled to AdamW's root mean square, 0.2 * sqrt(max(rows, columns)) (Liu et al. 2025, 'Muon is
scalable for LLM training'), so that one learning rate serves both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


def orthogonalise(stack: Tensor, iterations: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrices, roughly: singular values end in about 0.7..1.2.

    Args:
        stack: matrices of one shape, (count, rows, columns).
        iterations: quintic Newton-Schulz steps.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = stack.shape[-2] > stack.shape[-1]
    x = (stack.mT if tall else stack).bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = (x.mT if tall else x).to(stack.dtype)
    return result


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised; weights of two or more dimensions only."""

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Updates all parameters that have a gradient; those of one shape together."""
        for group in self.param_groups:
            alike: dict[tuple[int, int], list[nn.Parameter]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    alike[(p.shape[0], p.numel() // p.shape[0])].append(p)
            for shape, members in alike.items():
                moved = torch.stack([self._momentum(p, group).view(shape) for p in members])
                scale = 0.2 * max(shape) ** 0.5 * group["lr"]
                for p, update in zip(members, orthogonalise(moved), strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(update.view_as(p), alpha=-scale)

    def _momentum(self, p: nn.Parameter, group: dict[str, Any]) -> Tensor:
        assert p.grad is not None
        state = self.state[p]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(p)
        state["momentum"].lerp_(p.grad, 1 - group["momentum"])
        return p.grad.lerp(state["momentum"], group["momentum"])


def build_optimizers(
    model: nn.Module,
    lr: float,
    adamw_lr: float | None = None,
    weight_decay: float = 0.01,
    never_muon: tuple[str, ...] = (),
) -> list[torch.optim.Optimizer]:
    """Muon on hidden matrices and convolutions, AdamW on vectors and on the parts named.

    Args:
        model: the module whose trainable parameters are to be shared out.
        lr: learning rate of Muon.
        adamw_lr: learning rate of AdamW; half of Muon's unless given.
        weight_decay: for both.
        never_muon: substrings of parameter names that AdamW takes (embeddings, last layers).
    """
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, p in model.named_parameters():
        if not p.requires_grad:
            continue
        hidden = p.ndim >= 2 and min(p.shape[0], p.numel() // p.shape[0]) > 1
        taken = hidden and not any(part in name for part in never_muon)
        (matrices if taken else others).append(p)
    optimizers: list[torch.optim.Optimizer] = []
    if matrices:
        optimizers.append(Muon(matrices, lr=lr, weight_decay=weight_decay))
    if others:
        rate = lr / 2 if adamw_lr is None else adamw_lr
        adamw = torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=weight_decay)
        optimizers.append(adamw)
    return optimizers
