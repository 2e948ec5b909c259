"""Weights kept on disk in the precision that they are used in.

A component that is stored in another precision is read and converted each time it is loaded. Kept
converted, it is mapped from the file: half as much is read from a cold disk, nothing is computed,
and processes share the memory. The bits of the weights are the same, and so are the pictures.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch

from overpaint.checkpoints.files import weights
from overpaint.checkpoints.files.layout import CONFIG
from overpaint.core.errors import OutputError
from overpaint.core.files import atomic_open, atomic_write

ALIGNMENT = 64
"""Bytes: torch's own memory begins at multiples of it, and the last bits can depend on that."""

_NAMES = {dtype: name for name, dtype in weights.DTYPES.items()}


def find(cache: Path, folder: Path, dtype: torch.dtype) -> Path | None:
    """The folder of a component's kept weights, with its configuration, where there is one.

    Args:
        cache: as given to `keep`.
        folder: of the component as it was published.
        dtype: of its floating-point weights.
    """
    target = cache / weights.key(folder, dtype)
    return target if (target / CONFIG).is_file() else None


def keep(cache: Path, folder: Path, dtype: torch.dtype) -> Path:
    """Write a component's weights in another precision; see `find`.

    Returns:
        Their folder.

    Raises:
        ModelLoadError: a file of the component is damaged.
        OutputError: nothing can be written there.
    """
    into = cache / weights.key(folder, dtype)
    try:
        into.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{into}: cannot be made: {error.strerror}", field="cache") from error
    name = re.split(r"[-.]", weights.files(folder)[0].name)[0]
    _rewrite(weights.files(folder), into / f"{name}.safetensors", dtype)
    # Last: it says that the weights are whole.
    atomic_write(into / CONFIG, (folder / CONFIG).read_bytes(), field="cache")
    return into


def _rewrite(files: list[Path], into: Path, dtype: torch.dtype) -> None:
    """All tensors in one file, under their names, those first whose size keeps the others aligned.

    The format is https://huggingface.co/docs/safetensors; its own writer aligns to 8 bytes only.
    """
    parts = []
    for file in files:
        reader = weights.Reader(file, dtype)
        for name, entry in weights.entries(file).items():
            target = weights.read_as(weights.DTYPES[entry["dtype"]], dtype)
            size = torch.Size(entry["shape"]).numel() * target.itemsize
            parts.append((size % ALIGNMENT != 0, name, entry, _NAMES[target], size, reader))
    parts.sort(key=lambda part: part[:2])
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for _, name, entry, kept_as, size, _ in parts:
        begin, end = end, end + size
        header[name] = {"dtype": kept_as, "shape": entry["shape"], "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    with atomic_open(into, field="cache") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for _, name, entry, _, _, reader in parts:
            stream.write(reader(name, entry).view(-1).view(torch.uint8).numpy().data)
