"""Describes a single file of weights from its header, for callers who name one as a model."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from overpaint.checkpoints.files import weights
from overpaint.checkpoints.files.weights import FLOAT8

GGUF = b"GGUF"
PICKLES = {".bin", ".ckpt", ".pt", ".pth"}

_LORA = ("lora_", ".lora", "lora.")
_IMPORT = (
    "one file holds neither tokenizer nor configuration: name a folder in diffusers layout instead "
    "(`overpaint models` lists what can be pulled; diffusers' "
    "`from_single_file(FILE, config=FOLDER).save_pretrained(OUT)` makes one)"
)


def description(file: Path) -> str:
    """What a file is and what can be done with it, in one sentence.

    Raises:
        ModelLoadError: it ends in .safetensors and its header is damaged.
    """
    with file.open("rb") as stream:
        start = stream.read(len(GGUF))
    if start == GGUF:
        return f"weights that are quantized as GGUF, which Overpaint does not read; {_IMPORT}"
    if file.suffix.lower() in PICKLES:
        return "a pickle, which can run code and is never read; use safetensors"
    if file.suffix.lower() != ".safetensors":
        return "a file, but a model is a folder in diffusers layout"
    tensor_entries = weights.entries(file)
    if any(part in name for name in tensor_entries for part in _LORA):
        return "an adapter (LoRA); give it with --lora, together with a model"
    precision = _precision(
        {str(entry["dtype"]) for entry in tensor_entries.values()}, tensor_entries
    )
    return f"{_contents(tensor_entries)}{precision}; {_IMPORT}"


def _contents(names: Collection[str]) -> str:
    """The kind of model that the names of its weights show."""
    if any(name.startswith("first_stage_model.") for name in names):
        kind = "XL " if any(name.startswith("conditioner.") for name in names) else ""
        return f"a whole checkpoint of Stable Diffusion {kind}in one file"
    if any("double_blocks." in name for name in names):
        return "the transformer of a FLUX model alone, under its makers' names"
    if any("transformer_blocks." in name or "down_blocks." in name for name in names):
        return "the weights of one component in diffusers' names, without its configuration"
    return "weights with names that Overpaint does not know"


def _precision(dtypes: Collection[str], names: Collection[str]) -> str:
    if any(weights.QUANTIZED.search(name) for name in names):
        return ", quantized by another program"
    return ", in float8" if set(dtypes) & set(FLOAT8) else ""
