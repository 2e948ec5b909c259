"""What this machine can hold, and which of the known models fit it, before anything is pulled.

Imports torch only where there may be a card.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

from overpaint.core.models import ModelSpec

BESIDE_WEIGHTS_GB = 1.5
"""Activations of a step and of decoding."""

SHARE_OF_HOST = 0.85
"""Share of the machine's memory that a model may take."""

QUICK_GB = 10.0
"""Weights that a processor computes in seconds a step; with more it takes a minute and longer."""

_CPU_FLAGS = Path("/proc/cpuinfo")
_CARDS = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg", "/dev/kfd", "/dev/dri")
"""Device files on Linux, one of which a machine with a card has."""


@dataclass(frozen=True)
class Machine:
    """What models run on.

    Attributes:
        device: name of the first card, or 'cpu'.
        device_gb: gigabytes of its memory.
        host_gb: gigabytes of the machine's memory.
    """

    device: str
    device_gb: float
    host_gb: float

    @property
    def is_processor(self) -> bool:
        """Whether there is no card."""
        return self.device == "cpu"

    def __str__(self) -> str:
        if self.is_processor:
            return f"a processor with {self.host_gb:.0f} GB of memory"
        return f"{self.device} with {self.device_gb:.0f} GB"


@dataclass(frozen=True)
class Fit:
    """Whether a model fits a machine.

    Attributes:
        fits: whether it does at all; None = its size is not known.
        is_quick: whether an edit takes seconds or a few minutes, not an hour.
        text: the verdict in a few words.
    """

    fits: bool | None
    is_quick: bool
    text: str


def fit(spec: ModelSpec, machine: Machine) -> Fit:
    """Whether a model's weights fit a machine, by what the catalogue says of their size."""
    if spec.source == "none":
        return Fit(True, True, "fits")
    need = spec.memory_gb or spec.size_gb
    if not need:
        return Fit(None, False, "not known")
    if not machine.is_processor:
        if need + BESIDE_WEIGHTS_GB <= machine.device_gb:
            return Fit(True, True, "fits the card")
        if (spec.size_gb or need) <= SHARE_OF_HOST * machine.host_gb:
            return Fit(True, False, "fits block by block, slower")
    elif need + BESIDE_WEIGHTS_GB <= SHARE_OF_HOST * machine.host_gb:
        quick = need <= QUICK_GB
        return Fit(True, quick, "fits" if quick else "fits, but is very slow without a card")
    return Fit(False, False, f"too large: {need:.0f} GB at once")


@cache
def this_machine() -> Machine:
    """The machine of this process; asked once."""
    host = psutil.virtual_memory().total / 1e9
    if sys.platform == "linux" and not any(Path(card).exists() for card in _CARDS):
        return Machine("cpu", host, host)
    import torch

    if not torch.accelerator.is_available():
        return Machine("cpu", host, host)
    device = torch.accelerator.current_accelerator()
    assert device is not None
    if not hasattr(module := torch.get_device_module(device), "mem_get_info"):
        return Machine(device.type, host, host)  # the device's memory is the host's
    return Machine(device.type, module.mem_get_info()[1] / 1e9, host)


def cpu_has_fast_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 natively (AVX512-BF16 or AMX)."""
    try:
        flags = _CPU_FLAGS.read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
