"""Flow matching, as families with diffusers' `FlowMatchEulerDiscreteScheduler` share it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from overpaint.checkpoints.checkpoint import Checkpoint
from overpaint.core.errors import UnsupportedOption


def schedule(
    checkpoint: Checkpoint, steps: int, shift: float | None, strength: float
) -> tuple[Any, torch.Tensor]:
    """A fresh noise scheduler of equal steps, shifted, and the timesteps that `strength` leaves.

    Args:
        checkpoint: whose scheduler.
        steps: before `strength` takes some away.
        shift: the exponent of the time shift (the pipelines' `mu`); None = the scheduler has one of
            its own.
        strength: share of the steps that is computed, as in the pipelines' `get_timesteps`.

    Raises:
        UnsupportedOption: no step is left.
    """
    scheduler = copy.deepcopy(checkpoint.component("scheduler"))
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=shift)
    left_out = skipped_steps(steps, strength)
    if left_out >= steps:
        raise UnsupportedOption(
            f"{strength} of {steps} steps leaves none to compute; raise strength or "
            "num_inference_steps",
            field="options.strength",
        )
    scheduler.set_begin_index(left_out)
    return scheduler, scheduler.timesteps[left_out:]


def schedule_by_size(
    checkpoint: Checkpoint, steps: int, tokens: int, strength: float = 1.0
) -> tuple[Any, torch.Tensor]:
    """The same with a shift that is linear in the number of noise tokens.

    Raises:
        UnsupportedOption: no step is left.
    """
    config = checkpoint.component("scheduler").config
    return schedule(checkpoint, steps, linear_shift(config, tokens), strength)


def skipped_steps(steps: int, strength: float) -> int:
    """How many of an edit's first steps `strength` leaves out, rounded down."""
    return int(max(steps - min(steps * strength, steps), 0))


def noised(source: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """A picture at a noise level, as the scheduler's `scale_noise`.

    That one copies its schedule to the device in each call, which makes the step wait. A number
    that stays with the processor does not.

    Args:
        source, noise: (1, ...) latents of one shape.
        sigma: 0-d, on the CPU.
    """
    level = sigma.to(source.dtype)
    return level * noise + (1.0 - level) * source


def linear_shift(config: Any, tokens: int) -> float:
    """The exponent of the time shift, linear in the number of tokens (`calculate_shift`).

    Args:
        config: of the noise scheduler.
        tokens: of noise.
    """
    base, longest = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    slope = (high - low) / (longest - base)
    return float(tokens * slope + (low - slope * base))


@dataclass(frozen=True, kw_only=True, eq=False)
class Surroundings:
    """The picture outside a mask, which is put back after each step.

    Attributes:
        picture: (1, N, C) latents as tokens.
        noise: (1, N, C) that the edit started from.
        mask: (1, N, C) or (1, N, 1), 1 = repaint.
    """

    picture: torch.Tensor
    noise: torch.Tensor
    mask: torch.Tensor

    def around(self, latents: torch.Tensor, sigma: torch.Tensor | None) -> torch.Tensor:
        """Latents inside the mask, the picture outside it.

        Args:
            latents: (1, N, C).
            sigma: 0-d, on the CPU: noise level of the coming step; None = there is none.
        """
        outside = self.picture if sigma is None else noised(self.picture, self.noise, sigma)
        return (1 - self.mask) * outside + self.mask * latents
