"""Pictures as the vision tower of Qwen2.5-VL reads them: patches of pixels.

transformers' processor needs torchvision; this needs PIL and torch, and gives the same bits as its
torchvision backend.

Sources: transformers `models/qwen2_vl/image_processing_qwen2_vl.py` (`smart_resize`, order of the
patches).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from overpaint.core.errors import ModelLoadError

CONFIG = "preprocessor_config.json"


@dataclass(frozen=True, eq=False)
class Patches:
    """Pictures, cut up.

    Attributes:
        values: (N, 3 x frames x patch x patch) float32, all pictures one after the other; the
            patches of each square that is merged into one token are neighbours.
        grids: rows and columns of patches of each picture.
        merge: patches along a side of a token.
    """

    values: torch.Tensor
    grids: tuple[tuple[int, int], ...]
    merge: int

    @property
    def token_grids(self) -> list[tuple[int, int]]:
        """Rows and columns of tokens of each picture."""
        return [(rows // self.merge, columns // self.merge) for rows, columns in self.grids]


@dataclass(frozen=True, kw_only=True)
class PictureProcessor:
    """What a checkpoint's `preprocessor_config.json` says.

    Attributes:
        mean, std: of each channel, for values in [0, 1].
        smallest, largest: area of a picture in pixels; others are resized.
        patch: side of a patch, in pixels.
        merge: patches along a side of a token.
        frames: how often a still picture is repeated in time.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    smallest: int
    largest: int
    patch: int = 14
    merge: int = 2
    frames: int = 2

    def __call__(self, pictures: Sequence[Image.Image]) -> Patches:
        """Any modes and sizes → patches."""
        values, grids = [], []
        for picture in pictures:
            pixels = self._pixels(picture)
            grids.append((pixels.shape[1] // self.patch, pixels.shape[2] // self.patch))
            values.append(self._cut(pixels))
        return Patches(torch.cat(values), tuple(grids), self.merge)

    def fitting(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) that a picture is resized to: whole tokens, within the areas."""
        step = self.patch * self.merge
        sides = [max(step, round(side / step) * step) for side in (width, height)]
        area = sides[0] * sides[1]
        if area > self.largest:
            scale = math.sqrt(width * height / self.largest)
            sides = [max(step, int(side / scale // step) * step) for side in (width, height)]
        elif area < self.smallest:
            scale = math.sqrt(self.smallest / (width * height))
            sides = [math.ceil(side * scale / step) * step for side in (width, height)]
        return sides[0], sides[1]

    def _pixels(self, picture: Image.Image) -> torch.Tensor:
        """(3, H, W) float32, normalised."""
        pixels = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
        width, height = self.fitting(*picture.size)
        if (width, height) != picture.size:
            # Of bytes: in floating point the results are others.
            pixels = functional.interpolate(
                pixels[None], size=(height, width), mode="bicubic", antialias=True
            )[0]
        mean, std = (
            (torch.tensor(each) * (1.0 / (1 / 255)))[:, None, None]
            for each in (self.mean, self.std)
        )
        return (pixels.to(torch.float32) - mean) / std

    def _cut(self, pixels: torch.Tensor) -> torch.Tensor:
        channels, height, width = pixels.shape
        rows, columns = (side // self.patch // self.merge for side in (height, width))
        squares = pixels.reshape(
            channels, rows, self.merge, self.patch, columns, self.merge, self.patch
        )
        patches = squares.permute(1, 4, 2, 5, 0, 3, 6).unsqueeze(5)
        repeated = patches.expand(-1, -1, -1, -1, -1, self.frames, -1, -1)
        return repeated.reshape(rows * columns * self.merge**2, -1)


def read(folder: Path) -> PictureProcessor:
    """A checkpoint's processor.

    Raises:
        ModelLoadError: its configuration is missing or damaged.
    """
    file = folder / CONFIG
    try:
        config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        size = config.get("size") or {}
        return PictureProcessor(
            mean=tuple(config["image_mean"]),
            std=tuple(config["image_std"]),
            smallest=int(config.get("min_pixels") or size["shortest_edge"]),
            largest=int(config.get("max_pixels") or size["longest_edge"]),
            patch=int(config["patch_size"]),
            merge=int(config["merge_size"]),
            frames=int(config["temporal_patch_size"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelLoadError(f"{file}: cannot be read; pull the model again") from error
