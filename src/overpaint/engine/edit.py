"""One edit between the engine's calls: what each half of it hands to the next."""

from __future__ import annotations

import copy
import itertools
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from overpaint.core.imaging.fidelity.target import Locator, TargetLocation, located
from overpaint.core.imaging.images import Picture
from overpaint.core.safety import Verdict
from overpaint.core.types import EditRequest
from overpaint.diffusion.family import Prepared
from overpaint.diffusion.options import FamilyOptions
from overpaint.engine.checking import CheckedRequest
from overpaint.engine.model import Model
from overpaint.engine.windows import Region
from overpaint.provenance import marks, recipes
from overpaint.provenance.marks import Marking

if TYPE_CHECKING:
    from overpaint.core.imaging.fidelity.layer import ModelOutput
    from overpaint.core.imaging.fidelity.report import Fidelity


@dataclass(frozen=True, eq=False)
class Screened:
    """A request that the safety policy lets in; made by `Engine.screen` alone.

    Attributes:
        submission: the request, with its prompt rewritten where that is asked for.
        verdicts: of the policy.
        timings: seconds that checking and rewriting took.
        rewriting: who wrote the prompt, and of which wish; None = the caller did.
        target: where the thing is that its instruction names; None = it was not looked for yet.
    """

    submission: EditRequest | CheckedRequest
    verdicts: tuple[Verdict, ...]
    timings: Mapping[str, float]
    rewriting: Mapping[str, str] | None = None
    target: TargetLocation | None = None


@dataclass(kw_only=True)
class RecalledImage(Prepared):
    """An image whose steps were made before.

    Attributes:
        output: what the model made then.
    """

    output: ModelOutput


@dataclass(frozen=True, eq=False)
class Decoded:
    """Pictures of an edit that the safety policy has not seen yet: for `Engine.deliver` alone.

    Attributes:
        pictures: one per image.
        seeds: of each.
        fidelity: of each, in numbers; None = nothing was measured.
        model_outputs: of each, what the model itself made; None = it has no changed areas.
    """

    pictures: tuple[Picture, ...]
    seeds: tuple[int, ...]
    fidelity: tuple[Fidelity | None, ...] = ()
    model_outputs: tuple[ModelOutput | None, ...] = ()

    @property
    def measures(self) -> tuple[Mapping[str, Any], ...]:
        """Of each picture, as plain data; empty where nothing was measured."""
        return tuple({} if each is None else each.as_json() for each in self.fidelity)

    @property
    def warnings(self) -> list[str]:
        """What the measures say, and of which picture where there are several."""
        several = len(self.pictures) > 1
        return [
            f"picture {number}: {sentence}" if several else sentence
            for number, each in enumerate(self.fidelity, start=1)
            if each is not None
            for sentence in each.warnings
        ]


@dataclass(eq=False, kw_only=True)
class Edit:
    """A request under way: what `begin` made and `finish` needs.

    Attributes:
        request: what is asked for.
        canvas: the same as it is computed, where the picture grows on its larger canvas.
        rewriting: who wrote its prompt, and of which wish; None = the caller did.
        target: who found what its instruction names, by which words; None = nobody had to.
        model: that makes it.
        seeds: one per image, as they were asked for.
        options: of the model's family.
        regions: the parts that are computed, each by itself.
        prepared: of the first image one per region, then of the second one …
        warnings: one sentence each.
        verdicts: of the safety policy.
        timings: seconds by stage.
    """

    request: EditRequest
    canvas: EditRequest
    rewriting: Mapping[str, str] | None = None
    target: Mapping[str, str] | None = None
    model: Model
    seeds: tuple[int, ...]
    options: FamilyOptions
    regions: tuple[Region, ...]
    prepared: list[Prepared]
    warnings: list[str]
    verdicts: tuple[Verdict, ...] = ()
    timings: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @property
    def images(self) -> list[list[Prepared]]:
        """The regions of each image."""
        each = len(self.regions)
        return [self.prepared[at : at + each] for at in range(0, len(self.prepared), each)]

    @property
    def held_bytes(self) -> int:
        """What its images keep on the device during their steps."""
        return sum(image.held_bytes for image in self.prepared)

    def recipe(self, decoded: Decoded) -> dict[str, Any]:
        """What makes its pictures again."""
        return recipes.recipe(
            self.request,
            model=self.model.record,
            options=self.options.model_dump(),
            seeds=decoded.seeds,
            measures=decoded.measures,
            rewriting=self.rewriting,
            target=self.target,
        )

    def marked(
        self, picture: Picture, marking: Marking, recipe: Mapping[str, Any] | None = None
    ) -> Picture:
        """One of its pictures with what its file says of how it was made.

        Args:
            picture: as decoded.
            marking: what files say.
            recipe: of that picture; None = it is unfinished.
        """
        return marks.marked(
            picture,
            marking,
            source_type=self.model.family.spec.source_type,
            source=self.request.image,
            canvas=self.canvas.image,
            model=self.model.record,
            recipe=recipe,
        )

    def snapshot(self) -> Edit:
        """The edit with its first image only, as that stands now, for `Engine.preview`."""
        return replace(self, prepared=[copy.copy(each) for each in self.images[0]])


def recalled_images(checked: CheckedRequest, model: Model) -> list[Prepared]:
    """The image of an edit whose model ran before, with other areas kept; none where it did not.

    The whole recipe must be the same: version, model and device, words, pictures, seed, options.
    """
    if not checked.request.earlier_runs:
        return []
    own = recipes.recipe(
        checked.request,
        model=model.record,
        options=checked.options.model_dump(),
        seeds=checked.seeds,
    )
    same = (e for e in checked.request.earlier_runs if recipes.differ_in_areas_alone(own, e.recipe))
    return [
        RecalledImage(seed=checked.seeds[0], total=0, output=earlier.read())
        for earlier in itertools.islice(same, 1)
    ]


def location_of_target(
    locator: Locator | None, checked: CheckedRequest, rewriting: Mapping[str, str] | None
) -> TargetLocation:
    """Where the thing is that an instruction names, if that matters and nobody gave it.

    Args:
        locator: looks for it; None = nobody does.
        checked: the edit.
        rewriting: of its prompt; the caller's own words count.
    """
    request = checked.request
    has_mask = request.mask is not None or request.extend is not None
    is_wanted = checked.options.uses_target and not has_mask and request.target is None
    if locator is None or not is_wanted:
        return TargetLocation()
    return located(locator, request.image, (rewriting or {}).get("wish", request.prompt))


def plain_request(submission: EditRequest | CheckedRequest) -> EditRequest:
    """The request itself, checked or not."""
    return submission.request if isinstance(submission, CheckedRequest) else submission
