"""What a model family is to the rest of Overpaint.

A `FamilySpec` says what a family is: what it accepts, its options, the components of its
checkpoints. It imports nothing heavy, so that requests are checked and help is written without
torch. A `Family` is that with one loaded checkpoint, and does the work of an edit:

    settle      options that the caller left open, as the checkpoint wants them
    plan        which part of the picture is computed, on what canvas; `window` for a part of a mask
    prepare     encode texts and pictures, draw the noise: one `Prepared` per seed
    advance     one step for each of several `Prepared`, in place
    decode      the picture as it stands; `preview` decodes less of it
    place       what of it goes over the original, and where; `blend_mask` is the where of it

Families that denoise subclass `diffusion.denoiser.Denoiser`.

A family is in a folder of `overpaint.families`, whose `__init__.py` has `FAMILIES`, a tuple of
specs, or in another package, which registers a spec as an entry point of the group
`overpaint.families`.

For authors: two threads call a family. One plans, prepares, decodes and previews, the other one
advances; neither runs twice at the same time. But on a processor, a thread may do another edit's
work between two operations of torch, or where the family calls `core.work.interruption.check`: what
is put on modules for a pass goes back afterwards to what it was before. `plan`, `decode`,
`preview`, `place` and `blend_mask` change nothing. `advance` changes the `Prepared` that it is
given and nothing else. A component of the checkpoint is borrowed while something is computed with
it (`Checkpoint.borrowed`).
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from overpaint.core.errors import ModelLoadError
from overpaint.core.imaging import masks
from overpaint.core.imaging.fidelity.layer import EditLayer
from overpaint.core.work.workload import Workload
from overpaint.diffusion.options import FamilyOptions

if TYPE_CHECKING:
    from PIL import Image

    from overpaint.checkpoints.checkpoint import Checkpoint
    from overpaint.checkpoints.component import Component
    from overpaint.core.geometry import Box, Plan
    from overpaint.core.types import EditRequest
    from overpaint.provenance.xmp import SourceType

Need = Literal["required", "optional", "refused"]
"""Whether a family uses a part of a request."""


@dataclass(frozen=True, kw_only=True)
class FamilySpec:
    """What a family is, known without loading it.

    Attributes:
        name: as users write it.
        implementation: 'module:Class' of its `Family`, imported with the first model.
        options: its options; the one source for checks, help texts and schemas.
        accepts: the parts of a request that it uses; those that are not named are refused.
        components: of its checkpoints, by their names in `model_index.json`; none = it has no
            weights.
        pipelines: `_class_name` values of a `model_index.json` that it reads; for those that other
            models share, values in the configurations of components that tell its own apart.
        cells: latents on a side that its denoiser takes together, so that widths and heights are
            multiples of them; None = any size will do, or its plan says.
        source_type: IPTC's term for what it makes of a picture.
        workload: how its work grows with the sizes of an edit.
        prompt_style: how its prompts are best written, for a chat model that rewrites them; None =
            they stay as they are.
        reads_english_only: its text encoder was trained on English, as CLIP and T5 are.
        in_srgb: it computes in sRGB, whatever the picture's space; else in the picture's own.
    """

    name: str
    implementation: str
    options: type[FamilyOptions]
    accepts: Mapping[str, Need]
    components: Mapping[str, Component] = field(default_factory=dict)
    pipelines: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    cells: int | None = None
    source_type: SourceType = "compositeWithTrainedAlgorithmicMedia"
    workload: Workload = field(default_factory=Workload)
    prompt_style: str | None = None
    reads_english_only: bool = False
    in_srgb: bool = True

    def need(self, part: str) -> Need:
        """Whether it uses a part of a request."""
        return self.accepts.get(part, "refused")

    def refusal(self, pipeline: str, config_of: Callable[[str], Mapping[str, Any]]) -> str | None:
        """Why a checkpoint is none of this family's; None = it is one.

        Args:
            pipeline: the class that its index names.
            config_of: gives a component's configuration.
        """
        if pipeline not in self.pipelines:
            return (
                f"this is a {pipeline or 'checkpoint without a pipeline class'}, not a "
                f"{' or '.join(sorted(self.pipelines))} as the family '{self.name}' reads"
            )
        for component, values in self.pipelines[pipeline].items():
            config = config_of(component)
            for name, value in values.items():
                if config.get(name) != value:
                    return (
                        f"this is another model saved as a {pipeline}: its {component} has {name} "
                        f"{config.get(name)}, where the family '{self.name}' has {value}"
                    )
        return None

    def open(self, checkpoint: Checkpoint | None = None) -> Family[Any, Any]:
        """The family with a checkpoint; None for one without weights.

        Raises:
            ModelLoadError: its package cannot be imported.
        """
        module, _, name = self.implementation.partition(":")
        try:
            family: type[Family[Any, Any]] = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise ModelLoadError(
                f"family '{self.name}' of {self.implementation} cannot be imported: {error}"
            ) from error
        return family(self, checkpoint)


@dataclass(kw_only=True)
class Prepared:
    """One image on its way through the steps; owned by its request alone.

    Attributes:
        seed: the image's seed.
        step: denoising steps done.
        total: steps in all.
        held_bytes: what it keeps on the device for its steps at most, beside its latents.
        is_even: whether its steps take about equally long.
    """

    seed: int
    total: int
    step: int = 0
    held_bytes: int = 0
    is_even: bool = True

    @property
    def done(self) -> bool:
        return self.step >= self.total


OptionsT = TypeVar("OptionsT", bound=FamilyOptions)
PreparedT = TypeVar("PreparedT", bound=Prepared)


class Family(ABC, Generic[OptionsT, PreparedT]):
    """A model family with one checkpoint.

    Args:
        spec: what it is.
        checkpoint: its weights; None for a family without any.
    """

    def __init__(self, spec: FamilySpec, checkpoint: Checkpoint | None = None) -> None:
        self.spec = spec
        self._checkpoint = checkpoint

    @property
    def checkpoint(self) -> Checkpoint:
        """Its weights."""
        assert self._checkpoint is not None
        return self._checkpoint

    def settle(self, options: OptionsT) -> OptionsT:
        """Options that the caller left open, as this checkpoint wants them; recipes have these.

        For families of which checkpoints differ in what suits them. By default nothing is open.

        Raises:
            UnsupportedOption: one that was given does not suit this checkpoint.
        """
        return options

    @abstractmethod
    def plan(self, request: EditRequest, options: OptionsT) -> Plan:
        """Choose the window and the canvas. Computes nothing."""

    def window(self, request: EditRequest, options: OptionsT, box: Box) -> Plan | None:
        """The plan of a part of the mask, given by its box, as `plan` makes it for the whole mask.

        None = the edit has one window, wherever its mask is. That is the default; families that
        give a plan have their edits split where parts of a mask lie far apart.
        """
        return None

    def held_bytes(self, request: EditRequest, plan: Plan, options: OptionsT) -> int:
        """What one image will keep on the device for its steps, known before it is prepared.

        An edit that does not fit then need not be prepared in vain; `Prepared.held_bytes` is
        what counts once it is.
        """
        return 0

    @abstractmethod
    def prepare(
        self, request: EditRequest, plan: Plan, options: OptionsT, seeds: Sequence[int]
    ) -> tuple[list[PreparedT], list[str]]:
        """Encode texts and pictures once and draw each seed's noise.

        Returns:
            One `Prepared` per seed, and warnings for the caller.
        """

    def batch_key(self, prepared: PreparedT) -> Hashable:
        """`Prepared` with equal keys can be given to `advance` together; by default none can."""
        return id(prepared)

    @abstractmethod
    def advance(self, batch: Sequence[PreparedT]) -> None:
        """One step for each image, in place: its `step` goes up by one."""

    @abstractmethod
    def decode(self, prepared: PreparedT) -> Image.Image:
        """The picture as it stands: 'RGB' of the plan's canvas, in sRGB or the picture's space."""

    def preview(self, prepared: PreparedT) -> Image.Image:
        """The picture as it stands, of any size; families decode fewer pixels than for `decode`."""
        return self.decode(prepared)

    def place(
        self,
        request: EditRequest,
        options: OptionsT,
        plan: Plan,
        prepared: PreparedT,
        edited: Image.Image,
    ) -> EditLayer:
        """What of a decoded canvas goes into the picture, and where.

        The default is all of it, under `blend_mask`. Families whose models move or colour the
        whole picture take that back first.
        """
        alpha = self.blend_mask(request, options, plan, prepared, edited)
        return EditLayer(edited=edited, alpha=alpha)

    def blend_mask(
        self,
        request: EditRequest,
        options: OptionsT,
        plan: Plan,
        prepared: PreparedT,
        edited: Image.Image,
    ) -> Image.Image | None:
        """Where the edit goes over the original: 'L' of the picture's size, 255 = the edit.

        None = everywhere. The default is the request's mask, grown and feathered inward.
        """
        if request.mask is None:
            return None
        return masks.feather(masks.grow(request.mask, options.grow), options.feather)
