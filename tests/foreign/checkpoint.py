"""A checkpoint of the foreign family: random weights in its own classes."""

from __future__ import annotations

import json
from pathlib import Path

import torch


def write(folder: Path) -> Path:
    """Make it; the package must be on the path."""
    from diffusers import FlowMatchEulerDiscreteScheduler
    from mosaic_painter import networks, processing

    torch.manual_seed(0)
    letters = "abcdefghijklmnopqrstuvwxyz .<>|"
    parts = {
        "scheduler": ("diffusers", FlowMatchEulerDiscreteScheduler()),
        "processor": ("mosaic_painter", processing.MosaicProcessor(letters, "<{{ prompt }}>", 24)),
        "words": ("mosaic_painter", networks.MosaicWords(networks.MosaicWordsConfig())),
        "painter": ("mosaic_painter", networks.MosaicPainter()),
        "tiles": ("mosaic_painter", networks.MosaicTiles()),
    }
    index: dict[str, object] = {"_class_name": "MosaicPipeline", "shift": [0.5, 1.5], "scale": 2}
    for name, (library, part) in parts.items():
        part.save_pretrained(folder / name)
        index[name] = [library, type(part).__name__]
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder
