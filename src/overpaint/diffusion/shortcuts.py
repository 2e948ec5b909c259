"""Work that an edit leaves out on request, at a cost in quality: off unless asked for.

Four shortcuts, each with its own option; `preset` sets them together, and a family says how
(`Family.presets`). Their cost is measured on the twins by `benchmarks.behaviour --presets`.

Everything they need to remember belongs to the image on its way, not to the network, so edits
with and without shortcuts share the engine and their passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    import torch

Preset = Literal["exact", "balanced", "fast"]

WARM_UP = 2
"""First steps that are always computed: they lay out the picture, and two predictions are what an
extrapolation needs."""


@dataclass(frozen=True)
class Shortcuts:
    """What is left out of an image's steps.

    Attributes:
        compute_every: the network is asked in every n-th step, between them its prediction is
            extrapolated.
        guidance_start, guidance_stop: shares of the steps between which classifier-free guidance
            is computed.
        refresh_every: FLUX families compute all tokens in every n-th step, else those being edited.
        freeze_text: FLUX families compute the text's tokens in those n-th steps only.
    """

    compute_every: int = 1
    guidance_start: float = 0.0
    guidance_stop: float = 1.0
    refresh_every: int = 1
    freeze_text: bool = False

    def computes(self, step: int, total: int) -> bool:
        """Whether the network is asked in this step; always in the last one."""
        if step < WARM_UP or step == total - 1:
            return True
        return (step - WARM_UP + 1) % self.compute_every == 0

    def guides(self, step: int, total: int) -> bool:
        """Whether classifier-free guidance, where the edit has it, is computed in this step."""
        return self.guidance_start * total <= step < self.guidance_stop * total


EXACT = Shortcuts()


class Prediction(NamedTuple):
    """The network's prediction at a timestep."""

    timestep: float
    value: torch.Tensor


def extrapolated(earlier: Prediction, later: Prediction, timestep: float) -> torch.Tensor:
    """The prediction at a coming timestep, on the line through the last two.

    First-order Taylor on the network's output: TaylorSeer (Liu et al. 2025, arXiv:2503.06923) in
    the form that diffusers calls lite.
    """
    if later.timestep == earlier.timestep:
        return later.value
    share = (timestep - later.timestep) / (later.timestep - earlier.timestep)
    return later.value + share * (later.value - earlier.value)
