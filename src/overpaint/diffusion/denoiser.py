"""Families that denoise: what they add to a `Family`."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import torch

from overpaint.diffusion import denoise
from overpaint.diffusion.ddim import Coefficients
from overpaint.diffusion.family import Family, OptionsT, Prepared
from overpaint.diffusion.shortcuts import EXACT, Prediction, Shortcuts

ROUND_SIDE = 8
"""Latents of a side that windows are rounded to: 64 pixels."""

ROUND_TOKENS = 16
"""Packed tokens of as much: four along each side."""


@dataclass(kw_only=True)
class Latent(Prepared):
    """A `Prepared` that is denoised: its own noise scheduler, generator and latents.

    Attributes:
        latents: (1, C, h, w), or (1, tokens, C) where the family packs them.
        timesteps: (total,) as the scheduler gave them.
        scheduler: this image's own copy (noise schedulers keep state between steps).
        generator: this image's own CPU generator.
        step_options: further keywords of `scheduler.step`.
        ddim: where the scheduler is deterministic DDIM, what its steps compute with, on the device.
        shortcuts: what is left out of its steps.
        predictions: the last two of the network, where steps are extrapolated.
    """

    latents: torch.Tensor
    timesteps: torch.Tensor
    scheduler: Any
    generator: torch.Generator
    step_options: dict[str, Any]
    ddim: Coefficients | None = None
    shortcuts: Shortcuts = EXACT
    predictions: deque[Prediction] = field(default_factory=lambda: deque(maxlen=2))

    @property
    def guided(self) -> bool:
        """Whether classifier-free guidance, where the edit has it, is computed in this step."""
        return self.shortcuts.guides(self.step, self.total)

    @property
    def timestep(self) -> torch.Tensor:
        """The scheduler's timestep of the coming step, a 0-d tensor."""
        return self.timesteps[self.step]


LatentT = TypeVar("LatentT", bound=Latent)


class Denoiser(Family[OptionsT, LatentT]):
    """A family whose steps are denoising: the network is asked, then the noise scheduler.

    The step itself is `diffusion.denoise.advance`; the loop knows no model, and the model no loop.

    Class attributes:
        denoiser: name of the component that computes the steps.
    """

    denoiser: ClassVar[str]

    @abstractmethod
    def predict(self, batch: Sequence[LatentT]) -> torch.Tensor:
        """The network's prediction for each image at its own timestep: (B, …) like the latents."""

    def recurs(self, image: LatentT) -> bool:
        """Whether other edits will have steps of this image's shape, so that planning for it pays.

        By default: where its sides are multiples of what windows are rounded to.
        """
        shape = image.latents.shape
        if len(shape) == 3:
            return shape[1] % ROUND_TOKENS == 0
        return all(side % ROUND_SIDE == 0 for side in shape[2:])

    def advance(self, batch: Sequence[LatentT]) -> None:
        denoise.advance(self, batch)

    def after_step(self, prepared: LatentT) -> None:
        """What the family does to the latents between two steps; nothing by default."""
        return
