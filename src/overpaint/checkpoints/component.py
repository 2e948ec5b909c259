"""What a family loads of a checkpoint, entry by entry of its `model_index.json`.

Imports nothing heavy, so that families can be listed and requests checked without loading torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Role = Literal["denoiser", "text encoder", "autoencoder", "files", "checker", "unused"]
"""'denoiser' computes the steps. 'text encoder' may leave memory for it. 'autoencoder' turns
pictures into latents and back. 'files' has no weights: tokenizers, noise schedulers, processors.
'checker' judges results for the safety policy, where a checkpoint has one; it computes no edit.
'unused' may be in a published checkpoint and is never read."""

WITH_WEIGHTS: tuple[Role, ...] = ("denoiser", "text encoder", "autoencoder")

BLOCK_WEIGHTS = re.compile(r"transformer_blocks\.\d+\.(?!.*norm).*\.weight$")
"""Names of linear weights inside the transformer blocks of FLUX and of Stable Diffusion's UNets."""


@dataclass(frozen=True, kw_only=True)
class Removal:
    """Weights that a network can do without.

    Attributes:
        weights: pattern of their names.
        evict: takes their layers out of a model, with or without memory for its weights.
    """

    weights: re.Pattern[str]
    evict: Callable[[Any], None]


@dataclass(frozen=True, kw_only=True)
class Ahead(Removal):
    """Weights that a denoiser can do without: what they give is computed ahead of the steps."""


@dataclass(frozen=True, kw_only=True)
class Component:
    """An entry of `model_index.json`, as a family knows it.

    Attributes:
        role: what it is to the engine.
        classes: 'library:Class' that the entry may name; no other class is ever made.
        files: further endings of names of its text files, beside .json, .txt and .model.
        renames: patterns of weights' names in published files, and what they are in the class of
            today, for classes whose library has changed them.
        compiles: whether torch may compile it while it is used.
        read: reads a component without weights from its folder; None = its class does it.
        float8: pattern of the weights that may be held in float8; None = none may.
        float32: whether it computes in float32, whatever precision the model has, from its
            configuration; None = it never does.
        openvino: makes what stands in its place where OpenVINO computes it, from a
            `checkpoints.compute.openvino.Conversion`; None = OpenVINO cannot compute it.
        compile_whole: whether it is compiled in one piece, and not block by block.
        ahead: weights that can leave; None = there are none.
        surplus: weights that the family never computes with, so they are never loaded; None =
            there are none.
        prepare: makes a network that was loaded ready for the family.
        lora: 'module:Class' of diffusers that converts adapters of this architecture.
        tile: lets an autoencoder work in tiles with sides of so many pixels.
        blocks: names of its lists of blocks, in the order in which they compute; those that do not
            fit a card visit it one after the other.
        decoding, encoding: bytes of activations per pixel of a picture, from the component's
            configuration and the bytes of a number.
    """

    role: Role
    classes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    renames: tuple[tuple[re.Pattern[str], str], ...] = ()
    compiles: bool = True
    read: Callable[[Path], Any] | None = None
    float8: re.Pattern[str] | None = None
    float32: Callable[[Mapping[str, Any]], bool] | None = None
    openvino: Callable[[Any], Any] | None = None
    compile_whole: bool = False
    ahead: Ahead | None = None
    surplus: Removal | None = None
    prepare: Callable[[Any], None] | None = None
    lora: str | None = None
    tile: Callable[[Any, int], None] | None = None
    blocks: tuple[str, ...] = ()
    decoding: Callable[[Mapping[str, Any], int], int] | None = None
    encoding: Callable[[Mapping[str, Any], int], int] | None = None

    @property
    def has_weights(self) -> bool:
        """Whether it is a network."""
        return self.role in WITH_WEIGHTS

    def name_of(self, weight: str) -> str:
        """A weight's name in the class, from its name in a file."""
        for pattern, replacement in self.renames:
            weight = pattern.sub(replacement, weight)
        return weight


Components = Mapping[str, Component]
"""A family's components by name."""


def files(*classes: str, endings: tuple[str, ...] = ()) -> Component:
    """A component without weights, of one of these classes."""
    return Component(role="files", classes=classes, files=endings)


UNUSED = Component(role="unused")
