"""Checkpoints in diffusers layout: checked before they are read, loaded part by part on demand.

Only safetensors are read, no code of a repository is run, and `model_index.json` may name only
the classes of `layout.CLASSES`.
"""

from __future__ import annotations

import hashlib
import importlib
import re
import threading
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from safetensors import SafetensorError

from overpaint.core.errors import ModelLoadError
from overpaint.core.models import Lora
from overpaint.diffusion import backend as backends
from overpaint.diffusion import float8, kept, layout, loras, modulation, readahead, weights
from overpaint.diffusion.backend import Backend
from overpaint.diffusion.memo import Memo
from overpaint.diffusion.placement import MemoryPlan, Need, Placement, decoding

LOADING = threading.RLock()
"""Held while weights are loaded: the libraries then change how torch makes modules and tensors, in
the whole process. Who computes in another thread meanwhile must hold it too."""

TILE = 512
"""Side in pixels of what a tiled autoencoder computes at once."""

_MODULATION = re.compile(r"(?:norm|norm1|norm1_context|norm_out)\.linear\.(?:weight|bias)$")
"""Weights of a FLUX transformer that can be computed ahead."""

_ADAPTED = ("unet", "transformer")
"""Components that low-rank adapters change."""


class Checkpoint:
    """A model folder in diffusers layout; its components are loaded when first asked for.

    Args:
        folder: holds `model_index.json` and one folder per component.
        placement: device and precision of the weights.
        loras: adapters for the denoiser.
        backend: what computes its networks.
        cache: folder of weights kept in other precisions (`diffusion/kept.py`).

    Raises:
        ModelLoadError: the folder is not a checkpoint, names a class outside the allow-list,
            holds only pickles, or does not match its checksums.

    Attributes:
        memo: what its encoders have encoded so far.
        evict_modulation: whether FLUX transformers are loaded without the layers that
            `diffusion/modulation.py` computes ahead; to be set before the first use.
        take_turns: whether text encoders and denoiser leave memory for each other.
        tiled: whether the autoencoder works in tiles on pictures larger than `TILE`.
    """

    def __init__(
        self,
        folder: Path,
        placement: Placement,
        *,
        loras: tuple[Lora, ...] = (),
        backend: Backend | None = None,
        cache: Path | None = None,
    ) -> None:
        self.folder = folder
        self.placement = placement
        self.backend = backend or Backend()
        self.memo = Memo()
        self.evict_modulation = self.take_turns = self.tiled = False
        self._loras = loras
        self._cache = cache
        self._index = layout.read_index(folder)
        self._loaded: dict[str, Any] = {}
        for name in self.components:
            self._class_name(name)
        for name in self._weight_folders():
            weights.require(folder / name)
        layout.verify_checksums(folder)

    @property
    def pipeline(self) -> str:
        """The pipeline class that the checkpoint was saved from."""
        named = self._index.get("_class_name", "")
        return str(named[-1] if isinstance(named, list) else named)

    @cached_property
    def components(self) -> list[str]:
        """Names of the components that can be loaded."""
        return layout.components(self._index)

    @property
    def accelerated(self) -> list[str]:
        """Names of the components that its backend computes, and not torch as it comes."""
        return [name for name in self.components if self._is_accelerated(name)]

    def component(self, name: str) -> Any:
        """The component, loaded from disk the first time.

        Raises:
            ModelLoadError: it is not there, or its files are broken.
        """
        if (loaded := self._loaded.get(name)) is not None:
            return loaded
        with LOADING:
            if name not in self._loaded:
                self.release(*self._in_the_way_of(name))
                self._loaded[name] = self._load(name)
            return self._loaded[name]

    def release(self, *names: str) -> None:
        """Let components leave memory; they are loaded again when next asked for."""
        for name in names:
            self._loaded.pop(name, None)

    def sizes(self) -> dict[str, int]:
        """Bytes of each component's weights in this placement's precision, from file headers."""
        return {name: self._size(name) for name in self._weight_folders()}

    def need(self) -> Need:
        """What it takes in this placement's precision, from file headers and configurations."""
        width = self.placement.dtype.itemsize
        modulation = 0
        if not self._loras:
            modulation = sum(
                weights.parameters(file, _MODULATION)
                for name in self.components
                if self._class_name(name) == "FluxTransformer2DModel"
                for file in weights.files(self.folder / name)
            )
        decode = decoding(layout.config(self.folder / "vae"), width) if self._has_vae else 0
        return Need(self.sizes(), width * modulation, decode)

    def follow(self, plan: MemoryPlan) -> None:
        """Load, and let go, as a memory plan says; before anything is loaded."""
        self.take_turns = plan.evict_text_encoders
        self.evict_modulation = plan.evict_modulation
        self.tiled = plan.tiled

    def read_ahead(self) -> None:
        """Have the weights read from the disk meanwhile: small ones first, the denoiser's last.

        So the autoencoder encodes the picture while the others arrive.
        """
        if self.take_turns:
            return
        read = [name for name in self._weight_folders() if not self._is_converted(name)]
        read.sort(key=lambda name: (name in _ADAPTED, self._size(name)))
        readahead.start([file for name in read for file in weights.files(self._stored(name))])

    def unkept(self) -> list[str]:
        """Names of components whose weights are converted whenever they are loaded."""
        return [
            name
            for name in self._weight_folders()
            if not self._is_converted(name)
            and not weights.stored_as(self._stored(name), self.placement.dtype)
            and not _keeps_float32(self._class(name), self.placement.dtype)
        ]

    def keep(self, name: str) -> Path:
        """Write a component's weights in this placement's precision, to be loaded from there.

        Returns:
            Their folder.

        Raises:
            ModelLoadError: a file of the component is damaged.
            OutputError: nothing can be written there.
        """
        assert self._cache is not None
        return kept.keep(self._cache, self.folder / name, self.placement.dtype)

    def revision(self) -> str:
        """A short hash of the checkpoint's files: names, sizes and headers of the weights."""
        digest = hashlib.sha256((self.folder / "model_index.json").read_bytes())
        for name in self._weight_folders():
            for file in weights.files(self.folder / name):
                digest.update(f"{name}/{file.name}:{file.stat().st_size}".encode())
                digest.update(weights.header(file))
        return digest.hexdigest()[:16]

    @property
    def _has_vae(self) -> bool:
        return "vae" in self.components

    def _size(self, name: str) -> int:
        width = self.placement.dtype.itemsize
        files = weights.files(self.folder / name)
        size = width * sum(weights.parameters(file) for file in files)
        if self.backend.quantizes and self._is_accelerated(name):
            size -= (width - 1) * sum(weights.parameters(file, float8.WEIGHTS) for file in files)
        return size

    def _is_accelerated(self, name: str) -> bool:
        adapted = bool(self._loras) and name in _ADAPTED
        return self.backend.computes(self._class_name(name), self.placement.device, adapted=adapted)

    def _is_converted(self, name: str) -> bool:
        return self.backend.converts and self._is_accelerated(name)

    def _stored(self, name: str) -> Path:
        """The folder that a component's weights are read from."""
        where = self.folder / name
        if self._cache is None:
            return where
        return kept.find(self._cache, where, self.placement.dtype) or where

    def _in_the_way_of(self, name: str) -> list[str]:
        """Loaded components that leave before this one comes."""
        if not self.take_turns:
            return []
        if name.startswith("text_encoder"):
            return [each for each in self._loaded if each in _ADAPTED]
        return [each for each in self._loaded if each.startswith("text_encoder")]

    def _weight_folders(self) -> list[str]:
        weightless = ("tokenizer", "scheduler")
        return [name for name in self.components if not name.startswith(weightless)]

    def _class_name(self, name: str) -> str:
        if name not in self.components:
            raise ModelLoadError(
                f"{self.folder}: model_index.json names no component '{name}'; this is not the "
                "checkpoint it claims to be"
            )
        class_name = str(self._index[name][-1])
        if class_name not in layout.CLASSES:
            raise ModelLoadError(
                f"{self.folder}: model_index.json asks for class '{class_name}' as '{name}'; "
                f"allowed are {', '.join(sorted(layout.CLASSES))}"
            )
        return class_name

    def _class(self, name: str) -> Any:
        class_name = self._class_name(name)
        return getattr(importlib.import_module(layout.CLASSES[class_name]), class_name)

    def _load(self, name: str) -> Any:
        cls = self._class(name)
        where = self.folder / name
        if not where.is_dir():
            raise ModelLoadError(f"{where}: the folder is missing; pull the model again")
        try:
            if name.startswith(("tokenizer", "scheduler")):
                return cls.from_pretrained(where, local_files_only=True)
            if self._is_converted(name):
                return self._load_converted(cls, where)
            accelerated = self._is_accelerated(name)
            placement = self.placement
            if accelerated and self.backend.quantizes:
                placement = Placement(torch.device("cpu"), placement.dtype)
            model = self._load_model(cls, self._stored(name), placement)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise ModelLoadError(
                f"{where}: cannot be loaded as {cls.__name__}: {loras.first_line(error)}"
            ) from error
        model.eval().requires_grad_(requires_grad=False)
        if name in _ADAPTED:
            loras.apply(model, name, self._loras)
        if self.tiled and name == "vae":
            _tile(model)
        if accelerated:
            backends.prepare(self.backend, model, self.placement.device)
        return model

    def _load_converted(self, cls: Any, where: Path) -> Any:
        from overpaint.diffusion import openvino

        assert self.backend.cache is not None
        plain = Placement(self.placement.device, torch.float32)
        load = partial(self._load_model, cls, where, plain)
        return openvino.replace(
            cls, where, self.placement, self.backend.cache, load, samples=self.backend.samples
        )

    def _load_model(self, cls: Any, where: Path, placement: Placement) -> Any:
        """Map or stream the weights; for older names of them ask the library."""
        device, dtype = placement.device, placement.dtype
        if not _keeps_float32(cls, dtype):
            model = self._without_evicted(weights.empty(cls, where))
            if weights.load_into(model, where, dtype, device):
                return model
        model, report = cls.from_pretrained(
            where,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            **dtype_argument(cls, dtype),
        )
        if missing := sorted(report["missing_keys"]):
            raise ModelLoadError(
                f"{where}: {len(missing)} weights are missing ('{missing[0]}') and would be random "
                "numbers; the files are incomplete: pull the model again"
            )
        return self._without_evicted(model).to(device)

    def _without_evicted(self, model: Any) -> Any:
        if self.evict_modulation and isinstance(model, FluxTransformer2DModel):
            modulation.evict(model)
        return model


def _tile(vae: Any) -> None:
    """diffusers' tiles of `TILE` pixels, whatever the model's own size."""
    vae.enable_tiling()
    vae.tile_sample_min_size = TILE
    vae.tile_latent_min_size = TILE // 2 ** (len(vae.config.block_out_channels) - 1)


def _keeps_float32(cls: type, dtype: torch.dtype) -> bool:
    """Whether the library keeps parts of this class in float32 where float16 is asked for."""
    return dtype == torch.float16 and bool(getattr(cls, "_keep_in_fp32_modules", None))


def dtype_argument(cls: type, dtype: torch.dtype) -> dict[str, torch.dtype]:
    """transformers calls it `dtype` since 4.56, diffusers and transformers before `torch_dtype`."""
    if cls.__module__.startswith("transformers"):
        import transformers

        if tuple(map(int, transformers.__version__.split(".")[:2])) >= (4, 56):
            return {"dtype": dtype}
    return {"torch_dtype": dtype}
