"""Models at their real size whose weights are made where they are used, and no file holds them.

A folder has the real configurations, small tokenizers, and hollow safetensors: a true header over
a hole of the file system. `in_memory` stands for the reading of weights: each tensor is a piece of
the same random numbers on every device. So everything else is what runs with a published model:
the plan of memory, the loader, evicted modulation, float8.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch

from benchmarks import real_size
from overpaint.checkpoints.files import readahead, weights
from tests import tiny_checkpoints

PIPELINES = {
    "sd2": "StableDiffusionInpaintPipeline",
    "flex2": "Flex2Pipeline",
    "kontext": "FluxKontextPipeline",
}
NUMBERS = 2**20 + 7
"""Random numbers that all weights are made of; no multiple of a matrix's side."""


def folder(root: Path, family: str, *, tiny: bool) -> Path:
    """A checkpoint of the family with real configurations, or a tiny one."""
    where = root / f"{family}{'-tiny' if tiny else ''}"
    if (where / "model_index.json").is_file():
        return where
    if tiny:
        return Path(getattr(tiny_checkpoints, family)(where))
    index: dict[str, Any] = {"_class_name": PIPELINES[family]}
    for name, part in real_size.layout(family).items():
        _write_hollow(where / name, part)
        index[name] = [type(part).__module__.partition(".")[0], type(part).__name__]
    index |= _small_parts(where, family)
    (where / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    return where


@contextmanager
def in_memory() -> Iterator[None]:
    """Weights are made in the memory of their device; nothing is read from the files."""
    reading, ahead = weights.load_into, readahead.start
    weights.load_into, readahead.start = fill, lambda _: None
    try:
        yield
    finally:
        weights.load_into, readahead.start = reading, ahead


def fill(
    model: torch.nn.Module, _: Path, dtype: torch.dtype, device: Any, name_of: Any = None
) -> bool:
    """What `weights.load_into` does, with numbers that depend on names and shapes alone."""
    state = {
        name: _tensor(name, tuple(tensor.shape), dtype, str(device))
        for name, tensor in model.state_dict().items()
    }
    model.load_state_dict(state, assign=True)
    tie_weights = getattr(model, "tie_weights", None)
    if callable(tie_weights):
        tie_weights()
    model.to(device)
    return True


def network(where: Path, name: str, cls: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """A component's network for somebody else's pipeline, with the same weights."""
    model = weights.empty(cls, where / name)
    fill(model, where / name, dtype, device)
    return model.eval().requires_grad_(requires_grad=False)


def _tensor(name: str, shape: tuple[int, ...], dtype: torch.dtype, device: str) -> torch.Tensor:
    if len(shape) < 2:
        value = 1.0 if name.endswith("weight") else 0.0
        return torch.full(shape, value, dtype=dtype, device=device)
    numbers = _numbers(dtype, device, 1 / math.sqrt(math.prod(shape[1:])))
    count = math.prod(shape)
    start = zlib.crc32(name.encode()) % NUMBERS
    tensor = torch.empty(count, dtype=dtype, device=device)
    done = min(count, NUMBERS - start)
    tensor[:done] = numbers[start : start + done]
    while done < count:
        more = min(count - done, NUMBERS)
        tensor[done : done + more] = numbers[:more]
        done += more
    return tensor.view(shape)


@cache
def _numbers(dtype: torch.dtype, device: str, scale: float) -> torch.Tensor:
    drawn = torch.randn(NUMBERS, generator=torch.Generator().manual_seed(0)) * scale
    return drawn.to(dtype).to(device)


def _write_hollow(where: Path, part: Any) -> None:
    """A component's configuration, and a safetensors file in bfloat16 whose numbers are a hole."""
    where.mkdir(parents=True, exist_ok=True)
    if hasattr(part, "save_config"):
        part.save_config(where)
    else:
        part.config.save_pretrained(where)
    header: dict[str, Any] = {}
    end = 0
    for name, tensor in part.state_dict().items():
        begin, end = end, end + 2 * tensor.numel()
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with (where / "model.safetensors").open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + end)


def _small_parts(where: Path, family: str) -> dict[str, Any]:
    """Noise scheduler and tokenizers, which have no weights."""
    vocabulary = where / "vocabulary"
    parts: dict[str, Any] = {"tokenizer": tiny_checkpoints.clip_tokenizer(vocabulary)}
    if family == "sd2":
        parts["scheduler"] = tiny_checkpoints.ddim()
    else:
        parts["tokenizer_2"] = tiny_checkpoints.t5_tokenizer()
        parts["scheduler"] = tiny_checkpoints.flow_matching()
    index = {}
    for name, part in parts.items():
        part.save_pretrained(where / name)
        index[name] = [type(part).__module__.partition(".")[0], type(part).__name__]
    return index
