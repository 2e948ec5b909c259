"""Did an edit do what it should, and nothing else? If not, the original is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from overpaint.core.imaging.images import Picture
from overpaint.datasets import measure
from overpaint.datasets.recipes.sections import Gate

if TYPE_CHECKING:
    from PIL import Image

    from overpaint.core.imaging.detections import Detection

Likeness = Callable[[Picture, Picture], float]
"""Cosine likeness of two pictures, -1..1."""


@dataclass(frozen=True, kw_only=True)
class GateVerdict:
    """What the gate says of an edit.

    Attributes:
        reasons: why it failed; empty = it passed.
        scores: what was measured.
    """

    reasons: tuple[str, ...]
    scores: Mapping[str, Any]


def judge(
    before: Picture,
    after: Picture,
    gate: Gate,
    *,
    changed: tuple[float, float],
    expected: Image.Image | None = None,
    found_again: Sequence[Detection] | None = None,
    likeness: Likeness | None = None,
) -> GateVerdict:
    """Compare a picture before and after its edit.

    Args:
        before: the original.
        after: the edited picture.
        gate: what counts as failed.
        changed: least and most of the pixels that may differ, as shares.
        expected: 'L', where the edit was to change something; None = not known.
        found_again: what was found of it afterwards; None = nobody looked.
        likeness: compares pictures by a model.
    """
    first, second = before.to_srgb(), after.to_srgb()
    if first.size != second.size:
        return GateVerdict(reasons=("the size changed",), scores={})
    share = measure.changed_share(first, second)
    scores: dict[str, Any] = {"changed": round(share, 5)}
    reasons = [_range("changed", share, changed)]
    if expected is not None:
        outside = np.asarray(expected) < 128
        rest_db = measure.psnr(first, second, outside)
        scores["kept_psnr"] = round(rest_db, 2)
        if gate.kept_psnr is not None and rest_db < gate.kept_psnr:
            reasons.append(
                f"the part that should stay changed: {rest_db:.1f} dB are below "
                f"{gate.kept_psnr:g} dB"
            )
    if gate.new_issues:
        new = sorted(set(measure.issues(second)) - set(measure.issues(first)))
        reasons.append(f"new issues: {', '.join(new)}" if new else None)
    if gate.gone and found_again:
        labels = sorted({each.label or "something" for each in found_again})
        reasons.append(f"still there: {', '.join(labels)}")
    if likeness is not None and gate.likeness is not None:
        scores["likeness"] = round(likeness(before, after), 4)
        if scores["likeness"] < gate.likeness:
            reasons.append(f"likeness {scores['likeness']:.2f} is below {gate.likeness:g}")
    return GateVerdict(reasons=tuple(filter(None, reasons)), scores=scores)


def _range(name: str, value: float, limits: tuple[float, float]) -> str | None:
    least, most = limits
    if value < least:
        return f"nothing {name}: {value:.2%} are below {least:.2%}" if value else f"nothing {name}"
    return f"too much {name}: {value:.1%} are above {most:.1%}" if value > most else None
