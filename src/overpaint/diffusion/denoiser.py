"""What families that denoise add to a `Family`, and of these the ones that follow instructions."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import torch
from PIL import Image

from overpaint.checkpoints.compute import attention
from overpaint.core.errors import UnsupportedOption
from overpaint.core.geometry import Plan
from overpaint.core.imaging import changes
from overpaint.core.imaging.fidelity import correction, layer
from overpaint.core.imaging.fidelity.layer import EditLayer, ModelOutput
from overpaint.core.types import EditRequest
from overpaint.diffusion import ddim, recorded
from overpaint.diffusion.ddim import Coefficients
from overpaint.diffusion.family import Family, OptionsT, Prepared
from overpaint.diffusion.flow import Surroundings
from overpaint.diffusion.options import InstructionOptions
from overpaint.diffusion.shortcuts import EXACT, Prediction, Shortcuts, extrapolated

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

    The loop over the steps is `diffusion.denoise`, which knows no network.

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
        checkpoint = self.checkpoint
        with torch.inference_mode(), checkpoint.borrowed(self.denoiser) as model:
            if checkpoint.records:
                recorded.attach(model, checkpoint.placement.device)
            kernels = attention.ordered(
                model,
                checkpoint.placement.device,
                recurring=self.recurs(batch[0]),
                first=checkpoint.backend.attention,
            )
            try:
                with kernels:
                    stepped = _stepped(batch, self._predictions(batch))
            except Exception:
                # Memory may have run out: leave all of it to the next attempt.
                recorded.clear(model)
                raise
            for image, latents in zip(batch, stepped, strict=True):
                image.latents = latents
                image.step += 1
                self.after_step(image)

    def _predictions(self, batch: Sequence[LatentT]) -> list[torch.Tensor]:
        """Each image's, (1, …): from one pass of the network, but for what shortcuts leave out."""
        together: dict[bool, list[LatentT]] = defaultdict(list)
        for image in batch:
            if image.shortcuts.computes(image.step, image.total):
                together[image.guided].append(image)
        computed = {}
        for images in together.values():
            values = self.predict(images)
            for index, image in enumerate(images):
                computed[id(image)] = values[index : index + 1]
        for image in batch:
            if id(image) not in computed:
                earlier, later = image.predictions
                computed[id(image)] = extrapolated(earlier, later, float(image.timestep))
            elif image.shortcuts.compute_every > 1:
                image.predictions.append(Prediction(float(image.timestep), computed[id(image)]))
        return [computed[id(image)] for image in batch]

    def after_step(self, prepared: LatentT) -> None:
        """What the family does to the latents between two steps; nothing by default."""
        return


@dataclass(kw_only=True)
class InstructedLatent(Latent):
    """A `Latent` of an edit that follows an instruction.

    Attributes:
        surroundings: what lies outside the mask; None without one.
    """

    surroundings: Surroundings | None = None


InstructedT = TypeVar("InstructedT", bound=InstructedLatent)
InstructionT = TypeVar("InstructionT", bound=InstructionOptions)


class InstructionDenoiser(Denoiser[InstructionT, InstructedT]):
    """A denoiser that follows an instruction, in the whole picture or under a mask.

    With a mask, the picture outside it is put back after each step, noised to the coming timestep.
    Without one, what the edit did not change is found by comparing the result with the
    autoencoder's own copy of the picture.
    """

    @abstractmethod
    def copied(self, request: EditRequest, plan: Plan, prepared: InstructedT) -> Image.Image:
        """The picture on the plan's canvas as the autoencoder alone gives it back."""

    def require_effect(self, request: EditRequest, options: InstructionT) -> None:
        """Refuse a strength that would have none.

        Raises:
            UnsupportedOption: it is less than 1, and there is no mask.
        """
        if request.mask is None and options.strength < 1:
            raise UnsupportedOption(
                f"{options.strength:g} needs a mask: without one, an edit always starts from noise",
                field="options.strength",
            )

    def after_step(self, prepared: InstructedT) -> None:
        if prepared.surroundings is None:
            return
        scheduler = prepared.scheduler
        sigma = None if prepared.done else scheduler.sigmas[scheduler.step_index]
        prepared.latents = prepared.surroundings.around(prepared.latents, sigma)

    def place(
        self,
        request: EditRequest,
        options: InstructionT,
        plan: Plan,
        prepared: InstructedT,
        edited: Image.Image,
    ) -> EditLayer:
        if request.mask is None and options.keep_unchanged and options.hold:
            copied = self.copied(request, plan, prepared)
            output = ModelOutput(picture=edited, reconstruction=copied)
            return correction.by_changes(
                output, plan, keep=options.keep_areas, target=request.target
            )
        return super().place(request, options, plan, prepared, edited)

    def blend_mask(
        self,
        request: EditRequest,
        options: InstructionT,
        plan: Plan,
        prepared: InstructedT,
        edited: Image.Image,
    ) -> Image.Image | None:
        if request.mask is not None:
            return super().blend_mask(request, options, plan, prepared, edited)
        if not options.keep_unchanged:
            return None
        changed = changes.change_mask(self.copied(request, plan, prepared), edited)
        return None if changed is None else layer.whole_alpha(changed, plan)


def _stepped(batch: Sequence[Latent], predictions: list[torch.Tensor]) -> list[torch.Tensor]:
    """Each image's latents after the step, (1, …): all at once where that gives the same bits."""
    coefficients = [image.ddim for image in batch if image.ddim is not None]
    if len(coefficients) == len(batch) and all(map(coefficients[0].fits, coefficients)):
        steps = [image.step for image in batch]
        latents = ddim.step(coefficients, steps, [image.latents for image in batch], predictions)
        return list(latents[:, None].unbind())
    return [
        image.scheduler.step(
            prediction, image.timestep, image.latents, **image.step_options, return_dict=False
        )[0]
        for image, prediction in zip(batch, predictions, strict=True)
    ]
