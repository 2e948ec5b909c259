"""The layouts in which checkpoints are published: which files are used, and whether they are whole.

Imports nothing heavy, so that models can be listed without loading torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from overpaint.checkpoints.component import Components
from overpaint.core.errors import ModelLoadError

INDEX = "model_index.json"
CONFIG = "config.json"

SHARDS = ".safetensors.index.json"
"""The ending of lists that say which weight is in which file."""

CHECKSUMS = "SHA256SUMS"
"""Optional file of a model folder: lines of `<sha256>  <path>`; what it lists is checked."""

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


def pipeline(index: Mapping[str, Any]) -> str:
    """The pipeline class that a checkpoint was saved from; empty where its index names none."""
    class_name = index.get("_class_name", "")
    return str(class_name[-1] if isinstance(class_name, list) and class_name else class_name)


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
            actual = hashlib.file_digest(stream, "sha256").hexdigest()
        if actual != expected:
            raise ModelLoadError(
                f"{file}: sha256 is {actual[:16]}…, {CHECKSUMS} says {expected[:16]}…; "
                "the file is damaged or was changed: pull the model again"
            )


def components(where: object, index: Mapping[str, Any], family_components: Components) -> list[str]:
    """Names of the components that a `model_index.json` lists and a family loads.

    Args:
        where: folder or repository, for the message.
        index: its `model_index.json`.
        family_components: the family's components.

    Raises:
        ModelLoadError: it lists a component that the family does not know.
    """
    names = [
        name
        for name, value in index.items()
        if not name.startswith("_") and _is_component(value) and value[-1] is not None
    ]
    for name in names:
        if name not in family_components:
            raise ModelLoadError(
                f"{where}: {INDEX} lists '{name}' ({index[name][-1]}), which this family does not "
                f"know; it knows {', '.join(sorted(family_components))}"
            )
    return [name for name in names if family_components[name].role not in ("unused", "checker")]


def checkers(index: Mapping[str, Any], family_components: Components) -> list[str]:
    """Names of the safety checkers that an index lists, of classes that the family knows."""
    return [
        name
        for name, part in family_components.items()
        if part.role == "checker"
        and _is_component(index.get(name))
        and index[name][-1] in {each.rpartition(":")[2] for each in part.classes}
    ]


def _is_component(value: object) -> bool:
    """Entries are [library, class]; anything else is a setting of the pipeline."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(each is None or isinstance(each, str) for each in value)
    )


def config(folder: Path) -> dict[str, Any]:
    """A component's configuration.

    Raises:
        ModelLoadError: it is missing or damaged.
    """
    file = folder / CONFIG
    try:
        actual = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{file}: cannot be read; pull the model again") from error
    return dict(actual)


def require_vocabulary(folder: Path, names: Mapping[str, str]) -> None:
    """Refuse a tokenizer without its words: transformers makes one that knows none, in silence.

    Args:
        folder: of the tokenizer.
        names: its class's `vocab_files_names`; empty = it is no tokenizer.

    Raises:
        ModelLoadError: neither the whole tokenizer is there, nor all of its parts.
    """
    if not names or (folder / names.get("tokenizer_file", "")).is_file():
        return
    parts = [name for kind, name in names.items() if kind != "tokenizer_file"]
    missing = [name for name in parts if not (folder / name).is_file()]
    if missing or not parts:
        raise ModelLoadError(
            f"{folder}: the tokenizer's {' and '.join(missing or names.values())} is missing, so "
            "prompts would be ignored; pull the model again"
        )


_LEVELS = ("block_out_channels", "dim_mult")
"""Keys under which autoencoders list their levels; each level but the last halves the picture."""


def size_step(folder: Path, cells: int) -> int:
    """The number that widths and heights are multiples of, from the autoencoder's configuration.

    Args:
        folder: of the checkpoint.
        cells: latents on a side that the denoiser takes together.

    Returns:
        Pixels; 1 where the configuration does not say.
    """
    try:
        settings = config(folder / "vae")
    except ModelLoadError:
        return 1
    for name in _LEVELS:
        levels = settings.get(name)
        if isinstance(levels, list) and levels:
            return int(cells * 2 ** (len(levels) - 1))
    return 1


def choose_files(
    repository: str, index: Mapping[str, Any], names: Sequence[str], family_components: Components
) -> list[str]:
    """The files of a repository that a family with these components loads.

    The index, each component's configuration and vocabulary, and its weights as safetensors in
    full precision; no variants (`model.fp16.safetensors`), no single-file checkpoints of the root
    folder, no pickles, no code.

    Raises:
        ModelLoadError: a component has weights, but none that can be used.
    """
    paths = [INDEX]
    for component in components(repository, index, family_components):
        files = [name for name in names if Path(name).parts[:-1] == (component,)]
        weights = [name for name in files if _is_plain_safetensors(name)]
        if family_components[component].has_weights:
            if not weights:
                raise _no_weights(repository, component, files)
        else:
            weights = []
        texts = [name for name in files if _is_text(name, family_components[component].files)]
        paths += sorted(texts) + sorted(weights)
    for checker in checkers(index, family_components):
        files = [name for name in names if Path(name).parts[:-1] == (checker,)]
        weights = [name for name in files if _is_plain_safetensors(name)]
        if weights:  # a checkpoint without it works, and its results say that nobody looked
            paths += sorted(filter(_is_text, files)) + sorted(weights)
    return paths


def unused_shards(
    paths: Sequence[str], family_components: Components, read: Callable[[str], bytes]
) -> frozenset[str]:
    """Files of weights that hold nothing but weights which their family never computes with.

    Args:
        paths: files of a repository, as `choose_files` gives them.
        family_components: the family's components.
        read: gives a file's content; asked for lists of shards alone.
    """
    unused: set[str] = set()
    for component, part in family_components.items():
        lists = [
            name for name in paths if name.startswith(f"{component}/") and name.endswith(SHARDS)
        ]
        if part.surplus is None or not lists:
            continue
        shards: dict[str, list[bool]] = {}
        for weight, file in _weight_map(read(lists[0])).items():
            is_surplus = part.surplus.weights.search(part.name_of(weight)) is not None
            shards.setdefault(f"{component}/{file}", []).append(is_surplus)
        unused |= {name for name, are_surplus in shards.items() if all(are_surplus)}
    return frozenset(unused)


def _weight_map(content: bytes) -> Mapping[str, str]:
    """Which file has which weight; nothing where the list is damaged, so that no file is missed."""
    try:
        weight_map = json.loads(content)["weight_map"]
    except (ValueError, KeyError, TypeError):
        return {}
    return weight_map if isinstance(weight_map, dict) else {}


def choose_single(repository: str, names: Sequence[str]) -> list[str]:
    """The files of a single model in transformers layout: all lie in the root folder.

    Raises:
        ModelLoadError: it has no weights that can be used.
    """
    files = [name for name in names if len(Path(name).parts) == 1]
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


def _is_text(name: str, endings: tuple[str, ...] = ()) -> bool:
    path = Path(name)
    if path.name.endswith(".index.json"):
        # Lists of shards: those of the plain safetensors only.
        return path.name.endswith(".safetensors.index.json") and path.name.count(".") == 3
    return path.suffix in _TEXT_SUFFIXES or path.name.endswith(endings)
