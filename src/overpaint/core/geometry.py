"""Which part of a picture the model sees, how large, and the exact way back.

Pixel coordinates throughout: (0, 0) is the top left corner, right and bottom are exclusive. Sizes
are (width, height).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from PIL import Image

Size = tuple[int, int]

WINDOW_STEP = 64
"""Sides of windows are multiples of it, in pixels, where the model's own size is 8 times that."""


@dataclass(frozen=True, order=True)
class Box:
    """A rectangle of pixels: left <= x < right, top <= y < bottom."""

    left: int
    top: int
    right: int
    bottom: int

    @classmethod
    def of_size(cls, size: Size) -> Box:
        """The box that covers a picture of (width, height)."""
        return cls(0, 0, *size)

    @property
    def width(self) -> int:
        """Pixels from left to right; 0 where the box is empty."""
        return max(0, self.right - self.left)

    @property
    def height(self) -> int:
        """Pixels from top to bottom; 0 where the box is empty."""
        return max(0, self.bottom - self.top)

    @property
    def size(self) -> Size:
        """(width, height)."""
        return self.width, self.height

    @property
    def area(self) -> int:
        """Pixels inside."""
        return self.width * self.height

    def as_tuple(self) -> tuple[int, int, int, int]:
        """(left, top, right, bottom), as PIL takes it."""
        return self.left, self.top, self.right, self.bottom

    def clip(self, other: Box) -> Box:
        """The part that lies inside `other`; of area 0 where they do not meet."""
        return Box(
            max(self.left, other.left),
            max(self.top, other.top),
            min(self.right, other.right),
            min(self.bottom, other.bottom),
        )

    def union(self, other: Box) -> Box:
        """The smallest box that covers both."""
        return Box(
            min(self.left, other.left),
            min(self.top, other.top),
            max(self.right, other.right),
            max(self.bottom, other.bottom),
        )

    def grow(self, pixels: int) -> Box:
        """The box with `pixels` more on each side; it may reach outside the picture."""
        return Box(self.left - pixels, self.top - pixels, self.right + pixels, self.bottom + pixels)

    def contains(self, other: Box) -> bool:
        """Whether `other` lies inside."""
        return self.clip(other) == other


_SUPPORT = 4
"""Pixels around a place that resampling looks at, and one more."""


@dataclass(frozen=True)
class Plan:
    """The window of a picture that is computed, and the canvas it is computed on.

    Attributes:
        size: (width, height) of the picture.
        window: the part of the picture that is computed.
        canvas: (width, height) that the model sees, each a multiple of its size step.
        content: where on the canvas the window lies, rescaled where the sizes differ; the rest of
            the canvas is padding.
        output: (width, height) of the answer: `size`, except in stretched plans, where it is
            `canvas`.
    """

    size: Size
    window: Box
    canvas: Size
    content: Box
    output: Size

    @property
    def is_exact(self) -> bool:
        """Whether no pixel is resampled on the way to the canvas and back."""
        return self.content.size == self.window.size

    def to_canvas(
        self,
        image: Image.Image,
        *,
        resample: Image.Resampling = Image.Resampling.LANCZOS,
        fill: int | tuple[int, ...] | None = None,
        is_quick: bool = False,
    ) -> Image.Image:
        """Bring an image of the picture's size onto the canvas.

        Args:
            image: any mode, of `size`.
            resample: filter, used only where content and window differ in size.
            fill: value of the padding; None repeats the window's last column and row.
            is_quick: large pictures are shrunk by whole factors first. For what is measured: it
                takes a fraction of the time, and is a little less sharp.

        Returns:
            An image of `canvas` in the same mode.
        """
        _expect(image, self.size, "picture")
        is_whole = self.window == Box.of_size(self.size)
        part = image if is_whole and not self.is_exact else image.crop(self.window.as_tuple())
        if not self.is_exact:
            part = part.resize(self.content.size, resample, reducing_gap=1.0 if is_quick else None)
        return _pad(part, self.canvas, fill)

    def from_canvas(
        self,
        image: Image.Image,
        *,
        resample: Image.Resampling = Image.Resampling.LANCZOS,
        part: Box | None = None,
    ) -> Image.Image:
        """Cut the content out of an image of `canvas` and bring it to the window's size.

        Args:
            image: of `canvas`.
            resample: filter, used only where content and window differ in size.
            part: of the picture, inside the window, that is needed; None = all of the window.
                It is what the whole shows there, but for rounding where noise is clipped.
        """
        _expect(image, self.canvas, "canvas")
        content, window = image.crop(self.content.as_tuple()), self.window
        part = window if part is None else part
        across, down = content.width / window.width, content.height / window.height
        # Filters look a few pixels around.
        margin = math.ceil(_SUPPORT * max(1, 1 / across, 1 / down))
        around = window if part == window else part.grow(margin).clip(window)
        left, top = around.left - window.left, around.top - window.top
        right, bottom = left + around.width, top + around.height
        if self.is_exact:
            resampled = content.crop((left, top, right, bottom))
        else:
            width, height = content.size
            box = left * across, top * down, min(width, right * across), min(height, bottom * down)
            resampled = content.resize(around.size, resample, box=box)
        if around == part:
            return resampled
        inner = part.left - around.left, part.top - around.top
        return resampled.crop((*inner, inner[0] + part.width, inner[1] + part.height))

    def box_from_canvas(self, box: Box) -> Box:
        """The smallest box of the picture that covers a box of the canvas, less its padding."""
        box = box.clip(self.content)
        across = self.window.width / self.content.width
        down = self.window.height / self.content.height
        return Box(
            self.window.left + math.floor((box.left - self.content.left) * across),
            self.window.top + math.floor((box.top - self.content.top) * down),
            self.window.left + math.ceil((box.right - self.content.left) * across),
            self.window.top + math.ceil((box.bottom - self.content.top) * down),
        )

    def paste(self, base: Image.Image, patch: Image.Image) -> Image.Image:
        """A copy of `base` (of `size`) whose window shows `patch` (of the window's size)."""
        _expect(base, self.size, "picture")
        _expect(patch, self.window.size, "window")
        pasted = base.copy()
        pasted.paste(patch, self.window.as_tuple())
        return pasted


def stretched(size: Size, canvas: Size) -> Plan:
    """The whole picture, stretched onto the canvas; the answer has the canvas' size.

    This is what the models' own pipelines do with height and width.
    """
    return Plan(
        size=size,
        window=Box.of_size(size),
        canvas=canvas,
        content=Box.of_size(canvas),
        output=canvas,
    )


def full(size: Size, *, step: int, native: int, max_pixels: int | None = None) -> Plan:
    """The whole picture, padded to a multiple of `step`; its proportions stay as they are.

    Args:
        size: (width, height) of the picture, each >= 1.
        step: both sides of the canvas are multiples of it.
        native: side in pixels that the model was trained at. A picture whose longer side is
            under half of it is scaled up to it.
        max_pixels: largest area of the canvas; a larger picture is scaled down. None =
            (1.5 native)², but not less than 768².
    """
    return _plan(size, Box.of_size(size), step, native, native, max_pixels)


def around(
    size: Size,
    box: Box,
    *,
    step: int,
    native: int,
    smallest: int | None = None,
    context: float = 0.5,
    min_context_px: int = 32,
    full_above: float = 0.6,
    max_pixels: int | None = None,
) -> Plan:
    """A window around `box` with some of the picture around it, so that work follows the edit.

    It is the smallest window that holds the box with its context and that the model was trained
    for: each side is at least `smallest` where the picture allows, and a multiple of
    `window_step`. So it needs no rescaling unless it is too large for the model, or the whole
    picture is smaller than what the model was trained for; it needs no padding unless it reaches
    from border to border.

    Args:
        size: (width, height) of the picture.
        box: what is to be edited; must meet the picture.
        step: both sides of the canvas are multiples of it.
        native: side in pixels that the model was trained at.
        smallest: least side in pixels that it was trained at too; None = `native` is all it knows.
            A picture whose longer side is under it, or under half of `native`, is scaled up to it.
        context: of the picture around the box on each side, as a fraction of the box's longer
            side.
        min_context_px: the least context, in pixels.
        full_above: a window that covers more than this fraction of the picture becomes the whole
            picture.
        max_pixels: as for `full`.

    Raises:
        ValueError: the box lies outside the picture.
    """
    picture = Box.of_size(size)
    box = box.clip(picture)
    if not box.area:
        raise ValueError(f"The box lies outside the picture of {size[0]}x{size[1]} pixels.")
    smallest = native if smallest is None else smallest
    margin = max(min_context_px, round(context * max(box.size)))
    coarse = window_step(step, native)
    left, right = _span(box.left, box.right, size[0], margin, smallest, coarse)
    top, bottom = _span(box.top, box.bottom, size[1], margin, smallest, coarse)
    window = Box(left, top, right, bottom)
    if window == picture or window.area > full_above * picture.area:
        return _plan(size, picture, step, native, smallest, max_pixels)
    return _plan(size, window, coarse, native, smallest, max_pixels)


def window_step(step: int, native: int) -> int:
    """The number that both sides of a window's canvas are multiples of.

    A model of real size gets few sizes of windows, since each new one costs it time: kernels are
    chosen, compiled or recorded per size, and only equal sizes share a batch.

    Args:
        step: multiple that the model needs.
        native: side in pixels that it was trained at.
    """
    return math.lcm(step, WINDOW_STEP) if native >= 8 * WINDOW_STEP else step


def _span(
    low: int, high: int, length: int, margin: int, smallest: int, step: int
) -> tuple[int, int]:
    """Start and end, on one axis of `length` pixels, of the window around low..high."""
    extent = _round_up(max(high - low + 2 * margin, smallest), step)
    if extent >= length:
        return 0, length
    start = (low + high - extent) // 2
    start = min(max(start, 0), length - extent)
    return start, start + extent


def _plan(
    size: Size, window: Box, step: int, native: int, smallest: int, max_pixels: int | None
) -> Plan:
    if max_pixels is None:
        max_pixels = max(9 * native * native // 4, 768 * 768)
    content = _content_size(window.size, step, native, smallest, max_pixels)
    return Plan(
        size=size,
        window=window,
        canvas=_canvas_size(content, step),
        content=Box.of_size(content),
        output=size,
    )


def _content_size(window: Size, step: int, native: int, smallest: int, max_pixels: int) -> Size:
    """The window's size on the canvas: its own, unless it is tiny or too large."""
    content = window
    if max(window) < min(smallest, native / 2):
        content = _with_longer_side(window, smallest)
    if _area(_canvas_size(content, step)) <= max_pixels:
        return content
    # The longer side fills whole steps, so that only the shorter one needs padding.
    ratio = max(window) / min(window)
    steps = int(min(math.sqrt(max_pixels * ratio), max_pixels / step, max(content)) / step)
    while steps > 1:
        content = _with_longer_side(window, steps * step)
        if _area(_canvas_size(content, step)) <= max_pixels:
            return content
        steps -= 1
    return _with_longer_side(window, min(step, max(content)))


def _with_longer_side(size: Size, longer: int) -> Size:
    scale = longer / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _canvas_size(content: Size, step: int) -> Size:
    return _round_up(content[0], step), _round_up(content[1], step)


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step


def _area(size: Size) -> int:
    return size[0] * size[1]


def _pad(image: Image.Image, canvas: Size, fill: int | tuple[int, ...] | None) -> Image.Image:
    """The image at the top left of a canvas, the rest filled or repeating its last pixels."""
    width, height = image.size
    if image.size == canvas:
        return image
    if fill is not None:
        padded = Image.new(image.mode, canvas, fill)
        padded.paste(image, (0, 0))
        return padded
    padded = Image.new(image.mode, canvas)
    padded.paste(image, (0, 0))
    if canvas[0] > width:
        column = image.crop((width - 1, 0, width, height))
        stretched_column = column.resize((canvas[0] - width, height), Image.Resampling.NEAREST)
        padded.paste(stretched_column, (width, 0))
    if canvas[1] > height:
        row = padded.crop((0, height - 1, canvas[0], height))
        stretched_row = row.resize((canvas[0], canvas[1] - height), Image.Resampling.NEAREST)
        padded.paste(stretched_row, (0, height))
    return padded


def _expect(image: Image.Image, size: Size, what: str) -> None:
    if image.size != size:
        raise ValueError(
            f"An image of {image.size[0]}x{image.size[1]} pixels was given where the {what} has "
            f"{size[0]}x{size[1]}."
        )
