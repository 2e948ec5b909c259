"""Workflow blocks as functions: segment a picture, then repaint what was found.

    from overpaint.blocks import flex2_inpainting, segment_anything_2

    segmentation = segment_anything_2(image=picture)
    result = flex2_inpainting(
        image=picture,
        segmentation_mask=segmentation,
        prompt="A beautiful garden with flowers",
        negative_prompt="people, cars, buildings",
    )
    result.image.save("garden.png")

Pictures may be PIL images, RGB arrays (H, W, 3), encoded bytes, paths or `overpaint.Picture`.
A `segmentation_mask` may be

- what a segmenter here found: a list of `Detection`
- `supervision.Detections`: their masks, else their boxes
- Roboflow's JSON predictions: polygon points, run lengths, else boxes
- COCO annotations: a list, or a data set of one picture
- a mask: an array or a picture of the same size, white = repaint

If nothing was found, the picture comes back as it was, with a `UserWarning`, and no model runs.
Each function takes the model of its family that is here; where none is, a bundled toy answers, and
a `UserWarning` says so and how to fetch a real one. Models are loaded once and stay loaded; the
functions may be called from several threads.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import overpaint
from overpaint.apps.wiring.models.defaults import TOY
from overpaint.apps.wiring.painting import Painted, Painting, WhenMissing, paint
from overpaint.core.imaging import borders
from overpaint.core.imaging.borders import Anchor
from overpaint.core.imaging.detections import Detection
from overpaint.core.models import EditTask, border_task

__all__ = [
    "Detection",
    "Painted",
    "erase",
    "extend",
    "flex2_inpainting",
    "kontext_edit",
    "sd2_inpainting",
    "segment_anything_2",
]


def segment_anything_2(
    image: Any,
    *,
    points: Sequence[Sequence[float]] = (),
    boxes: Sequence[Sequence[float]] = (),
    model: str = "sam2",
) -> list[Detection]:
    """Find things in a picture with Segment Anything 2.

    Args:
        image: the picture.
        points: (x, y) in pixels, all of one thing.
        boxes: (left, top, right, bottom) in pixels, one thing in each.
        model: 'sam2' (`overpaint pull sam2` fetches it), another SAM 2 by its name, or a folder.

    Returns:
        One detection per box, or one for the points; without either, everything in the picture.

    Raises:
        InvalidRequest: a point or box lies outside the picture.
        ModelNotFound: the model was not pulled.
    """
    return overpaint.segment(image, points=points, boxes=boxes, model=model)


def flex2_inpainting(
    image: Any,
    segmentation_mask: Any,
    prompt: str,
    negative_prompt: str | None = None,
    control_strength: float = 0.5,
    control_stop: float = 0.33,
    num_inference_steps: int = 50,
    guidance_scale: float = 3.5,
    seed: int | None = None,
    height: int = 1024,
    width: int = 1024,
    *,
    control_image: Any = None,
    classes: Sequence[str | int] | None = None,
    confidence: float | None = None,
    when_missing: WhenMissing = "error",
    invert: bool = False,
    grow: int = 0,
    feather: int | None = None,
    repaint_beyond: int = 0,
    follow: int = 0,
    hold: bool = True,
    keep_input_size: bool = False,
    model: str | None = None,
    server: str | None = None,
) -> Painted:
    """Repaint what was found in a picture with Flex.2.

    Args:
        image: the picture.
        segmentation_mask: what was found in it; see the module.
        prompt: what to show in the marked area.
        negative_prompt: what must not appear; true classifier-free guidance runs against it.
        control_strength: factor of the control picture, 0..2.
        control_stop: share of the steps in which the control picture is active, 0..1.
        num_inference_steps: denoising steps.
        guidance_scale: how closely the prompt is followed.
        seed: same seed, same picture; None = drawn; the result has it.
        height: of the answer in pixels, a multiple of 16; the picture is stretched to it.
        width: of the answer in pixels, a multiple of 16.
        control_image: line, pose or depth picture that steers the result.
        classes: names or numbers of the classes to repaint; None = everything found.
        confidence: the least confidence, 0..1; None = any.
        when_missing: where something was found, but none of `classes`: 'error', or 'keep' the
            picture as it is, with a warning.
        invert: repaint everything but what was found.
        grow: pixels by which the mask grows; below 0 it shrinks.
        feather: pixels inside the mask's edge over which the edit is blended in; None = 4.
        repaint_beyond: pixels beyond the mask that the model repaints, too; the blend stays in it.
        follow: pixels beyond the mask to which the blend may grow where the edit goes on there.
        hold: fit the edit's border, and undo what the model did to the rest; False = its pixels
            as they are, blended.
        keep_input_size: answer at the input's own size instead of `height` x `width`; pixels
            outside the mask do not change.
        model: name or folder of a Flex.2 checkpoint; None = as in the settings.
        server: URL of an Overpaint server that does the work; None = as in the settings, else
            this process.

    Raises:
        InvalidRequest: a value is wrong, or what was found does not fit the picture; its `field`
            names the argument.
        OverpaintError: the model is not there, does not fit the memory, or the server refuses.
    """
    return _one("flex2", "inpaint", locals())


def sd2_inpainting(
    image: Any,
    segmentation_mask: Any,
    prompt: str,
    negative_prompt: str | None = None,
    num_inference_steps: int = 50,
    guidance_scale: float = 7.5,
    strength: float = 1.0,
    seed: int | None = None,
    height: int | None = None,
    width: int | None = None,
    *,
    classes: Sequence[str | int] | None = None,
    confidence: float | None = None,
    when_missing: WhenMissing = "error",
    invert: bool = False,
    grow: int = 0,
    feather: int | None = None,
    repaint_beyond: int = 0,
    follow: int = 0,
    hold: bool = True,
    keep_input_size: bool = False,
    model: str | None = None,
    server: str | None = None,
) -> Painted:
    """Repaint what was found in a picture with Stable Diffusion 2.

    Args:
        strength: 1 = from noise alone; less = from the picture, 0..1.
        height: of the answer in pixels, a multiple of 8; None = the input's own size, pixels
            outside the mask untouched.
        width: goes with `height`.

    The other arguments, and the errors, are those of `flex2_inpainting`.
    """
    return _one("sd2", "inpaint", locals())


def kontext_edit(
    image: Any,
    prompt: str,
    segmentation_mask: Any = None,
    negative_prompt: str | None = None,
    num_inference_steps: int = 28,
    guidance_scale: float = 2.5,
    seed: int | None = None,
    height: int | None = None,
    width: int | None = None,
    *,
    reference_images: Sequence[Any] = (),
    target: Any = None,
    classes: Sequence[str | int] | None = None,
    confidence: float | None = None,
    when_missing: WhenMissing = "error",
    invert: bool = False,
    grow: int = 0,
    feather: int | None = None,
    repaint_beyond: int = 0,
    follow: int = 0,
    hold: bool = True,
    keep_input_size: bool = False,
    model: str | None = None,
    server: str | None = None,
) -> Painted:
    """Change a picture as an instruction says, with FLUX.1 Kontext.

    Args:
        prompt: the instruction.
        segmentation_mask: limits where; None = anywhere, and what the edit does not touch stays.
        reference_images: further pictures that the instruction refers to.
        target: without a mask, where the thing is that the instruction names: a mask, or what was
            found; see the module. Changes far from it are put back.
        height: of the answer in pixels, a multiple of 16; None = the input's own size.
        width: goes with `height`.

    The other arguments, and the errors, are those of `flex2_inpainting`.
    """
    return _one("kontext", "edit", locals())


def erase(
    image: Any,
    segmentation_mask: Any,
    seed: int | None = None,
    *,
    copy_from: Any = None,
    not_from: Any = None,
    shadow: bool = False,
    classes: Sequence[str | int] | None = None,
    confidence: float | None = None,
    when_missing: WhenMissing = "error",
    invert: bool = False,
    grow: int = 0,
    feather: int | None = None,
    hold: bool = True,
    model: str | None = None,
    server: str | None = None,
) -> Painted:
    """Remove what was found in a picture; no weights, no words. The answer has the input's size.

    Args:
        copy_from: texture is copied only from here: a mask, or what was found; see the module.
        not_from: texture is never copied from here, for things that must not appear twice.
        shadow: also erase a soft shadow that touches what was found; it is guessed.

    The other arguments, and the errors, are those of `flex2_inpainting`; `grow` helps where a rim
    of the thing is left, `feather` None = 0.
    """
    return _one("erase", "erase", locals())


def extend(
    image: Any,
    prompt: str = "",
    seed: int | None = None,
    *,
    left: int | str = 0,
    top: int | str = 0,
    right: int | str = 0,
    bottom: int | str = 0,
    to: str | None = None,
    anchor: Anchor = "center",
    negative_prompt: str | None = None,
    feather: int | None = None,
    model: str | None = None,
    server: str | None = None,
) -> Painted:
    """Let a picture grow, and fill the border; every pixel of the picture stays.

    With no side and no `to`, the picture's own transparent border is filled.

    Args:
        prompt: what the border shows; empty = the eraser continues the picture.
        left, top, right, bottom: pixels that are added there, or percent of the picture's width
            or height, as '20%'.
        to: the ratio of width to height to reach, as '16:9'.
        anchor: where the picture stays while `to` is reached: 'center', 'left', 'top-left' …
        feather: pixels of the border over which it is blended in; None = the model's default.
        model: name or folder of any model that takes a mask; None = as in the settings.

    The other arguments, and the errors, are those of `flex2_inpainting`.
    """
    values = {
        "image": image,
        "prompt": prompt,
        "seed": seed,
        "extend": borders.of_keywords(left, top, right, bottom, to, anchor),
        "negative_prompt": negative_prompt,
        "feather": feather,
        "model": model,
        "server": server,
    }
    return _one(None, border_task(prompt), values)


def _one(family: str | None, task: EditTask, values: Mapping[str, Any]) -> Painted:
    """Repaint one picture with a function's arguments.

    Python's warnings say where no model ran, or a toy.
    """
    painted = paint([Painting.of(family, task, values)])[0]
    for sentence in painted.warnings:
        if painted.seed is None or TOY in sentence:
            warnings.warn(sentence, UserWarning, stacklevel=3)
    return painted
