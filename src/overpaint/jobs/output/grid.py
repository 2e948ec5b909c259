"""Input, mask and output side by side, as the model card shows them."""

from __future__ import annotations

from PIL import Image

from overpaint.core.types import EditRequest

GAP = 8
LONGEST_SIDE = 512
"""Longest side of each panel, in pixels; larger pictures are scaled down."""


def draw(request: EditRequest, output: Image.Image) -> Image.Image:
    """An 'RGB' sheet with the panels in a row on white; without a mask there are two.

    Args:
        request: what was asked.
        output: what came of it, any mode and size.
    """
    panels = [request.image.to_srgb()]
    if request.mask is not None:
        panels.append(request.mask)
    panels = [_fitting(each.convert("RGB")) for each in (*panels, output)]
    height = max(each.height for each in panels)
    width = sum(each.width for each in panels) + GAP * (len(panels) - 1)
    sheet = Image.new("RGB", (width, height), "white")
    left = 0
    for panel in panels:
        sheet.paste(panel, (left, 0))
        left += panel.width + GAP
    return sheet


def _fitting(panel: Image.Image) -> Image.Image:
    small = panel.copy()
    small.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    return small
