"""The renderer: a scene as an RGB picture, and the coverage of its parts.

Pictures are uint8 arrays (size, size, 3); coverages are float32 arrays (size, size) in 0..1.
"""

from __future__ import annotations

import functools
import math

import cv2
import numpy as np
from numpy.typing import NDArray

from training.world.palette import BACKGROUND_COLOURS, COLOURS
from training.world.scene import Background, Light, Scene, Thing

Picture = NDArray[np.uint8]
Coverage = NDArray[np.float32]

DEFAULT_SIZE = 128
_SUBPIXEL = 6


@functools.cache
def unit_contours(shape: str) -> tuple[NDArray[np.float64], ...]:
    """The outline of a shape of radius 1 around (0, 0); a second contour is a hole."""
    if shape == "circle":
        return (_regular(48, 0.95),)
    if shape == "ring":
        return _regular(48, 1.0), _regular(48, 0.5)
    if shape == "square":
        return (np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * 0.84,)
    if shape == "triangle":
        return (np.array([(0.0, -1.02), (1.06, 0.86), (-1.06, 0.86)]),)
    if shape == "star":
        angles = np.arange(10) * math.pi / 5 - math.pi / 2
        radii = np.where(np.arange(10) % 2 == 0, 1.1, 0.52)
        return (np.stack([np.cos(angles) * radii, np.sin(angles) * radii], axis=1),)
    if shape == "cross":
        a, b = 1.0, 0.36
        corners = [(-b, -a), (b, -a), (b, -b), (a, -b), (a, b), (b, b)]
        return (np.array(corners + [(-x, -y) for x, y in corners]),)
    raise ValueError(f"unknown shape {shape!r}")


def _regular(corners: int, radius: float) -> NDArray[np.float64]:
    angles = np.arange(corners) * 2 * math.pi / corners
    return np.asarray(np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius, np.float64)


def coverage(thing: Thing, size: int = DEFAULT_SIZE) -> Coverage:
    """How much of each pixel the thing covers."""
    cos, sin = math.cos(thing.rotation), math.sin(thing.rotation)
    turn = np.array([[cos, sin], [-sin, cos]]) * (thing.radius * size)
    centre = np.array([thing.x, thing.y]) * size - 0.5
    contours = [
        np.round((points @ turn + centre) * (1 << _SUBPIXEL)).astype(np.int32)
        for points in unit_contours(thing.shape)
    ]
    canvas = np.zeros((size, size), np.uint8)
    cv2.fillPoly(canvas, contours, color=(255,), lineType=cv2.LINE_AA, shift=_SUBPIXEL)
    return np.asarray(canvas / 255, np.float32)


def shadow(thing: Thing, light: Light, size: int = DEFAULT_SIZE) -> Coverage:
    """How dark the thing's soft shadow makes each pixel of the ground (0..light.strength)."""
    shift = np.array(
        [[1, 0, light.dx * thing.radius * size], [0, 1, light.dy * thing.radius * size]]
    )
    moved = cv2.warpAffine(coverage(thing, size), shift, (size, size))
    return np.asarray(cv2.GaussianBlur(moved, (0, 0), 0.02 * size) * light.strength, np.float32)


def ground(background: Background, size: int = DEFAULT_SIZE) -> NDArray[np.float32]:
    """The empty ground as float RGB (size, size, 3) in 0..255."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    if background.kind == "gradient":
        shade = 1.12 - 0.3 * y
    elif background.kind == "striped":
        shade = 1 + 0.08 * np.sin(2 * math.pi * (4 * (x + y) / 1.4142 + background.phase))
    elif background.kind == "checked":
        wave = np.sin(2 * math.pi * (2.5 * x + background.phase)) * np.sin(
            2 * math.pi * (2.5 * y + background.phase)
        )
        shade = 1 + 0.09 * np.tanh(4 * wave)
    else:
        shade = np.ones_like(x)
    colour = np.array(BACKGROUND_COLOURS[background.colour], np.float32)
    return np.asarray(shade[..., None] * colour, np.float32)


def render(scene: Scene, size: int = DEFAULT_SIZE) -> Picture:
    """The picture of a scene: ground, then all shadows, then the things, then exposure and blur."""
    canvas = ground(scene.background, size)
    for thing in scene.things:
        canvas *= 1 - shadow(thing, scene.light, size)[..., None]
    for thing in scene.things:
        alpha = coverage(thing, size)[..., None]
        canvas += alpha * (np.array(COLOURS[thing.colour], np.float32) - canvas)
    if scene.exposure != 1:
        canvas *= scene.exposure
    if scene.blur > 0:
        canvas = np.asarray(cv2.GaussianBlur(canvas, (0, 0), scene.blur * size), np.float32)
    return np.clip(np.round(canvas), 0, 255).astype(np.uint8)


def footprint(thing: Thing, light: Light, size: int = DEFAULT_SIZE) -> NDArray[np.bool_]:
    """All pixels that the thing or its shadow changes visibly (size, size)."""
    return np.asarray((coverage(thing, size) > 0.02) | (shadow(thing, light, size) > 0.02))
