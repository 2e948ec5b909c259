"""What computes a checkpoint's networks, where it is more than torch as it comes.

`openvino`, `openvino-int8`: Stable Diffusion's UNet and autoencoder on processors, converted
(`diffusion/openvino.py`). `torch-compiled`: the denoiser's blocks, compiled by torch.
`torch-float8`: the same, with their linear layers in float8 (`diffusion/float8.py`).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.fx.experimental import _config as shapes

from overpaint.checkpoints import float8
from overpaint.checkpoints.component import Component
from overpaint.core.errors import ModelLoadError
from overpaint.core.models import AttentionName, BackendName, RecordName

COMPILERS = ("c++", "g++", "clang++", "cl")


@dataclass(frozen=True)
class Backend:
    """A backend, and what it needs.

    Attributes:
        name: as settings write it.
        cache: folder of components converted for OpenVINO.
        samples: gives what a UNet is given in ordinary edits, for `openvino-int8`.
        record: whether steps are recorded and replayed, on devices that can.
        attention: the kernel of the denoiser's attention, on CUDA.
    """

    name: BackendName = "torch"
    cache: Path | None = None
    samples: Callable[[], list[Any]] | None = None
    record: RecordName = "auto"
    attention: AttentionName = "auto"

    @property
    def converts(self) -> bool:
        """Whether components are replaced by OpenVINO's."""
        return self.name.startswith("openvino")

    @property
    def quantizes(self) -> bool:
        """Whether the denoiser's linear layers are held in float8."""
        return self.name == "torch-float8"

    def computes(self, part: Component, device: torch.device, *, adapted: bool) -> bool:
        """Whether it computes a component; else torch does, as it comes.

        Args:
            part: the component as its family knows it.
            device: where it is.
            adapted: whether low-rank adapters change it.
        """
        if self.converts:
            return part.openvino and device.type == "cpu" and not adapted
        if self.quantizes and (adapted or part.float8 is None):
            return False
        return self.name != "torch" and part.role == "denoiser"


def prepare(backend: Backend, model: Any, device: torch.device, part: Component) -> None:
    """Make a loaded denoiser what the backend computes, on the device.

    Raises:
        ModelLoadError: there is no compiler, or torch is too old.
        UnsupportedOption: the device cannot multiply float8.
    """
    _require_compiler(backend.name)
    if backend.quantizes:
        assert part.float8 is not None
        float8.quantize(model, device, part.float8)
    _compile_blocks(model)


def _compile_blocks(model: Any) -> None:
    """Let torch compile a denoiser's blocks when they first compute; one compilation serves all.

    Sizes are left open from the start, and equal ones are not taken for one, so that a picture
    does not depend on the sizes of earlier ones.
    """
    shapes.use_duck_shape = False
    model.compile_repeated_blocks(dynamic=True)


def _require_compiler(name: str) -> None:
    """torch would notice that there is none in the middle of the first step."""
    if not any(shutil.which(each) for each in (os.environ.get("CXX"), *COMPILERS) if each):
        raise ModelLoadError(
            f"backend '{name}' needs a C++ compiler ({', '.join(COMPILERS)}), and there is none; "
            'install one, or set backend = "torch"'
        )
