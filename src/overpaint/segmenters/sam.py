"""Segment Anything 2 (Ravi et al. 2024), as transformers has it.

The picture is encoded once, stretched to the model's square; each box, or all points, is one
prompt of the mask decoder. Without hints, a grid of points finds everything (as in the authors'
`SAM2AutomaticMaskGenerator`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from PIL import Image

from overpaint.core.imaging.detections import Detection, box_of
from overpaint.segmenters.checkpoint import Preparation, at_size, load
from overpaint.segmenters.segmenter import Hints, Segmenter, refuse, without_repeats

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from overpaint.checkpoints.placement import Placement

_SIDE = 1024
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

GRID = 32
"""Points on a side that look for everything."""

_POINTS_AT_ONCE = 64
_LEAST_IOU = 0.8  # that the model expects of its mask
_LEAST_STABILITY = 0.95  # overlap of the masks at logits of +-1


class Sam2(Segmenter):
    """Finds what a box or points say, or everything.

    Args:
        folder: in transformers layout (`Sam2Model`).
        placement: where the model runs.
        grid: points on a side that look for everything.

    Raises:
        ModelLoadError: see `checkpoint.load`.
    """

    name: ClassVar[str] = "sam2"

    def __init__(self, folder: Path, placement: Placement, *, grid: int = GRID) -> None:
        self._model = load("Sam2Model", folder, placement)
        self._prepare = Preparation(
            folder, fit="stretch", side=_SIDE, mean=_MEAN, deviation=_DEVIATION
        )
        self._grid = grid

    @torch.inference_mode()
    def segment(self, picture: Image.Image, hints: Hints) -> list[Detection]:
        """See `Segmenter`; confidences are the model's own estimate of its masks' overlap.

        Raises:
            UnsupportedOption: for words.
        """
        hints.check(picture.size)
        if hints.words is not None:
            raise refuse(self.name, "words", "name a model that reads, such as grounding-dino")
        embeddings = self._encode(picture)
        if hints.points or hints.boxes:
            return self._hinted(embeddings, hints, picture.size)
        return self._everything(embeddings, picture.size)

    def _encode(self, picture: Image.Image) -> Any:
        pixels = self._prepare(picture.convert("RGB"), self._model)
        return self._model.get_image_embeddings(pixels)

    def _hinted(self, embeddings: Any, hints: Hints, size: tuple[int, int]) -> list[Detection]:
        prompts: dict[str, Any] = {}
        if hints.points:
            places = [[point.x, point.y] for point in hints.points]
            prompts["input_points"] = self._scaled([[places]], size)
            labels = [[[int(point.inside) for point in hints.points]]]
            prompts["input_labels"] = torch.tensor(labels, device=self._model.device)
        if hints.boxes:
            prompts["input_boxes"] = self._scaled([[list(box) for box in hints.boxes]], size)
        # One point may be of a button, a shirt or a person: of three masks the likeliest is kept.
        ambiguous = not hints.boxes and len(hints.points) == 1
        logits, scores = self._decode(embeddings, prompts, several=ambiguous)
        best = scores.argmax(dim=1)
        rows = torch.arange(len(best), device=best.device)
        return [
            _detection(_mask(one, size), float(score))
            for one, score in zip(logits[rows, best], scores[rows, best].tolist(), strict=True)
        ]

    def _everything(self, embeddings: Any, size: tuple[int, int]) -> list[Detection]:
        centres = (np.arange(self._grid) + 0.5) / self._grid
        places = [[x * size[0], y * size[1]] for y in centres for x in centres]
        candidates: list[tuple[Detection, torch.Tensor]] = []
        for start in range(0, len(places), _POINTS_AT_ONCE):
            some = [[place] for place in places[start : start + _POINTS_AT_ONCE]]
            prompts = {"input_points": self._scaled([some], size)}
            logits, scores = self._decode(embeddings, prompts, several=True)
            candidates += _convincing(logits.flatten(0, 1), scores.flatten())
        candidates.sort(key=lambda each: -(each[0].confidence or 0))
        logits_of = {id(small): logits for small, logits in candidates}
        distinct = without_repeats([small for small, _ in candidates])
        # Only now at the picture's size, one by one: a thousand masks of a photo fit no memory.
        return [
            _detection(_mask(logits_of[id(small)], size), small.confidence or 0)
            for small in distinct
        ]

    def _decode(
        self, embeddings: Any, prompts: dict[str, Any], *, several: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mask logits (prompts, masks, h, w) and their scores (prompts, masks)."""
        answer = self._model(image_embeddings=embeddings, multimask_output=several, **prompts)
        return answer.pred_masks[0], answer.iou_scores[0].float()

    def _scaled(self, coordinates: Any, size: tuple[int, int]) -> torch.Tensor:
        """Pixels of the picture to pixels of the model's square; x and y stretch on their own."""
        values = torch.tensor(coordinates, dtype=self._model.dtype, device=self._model.device)
        factors = [self._prepare.side / size[0], self._prepare.side / size[1]]
        return values * torch.tensor(factors * (values.shape[-1] // 2)).to(values)


def _convincing(logits: torch.Tensor, scores: torch.Tensor) -> list[tuple[Detection, torch.Tensor]]:
    """Masks that the model trusts and that hardly depend on the threshold, at the model's size."""
    logits, scores = logits[scores > _LEAST_IOU], scores[scores > _LEAST_IOU]
    wide = (logits > -1).sum(dim=(1, 2)).clamp(min=1)
    stable = (logits > 1).sum(dim=(1, 2)) / wide >= _LEAST_STABILITY
    return [
        (_detection((one > 0).cpu().numpy(), float(score)), one)
        for one, score in zip(logits[stable], scores[stable].tolist(), strict=True)
        if bool((one > 0).any())
    ]


def _mask(logits: torch.Tensor, size: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask of the picture's (width, height) from logits (h, w)."""
    mask: NDArray[np.bool_] = (at_size(logits[None], size)[0] > 0).cpu().numpy()
    return mask


def _detection(mask: NDArray[np.bool_], score: float) -> Detection:
    return Detection(box=box_of(mask), mask=mask, confidence=min(max(score, 0.0), 1.0))
