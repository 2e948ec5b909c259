"""Checkers of pictures that run on this machine: what `transformers` and diffusers know to load.

Pictures are squeezed into the model's square, not cropped: nothing at the edges goes unseen.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from overpaint.checkpoints.exclusion import LOADING
from overpaint.core.errors import InvalidSettings, ModelLoadError
from overpaint.core.safety import Category

FLAGGED = 6
"""Severity of what a model that only says yes or no says yes to."""

FIELD = "safety.classifiers"

CPU = torch.device("cpu")

_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class Classifier:
    """An image classifier of any architecture that transformers has.

    Args:
        folder: config.json, model.safetensors and preprocessor_config.json.
        labels: which of its labels mean which category; the others mean nothing.
        score: probability from which a label counts.
        device: where it computes.

    Raises:
        ModelLoadError: the folder holds no such model.
        InvalidSettings: the model has no such label.
    """

    def __init__(
        self,
        folder: Path,
        labels: Mapping[str, Category],
        score: float,
        device: torch.device = CPU,
    ) -> None:
        from transformers import AutoModelForImageClassification

        self.name = f"classifier {folder.name}"
        self._model = _load(AutoModelForImageClassification, folder, device)
        self._score = score
        self._inputs = _inputs_of(folder, self._model.config)
        indices = {name: index for index, name in self._model.config.id2label.items()}
        if unknown := sorted(set(labels) - set(indices)):
            raise InvalidSettings(
                f"{folder} has no label '{unknown[0]}'; it has {', '.join(sorted(indices))}",
                field=FIELD,
            )
        self._meaning = {int(indices[label]): category for label, category in labels.items()}
        self._lock = threading.Lock()

    def check(self, content: Image.Image) -> Mapping[Category, int]:
        """`FLAGGED` for each category with a label that is at least as probable as `score`."""
        with self._lock, LOADING.shared(), torch.inference_mode():
            pixels = self._inputs(content).to(self._model.device)
            logits = self._model(pixel_values=pixels).logits[0].cpu()
        many = self._model.config.problem_type == "multi_label_classification"
        scores = torch.sigmoid(logits.float()) if many else torch.softmax(logits.float(), dim=-1)
        if not torch.isfinite(scores).all():
            raise ArithmeticError("the classifier gives no numbers")
        severities: dict[Category, int] = {}
        for index, category in self._meaning.items():
            counts = float(scores[index]) >= self._score
            severities[category] = max(severities.get(category, 0), FLAGGED if counts else 0)
        return severities


class StableDiffusionChecker:
    """diffusers' `StableDiffusionSafetyChecker`: CLIP, and concepts that pictures may not be near.

    Args:
        folder: config.json and model.safetensors, as `safety_checker/` of Stable Diffusion 1.
        device: where it computes.

    Raises:
        ModelLoadError: the folder holds no such model.
    """

    def __init__(self, folder: Path, device: torch.device = CPU) -> None:
        from diffusers.pipelines.stable_diffusion.safety_checker import (
            StableDiffusionSafetyChecker,
        )

        self.name = "stable diffusion safety checker"
        self._model = _load(StableDiffusionSafetyChecker, folder, device)
        side = int(self._model.config.vision_config.image_size)
        self._inputs = _Preprocessor((side, side), _CLIP_MEAN, _CLIP_STD)
        self._lock = threading.Lock()

    def check(self, content: Image.Image) -> Mapping[Category, int]:
        """'sexual': `FLAGGED` where the picture is near one of the concepts."""
        pixels = self._inputs(content)
        with self._lock, LOADING.shared(), torch.inference_mode():
            _, flags = self._model(
                clip_input=pixels.to(self._model.device), images=[pixels[0].numpy()]
            )
        return {"sexual": FLAGGED if flags[0] else 0}


class OwnChecker:
    """The `StableDiffusionChecker` that a checkpoint brings, loaded when it first looks.

    It computes on the processor: no plan of a card's memory counts it.

    Args:
        folder: as for `StableDiffusionChecker`.
    """

    name = "checkpoint's own safety checker"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._checker: StableDiffusionChecker | None = None
        self._lock = threading.Lock()

    def check(self, content: Image.Image) -> Mapping[Category, int]:
        """As `StableDiffusionChecker.check`.

        Raises:
            ModelLoadError: the folder holds no such model.
        """
        with self._lock:
            if self._checker is None:
                self._checker = StableDiffusionChecker(self._folder)
        return self._checker.check(content)


class _Preprocessor:
    """From a picture to what a model sees: (1, 3, height, width)."""

    def __init__(self, size: tuple[int, int], mean: Any, std: Any) -> None:
        self._size = size
        self._mean = np.asarray(mean, np.float32)
        self._std = np.asarray(std, np.float32)

    def __call__(self, image: Image.Image) -> torch.Tensor:
        small = image.convert("RGB").resize(self._size, Image.Resampling.BICUBIC)
        pixels = (np.asarray(small, np.float32) / 255 - self._mean) / self._std
        return torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy())


def _inputs_of(folder: Path, config: Any) -> _Preprocessor:
    file = folder / "preprocessor_config.json"
    try:
        description = json.loads(file.read_text(encoding="utf-8"))
        side = int(config.image_size)
        return _Preprocessor((side, side), description["image_mean"], description["image_std"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelLoadError(
            f"{file}: does not say how pictures are prepared ({error!r})"
        ) from error


def _load(kind: Any, folder: Path, device: torch.device) -> Any:
    if not folder.is_dir():
        raise ModelLoadError(f"{folder}: no such folder; correct the path in [safety]")
    try:
        model = kind.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelLoadError(f"{folder}: no {kind.__name__}: {error}") from error
    return model.eval().to(device)
