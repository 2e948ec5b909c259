"""By words in two steps: a detector finds boxes, a segmenter their outlines. Needs no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import ClassVar

from PIL import Image

from overpaint.core.imaging.detections import Detection
from overpaint.segmenters.segmenter import Hints, Rectangle, Segmenter


class Detector(ABC):
    """Finds boxes by words.

    Class attributes:
        name: as users write it.
    """

    name: ClassVar[str]

    @abstractmethod
    def find(self, picture: Image.Image, words: str) -> list[Detection]:
        """What the words name, as boxes, best first."""


class ByWords(Segmenter):
    """A detector, and another segmenter that outlines what it finds.

    Args:
        detector: finds boxes.
        outliner: makes masks of them; points and boxes go to it as they are.
    """

    def __init__(self, detector: Detector, outliner: Segmenter) -> None:
        self._detector = detector
        self._outliner = outliner
        self.name = detector.name  # type: ignore[misc]

    def segment(self, picture: Image.Image, hints: Hints) -> list[Detection]:
        """See `Segmenter`; label and confidence are the detector's."""
        hints.check(picture.size)
        if hints.words is None:
            return self._outliner.segment(picture, hints)
        detections = self._detector.find(picture, hints.words)
        if not detections:
            return []
        boxes: tuple[Rectangle, ...] = tuple(each.box for each in detections)
        outlined = self._outliner.segment(picture, Hints(boxes=boxes))
        return [
            replace(each, mask=outline.mask)
            for each, outline in zip(detections, outlined, strict=True)
        ]
