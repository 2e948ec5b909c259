"""What the FLUX.1 families share that repaint under a mask: it is part of their condition."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Sequence
from typing import ClassVar, TypeVar

import torch
from PIL import Image

from overpaint.core.geometry import Box, Plan
from overpaint.core.types import EditRequest
from overpaint.diffusion import conditions, latents
from overpaint.diffusion.denoiser import Denoiser
from overpaint.families.flux1 import flux
from overpaint.families.flux1.flux import FluxLatent
from overpaint.families.flux1.options import FluxOptions

OptionsT = TypeVar("OptionsT", bound=FluxOptions)
LatentT = TypeVar("LatentT", bound=FluxLatent)


class FluxInpainting(Denoiser[OptionsT, LatentT]):
    """A FLUX.1 transformer that sees the picture and the mask as further features of its tokens."""

    denoiser: ClassVar[str] = "transformer"

    def plan(self, request: EditRequest, options: OptionsT) -> Plan:
        step, native = flux.sizes(self.checkpoint)
        return conditions.plan(request, options, step=step, native=native)

    def window(self, request: EditRequest, options: OptionsT, box: Box) -> Plan | None:
        step, native = flux.sizes(self.checkpoint)
        return conditions.window(request, options, box, step=step, native=native)

    @abstractmethod
    def condition(self, prepared: LatentT) -> torch.Tensor:
        """(1, N, C): what is concatenated to the features of the noise in the coming step."""

    def batch_key(self, prepared: LatentT) -> Hashable:
        return flux.batch_key(prepared)

    def predict(self, batch: Sequence[LatentT]) -> torch.Tensor:
        tokens = [torch.cat([image.latents, self.condition(image)], dim=2) for image in batch]
        return flux.predict(self.checkpoint.component("transformer"), batch, torch.cat(tokens))

    def decode(self, prepared: LatentT) -> Image.Image:
        return latents.decode(self.checkpoint, latents.unpack(prepared.latents, *prepared.grid))

    def preview(self, prepared: LatentT) -> Image.Image:
        whole = latents.unpack(prepared.latents, *prepared.grid)
        return latents.decode(self.checkpoint, latents.thin(whole))
