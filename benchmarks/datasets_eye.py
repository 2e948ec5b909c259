"""A vision model for the world of the twins, behind the API that real ones speak.

It names things by their nearest neighbours among pictures that it was shown, and so shares nothing
with the world's judge, which measures against a palette and outlines. It answers what
`overpaint.datasets.vision` asks: which labels are there, with boxes, and whether a label is shown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.world.palette import COLOURS, SHAPES
from training.world.render import render
from training.world.scene import Scene, Thing, sample_background, sample_light, sample_radius

SIDE = 20
NEIGHBOURS = 5
SHOWN = 12
"""Pictures of each colour and shape that it was shown."""

STRANGE = 9.0
"""Distance to the nearest neighbour from which a patch is called nothing."""

LEAST_AREA = 0.01
SATURATED = 60


@dataclass(frozen=True)
class Seen:
    """A coloured patch: what it is called, how sure that is, its box as shares of the sides."""

    colour: str
    shape: str
    score: float
    box: tuple[float, float, float, float]

    @property
    def name(self) -> str:
        """'red circle'."""
        return f"{self.colour} {self.shape}"


class Eye:
    """Looks at pictures; learns from rendered ones when it is made."""

    def __init__(self, seed: int = 5) -> None:
        rng = np.random.default_rng(seed)
        features, self._names = [], []
        for colour in COLOURS:
            for shape in SHAPES:
                for _ in range(SHOWN):
                    patches = _patches(_example(rng, colour, shape))
                    if patches:
                        features.append(_features(patches[0][0], patches[0][1]))
                        self._names.append((colour, shape))
        self._features = np.stack(features)

    def look(self, picture: NDArray[np.uint8]) -> list[Seen]:
        """The patches of a picture, largest first."""
        seen = []
        for crop, part, box in _patches(picture):
            distances = np.linalg.norm(self._features - _features(crop, part), axis=1)
            order = np.argsort(distances)[:NEIGHBOURS]
            if distances[order[0]] > STRANGE:
                continue
            votes = [self._names[index] for index in order]
            best = max(set(votes), key=votes.count)
            seen.append(Seen(*best, votes.count(best) / NEIGHBOURS, box))
        return seen

    def answer(self, image: Image.Image, words: str) -> dict[str, Any]:
        """As a vision model answers the words of `overpaint.datasets.vision`."""
        seen = self.look(np.asarray(image))
        if asked := re.search(r"Does the picture show this: (.*?)\? Answer", words):
            wanted = asked[1].removeprefix("a ").removeprefix("an ")
            score = max((each.score for each in seen if each.name == wanted), default=0.0)
            return {"true": score > 0.5, "score": score}
        if words.startswith("What is in this picture?"):
            named = [
                {"label": f"a {each.name}", "confidence": each.score, "box": list(each.box)}
                for each in seen
            ]
            return {"objects": named}
        labels = re.findall(r"^- (.*)$", words, flags=re.MULTILINE)
        return {
            "objects": [
                {"label": label, "confidence": each.score, "box": list(each.box)}
                for each in seen
                for label in labels
                if label in (each.name, each.shape)
            ]
        }


def _example(rng: np.random.Generator, colour: str, shape: str) -> NDArray[np.uint8]:
    size = str(rng.choice(["small", "large"]))
    x, y = (float(v) for v in rng.uniform(0.35, 0.65, 2))
    thing = Thing(colour, shape, x, y, sample_radius(rng, size), float(rng.uniform(-0.25, 0.25)))
    scene = Scene(
        sample_background(rng), sample_light(rng), (thing,), blur=float(rng.choice([0, 0.01]))
    )
    return render(scene, 128)


def _patches(
    picture: NDArray[np.uint8],
) -> list[tuple[NDArray[np.uint8], NDArray[np.bool_], tuple[float, float, float, float]]]:
    """Saturated connected parts of one hue, largest first: crop, its part, box in shares."""
    height, width = picture.shape[:2]
    smooth = cv2.medianBlur(picture, 3)
    spread = smooth.max(axis=2).astype(int) - smooth.min(axis=2)
    hue = cv2.cvtColor(smooth, cv2.COLOR_RGB2HSV)[..., 0] // 10
    found = []
    for value in np.unique(hue[spread > SATURATED]):
        near = (spread > SATURATED) & (np.abs((hue.astype(int) - value + 9) % 18 - 9) <= 1)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(near.astype(np.uint8))
        for index in range(1, count):
            left, top, wide, tall, area = (int(x) for x in stats[index])
            if area < LEAST_AREA * height * width:
                continue
            window = np.s_[top : top + tall, left : left + wide]
            box = (left / width, top / height, (left + wide) / width, (top + tall) / height)
            found.append((area, smooth[window], labels[window] == index, box))
    found.sort(key=lambda each: -each[0])
    kept: list[Any] = []
    for _, crop, part, box in found:  # neighbouring hues find the same patch again
        if not any(_overlap(box, other[2]) > 0.5 for other in kept):
            kept.append((crop, part, box))
    return kept


def _features(crop: NDArray[np.uint8], part: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The part's outline at a fixed size, beside its colour."""
    outline = cv2.resize(part.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(crop.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[part].mean(axis=0)
    return np.concatenate([outline.ravel(), lab * np.float32(0.15)])


def _overlap(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    wide = min(first[2], second[2]) - max(first[0], second[0])
    tall = min(first[3], second[3]) - max(first[1], second[1])
    if wide <= 0 or tall <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return wide * tall / min(areas)
