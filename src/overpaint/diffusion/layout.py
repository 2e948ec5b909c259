"""The layouts in which checkpoints are published: which files are used, and whether they are whole.

Imports nothing heavy, so that models can be listed without loading torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from overpaint.core.errors import ModelLoadError

INDEX = "model_index.json"
CONFIG = "config.json"

CHECKSUMS = "SHA256SUMS"
"""Optional file of a model folder: lines of `<sha256>  <path>`; what it lists is checked."""

CLASSES: dict[str, str] = {
    "AutoencoderKL": "diffusers",
    "FluxTransformer2DModel": "diffusers",
    "UNet2DConditionModel": "diffusers",
    "DDIMScheduler": "diffusers",
    "DPMSolverMultistepScheduler": "diffusers",
    "EulerAncestralDiscreteScheduler": "diffusers",
    "EulerDiscreteScheduler": "diffusers",
    "FlowMatchEulerDiscreteScheduler": "diffusers",
    "LMSDiscreteScheduler": "diffusers",
    "PNDMScheduler": "diffusers",
    "UniPCMultistepScheduler": "diffusers",
    "CLIPTextModel": "transformers",
    "CLIPTokenizer": "transformers",
    "CLIPTokenizerFast": "transformers",
    "T5EncoderModel": "transformers",
    "T5Tokenizer": "transformers",
    "T5TokenizerFast": "transformers",
}
"""Classes that a checkpoint may name, and the library that has them."""

_NOT_LOADED = {"safety_checker", "feature_extractor", "image_encoder"}
"""Components of published checkpoints that no family loads."""

_WEIGHTLESS = ("tokenizer", "scheduler")
"""Beginnings of the names of components without weights."""

_TEXT_SUFFIXES = {".json", ".txt", ".model"}
"""Configurations, vocabularies and tokenizer models; code (.py) is never downloaded."""

_PICKLES = {".bin", ".ckpt", ".pt", ".pth", ".msgpack", ".h5"}


def read_index(folder: Path) -> dict[str, Any]:
    """A checkpoint's `model_index.json`.

    Raises:
        ModelLoadError: there is no such folder, or no such file in it, or it is damaged.
    """
    file = folder / INDEX
    if not folder.is_dir():
        raise ModelLoadError(f"{folder}: no such folder")
    if not file.is_file():
        raise ModelLoadError(
            f"{folder}: no {INDEX}; a model is a folder in diffusers layout "
            f"({INDEX} beside unet/ or transformer/, vae/, text_encoder/ …)"
        )
    try:
        index = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelLoadError(f"{file}: not JSON: {error}") from error
    if not isinstance(index, dict):
        raise ModelLoadError(f"{file}: holds {type(index).__name__}, not an object")
    return index


def verify_checksums(folder: Path) -> None:
    """Hash the files that a checkpoint's `CHECKSUMS` lists; without one, nothing.

    Raises:
        ModelLoadError: one is missing or was changed.
    """
    listing = folder / CHECKSUMS
    if not listing.is_file():
        return
    for line in listing.read_text(encoding="utf-8").splitlines():
        expected, _, name = line.partition("  ")
        file = folder / name
        if not file.is_file():
            raise ModelLoadError(f"{file}: listed in {CHECKSUMS} but missing")
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != expected:
            raise ModelLoadError(
                f"{file}: sha256 is {found[:16]}…, {CHECKSUMS} says {expected[:16]}…; "
                "the file is damaged or was changed: pull the model again"
            )


def components(index: Mapping[str, Any]) -> list[str]:
    """Names of the components that a `model_index.json` lists and families load."""
    return [
        name
        for name, value in index.items()
        if not name.startswith("_")
        and name not in _NOT_LOADED
        and isinstance(value, list)
        and value[-1] is not None
    ]


def config(folder: Path) -> dict[str, Any]:
    """A component's configuration.

    Raises:
        ModelLoadError: it is missing or damaged.
    """
    file = folder / CONFIG
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{file}: cannot be read; pull the model again") from error
    return dict(found)


def choose_files(repository: str, index: Mapping[str, Any], offered: Sequence[str]) -> list[str]:
    """The files of a repository that a family loads.

    The index, each component's configuration and vocabulary, and its weights as safetensors in
    full precision; no variants (`model.fp16.safetensors`), no single-file checkpoints of the root
    folder, no pickles, no code.

    Raises:
        ModelLoadError: a component has weights, but none that can be used.
    """
    chosen = [INDEX]
    for component in components(index):
        files = [name for name in offered if Path(name).parts[:-1] == (component,)]
        weights = [name for name in files if _is_plain_safetensors(name)]
        if not weights and not component.startswith(_WEIGHTLESS):
            raise _no_weights(repository, component, files)
        texts = [name for name in files if _is_text(name)]
        chosen += sorted(texts) + sorted(weights)
    return chosen


def choose_single(repository: str, offered: Sequence[str]) -> list[str]:
    """The files of a single model in transformers layout: all lie in the root folder.

    Raises:
        ModelLoadError: it has no weights that can be used.
    """
    files = [name for name in offered if len(Path(name).parts) == 1]
    weights = [name for name in files if _is_plain_safetensors(name)]
    if not weights:
        raise _no_weights(repository, repository.rsplit("/", 1)[-1], files)
    texts = [name for name in files if _is_text(name) and name != CONFIG]
    return [CONFIG, *sorted(texts), *sorted(weights)]


def _no_weights(repository: str, component: str, files: Sequence[str]) -> ModelLoadError:
    others = sorted(name for name in files if Path(name).suffix in {*_PICKLES, ".safetensors"})
    return ModelLoadError(
        f"{repository}: '{component}' has no .safetensors in full precision, only "
        f"{', '.join(others) or 'no weights at all'}; pickles can run code and are never read"
    )


def _is_plain_safetensors(name: str) -> bool:
    """`model.safetensors`, `model-00001-of-00002.safetensors`, but no `model.fp16.safetensors`."""
    return name.endswith(".safetensors") and Path(name).name.count(".") == 1


def _is_text(name: str) -> bool:
    path = Path(name)
    if path.name.endswith(".index.json"):
        # Lists of shards: those of the plain safetensors only.
        return path.name.endswith(".safetensors.index.json") and path.name.count(".") == 3
    return path.suffix in _TEXT_SUFFIXES
