"""Where and in which precision a model runs, and whether it fits.

bfloat16 on CPUs with AVX512-BF16 or AMX, where it was measured 1.7x faster than float32 on
Stable Diffusion 2's UNet; bfloat16 on CUDA; float32 elsewhere, and for checkpoints so small that
converting back and forth costs more than it saves.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
import torch

from overpaint.core.errors import OutOfMemory, UnsupportedOption
from overpaint.diffusion import weights

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
DtypeName = Literal["auto", "float32", "bfloat16", "float16"]

SMALL = 50_000_000
"""Parameters under which float32 is at least as fast as bfloat16."""

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_CPU_FLAGS = Path("/proc/cpuinfo")

GIB = 1024**3
WORKING_SHARE = 0.35
"""Memory for activations, beside the weights, as a share of the largest component."""


@dataclass(frozen=True)
class Placement:
    """Device and precision of a model's weights."""

    device: torch.device
    dtype: torch.dtype


def choose(
    device: str = "auto", dtype: str = "auto", *, parameters: int | None = None
) -> Placement:
    """Resolve 'auto' from the hardware and the checkpoint's size.

    Args:
        device: 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps'.
        dtype: 'auto', 'float32', 'bfloat16' or 'float16'.
        parameters: of the checkpoint, where it is known.

    Raises:
        UnsupportedOption: the device is not there, or the names are unknown.
    """
    chosen = _device(device)
    if dtype == "auto" and parameters is not None and parameters < SMALL:
        dtype = "float32"
    return Placement(chosen, _dtype(dtype, chosen))


def weights_in(folder: Path) -> int:
    """Parameters of all components of a checkpoint, from the headers of its files.

    Raises:
        ModelLoadError: a file is damaged.
    """
    return sum(
        weights.parameters(file)
        for component in folder.iterdir()
        if component.is_dir()
        for file in weights.files(component)
    )


def cpu_has_fast_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 natively (AVX512-BF16 or AMX)."""
    try:
        flags = _CPU_FLAGS.read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def free_memory(device: torch.device) -> int:
    """Bytes that can still be taken on `device`."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


@dataclass(frozen=True)
class MemoryPlan:
    """What a checkpoint needs and what there is, in bytes.

    Attributes:
        weights: all components together.
        peak: most that is held at once if text encoders leave after their work.
        free: available on the device.
        evict_text_encoders: whether text encoders leave after their work.
    """

    weights: int
    peak: int
    free: int
    evict_text_encoders: bool

    def __str__(self) -> str:
        how = "text encoders leave after use" if self.evict_text_encoders else "all resident"
        return (
            f"weights {self.weights / GIB:.2f} GiB, at most {self.peak / GIB:.2f} GiB at once "
            f"({how}), free {self.free / GIB:.2f} GiB"
        )


def preflight(name: str, sizes: dict[str, int], free: int) -> MemoryPlan:
    """Decide, before anything is loaded, how a model fits.

    Args:
        name: of the model, for the message.
        sizes: bytes of each component in the precision it will have.
        free: bytes that can be taken.

    Raises:
        OutOfMemory: it does not fit even when text encoders leave after their work.
    """
    weights = sum(sizes.values())
    working = int(WORKING_SHARE * max(sizes.values(), default=0))
    text = sum(size for part, size in sizes.items() if part.startswith("text_encoder"))
    if weights + working <= free:
        return MemoryPlan(weights, weights + working, free, evict_text_encoders=False)
    peak = max(text, weights - text) + working
    if peak <= free:
        return MemoryPlan(weights, peak, free, evict_text_encoders=True)
    raise OutOfMemory(
        f"{name} needs about {peak / GIB:.1f} GiB at once and {free / GIB:.1f} GiB are free; close "
        "other programs, choose a smaller dtype (--dtype bfloat16), or a smaller model"
    )


def _device(name: str) -> torch.device:
    available = {"cpu": True, "cuda": torch.cuda.is_available()}
    available["mps"] = torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if available["cuda"] else "cpu")
    if not available.get(name.split(":")[0], False):
        there = ", ".join(kind for kind, is_there in available.items() if is_there)
        raise UnsupportedOption(f"'{name}' is not here; there is: {there}", field="device")
    return torch.device(name)


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        fast = device.type == "cuda" or (device.type == "cpu" and cpu_has_fast_bfloat16())
        return torch.bfloat16 if fast else torch.float32
    if name not in _DTYPES:
        raise UnsupportedOption(f"'{name}' is not one of auto, {', '.join(_DTYPES)}", field="dtype")
    return _DTYPES[name]
