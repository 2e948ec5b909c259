"""What a folder in diffusers layout holds, checked before anything of it is read."""

from __future__ import annotations

import hashlib
import importlib
from functools import cached_property
from pathlib import Path
from typing import Any

from overpaint.checkpoints.component import Component, Components
from overpaint.checkpoints.files import layout, weights
from overpaint.core.errors import ModelLoadError


class Inventory:
    """A checkpoint's files, component by component.

    Args:
        folder: holds `model_index.json` and one folder per component.
        components: what the family knows; no other class is ever made.

    Raises:
        ModelLoadError: the folder is not a checkpoint, lists what the family does not know, holds
            only pickles, or does not match its checksums.
    """

    def __init__(self, folder: Path, components: Components) -> None:
        self.folder = folder
        self.index = layout.read_index(folder)
        self._components = components
        for name in self.names:
            self._require_class(name)
        for name in self.with_weights:
            weights.require(folder / name)
        layout.verify_checksums(folder)

    @cached_property
    def names(self) -> list[str]:
        """Names of the components that can be loaded."""
        return layout.components(self.folder, self.index, self._components)

    @property
    def with_weights(self) -> list[str]:
        """Names of the components that are networks."""
        return [name for name in self.names if self._components[name].has_weights]

    def __getitem__(self, name: str) -> Component:
        """The family's entry for a component.

        Raises:
            ModelLoadError: the checkpoint has none of that name.
        """
        if name not in self.names:
            raise ModelLoadError(
                f"{self.folder}: model_index.json names no component '{name}'; this is not the "
                "checkpoint it claims to be"
            )
        return self._components[name]

    def class_of(self, name: str) -> Any:
        """The class of a component, imported from its library."""
        library, _, class_name = self._require_class(name).partition(":")
        return getattr(importlib.import_module(library), class_name)

    def files(self, name: str) -> list[Path]:
        """The files of a component's weights."""
        return weights.files(self.folder / name)

    def revision(self) -> str:
        """A short hash of the checkpoint's files: names, sizes and headers of the weights."""
        digest = hashlib.sha256((self.folder / layout.INDEX).read_bytes())
        for name in self.with_weights:
            for file in self.files(name):
                digest.update(f"{name}/{file.name}:{file.stat().st_size}".encode())
                digest.update(weights.header(file))
        return digest.hexdigest()[:16]

    def _require_class(self, name: str) -> str:
        """'library:Class' of a component, if the family knows it."""
        class_names = self[name].classes
        class_name = str(self.index[name][-1])
        for each in class_names:
            if each.rpartition(":")[2] == class_name:
                return each
        names = ", ".join(each.rpartition(":")[2] for each in class_names)
        raise ModelLoadError(
            f"{self.folder}: model_index.json asks for class '{class_name}' as '{name}'; allowed "
            f"are {names}"
        )
