"""From the seeds that were asked for to those that noise is drawn from.

A model that edits a picture starts from noise; where that is the noise that made the picture, it
finds the picture in it again and follows no instruction. A session that is given one seed for all
turns would do that. So a turn's noise comes from its seed and from the picture that it edits.
"""

from __future__ import annotations

import hashlib

from overpaint.core.types import MAX_SEED
from overpaint.engine.intake import CheckedRequest


def seeds(checked: CheckedRequest) -> tuple[int, ...]:
    """The seeds of an edit's noise, one per image."""
    if checked.options.noise_from == "seed":
        return checked.seeds
    picture = checked.request.image.sha256
    return tuple(_mixed(seed, picture) for seed in checked.seeds)


def _mixed(seed: int, picture: str) -> int:
    digest = hashlib.sha256(f"{seed}:{picture}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % (MAX_SEED + 1)
