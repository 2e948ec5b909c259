"""Backends: what computes a checkpoint's networks, where it is more than torch as it comes.

`openvino`, `openvino-int8`, `openvino-int4`: denoisers and autoencoders on processors, converted
(`checkpoints/compute/openvino.py`). `torch-compiled`: the denoiser's blocks, compiled by torch.
`torch-float8`: the same, with their linear layers in float8 (`checkpoints/compute/float8.py`).
On CUDA, `torch` compiles in the background while it is used (`checkpoints/compiling.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from overpaint.checkpoints import compiling
from overpaint.checkpoints.component import Component
from overpaint.checkpoints.compute import float8
from overpaint.core.errors import ModelLoadError
from overpaint.core.models import AttentionName, BackendName, CompileName, RecordName

PREVIEW = 33 * 33
"""Latents that the autoencoder is compiled for at least: previews are of 32 along a side."""


@dataclass(frozen=True)
class Backend:
    """A backend, and what it needs.

    Attributes:
        name: as settings write it.
        cache: folder of components converted for OpenVINO.
        samples: gives what a UNet is given in ordinary edits, for `openvino-int8`.
        record: whether steps are recorded and replayed, on devices that can.
        attention: the kernel of the denoiser's attention, on CUDA.
        compile: whether networks are compiled in the background, on CUDA.
        compile_cache: folder of what torch compiled.
    """

    name: BackendName = "torch"
    cache: Path | None = None
    samples: Callable[[], list[Any]] | None = None
    record: RecordName = "auto"
    attention: AttentionName = "auto"
    compile: CompileName = "auto"
    compile_cache: Path | None = None

    @property
    def converts(self) -> bool:
        """Whether components are replaced by OpenVINO's."""
        return self.name.startswith("openvino")

    @property
    def weight_bits(self) -> Literal[4, 8] | None:
        """Bits of a denoiser's weights on OpenVINO; None = as many as its precision has."""
        bits: dict[str, Literal[4, 8]] = {"openvino-int8": 8, "openvino-int4": 4}
        return bits.get(self.name)

    @property
    def quantizes(self) -> bool:
        """Whether the denoiser's linear layers are held in float8."""
        return self.name == "torch-float8"

    def compiles_later(self, part: Component, device: torch.device) -> bool:
        """Whether a component is compiled while it is used: only where nothing else is asked for.

        The autoencoder is compiled beside a denoiser that is compiled in another way, too.
        """
        roles = ("denoiser", "autoencoder") if self.name == "torch" else ("autoencoder",)
        compiles = self.compile == "auto" and not self.converts and part.role in roles
        compiles = compiles and part.compiles
        return compiles and compiling.is_ready(device)

    def computes(self, part: Component, device: torch.device, *, adapted: bool) -> bool:
        """Whether it computes a component; else torch does, as it comes.

        Args:
            part: the component as its family knows it.
            device: where it is.
            adapted: whether low-rank adapters change it.
        """
        if self.converts:
            return part.openvino is not None and device.type == "cpu" and not adapted
        if self.quantizes and (adapted or part.float8 is None):
            return False
        return self.name != "torch" and part.role == "denoiser"


def prepare(backend: Backend, model: Any, device: torch.device, part: Component) -> None:
    """Make a loaded network what the backend computes, on the device.

    Raises:
        ModelLoadError: there is no compiler, or torch is too old.
        UnsupportedOption: the device cannot multiply float8.
    """
    _require_compiler(backend.name)
    if backend.quantizes:
        assert part.float8 is not None
        float8.quantize(model, device, part.float8)
    if backend.compile_cache is not None:
        compiling.keep_in(backend.compile_cache)
    _compile_blocks(model)


def compile_later(
    backend: Backend,
    model: Any,
    part: Component,
    background: compiling.Background = compiling.BACKGROUND,
    compiler: Callable[[compiling.Compilable], compiling.Compilable] = compiling.open_sizes,
) -> None:
    """Let a loaded network run as it is until it is compiled in the background.

    Args:
        backend: says where that is kept.
        model: the network.
        part: what the family knows of it.
        background, compiler: what compiles.
    """
    if backend.compile_cache is not None:
        compiling.keep_in(backend.compile_cache)
    if part.role == "autoencoder":
        # In this layout the compiler's own norms need no conversions around them, torch's do.
        model.to(memory_format=torch.channels_last)
        for side in (model.encoder, model.decoder):
            compiling.CompiledPart(model, [side], background, compiler, smallest=PREVIEW)
        return
    for modules in [[model]] if part.compile_whole else compiling.repeated(model):
        compiling.CompiledPart(model, modules, background, compiler)


def _compile_blocks(model: Any) -> None:
    """Let torch compile a denoiser's blocks when they first compute; one compilation serves all.

    Sizes are left open from the start, and equal ones are not taken for one, so that a picture
    does not depend on the sizes of earlier ones.
    """
    # Imported late: it imports torch's compiler, which nothing else needs.
    from torch.fx.experimental import _config as shapes

    shapes.use_duck_shape = False
    model.compile_repeated_blocks(dynamic=True)


def _require_compiler(name: str) -> None:
    """torch would notice that there is none in the middle of the first step."""
    if not compiling.has_compiler():
        raise ModelLoadError(
            f"backend '{name}' needs a C++ compiler ({', '.join(compiling.COMPILERS)}), and there "
            'is none; install one, or set backend = "torch"'
        )
