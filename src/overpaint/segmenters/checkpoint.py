"""Segmentation models from a folder in transformers layout: safetensors only, nothing fetched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from PIL import Image

from overpaint.checkpoints.exclusion import LOADING
from overpaint.checkpoints.loading import dtype_argument
from overpaint.core.errors import ModelLoadError

if TYPE_CHECKING:
    from overpaint.checkpoints.placement import Placement

CONFIG = "config.json"


def model_type(folder: Path) -> str:
    """What kind of model a folder holds ('sam2', 'grounding-dino', 'owlv2', 'sam3').

    Raises:
        ModelLoadError: no such folder, or none in transformers layout.
    """
    file = folder / CONFIG
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["model_type"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelLoadError(
            f"{folder}: no {CONFIG} that names a model type; a segmentation model is a folder in "
            "transformers layout"
        ) from error


def load(class_name: str, folder: Path, placement: Placement) -> Any:
    """A model of that class of transformers, on its device, in evaluation mode.

    Raises:
        ModelLoadError: this transformers has no such class, or the files are not what they
            should be.
    """
    import transformers

    cls = getattr(transformers, class_name, None)
    if cls is None:
        raise ModelLoadError(
            f"transformers {transformers.__version__} has no {class_name}; install a newer one"
        )
    try:
        # transformers changes torch's defaults while it loads: no step of an edit meanwhile.
        with LOADING.alone():
            model, report = cls.from_pretrained(
                folder,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                **dtype_argument(cls, placement.dtype),
            )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError) as error:
        line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelLoadError(f"{folder}: cannot be loaded as {class_name}: {line}") from error
    if missing := sorted(report["missing_keys"]):
        raise ModelLoadError(
            f"{folder}: {len(missing)} weights are missing ('{missing[0]}'); pull the model again"
        )
    return model.eval().requires_grad_(False).to(placement.device)


def load_tokenizer(folder: Path) -> Any:
    """The folder's own tokenizer; code that it may hold is not run.

    Raises:
        ModelLoadError: there is none, or it cannot be read.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelLoadError(f"{folder}: its tokenizer cannot be loaded: {line}") from error


class Preparation:
    """A picture as a network takes it: resized, each channel normalised.

    Read from the folder's own description, with the values of the models' authors where it is
    silent. transformers' own processors of some of these models need torchvision; this does not.

    Args:
        folder: of the model.
        fit: 'stretch' to a square; 'pad' below and to the right to a square; 'shortest' keeps the
            proportions: the shorter side becomes `side`, the longer at most `longest`.
        side, longest: in pixels.
        mean, deviation: of the channels, for values in 0..1.
    """

    def __init__(
        self,
        folder: Path,
        *,
        fit: Literal["stretch", "pad", "shortest"],
        side: int,
        longest: int = 0,
        mean: tuple[float, ...],
        deviation: tuple[float, ...],
    ) -> None:
        description = _description(folder)
        size = description.get("size") or {}
        self._fit = fit
        self.side = int(size.get("shortest_edge", size.get("height", side)))
        self._longest = int(size.get("longest_edge", longest))
        self._mean = np.asarray(description.get("image_mean", mean), np.float32)
        self._deviation = np.asarray(description.get("image_std", deviation), np.float32)

    def __call__(self, picture: Image.Image, like: Any) -> torch.Tensor:
        """(1, 3, height, width) of an 'RGB' picture, for the model `like`."""
        if self._fit == "pad":
            square = Image.new("RGB", (max(picture.size),) * 2)
            square.paste(picture)
            picture = square
        resized = picture.resize(self._size(picture.size), Image.Resampling.BILINEAR)
        values = (np.asarray(resized, np.float32) / 255 - self._mean) / self._deviation
        pixels = torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))[None]
        return pixels.to(like.device, like.dtype)

    def _size(self, size: tuple[int, int]) -> tuple[int, int]:
        if self._fit != "shortest":
            return self.side, self.side
        scale = min(self.side / min(size), self._longest / max(size))
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def at_size(masks: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Mask logits (N, h, w) brought to (N, height, width) of a picture of (width, height)."""
    larger = torch.nn.functional.interpolate(
        masks.float()[:, None], (size[1], size[0]), mode="bilinear", align_corners=False
    )
    return larger[:, 0]


def _description(folder: Path) -> dict[str, Any]:
    for name, key in (
        ("preprocessor_config.json", None),
        ("processor_config.json", "image_processor"),
    ):
        file = folder / name
        if not file.is_file():
            continue
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            return dict(values if key is None else values.get(key) or {})
        except (ValueError, TypeError, AttributeError) as error:
            raise ModelLoadError(f"{file}: cannot be read: {error}") from error
    return {}
