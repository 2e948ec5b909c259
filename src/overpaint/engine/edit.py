"""One edit between the engine's calls: what each half of it hands to the next."""

from __future__ import annotations

import copy
from collections import defaultdict
from dataclasses import dataclass, field, replace

from overpaint.core.geometry import Plan
from overpaint.core.imaging.images import Picture
from overpaint.core.safety import Verdict
from overpaint.core.types import EditRequest
from overpaint.diffusion.family import Prepared
from overpaint.diffusion.options import FamilyOptions
from overpaint.engine.intake import CheckedRequest
from overpaint.engine.model import Model


@dataclass(frozen=True, eq=False)
class Screened:
    """A request that the safety policy lets in; made by `Engine.screen` alone.

    Attributes:
        submission: the request.
        verdicts: of the policy.
        seconds: that it took.
    """

    submission: EditRequest | CheckedRequest
    verdicts: tuple[Verdict, ...]
    seconds: float


@dataclass(frozen=True, eq=False)
class Decoded:
    """Pictures of an edit that the safety policy has not seen yet: for `Engine.deliver` alone."""

    pictures: tuple[Picture, ...]
    seeds: tuple[int, ...]


@dataclass(eq=False, kw_only=True)
class Edit:
    """A request under way: what `begin` made and `finish` needs."""

    request: EditRequest
    model: Model
    options: FamilyOptions
    plan: Plan
    prepared: list[Prepared]
    warnings: list[str]
    verdicts: tuple[Verdict, ...] = ()
    timings: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @property
    def seeds(self) -> tuple[int, ...]:
        """One per image."""
        return tuple(image.seed for image in self.prepared)

    @property
    def held_bytes(self) -> int:
        """What its images keep on the device during their steps."""
        return sum(image.held_bytes for image in self.prepared)

    def snapshot(self) -> Edit:
        """The edit with its first image only, as that stands now, for `Engine.preview`."""
        return replace(self, prepared=[copy.copy(self.prepared[0])])
