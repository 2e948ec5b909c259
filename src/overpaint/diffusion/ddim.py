"""Deterministic DDIM steps of several images at once, each bit for bit as alone.

diffusers' `DDIMScheduler.step` reads its coefficients from tables of the processor and serves one
image; here they lie on the device from the start, so that a step of any number of images is a few
operators and nothing comes from the host. Formulas (12) and (16) of Song et al. 2020
(arXiv:2010.02502) without noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

Target = Literal["epsilon", "v_prediction"]


@dataclass(frozen=True)
class Coefficients:
    """The coefficients of DDIM for each step.

    Attributes:
        roots: (steps, 4) float32: the roots of alpha and beta at a step, then of the next step's.
        target: what the network predicts.
        clip: the predicted picture's largest magnitude; None = any.
    """

    roots: torch.Tensor
    target: Target
    clip: float | None

    def to(self, device: torch.device) -> Coefficients:
        """The same on another device."""
        return replace(self, roots=self.roots.to(device))

    def fits(self, other: Coefficients) -> bool:
        """Whether images of both can be stepped together."""
        return (self.target, self.clip) == (other.target, other.clip)


def coefficients(scheduler: Any, timesteps: torch.Tensor, eta: float) -> Coefficients | None:
    """The coefficients of a scheduler, by its own arithmetic; None = it does something else.

    Args:
        scheduler: of diffusers, with its steps set.
        timesteps: (steps,) that are gone through.
        eta: share of noise that DDIM adds in each step.
    """
    config = scheduler.config
    if type(scheduler).__name__ != "DDIMScheduler" or eta or config.thresholding:
        return None
    if config.prediction_type not in ("epsilon", "v_prediction"):
        return None
    back = config.num_train_timesteps // scheduler.num_inference_steps
    rows = [_roots(scheduler, int(timestep), int(timestep) - back) for timestep in timesteps]
    clip = config.clip_sample_range if config.clip_sample else None
    return Coefficients(torch.stack(rows), config.prediction_type, clip)


def step(
    coefficients: Sequence[Coefficients],
    steps: Sequence[int],
    latents: Sequence[torch.Tensor],
    predictions: Sequence[torch.Tensor],
) -> torch.Tensor:
    """The latents of all images after their next step.

    Args:
        coefficients: of each image, with equal targets.
        steps: each image's number of steps done.
        latents: of each image, (1, C, h, w).
        predictions: the network's for each image, of the same shape.

    Returns:
        (images, C, h, w).
    """
    roots = torch.stack(
        [each.roots[index] for each, index in zip(coefficients, steps, strict=True)]
    )
    alpha, beta, next_alpha, next_beta = roots[:, :, None, None, None].unbind(1)
    sample, output = torch.cat(list(latents)), torch.cat(list(predictions))
    first = coefficients[0]
    if first.target == "epsilon":
        picture = _divided(sample - _times(beta, output), alpha)
        noise = output
    else:
        picture = _times(alpha, sample) - _times(beta, output)
        noise = _times(alpha, output) + _times(beta, sample)
    if first.clip is not None:
        picture = picture.clamp(-first.clip, first.clip)
    return _times(next_alpha, picture) + _times(next_beta, noise)


def _roots(scheduler: Any, timestep: int, following: int) -> torch.Tensor:
    """(4,) float32, by the operators of `DDIMScheduler.step`."""
    alpha = scheduler.alphas_cumprod[timestep]
    last = scheduler.final_alpha_cumprod
    next_alpha = scheduler.alphas_cumprod[following] if following >= 0 else last
    return torch.stack([root**0.5 for root in (alpha, 1 - alpha, next_alpha, 1 - next_alpha)])


def _times(factor: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Multiplied as torch multiplies a tensor by a single number before it.

    Processors round the number to the tensor's precision first, cards the product alone.
    """
    if values.device.type == "cpu":
        factor = factor.to(values.dtype)
    return (factor * values).to(values.dtype)


def _divided(values: torch.Tensor, divisor: torch.Tensor) -> torch.Tensor:
    """Divided as torch divides by a single number: in float32, and rounded once."""
    return (values / divisor).to(values.dtype)
