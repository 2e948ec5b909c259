"""The models that Overpaint knows by name, and how a model of one's own is described."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

Source = Literal["bundled", "folder", "hub", "none"]

EditTask = Literal["inpaint", "edit", "erase", "extend"]
"""What people come for: repaint what a mask covers, follow an instruction, remove a thing, make a
picture larger by what words say."""

EDIT_TASKS: tuple[EditTask, ...] = get_args(EditTask)


ERASER = "erase"
"""Name of the model that needs no weights, and is always here."""

AUTO = "auto"
"""In place of a default model's name: the first of `PREFERRED` that is here."""

BackendName = Literal[
    "torch", "torch-compiled", "torch-float8", "openvino", "openvino-int8", "openvino-int4"
]
"""What computes networks; see `checkpoints/compute/backends.py`."""

AttentionName = Literal["auto", "cudnn", "flash", "efficient", "math"]
"""The kernel of a denoiser's attention on CUDA; see `checkpoints/compute/attention.py`."""

CompileName = Literal["auto", "off"]
"""Whether networks are compiled in the background on cards; see `checkpoints/compiling.py`."""

RecordName = Literal["auto", "off"]
"""Whether steps are recorded and replayed on cards; see `diffusion/recorded.py`."""


def border_task(prompt: str | None) -> EditTask:
    """What fills the border of a picture that grows: a model by words, without words the eraser."""
    return "extend" if (prompt or "").strip() else "erase"


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
        memory_gb: gigabytes that its weights take at once in bfloat16, about, with text encoders
            out of memory while others compute; 0 = not known, as much as the download.
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
    memory_gb: float = 0.0
    about: str = ""
    loras: tuple[Lora, ...] = ()

    @property
    def size(self) -> str:
        """Its download for people: '26 GB', '0.3 GB', '8 MB'; empty = not known."""
        if not self.size_gb:
            return ""
        if self.size_gb < 0.1:
            return f"{1000 * self.size_gb:.0f} MB"
        return f"{self.size_gb:.0f} GB" if self.size_gb >= 10 else f"{self.size_gb:.1f} GB"


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
        memory_gb=16.5,
        about="mask + prompt + optional line, pose or depth picture; 8B",
    ),
    ModelSpec(
        name="sd2",
        family="sd2",
        source="hub",
        location="sd2-community/stable-diffusion-2-inpainting",
        licence="CreativeML Open RAIL++-M",
        size_gb=5.2,
        memory_gb=2.6,
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
        memory_gb=24.0,
        about="an instruction, with or without a mask; many turns; 12B",
    ),
    ModelSpec(
        name="klein",
        family="klein",
        source="hub",
        location="black-forest-labs/FLUX.2-klein-4B",
        licence="Apache-2.0",
        size_gb=16.0,
        memory_gb=8.0,
        about="an instruction, with or without a mask, several references; four steps; 4B",
    ),
    ModelSpec(
        name="klein-base",
        family="klein",
        source="hub",
        location="black-forest-labs/FLUX.2-klein-base-4B",
        licence="Apache-2.0",
        size_gb=16.0,
        memory_gb=8.0,
        about="as klein, not distilled: fifty steps, negative prompts, for training; 4B",
    ),
    ModelSpec(
        name="klein-9b",
        family="klein",
        source="hub",
        location="black-forest-labs/FLUX.2-klein-9B",
        licence="FLUX Non-Commercial License",
        commercial=False,
        size_gb=34.7,
        memory_gb=18.3,
        about="as klein, larger; 9B",
    ),
    ModelSpec(
        name="klein-base-9b",
        family="klein",
        source="hub",
        location="black-forest-labs/FLUX.2-klein-base-9B",
        licence="FLUX Non-Commercial License",
        commercial=False,
        size_gb=34.7,
        memory_gb=18.3,
        about="as klein-base, larger; 9B",
    ),
    ModelSpec(
        name="klein-9b-kv",
        family="klein-kv",
        source="hub",
        location="black-forest-labs/FLUX.2-klein-9b-kv",
        licence="FLUX Non-Commercial License",
        commercial=False,
        size_gb=34.7,
        memory_gb=18.3,
        about="as klein-9b; references are computed once and kept for further instructions; 9B",
    ),
    ModelSpec(
        name="fill",
        family="fill",
        source="hub",
        location="black-forest-labs/FLUX.1-Fill-dev",
        licence="FLUX.1 [dev] Non-Commercial License",
        commercial=False,
        size_gb=34.0,
        memory_gb=24.0,
        about="mask + prompt; 12B",
    ),
    ModelSpec(
        name="sdxl",
        family="sdxl",
        source="hub",
        location="diffusers/stable-diffusion-xl-1.0-inpainting-0.1",
        licence="CreativeML Open RAIL++-M (2023)",
        size_gb=13.9,
        memory_gb=5.5,
        about="mask + prompt; 2.6B; takes SDXL's LoRA adapters",
    ),
    ModelSpec(
        name="qwen-edit",
        family="qwen-edit",
        source="hub",
        location="Qwen/Qwen-Image-Edit-2511",
        licence="Apache-2.0",
        size_gb=57.7,
        memory_gb=27.5,
        about="an instruction about one to three pictures, with or without a mask; 20B",
    ),
)

PREFERRED: Mapping[EditTask, tuple[str, ...]] = {
    "inpaint": ("flex2", "sdxl", "sd2", "fill"),
    "edit": (
        *("klein", "qwen-edit", "klein-base"),
        *("klein-9b-kv", "klein-9b", "kontext", "klein-base-9b"),
    ),
    "erase": ("erase",),
    "extend": ("flex2", "sdxl", "sd2", "fill"),
}
"""Names of the models that `auto` looks for, by task: those whose licence allows commercial use
first, and of those the better ones. A name that `BUILTIN` does not have is passed over."""
