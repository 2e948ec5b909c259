"""Checkpoints in diffusers layout: their components, loaded on demand and lent to who computes."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from overpaint.checkpoints.component import Components
from overpaint.checkpoints.compute.backends import Backend
from overpaint.checkpoints.exclusion import LOADING
from overpaint.checkpoints.files import layout, readahead, weight_cache, weights
from overpaint.checkpoints.files.inventory import Inventory
from overpaint.checkpoints.loading import Loader
from overpaint.checkpoints.memo import Memo
from overpaint.checkpoints.placement import DECODED, KERNELS, MemoryNeed, MemoryPlan, Placement
from overpaint.core.models import Lora

STATES = 8 * 2**30
"""Bytes that a checkpoint's `states` may hold at most."""


class Checkpoint:
    """A model folder in diffusers layout; its components are loaded when first asked for.

    Several threads may use it. A caller borrows a component to compute with it, so that it does not
    leave memory meanwhile.

    Args:
        folder: holds `model_index.json` and one folder per component.
        components: what the family knows of it.
        placement: device and precision of the weights.
        loras: adapters for the denoiser.
        backend: what computes its networks.
        cache: folder of weights in other precisions (`checkpoints/files/weight_cache.py`).

    Raises:
        ModelLoadError: the folder is not a checkpoint of that family, holds only pickles, or does
            not match its checksums.

    Attributes:
        inventory: what the folder holds.
        memo: what its encoders have encoded so far.
        states: what its denoiser keeps from one edit to the next, where a family has that: on the
            device, and the first to leave where memory is short.
        evict_ahead: whether denoisers are loaded without the weights that are computed ahead of
            the steps; to be set before the first use.
        take_turns: whether text encoders and denoiser leave memory for each other.
        resident: of components whose blocks visit the device, how many of them stay there.
        plan: how it is held in memory; None = nothing was planned.
        tiled: whether the autoencoder works in tiles on pictures larger than `loading.TILE`.
    """

    def __init__(
        self,
        folder: Path,
        components: Components,
        placement: Placement,
        *,
        loras: tuple[Lora, ...] = (),
        backend: Backend | None = None,
        cache: Path | None = None,
    ) -> None:
        self.folder = folder
        self.placement = placement
        self.inventory = Inventory(folder, components)
        self.memo = Memo()
        self.states = Memo(STATES)
        self.evict_ahead = self.take_turns = self.tiled = False
        self.plan: MemoryPlan | None = None
        self.resident: Mapping[str, int] = {}
        self._loader = Loader(
            inventory=self.inventory,
            placement=placement,
            loras=loras,
            backend=backend or Backend(),
            cache=cache,
        )
        self._loaded: dict[str, Any] = {}
        self._loading = threading.RLock()
        self._borrowers: Counter[str] = Counter()
        self._returned = threading.Condition()

    @property
    def backend(self) -> Backend:
        """What computes its networks."""
        return self._loader.backend

    @property
    def records(self) -> bool:
        """Whether the denoiser's steps may be recorded: not where it leaves between prompts."""
        return self.backend.record == "auto" and not self.take_turns

    @property
    def compiles_later(self) -> bool:
        """Whether any component is compiled in the background while it is used."""
        parts = map(self.inventory.__getitem__, self.components)
        device = self.placement.device
        return any(self.backend.compiles_later(part, device) for part in parts)

    @property
    def is_whole(self) -> bool:
        """Whether all its components are loaded, and stay so."""
        return not self.take_turns and all(name in self._loaded for name in self.components)

    @property
    def warnings(self) -> list[str]:
        """Warnings about what was loaded so far, passed on with every edit."""
        return self._loader.warnings

    @property
    def components(self) -> list[str]:
        """Names of the components that can be loaded."""
        return self.inventory.names

    @property
    def accelerated(self) -> list[str]:
        """Names of the components that its backend computes, and not torch as it comes."""
        return [name for name in self.components if self._loader.is_accelerated(name)]

    def config(self, name: str) -> Mapping[str, Any]:
        """A component's configuration, from its file; the component need not be loaded."""
        return layout.config(self.folder / self._component_name(name))

    def component(self, name: str) -> Any:
        """The component, loaded from disk the first time; to compute with it, borrow it.

        Raises:
            ModelLoadError: it is not there, or its files are broken.
            OutOfMemory: there is no room for it.
        """
        component = self._loaded.get(name)
        if component is None:
            with self._borrowed(name):
                component = self._loaded[name]
        return component

    @contextmanager
    def borrowed(self, name: str) -> Iterator[Any]:
        """The component, which stays in memory while it is borrowed.

        Load other components first: a thread that has borrowed one cannot load.

        Raises:
            ModelLoadError: it is not there, or its files are broken.
            OutOfMemory: there is no room for it.
        """
        with self._borrowed(name), LOADING.shared():
            yield self._loaded[name]

    def release(self, *names: str) -> None:
        """Let components leave memory, once nothing computes with them; they can be loaded
        again."""
        with self._returned:
            self._returned.wait_for(lambda: not any(self._borrowers[name] for name in names))
            for name in names:
                self._loaded.pop(name, None)

    def release_text_encoders(self) -> None:
        """Let the text encoders leave, where they take turns with the denoiser."""
        if self.take_turns:
            self.release(*self._with_role("text encoder"))

    def economize(self) -> bool:
        """Memory turned out to be shorter than planned: idle networks leave.

        From now on text encoders and denoiser take turns.

        Returns:
            Whether anything left.
        """
        self.take_turns = True
        shrunk = self.states.clear()
        with self._returned:
            idle = [
                name
                for name in self._loaded
                if self.inventory[name].has_weights and not self._borrowers[name]
            ]
            for name in idle:
                del self._loaded[name]
        return bool(idle) or shrunk

    def load(self) -> None:
        """Load every component now, not on its first use; text encoders that leave, later."""
        for name in self.components:
            if not (self.take_turns and self.inventory[name].role == "text encoder"):
                self.component(name)

    def sizes(self) -> dict[str, int]:
        """Bytes of each component's weights in its precision here, from file headers."""
        return {name: self._size(name) for name in self.inventory.with_weights}

    @property
    def reserved(self) -> int:
        """Bytes of its plan that it has not taken yet."""
        if self.plan is None:
            return 0
        loaded_bytes = sum(
            self._size(name) for name in self.inventory.with_weights if name in self._loaded
        )
        return max(0, self.plan.peak - loaded_bytes)

    def need(self) -> MemoryNeed:
        """The memory that it takes in this placement's precision, from file headers and
        configurations."""
        ahead = decoding = encoding = 0
        kernels = 1.0 if self.placement.device.type == "cpu" else KERNELS
        for name in self.inventory.with_weights:
            part, width = self.inventory[name], self._width(name)
            if part.ahead is not None and not self._loader.is_adapted(name):
                files = self.inventory.files(name)
                ahead += width * sum(weights.parameters(file, part.ahead.weights) for file in files)
            if part.decoding is not None:
                decoding += int(DECODED * kernels * part.decoding(self.config(name), width))
            if part.encoding is not None:
                encoding += int(DECODED * kernels * part.encoding(self.config(name), width))
        text = frozenset(self._with_role("text encoder"))
        return MemoryNeed(
            self.sizes(),
            text=text,
            ahead=ahead,
            decode=decoding,
            encode=encoding,
            blocks=self._blocks(),
        )

    def follow(self, plan: MemoryPlan) -> None:
        """Load, and let go, as a memory plan says; before anything is loaded."""
        self.plan = plan
        # The other half is for the images under way.
        self.states = Memo(min(STATES, plan.spare // 2))
        self.take_turns = plan.evict_text_encoders
        self.evict_ahead = plan.evict_ahead
        self.tiled = plan.tiled
        self.resident = plan.resident

    def read_ahead(self) -> None:
        """Have the weights read from the disk meanwhile: small ones first, the denoiser's last.

        So the autoencoder encodes the picture while the others arrive.
        """
        if self.take_turns:
            return
        names = [
            name for name in self.inventory.with_weights if not self._loader.is_converted(name)
        ]
        names.sort(key=lambda name: (self.inventory[name].role == "denoiser", self._size(name)))
        readahead.start(
            [file for name in names for file in weights.files(self._loader.stored(name))]
        )

    def unconverted(self) -> list[str]:
        """Names of components whose weights change their precision whenever they are loaded."""
        return self._loader.unconverted()

    def convert(self, name: str) -> Path:
        """Write a component's weights in its precision here, to be loaded from there.

        Returns:
            Their folder.

        Raises:
            ModelLoadError: a file of the component is damaged.
            OutputError: nothing can be written there.
        """
        assert self._loader.cache is not None
        dtype = self._loader.placement_of(name).dtype
        return weight_cache.keep(self._loader.cache, self.folder / name, dtype)

    def revision(self) -> str:
        """A short hash of the checkpoint's files."""
        return self.inventory.revision()

    def _blocks(self) -> dict[str, list[int]]:
        """Bytes of each block of the components whose blocks can visit a card."""
        if self.placement.device.type in ("cpu", "mps"):
            return {}  # the device's memory is the host's
        return {
            name: self._block_sizes(name)
            for name in self.inventory.with_weights
            if self.inventory[name].blocks and not self._loader.is_converted(name)
        }

    def _block_sizes(self, name: str) -> list[int]:
        part, width = self.inventory[name], self._width(name)
        ahead = None if self._loader.is_adapted(name) else part.ahead
        leaving = [each.weights for each in (part.surplus, ahead) if each is not None]
        small = (
            part.float8 if self.backend.quantizes and self._loader.is_accelerated(name) else None
        )
        lists = [re.compile(rf"{re.escape(block_list)}\.(\d+)\.") for block_list in part.blocks]
        sizes: Counter[tuple[int, int]] = Counter()
        for file in self.inventory.files(name):
            for stored, entry in weights.entries(file).items():
                weight = part.name_of(stored)
                if any(pattern.search(weight) for pattern in leaving):
                    continue
                for order, block in enumerate(lists):
                    if match := block.match(weight):
                        numbers = torch.Size(entry["shape"]).numel()
                        bytes_each = 1 if small and small.search(weight) else width
                        sizes[order, int(match[1])] += bytes_each * numbers
        return [sizes[key] for key in sorted(sizes)]

    @contextmanager
    def _borrowed(self, name: str) -> Iterator[None]:
        """Keep a component in memory, loaded; those that it takes turns with have left."""
        rivals = self._rivals(self._component_name(name))
        with self._returned:
            self._returned.wait_for(lambda: not any(self._borrowers[each] for each in rivals))
            self._borrowers[name] += 1
            for rival in rivals:
                self._loaded.pop(rival, None)
        try:
            with self._loading:
                if name not in self._loaded:
                    self._loaded[name] = self._loader.load(
                        name,
                        evict=self.evict_ahead,
                        tiled=self.tiled,
                        resident=self.resident.get(name),
                    )
            yield
        finally:
            with self._returned:
                self._borrowers[name] -= 1
                self._returned.notify_all()

    def _rivals(self, name: str) -> list[str]:
        """Components that leave before this one comes."""
        role = self.inventory[name].role
        if not self.take_turns or role == "files":
            return []
        if role == "text encoder":
            return self._with_role("denoiser")
        return self._with_role("text encoder")

    def _with_role(self, role: str) -> list[str]:
        return [name for name in self.components if self.inventory[name].role == role]

    def _component_name(self, name: str) -> str:
        """The name, if the checkpoint has such a component.

        Raises:
            ModelLoadError: it has none.
        """
        self.inventory[name]
        return name

    def _width(self, name: str) -> int:
        """Bytes of each number of a component."""
        return self._loader.placement_of(name).dtype.itemsize

    def _size(self, name: str) -> int:
        width = self._width(name)
        files = self.inventory.files(name)
        part = self.inventory[name]
        size = width * sum(weights.parameters(file) for file in files)
        if part.surplus is not None:
            size -= width * sum(weights.parameters(file, part.surplus.weights) for file in files)
        pattern = part.float8
        if self.backend.quantizes and pattern and self._loader.is_accelerated(name):
            size -= (width - 1) * sum(weights.parameters(file, pattern) for file in files)
        if (bits := self._loader.weight_bits(name)) is not None:
            size = size * bits // (8 * width)
        return size
