"""By words: zero-shot detectors, which find boxes, and SAM 3, which finds outlines too.

Grounding DINO (Liu et al. 2023), OWLv2 (Minderer et al. 2023) and SAM 3, as transformers has them.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from PIL import Image

from overpaint.core.imaging.detections import Detection, box_of
from overpaint.segmenters.checkpoint import Preparation, at_size, load, load_tokenizer
from overpaint.segmenters.detector import Detector
from overpaint.segmenters.segmenter import Hints, Rectangle, Segmenter, refuse, without_repeats

if TYPE_CHECKING:
    from overpaint.checkpoints.placement import Placement


class ZeroShotDetector(Detector):
    """A detector of transformers.

    Args:
        folder: in transformers layout.
        placement: where the model runs.

    Raises:
        ModelLoadError: see `checkpoint.load`.
    """

    model_class: ClassVar[str]
    threshold: ClassVar[float]
    """Least confidence."""

    def __init__(self, folder: Path, placement: Placement) -> None:
        self._model = load(self.model_class, folder, placement)
        self._tokenizer = load_tokenizer(folder)
        self._prepare = self._preparation(folder)

    @torch.inference_mode()
    def find(self, picture: Image.Image, words: str) -> list[Detection]:
        """What the words name, as boxes, best first."""
        scores, centres, scale = self._ask(picture.convert("RGB"), words)
        rows = (scores > self.threshold).nonzero().flatten().tolist()
        detections = []
        for row in sorted(rows, key=lambda each: -float(scores[each])):
            x, y, width, height = centres[row].tolist()
            corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            box = _clipped(corners, scale, picture.size)
            if box is not None:
                detections.append(Detection(box=box, label=words, confidence=float(scores[row])))
        return without_repeats(detections)

    @abstractmethod
    def _preparation(self, folder: Path) -> Preparation:
        """How this model takes pictures."""

    @abstractmethod
    def _ask(
        self, picture: Image.Image, words: str
    ) -> tuple[torch.Tensor, torch.Tensor, tuple[float, float]]:
        """Scores (N,) in 0..1, boxes (N, 4) as centre and size in 0..1, and what 1 is in pixels."""


class GroundingDino(ZeroShotDetector):
    """Grounding DINO; pictures keep their proportions."""

    name: ClassVar[str] = "grounding-dino"
    model_class: ClassVar[str] = "GroundingDinoForObjectDetection"
    threshold: ClassVar[float] = 0.3

    def _preparation(self, folder: Path) -> Preparation:
        return Preparation(
            folder,
            fit="shortest",
            side=800,
            longest=1333,
            mean=(0.485, 0.456, 0.406),
            deviation=(0.229, 0.224, 0.225),
        )

    def _ask(
        self, picture: Image.Image, words: str
    ) -> tuple[torch.Tensor, torch.Tensor, tuple[float, float]]:
        # The phrase as the model was trained: small letters, a full stop at its end.
        tokens = self._tokenizer(f"{words.lower().strip(' .')}.", return_tensors="pt")
        answer = self._model(
            pixel_values=self._prepare(picture, self._model), **tokens.to(self._model.device)
        )
        scores = answer.logits[0].float().sigmoid().amax(dim=1)
        return scores, answer.pred_boxes[0].float(), picture.size


class Owlv2(ZeroShotDetector):
    """OWLv2; pictures are padded below and to the right to a square."""

    name: ClassVar[str] = "owlv2"
    model_class: ClassVar[str] = "Owlv2ForObjectDetection"
    threshold: ClassVar[float] = 0.2

    def _preparation(self, folder: Path) -> Preparation:
        return Preparation(
            folder,
            fit="pad",
            side=960,
            mean=(0.48145466, 0.4578275, 0.40821073),
            deviation=(0.26862954, 0.26130258, 0.27577711),
        )

    def _ask(
        self, picture: Image.Image, words: str
    ) -> tuple[torch.Tensor, torch.Tensor, tuple[float, float]]:
        length = self._model.config.text_config.max_position_embeddings
        tokens = self._tokenizer(
            words, padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        )
        answer = self._model(
            pixel_values=self._prepare(picture, self._model), **tokens.to(self._model.device)
        )
        side = float(max(picture.size))
        scores = answer.logits[0].float().sigmoid().amax(dim=1)
        return scores, answer.pred_boxes[0].float(), (side, side)


class Sam3(Segmenter):
    """Segment Anything 3: words to masks in one model.

    Args and errors as for `ZeroShotDetector`.
    """

    name: ClassVar[str] = "sam3"
    threshold: ClassVar[float] = 0.3

    def __init__(self, folder: Path, placement: Placement) -> None:
        self._model = load("Sam3Model", folder, placement)
        self._tokenizer = load_tokenizer(folder)
        half = (0.5, 0.5, 0.5)
        self._prepare = Preparation(folder, fit="stretch", side=1008, mean=half, deviation=half)

    @torch.inference_mode()
    def segment(self, picture: Image.Image, hints: Hints) -> list[Detection]:
        """See `Segmenter`.

        Raises:
            UnsupportedOption: for points and boxes, and without hints.
        """
        hints.check(picture.size)
        if hints.words is None:
            raise refuse(
                self.name, "points, boxes or no hint", "name sam2 for those, or give words"
            )
        length = self._model.config.text_config.max_position_embeddings
        tokens = self._tokenizer(
            hints.words,
            padding="max_length",
            truncation=True,
            max_length=length,
            return_tensors="pt",
        ).to(self._model.device)
        answer = self._model(
            pixel_values=self._prepare(picture.convert("RGB"), self._model),
            input_ids=tokens["input_ids"],
            attention_mask=tokens["attention_mask"],
        )
        scores = answer.pred_logits[0].float().sigmoid()
        if answer.presence_logits is not None:
            scores = scores * answer.presence_logits[0].float().sigmoid()
        return self._masks(answer.pred_masks[0], scores, picture.size, hints.words)

    def _masks(
        self, logits: torch.Tensor, scores: torch.Tensor, size: tuple[int, int], words: str
    ) -> list[Detection]:
        rows = [row for row in scores.argsort(descending=True) if scores[row] > self.threshold]
        detections = []
        for row in rows:
            mask: Any = (at_size(logits[row][None], size)[0] > 0).cpu().numpy()
            if mask.any():
                score = float(scores[row])
                detections.append(
                    Detection(box=box_of(mask), mask=mask, label=words, confidence=score)
                )
        return detections


def _clipped(
    corners: tuple[float, ...], scale: tuple[float, float], size: tuple[int, int]
) -> Rectangle | None:
    """A box in pixels, inside the picture; None where less than a pixel of it is."""
    limits = (*size, *size)
    left, top, right, bottom = (
        float(np.clip(corner * factor, 0, limit))
        for corner, factor, limit in zip(corners, scale * 2, limits, strict=True)
    )
    return (left, top, right, bottom) if right - left >= 1 and bottom - top >= 1 else None
