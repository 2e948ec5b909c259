"""How alike two pictures are as wholes: the cosine of a CLIP or DINO checkpoint's features."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from overpaint.core.errors import ModelLoadError

CPU = torch.device("cpu")


class ModelSimilarity:
    """Compares pictures by what an image model sees in them.

    CLIP's image features, or the pooled output of DINO and DINOv2. Pictures are squeezed into the
    model's square, so that nothing at the edges goes unseen.

    Args:
        folder: config.json, model.safetensors and preprocessor_config.json.
        device: where it computes.

    Raises:
        ModelLoadError: the folder holds no such model.
    """

    def __init__(self, folder: Path, device: torch.device = CPU) -> None:
        from transformers import AutoModel

        self.name = folder.name
        try:
            model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
            self._model: Any = model.eval().to(device)
            preprocessing = json.loads(
                (folder / "preprocessor_config.json").read_text(encoding="utf-8")
            )
            config = getattr(self._model.config, "vision_config", self._model.config)
            self._side = int(config.image_size)
            self._mean = np.asarray(preprocessing["image_mean"], np.float32)
            self._std = np.asarray(preprocessing["image_std"], np.float32)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise ModelLoadError(
                f"{folder}: no CLIP or DINO model that compares pictures: {error}"
            ) from error
        self._lock = threading.Lock()

    def between(self, before: Image.Image, after: Image.Image) -> float:
        """-1 to 1; the same picture is 1."""
        inputs = np.stack([self._inputs(before), self._inputs(after)])
        pixels = torch.from_numpy(inputs).to(self._model.device)
        with self._lock, torch.inference_mode():
            features = self._features(pixels)
        return float(torch.nn.functional.cosine_similarity(features[0], features[1], dim=0))

    def _inputs(self, image: Image.Image) -> np.ndarray[Any, np.dtype[np.float32]]:
        square = image.convert("RGB").resize((self._side, self._side), Image.Resampling.BICUBIC)
        pixels = (np.asarray(square, np.float32) / 255 - self._mean) / self._std
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def _features(self, pixels: torch.Tensor) -> torch.Tensor:
        """(2, features)"""
        if hasattr(self._model, "get_image_features"):
            output = self._model.get_image_features(pixel_values=pixels)
        else:
            output = self._model(pixel_values=pixels)
        pooled: torch.Tensor | None = getattr(output, "pooler_output", None)
        return (output if pooled is None else pooled).float()
