"""The denoising loop, one for all families, one step at a time.

Every image carries its own scheduler, timesteps and generator, so a batch of images at different
steps, of different lengths and schedules, is the same code as one image.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

from overpaint.core.errors import Cancelled
from overpaint.diffusion.family import Family, Prepared

MAX_BATCH = 8
"""Images stepped in one forward pass at most; more only costs memory."""


def denoise(
    family: Family[Any, Any],
    images: Sequence[Prepared],
    *,
    on_step: Callable[[], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> None:
    """Step all images until each is done.

    Args:
        family: the family that prepared them.
        images: any mixture of sizes, schedules and progress; changed in place.
        on_step: called after every round of steps.
        cancelled: asked before every round.

    Raises:
        Cancelled: `cancelled` said so.
    """
    while pending := [image for image in images if not image.done]:
        if cancelled is not None and cancelled():
            raise Cancelled("the edit was cancelled between two steps")
        for group in groups(family, pending):
            family.advance(group)
        if on_step is not None:
            on_step()


def groups(family: Family[Any, Any], images: Sequence[Prepared]) -> Iterator[list[Prepared]]:
    """Images that fit one forward pass, in order of arrival, `MAX_BATCH` at most."""
    by_key: dict[Hashable, list[Prepared]] = defaultdict(list)
    for image in images:
        by_key[family.batch_key(image)].append(image)
    for together in by_key.values():
        for start in range(0, len(together), MAX_BATCH):
            yield together[start : start + MAX_BATCH]
