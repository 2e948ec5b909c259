"""Control pictures of a scene: line, depth and pose, as uint8 RGB (size, size, 3).

All are bright on black, as the usual annotators draw them.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

from training.world.palette import SHAPES
from training.world.render import DEFAULT_SIZE, Picture, coverage, unit_contours
from training.world.scene import Scene, Thing

ControlKind = Literal["line", "depth", "pose"]
CONTROL_KINDS: tuple[ControlKind, ...] = ("line", "depth", "pose")

_JOINT_COLOURS = ((255, 60, 60), (60, 255, 60), (80, 120, 255), (255, 255, 60))


def control_picture(scene: Scene, kind: ControlKind, size: int = DEFAULT_SIZE) -> Picture:
    """Draws the things of a scene as a control picture of that kind."""
    canvas = np.zeros((size, size, 3), np.float32)
    for index, thing in enumerate(scene.things):
        if kind == "line":
            layer, alpha = np.full(3, 255, np.float32), _outline(thing, size, 0.02)
        elif kind == "depth":
            nearness = 130 + 110 * (index + 1) / len(scene.things)
            layer, alpha = np.full(3, nearness, np.float32), coverage(thing, size)
        else:
            layer, alpha = np.array((255, 160, 60), np.float32), _outline(thing, size, 0.03)
        canvas += alpha[..., None] * (layer - canvas)
        if kind == "pose":
            _draw_joints(canvas, thing, size)
    return np.clip(np.round(canvas), 0, 255).astype(np.uint8)


def _outline(thing: Thing, size: int, width: float) -> np.ndarray:
    inside = coverage(thing, size)
    kernel = np.ones((3, 3), np.uint8)
    steps = max(1, round(width * size / 2))
    grown, shrunk = (
        cv2.dilate(inside, kernel, iterations=steps),
        cv2.erode(inside, kernel, iterations=steps),
    )
    return np.asarray(grown - shrunk, np.float32)


def _draw_joints(canvas: np.ndarray, thing: Thing, size: int) -> None:
    """Marks the centre and, by shape, a few corners, as the joints of a pose."""
    cos, sin = np.cos(thing.rotation), np.sin(thing.rotation)
    turn = np.array([[cos, sin], [-sin, cos]]) * thing.radius
    corners = unit_contours(thing.shape)[0]
    joints = corners[:: max(1, len(corners) // 4)][:4] @ turn + (thing.x, thing.y)
    first = SHAPES.index(thing.shape)
    for number, joint in enumerate(joints):
        colour = _JOINT_COLOURS[(first + number) % len(_JOINT_COLOURS)]
        centre = (round(float(joint[0]) * size), round(float(joint[1]) * size))
        cv2.circle(canvas, centre, max(2, round(0.025 * size)), colour, -1, cv2.LINE_AA)
