"""Components from files to a device.

Only safetensors are read, no code of a repository is run, and only classes that the family declares
are made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors import SafetensorError

from overpaint.checkpoints import loras, shortage, streaming
from overpaint.checkpoints.compute import backends
from overpaint.checkpoints.compute.backends import Backend
from overpaint.checkpoints.exclusion import LOADING
from overpaint.checkpoints.files import layout, weight_cache, weights
from overpaint.checkpoints.files.inventory import Inventory
from overpaint.checkpoints.loras import Adapter
from overpaint.checkpoints.placement import Placement
from overpaint.core.errors import ModelLoadError
from overpaint.core.models import Lora

TILE = 512
"""Side in pixels of what a tiled autoencoder computes at once."""


@dataclass(kw_only=True)
class Loader:
    """Loads components of a checkpoint, all in the same way.

    Attributes:
        inventory: of the checkpoint.
        placement: device and precision of the weights; `placement_of` says it of each component.
        loras: adapters for the denoiser.
        backend: what computes its networks.
        cache: folder of weights in other precisions (`checkpoints/files/weight_cache.py`).
        warnings: sentences passed on with every edit.
    """

    inventory: Inventory
    placement: Placement
    loras: tuple[Lora, ...] = ()
    backend: Backend = field(default_factory=Backend)
    cache: Path | None = None
    warnings: list[str] = field(default_factory=list)

    def is_adapted(self, name: str) -> bool:
        """Whether low-rank adapters change a component."""
        return bool(self.loras) and self.inventory[name].role == "denoiser"

    def is_accelerated(self, name: str) -> bool:
        """Whether the backend computes a component, and not torch as it comes."""
        return self.backend.computes(
            self.inventory[name], self.placement.device, adapted=self.is_adapted(name)
        )

    def is_converted(self, name: str) -> bool:
        """Whether a component of the backend's own takes its place."""
        return self.backend.converts and self.is_accelerated(name)

    def weight_bits(self, name: str) -> int | None:
        """Bits that a component's weights are held in; None = those of its precision."""
        is_denoiser = self.inventory[name].role == "denoiser"
        return self.backend.weight_bits if is_denoiser and self.is_converted(name) else None

    def placement_of(self, name: str) -> Placement:
        """Device and precision of a component: the checkpoint's, unless it needs float32."""
        needs_float32 = self.inventory[name].float32
        if needs_float32 is None or not needs_float32(layout.config(self.inventory.folder / name)):
            return self.placement
        return replace(self.placement, dtype=torch.float32)

    def stored(self, name: str) -> Path:
        """The folder that a component's weights are read from."""
        where = self.inventory.folder / name
        if self.cache is None:
            return where
        return weight_cache.find(self.cache, where, self.placement_of(name).dtype) or where

    def unconverted(self) -> list[str]:
        """Names of components whose weights change their precision whenever they are loaded."""

        def is_unconverted(name: str) -> bool:
            dtype = self.placement_of(name).dtype
            return not (
                self.is_converted(name)
                or weights.stored_as(self.stored(name), dtype)
                or _keeps_float32(self.inventory.class_of(name), dtype)
            )

        return [name for name in self.inventory.with_weights if is_unconverted(name)]

    def load(self, name: str, *, evict: bool, tiled: bool, resident: int | None = None) -> Any:
        """A component, whole on its device.

        Args:
            name: of the component.
            evict: leave out the weights that are computed ahead.
            tiled: let an autoencoder work in tiles of `TILE` pixels.
            resident: blocks that stay on the device, where the others visit it; None = all stay.

        Raises:
            ModelLoadError: it is not there, or its files are broken.
            OutOfMemory: there is no room for it; nothing of it is left in memory.
        """
        with shortage.mapped(
            f"there is not enough memory on {self.placement.device} for the {name}; end what else "
            "uses it, choose a smaller dtype, or a smaller model"
        ):
            return self._load(name, evict=evict, tiled=tiled, resident=resident)

    def _load(self, name: str, *, evict: bool, tiled: bool, resident: int | None) -> Any:
        part, where = self.inventory[name], self.inventory.folder / name
        if not where.is_dir():
            raise ModelLoadError(f"{where}: the folder is missing; pull the model again")
        if part.read is not None:
            return part.read(where)
        cls = self.inventory.class_of(name)
        try:
            if not part.has_weights:
                layout.require_vocabulary(where, getattr(cls, "vocab_files_names", {}))
                return cls.from_pretrained(where, local_files_only=True)
            if self.is_converted(name):
                return self._load_converted(name, cls)
            model = self._load_network(name, cls, evict=evict, on_host=resident is not None)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            if shortage.is_shortage(error):
                raise
            raise ModelLoadError(
                f"{where}: cannot be loaded as {cls.__name__}: {loras.first_line(error)}"
            ) from error
        with LOADING.shared():
            self._make_ready(model, name, tiled=tiled, resident=resident)
        return model

    def _make_ready(self, model: Any, name: str, *, tiled: bool, resident: int | None) -> None:
        part = self.inventory[name]
        model.eval().requires_grad_(requires_grad=False)
        if self.loras:
            self.warnings.extend(loras.apply(model, name, self._adapters, self._converter))
        if part.prepare is not None:
            part.prepare(model)
        if tiled and part.tile is not None:
            part.tile(model, TILE)
        device = self.placement.device
        if self.is_accelerated(name):
            target = device if resident is None else torch.device("cpu")
            backends.prepare(self.backend, model, target, part)
        elif resident is None and self.backend.compiles_later(part, device):
            backends.compile_later(self.backend, model, part)
        if resident is not None:
            streaming.place(model, part.blocks, resident, device)

    @cached_property
    def _denoiser(self) -> str:
        return next(
            name for name in self.inventory.names if self.inventory[name].role == "denoiser"
        )

    @property
    def _converter(self) -> str | None:
        return self.inventory[self._denoiser].lora

    @cached_property
    def _adapters(self) -> list[Adapter]:
        """All adapters, read once.

        Raises:
            ModelLoadError: one cannot be read, or is for components that are not here.
        """
        denoiser = self._denoiser
        config = SimpleNamespace(**layout.config(self.inventory.folder / denoiser))
        adapters = [loras.read(each, denoiser, self._converter, config) for each in self.loras]
        for adapter in adapters:
            if not any(adapter.changes(name) for name in self.inventory.with_weights):
                raise ModelLoadError(
                    f"{adapter.lora.path}: does not fit: it changes no component of this model "
                    f"('{next(iter(adapter.weights), 'it is empty')}')"
                )
        return adapters

    def _load_converted(self, name: str, cls: Any) -> Any:
        from overpaint.checkpoints.compute.openvino import Conversion

        part, where = self.inventory[name], self.inventory.folder / name
        placement = self.placement_of(name)
        assert self.backend.cache is not None
        assert part.openvino is not None
        with LOADING.alone():
            module = weights.empty(cls, where)
        conversion = Conversion(
            module=module,
            folder=where,
            placement=placement,
            cache=self.backend.cache,
            load=lambda dtype: read(cls, where, replace(placement, dtype=dtype)),
            bits=self.backend.weight_bits,
            samples=self.backend.samples,
        )
        return part.openvino(conversion)

    def _load_network(self, name: str, cls: Any, *, evict: bool, on_host: bool) -> Any:
        placement, part = self.placement_of(name), self.inventory[name]
        leaving = [part.surplus, part.ahead if evict else None]
        if on_host or (self.backend.quantizes and self.is_accelerated(name)):
            # Quantized layer by layer: the card never holds it in its first precision.
            placement = Placement(torch.device("cpu"), placement.dtype)
        evictions = [removal.evict for removal in leaving if removal is not None]
        return read(cls, self.stored(name), placement, without=evictions, name_of=part.name_of)


def read(
    cls: Any,
    where: Path,
    placement: Placement,
    *,
    without: Sequence[Callable[[Any], None]] = (),
    name_of: Callable[[str], str] = str,
) -> Any:
    """A network from its files, every parameter and buffer on the device.

    Its weights are mapped or streamed; for older names that are not declared the library is asked.

    Args:
        cls: of diffusers or transformers.
        where: folder of the component.
        placement: device and precision.
        without: take layers out of it that are not wanted.
        name_of: a weight's name in the class, from its name in a file.

    Raises:
        ModelLoadError: weights are missing.
        OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError: the files are
            broken in another way.
    """
    device, dtype = placement.device, placement.dtype
    if not _keeps_float32(cls, dtype):
        with LOADING.alone():
            model = weights.empty(cls, where)
        for evict in without:
            evict(model)
        if weights.load_into(model, where, dtype, device, name_of):
            return model
    if weights.is_scaled(where):
        raise ModelLoadError(
            f"{where}: float8 weights with separate scales cannot be read in float16 or "
            "with older names; choose another dtype, or use the files in full precision"
        )
    with LOADING.alone():
        model, report = cls.from_pretrained(
            where,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            **dtype_argument(cls, dtype),
        )
    if missing := sorted(report["missing_keys"]):
        raise ModelLoadError(
            f"{where}: {len(missing)} weights are missing ('{missing[0]}') and would be "
            "random numbers; the files are incomplete: pull the model again"
        )
    for evict in without:
        evict(model)
    return model.to(device)


def _keeps_float32(cls: type, dtype: torch.dtype) -> bool:
    """Whether the library keeps parts of this class in float32 where float16 is asked for."""
    return dtype == torch.float16 and bool(getattr(cls, "_keep_in_fp32_modules", None))


def dtype_argument(cls: type, dtype: torch.dtype) -> dict[str, torch.dtype]:
    """transformers calls it `dtype` since 4.56, diffusers and transformers before `torch_dtype`."""
    if any(base.__module__.startswith("transformers.") for base in cls.__mro__):
        import transformers

        if tuple(map(int, transformers.__version__.split(".")[:2])) >= (4, 56):
            return {"dtype": dtype}
    return {"torch_dtype": dtype}
