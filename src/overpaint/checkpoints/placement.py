"""Where and in which precision a model runs, and whether it fits.

bfloat16 on CPUs with AVX512-BF16 or AMX, where it was measured 1.7x faster than float32 on
Stable Diffusion 2's UNet; bfloat16 on CUDA; float32 elsewhere, and for checkpoints so small that
converting back and forth costs more than it saves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import psutil
import torch

from overpaint.checkpoints.files import weights
from overpaint.checkpoints.machine import cpu_has_fast_bfloat16
from overpaint.checkpoints.shortage import GIB as GIB
from overpaint.core.errors import OutOfMemory, UnsupportedOption

DtypeName = Literal["auto", "float32", "bfloat16", "float16"]

SMALL = 50_000_000
"""Parameters under which float32 is at least as fast as bfloat16."""

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

WORKING_SHARE = 0.1
"""Memory of a step's activations, beside the weights, as a share of the largest component."""

KERNELS = 2.84
"""On a card, what decoding and encoding take as a multiple of live tensors: cuDNN has workspaces
and copies in its own layout, and the attention a workspace. ComfyUI reserves 4356 bytes per
pixel of decoding and 3534 of encoding in bfloat16 (`comfy/sd.py`); live tensors are 1537 and
1286."""

Tier = Literal["all resident", "text encoders out", "modulation out", "tiled decode", "streamed"]
TIERS: tuple[Tier, ...] = get_args(Tier)

TILES = 4
"""Tiles of 512x512 in a picture of 1024x1024."""

DECODED = 1024 * 1024
"""Pixels of the picture that has to fit when it is decoded."""


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
        device: one of this machine: 'auto', 'cpu', 'cuda', 'cuda:1', 'mps', 'xpu'.
        dtype: 'auto', 'float32', 'bfloat16' or 'float16'.
        parameters: of the checkpoint, where it is known.

    Raises:
        UnsupportedOption: the device is not there, there are several, or the names are unknown.
    """
    first, *others = devices_for(device)
    if others:
        raise UnsupportedOption(
            f"'{device}' is {len(others) + 1} devices, and this runs on one; name that one",
            field="device",
        )
    if dtype == "auto" and parameters is not None and parameters < SMALL:
        dtype = "float32"
    return Placement(first, _dtype(dtype, first))


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


def free_memory(device: torch.device) -> int:
    """Bytes that can still be taken on `device`."""
    if device.type != "cpu" and hasattr(module := torch.get_device_module(device), "mem_get_info"):
        free = int(module.mem_get_info(device)[0])
        if hasattr(module, "memory_reserved"):
            # Memory that torch keeps of freed tensors is free for its next ones.
            free += int(module.memory_reserved(device)) - int(module.memory_allocated(device))
        return free
    return int(psutil.virtual_memory().available)


def taken_memory(device: torch.device) -> int | None:
    """Bytes that this process holds on a card; None where they are not counted."""
    if device.type == "cpu":
        return None
    module = torch.get_device_module(device)
    if hasattr(module, "memory_allocated"):
        return int(module.memory_allocated(device))
    if hasattr(module, "mem_get_info"):
        free, total = module.mem_get_info(device)
        return int(total - free)
    return None


@dataclass(frozen=True)
class MemoryNeed:
    """What a checkpoint takes, in bytes, in the precision that it will have.

    Attributes:
        sizes: of each component's weights.
        text: names of the text encoders among them.
        ahead: of them, those that are computed ahead of the steps and can leave.
        decode, encode: activations of decoding and encoding a picture of 1024x1024 in one piece.
        blocks: of components whose blocks can visit the device one after the other, the bytes of
            each block, without weights that are computed ahead.
    """

    sizes: Mapping[str, int]
    text: frozenset[str] = frozenset()
    ahead: int = 0
    decode: int = 0
    encode: int = 0
    blocks: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @property
    def weights(self) -> int:
        """All components together."""
        return sum(self.sizes.values())

    @property
    def steps(self) -> int:
        """Activations of a step."""
        return int(WORKING_SHARE * max(self.sizes.values(), default=0))

    def peak(self, tier: Tier) -> int:
        """Most that is held at once: by the encoders of texts or pictures, a step, or decoding."""
        text = sum(self.sizes[name] for name in self.text)
        rest = self.weights - text
        pictures = max(self.decode, self.encode)
        if tier == "all resident":
            return self.weights + max(self.steps, pictures)
        if tier != "text encoders out":
            rest -= self.ahead
        if tier in ("tiled decode", "streamed"):
            pictures //= TILES
        return max(text, rest) + max(self.steps, pictures)

    def resident(self, free: int) -> dict[str, int] | None:
        """How many blocks of each component can stay on the device; None = it is too small.

        Text encoders and the rest take turns there. Components whose blocks all stay are left out.
        """
        stay: dict[str, int] = {}
        room = free - max(self.steps, max(self.decode, self.encode) // TILES)
        for names, size in zip(
            (self.text, self.sizes.keys() - self.text), self._groups, strict=True
        ):
            excess = size - room
            for name in sorted(names & self.blocks.keys()):
                if excess > 0:
                    stay[name], saved_bytes = _fewest_visits(self.blocks[name], excess)
                    excess -= saved_bytes
            if excess > 0:
                return None
        return stay

    @property
    def _groups(self) -> tuple[int, int]:
        """Weights of the text encoders, and of the rest without what is computed ahead."""
        text = sum(self.sizes[name] for name in self.text)
        return text, self.weights - text - self.ahead


def _fewest_visits(blocks: Sequence[int], excess: int) -> tuple[int, int]:
    """Blocks that stay, and bytes that need no place as the others visit, two at a time.

    As many stay as leave `excess` bytes free; if none do, as many as free most.
    """
    best = (len(blocks), 0)
    for stay in range(len(blocks) - 1, -1, -1):
        saved_bytes = sum(blocks[stay:]) - 2 * max(blocks[stay:])
        if saved_bytes > best[1]:
            best = stay, saved_bytes
        if saved_bytes >= excess:
            break
    return best


@dataclass(frozen=True)
class MemoryPlan:
    """What a checkpoint needs and what there is, in bytes.

    Attributes:
        weights: all components together.
        peak: most that is held at once.
        free: available on the device.
        tier: what was given up to fit; each tier holds those before it.
        evict_ahead: whether weights that can be computed ahead leave.
        resident: of components whose blocks visit the device, how many of them stay there.
    """

    weights: int
    peak: int
    free: int
    tier: Tier
    evict_ahead: bool = False
    resident: Mapping[str, int] = field(default_factory=dict)

    @property
    def spare(self) -> int:
        """Memory left for what images keep during their steps."""
        return max(0, self.free - self.peak)

    @property
    def evict_text_encoders(self) -> bool:
        """Whether text encoders and the denoiser take turns."""
        return self.tier != "all resident"

    @property
    def tiled(self) -> bool:
        """Whether pictures larger than 512x512 are encoded and decoded in tiles."""
        return self.tier in ("tiled decode", "streamed")

    def __str__(self) -> str:
        return (
            f"weights {self.weights / GIB:.2f} GiB, at most {self.peak / GIB:.2f} GiB at once "
            f"({self.tier}), free {self.free / GIB:.2f} GiB"
        )


def preflight(name: str, need: MemoryNeed, free: int) -> MemoryPlan:
    """Decide, before anything is loaded, how a model fits: the first tier that does.

    Args:
        name: of the model, for the message.
        need: what it takes.
        free: bytes that can be taken.

    Raises:
        OutOfMemory: it does not fit in any way; the message says what would.
    """
    for tier in TIERS[:-1]:
        if tier == "modulation out" and not need.ahead:
            continue
        if (peak := need.peak(tier)) <= free:
            out = need.ahead > 0 and tier in ("modulation out", "tiled decode")
            return MemoryPlan(need.weights, peak, free, tier, evict_ahead=out)
    if need.blocks and (resident := need.resident(free)) is not None:
        return MemoryPlan(
            need.weights,
            min(free, need.peak("streamed")),
            free,
            "streamed",
            evict_ahead=need.ahead > 0,
            resident=resident,
        )
    least = need.peak(TIERS[-1])
    raise OutOfMemory(
        f"{name} needs about {least / GIB:.1f} GiB at once and {free / GIB:.1f} GiB are free, even "
        "with its text encoders out and decoding in tiles; free "
        f"{(least - free) / GIB:.1f} GiB more, choose a smaller dtype (bfloat16 takes half of "
        "float32), or a smaller model"
    )


def devices_for(setting: str) -> list[torch.device]:
    """The devices that a setting means, in its order.

    Args:
        setting: 'auto': the first CUDA card, else the processor. 'all': every card, or the
            processor where there is none. Else a name, or several with commas between them:
            'cuda:0,cuda:1'; without a number it is the first of the kind.

    Raises:
        UnsupportedOption: one is not here or named twice, or they are of different kinds.
    """
    *cards, processor = devices()
    if setting == "auto":
        return [cards[0] if cards and cards[0].type == "cuda" else processor]
    if setting == "all":
        return cards or [processor]
    matches: list[torch.device] = []
    for name in setting.split(","):
        device = _device(name.strip())
        if device in matches:
            raise UnsupportedOption(
                f"'{setting}' names {device} twice; name each device once", field="device"
            )
        if matches and device.type != matches[0].type:
            raise UnsupportedOption(
                f"'{setting}' mixes {matches[0].type} and {device.type}, whose pictures differ; "
                "name devices of one kind",
                field="device",
            )
        matches.append(device)
    return matches


def first_device(setting: str) -> str:
    """The first device that a setting means, for what runs on one of several.

    Raises:
        UnsupportedOption: as `devices_for`.
    """
    return str(devices_for(setting)[0])


def _device(name: str) -> torch.device:
    present = devices()
    for device in present:
        if name in (str(device), device.type):
            return device
    there = ", ".join(map(str, present))
    alone = name in ("auto", "all")
    why = "stands alone, without others" if alone else f"is not here; there is: {there}"
    raise UnsupportedOption(f"'{name}' {why}", field="device")


def make_current(name: str) -> None:
    """Make a device the one that torch takes in this thread where none is named."""
    device = devices_for(name)[0]
    select = getattr(torch.get_device_module(device), "set_device", None)
    if device.index is not None and select is not None:
        select(device.index)


def devices() -> list[torch.device]:
    """Every device of this machine: cards first, the processor last."""
    cards = []
    if torch.accelerator.is_available():
        kind = torch.accelerator.current_accelerator()
        assert kind is not None
        cards = [
            torch.device(kind.type, index) for index in range(torch.accelerator.device_count())
        ]
    return [*cards, torch.device("cpu")]


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        fast = device.type == "cuda" or (device.type == "cpu" and cpu_has_fast_bfloat16())
        return torch.bfloat16 if fast else torch.float32
    if name not in _DTYPES:
        raise UnsupportedOption(f"'{name}' is not one of auto, {', '.join(_DTYPES)}", field="dtype")
    return _DTYPES[name]
