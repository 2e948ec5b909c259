"""What a model family is to the rest of Overpaint: options, a plan, and four verbs.

    plan     which part of the picture is computed, on what canvas
    prepare  encode text and pictures, draw the noise: one `Prepared` per seed
    predict  one prediction of the network for each of several `Prepared`, at their own steps
             (or `advance`, where a step is other work than denoising)
    decode   the picture as it stands

The loop (`diffusion/denoise.py`) knows no model and the model knows no loop. A family is one file
in `overpaint.families`, or one class that another package registers as an entry point of the
group `overpaint.families`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict, deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Le
from pydantic import BaseModel, ConfigDict, Field

from overpaint.core import masks
from overpaint.core.errors import UnsupportedOption
from overpaint.core.geometry import Plan
from overpaint.diffusion.shortcuts import EXACT, Prediction, Preset, Shortcuts, extrapolated

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from overpaint.core.types import EditRequest
from overpaint.core.xmp import SourceType

Need = Literal["required", "optional", "refused"]

Steps = Annotated[int, Ge(1), Le(1000)]
Fraction = Annotated[float, Ge(0.0), Le(1.0)]


class FamilyOptions(BaseModel):
    """Options that every family takes. Families add their own; unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=False)

    height: int | None = Field(
        default=None,
        ge=16,
        le=8192,
        description="Height of the answer in pixels. Given with `width`, the picture is stretched "
        "to that size as the reference pipeline does it; left out, the answer has the input's "
        "own size.",
    )
    width: int | None = Field(
        default=None, ge=16, le=8192, description="Width of the answer in pixels; see `height`."
    )
    grow: int = Field(
        default=0,
        ge=-512,
        le=512,
        description="Pixels by which the mask grows (negative: shrinks) before anything else.",
    )
    feather: int = Field(
        default=4,
        ge=0,
        le=512,
        description="Pixels inside the mask's edge over which the edit is blended into the "
        "original. Pixels outside the mask never change.",
    )
    window: Literal["auto", "full"] = Field(
        default="auto",
        description="auto: compute only a window around the mask; full: the whole picture.",
    )
    context: float = Field(
        default=0.5,
        ge=0.0,
        le=8.0,
        description="Margin around the mask that the model sees, as a fraction of the mask's "
        "longer side.",
    )
    composite: bool = Field(
        default=True,
        description="Put the original's pixels back outside the mask. Off: the model's own "
        "picture, as the reference pipeline returns it.",
    )


class DiffusionOptions(FamilyOptions):
    """Options of the families that denoise."""

    preset: Preset = Field(
        default="exact",
        description="exact: the reference's arithmetic; balanced, fast: less work at a measured "
        "cost in quality. Sets the options below that are not given.",
    )
    compute_every: int | None = Field(
        default=None,
        ge=1,
        le=10,
        description="Ask the network in every n-th step and extrapolate between; 1 = in all.",
    )
    guidance_start: Fraction | None = Field(
        default=None,
        description="Share of the steps before which classifier-free guidance is left out.",
    )
    guidance_stop: Fraction | None = Field(
        default=None,
        description="Share of the steps after which classifier-free guidance is left out.",
    )

    def shortcuts(self, presets: Mapping[Preset, Shortcuts]) -> Shortcuts:
        """The preset's, with what was given by itself.

        Raises:
            UnsupportedOption: guidance would end before it begins.
        """
        chosen = presets[self.preset]
        given = {name: getattr(self, name, None) for name in vars(chosen)}
        made = replace(chosen, **{name: each for name, each in given.items() if each is not None})
        if made.guidance_start >= made.guidance_stop:
            raise UnsupportedOption(
                f"{made.guidance_start} is not before guidance_stop, {made.guidance_stop}; for an "
                "edit without guidance leave the negative prompt out, or set guidance_scale to 1",
                field="options.guidance_start",
            )
        return made


@dataclass(kw_only=True)
class Prepared:
    """One image on its way through the steps; owned by its request alone.

    Attributes:
        seed: the image's seed.
        step: denoising steps done.
        total: steps in all.
    """

    seed: int
    total: int
    step: int = 0

    @property
    def done(self) -> bool:
        return self.step >= self.total


@dataclass(kw_only=True)
class Latent(Prepared):
    """A `Prepared` that is denoised: its own noise scheduler, generator and latents.

    Attributes:
        latents: (1, C, h, w), or (1, tokens, C) where the family packs them.
        timesteps: (total,) as the scheduler gave them.
        scheduler: this image's own copy (noise schedulers keep state between steps).
        generator: this image's own CPU generator.
        step_options: further keywords of `scheduler.step`.
        shortcuts: what is left out of its steps.
        predictions: the last two of the network, where steps are extrapolated.
    """

    latents: torch.Tensor
    timesteps: torch.Tensor
    scheduler: Any
    generator: torch.Generator
    step_options: dict[str, Any]
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


@dataclass(frozen=True)
class Accepts:
    """Which parts of a request a family can use."""

    prompt: Need
    mask: Need
    negative_prompt: Need = "optional"
    control: Need = "refused"
    references: Need = "refused"
    copy_from: Need = "refused"
    not_from: Need = "refused"


class Family(ABC):
    """A model family with one loaded checkpoint.

    Class attributes:
        name: as users write it.
        Options: the family's options; the one source for checks, help texts and schemas.
        accepts: the parts of a request it can use.
        pipelines: `_class_name` values of a `model_index.json` that this family reads.
        source_type: IPTC's term for what it makes of a picture.
    """

    name: ClassVar[str]
    Options: ClassVar[type[FamilyOptions]]
    accepts: ClassVar[Accepts]
    pipelines: ClassVar[frozenset[str]] = frozenset()
    source_type: ClassVar[SourceType] = "compositeWithTrainedAlgorithmicMedia"

    @abstractmethod
    def plan(self, request: EditRequest, options: Any) -> Plan:
        """Choose the window and the canvas. Computes nothing."""

    @abstractmethod
    def prepare(
        self, request: EditRequest, plan: Plan, options: Any, seeds: Sequence[int]
    ) -> tuple[list[Any], list[str]]:
        """Encode text and pictures once and draw each seed's noise.

        Returns:
            One `Prepared` per seed, and warnings for the caller.
        """

    def batch_key(self, prepared: Any) -> Hashable:
        """`Prepared` with equal keys can be given to `predict` together."""
        return id(prepared)

    @abstractmethod
    def predict(self, batch: Sequence[Any]) -> torch.Tensor:
        """The network's prediction for each image at its own timestep: (B, …) like the latents."""

    def advance(self, batch: Sequence[Any]) -> None:
        """One step for each image, in place: its `step` goes up by one.

        By default one prediction for all, then each image's own noise scheduler. A family whose
        steps are other work does that here, and is never asked to predict.
        """
        predictions = self._predictions(batch)
        for image, prediction in zip(batch, predictions, strict=True):
            image.latents = image.scheduler.step(
                prediction,
                image.timestep,
                image.latents,
                **image.step_options,
                return_dict=False,
            )[0]
            image.step += 1
            self.after_step(image)

    def _predictions(self, batch: Sequence[Latent]) -> list[torch.Tensor]:
        """Each image's, (1, …): from one pass of the network, but for what shortcuts leave out."""
        together: dict[bool, list[Latent]] = defaultdict(list)
        for image in batch:
            if image.shortcuts.computes(image.step, image.total):
                together[image.guided].append(image)
        found = {}
        for images in together.values():
            values = self.predict(images)
            for index, image in enumerate(images):
                found[id(image)] = values[index : index + 1]
        for image in batch:
            if id(image) not in found:
                earlier, later = image.predictions
                found[id(image)] = extrapolated(earlier, later, float(image.timestep))
            elif image.shortcuts.compute_every > 1:
                image.predictions.append(Prediction(float(image.timestep), found[id(image)]))
        return [found[id(image)] for image in batch]

    def after_step(self, prepared: Any) -> None:
        """What the family does to the latents between two steps; nothing by default."""
        return

    @abstractmethod
    def decode(self, prepared: Any) -> Image.Image:
        """The picture as it stands: 'RGB', sRGB, of the plan's canvas."""

    def preview(self, prepared: Any) -> Image.Image:
        """The picture as it stands, of any size; families decode fewer pixels than for `decode`."""
        return self.decode(prepared)

    def blend_mask(
        self,
        request: EditRequest,
        options: Any,
        plan: Plan,
        prepared: Any,
        edited: Image.Image,
    ) -> Image.Image | None:
        """Where the edit goes over the original: 'L' of the picture's size, 255 = the edit.

        None = everywhere. The default is the request's mask, grown and feathered inward.
        """
        if request.mask is None:
            return None
        return masks.feather(masks.grow(request.mask, options.grow), options.feather)
