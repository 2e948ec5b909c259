"""The models that Overpaint knows by name, and how a model of one's own is described."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Source = Literal["bundled", "folder", "hub", "none"]

BackendName = Literal["torch", "torch-compiled", "torch-float8", "openvino", "openvino-int8"]
"""What computes networks; see `checkpoints/compute/backends.py`."""

AttentionName = Literal["auto", "cudnn", "flash", "efficient", "math"]
"""The kernel of a denoiser's attention on CUDA; see `checkpoints/compute/attention.py`."""

CompileName = Literal["auto", "off"]
"""Whether networks are compiled in the background on cards; see `checkpoints/compiling.py`."""

RecordName = Literal["auto", "off"]
"""Whether steps are recorded and replayed on cards; see `diffusion/recorded.py`."""


@dataclass(frozen=True)
class Lora:
    """A low-rank adapter in diffusers or PEFT layout.

    Attributes:
        path: a .safetensors file, or a folder that holds one.
        scale: factor of its effect; 1 = as trained.
    """

    path: Path
    scale: float = 1.0


@dataclass(frozen=True)
class ModelSpec:
    """Where a model comes from and what it may be used for.

    Attributes:
        name: as users write it.
        family: name of the family that runs it.
        source: 'bundled' (package data), 'folder' (diffusers layout), 'hub', or 'none' (the
            family needs no weights).
        location: folder, or `owner/name` of a hub repository.
        revision: commit of the hub repository; None = the commit recorded when it was pulled.
        licence: SPDX identifier or the licence's own name.
        commercial: whether the licence allows commercial use.
        size_gb: download in gigabytes, about.
        about: one line.
        loras: adapters to apply.
    """

    name: str
    family: str
    source: Source
    location: str = ""
    revision: str | None = None
    licence: str = "unknown"
    commercial: bool = True
    size_gb: float = 0.0
    about: str = ""
    loras: tuple[Lora, ...] = ()


BUILTIN: tuple[ModelSpec, ...] = (
    ModelSpec(
        name="erase",
        family="erase",
        source="none",
        licence="Apache-2.0",
        about="removes what the mask covers; no weights, no prompt",
    ),
    ModelSpec(
        name="flex2",
        family="flex2",
        source="hub",
        location="ostris/Flex.2-preview",
        licence="Apache-2.0",
        size_gb=26.0,
        about="mask + prompt + optional line, pose or depth picture; 8B",
    ),
    ModelSpec(
        name="sd2",
        family="sd2",
        source="hub",
        location="sd2-community/stable-diffusion-2-inpainting",
        licence="CreativeML Open RAIL++-M",
        size_gb=5.2,
        about="mask + prompt; 0.9B; a community mirror, the upstream repository is gone",
    ),
    ModelSpec(
        name="kontext",
        family="kontext",
        source="hub",
        location="black-forest-labs/FLUX.1-Kontext-dev",
        licence="FLUX.1 [dev] Non-Commercial License",
        commercial=False,
        size_gb=34.0,
        about="an instruction, with or without a mask; many turns; 12B",
    ),
    ModelSpec(
        name="qwen-edit",
        family="qwen-edit",
        source="hub",
        location="Qwen/Qwen-Image-Edit-2511",
        licence="Apache-2.0",
        size_gb=57.7,
        about="an instruction about one to three pictures, with or without a mask; 20B",
    ),
)
