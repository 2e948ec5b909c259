"""Whether the models that are served still make edits.

An edit may fail for a reason of its own, and strangers may know how to make one fail. So a model
is given up only after an edit of the server's own, which always works on a sound device, has
failed too.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from overpaint.apps.server.errors import forget_frames
from overpaint.core.errors import BrokenResult, OutOfMemory, OverpaintError
from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest
from overpaint.diffusion.family import FamilySpec
from overpaint.engine.batching.batcher import Batcher
from overpaint.engine.checking import check

SUSPICIOUS = 3
"""Edits of a model that fail one after another until the server tries one of its own."""

PROBE_SECONDS = 120.0
PROBE_SIDE = 64

_log = logging.getLogger(__name__)


class ModelHealth:
    """Of the models of one server.

    Args:
        families: of the models by name.
        spawn: starts a task on the event loop.

    Attributes:
        errors: of the models that cannot be loaded, or that fail at every edit.
        gave_up: models were lost until none was left.
    """

    def __init__(
        self, families: Mapping[str, FamilySpec], spawn: Callable[[Any], asyncio.Task[Any]]
    ) -> None:
        self.errors: dict[str, Exception] = {}
        self.gave_up = False
        self._families = dict(families)
        self._spawn = spawn
        self._failures: Counter[str] = Counter()
        self._probes: dict[str, asyncio.Task[Any]] = {}

    @property
    def is_hopeless(self) -> bool:
        """Whether no model is left."""
        return self._families.keys() <= self.errors.keys()

    def add(self, model: str, family: FamilySpec) -> None:
        """Watch one more model."""
        self._families[model] = family

    def works(self, model: str) -> None:
        """An edit of the model was done."""
        self.errors.pop(model, None)
        self._failures.pop(model, None)

    def failed(self, model: str, error: Exception, batcher: Batcher) -> None:
        """An edit of the model failed; after several of them the server tries one of its own."""
        if model not in self._families or not _may_be_the_devices(error):
            return  # with adapters of the caller's choice a model may well fail
        self._failures[model] += 1
        if self._failures[model] >= SUSPICIOUS and model not in self._probes:
            self._probes[model] = self._spawn(self._probe(model, batcher))

    async def _probe(self, model: str, batcher: Batcher) -> None:
        try:
            error = await _outcome(model, self._families[model], batcher)
        finally:
            del self._probes[model]
        self._failures.pop(model, None)
        if error is None:
            return
        _log.error("a model fails at every edit", extra={"model": model}, exc_info=error)
        forget_frames(error)
        self.errors[model] = error
        self.gave_up = self.is_hopeless


async def _outcome(model: str, family: FamilySpec, batcher: Batcher) -> Exception | None:
    """The fault of the device or the model; None = none is known."""
    try:
        ticket = batcher.submit(check(family, _sample(model, family)), seconds=PROBE_SECONDS)
        await asyncio.wrap_future(ticket.future)
    except Exception as error:
        return error if _may_be_the_devices(error) else None
    return None


def _may_be_the_devices(error: Exception) -> bool:
    return not isinstance(error, OverpaintError) or isinstance(error, OutOfMemory | BrokenResult)


def _sample(model: str, family: FamilySpec) -> EditRequest:
    """A small edit that the family takes."""
    # Noise: what is smooth is filled in without a step.
    pixels = np.random.default_rng(0).integers(0, 256, (PROBE_SIDE, PROBE_SIDE, 3), dtype=np.uint8)
    picture = Picture(Image.fromarray(pixels))
    parts: dict[str, Any] = {}
    if family.need("mask") != "refused":
        quarter = PROBE_SIDE // 4
        parts["mask"] = Image.new("L", picture.size)
        parts["mask"].paste(255, (quarter, quarter, 3 * quarter, 3 * quarter))
    if family.need("prompt") != "refused":
        parts["prompt"] = "a photo"
    if "num_inference_steps" in family.options.model_fields:
        parts["options"] = {"num_inference_steps": 2}
    return EditRequest(image=picture, model=model, seed=0, **parts)
