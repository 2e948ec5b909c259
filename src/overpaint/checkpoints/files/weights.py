"""Safetensors files: found, measured, and mapped or streamed into a model.

When the precision has to change, `from_pretrained` holds a file's tensors beside the converted
ones; reading them in pieces keeps the peak at the model's size, and a piece that fits the
processor's cache is read and converted several times faster than a tensor of megabytes. When it
stays as it is, the file is mapped into memory as the libraries do it, which costs nothing, and
kernels give the bits that they give there.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import torch
from accelerate import init_empty_weights
from safetensors import safe_open
from torch.overrides import TorchFunctionMode

from overpaint.checkpoints.exclusion import LOADING
from overpaint.checkpoints.files.layout import CONFIG
from overpaint.core.errors import ModelLoadError

MAX_HEADER = 100_000_000
"""Bytes of a safetensors header that are read at most, as the format's own reader allows."""

PIECE = 32768
"""Numbers that are read and converted at once: few enough for a core's own cache, and for torch not
to spread them over threads, which here are busy with other tensors."""

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
"""Precisions by their names in the format."""


def files(folder: Path) -> list[Path]:
    """The full-precision safetensors of a component (variants such as fp16 are left alone)."""
    files = sorted(folder.glob("*.safetensors"))
    return [file for file in files if file.name.count(".") == 1] or files


QUANTIZED = re.compile(
    r"(?:^|\.)(?:weight_scale(?:_2)?|input_scale|SCB|absmax|quant_map|qweight|wscales|comfy_quant"
    r"|quant_state\..*)$"
)
"""Names of tensors beside weights that other programs have quantized."""

SCALE = ".scale_weight"
"""Beside a float8 weight, one number to multiply it by: how ComfyUI and others publish float8."""

FLOAT8 = ("F8_E4M3", "F8_E5M2")


def require(folder: Path) -> None:
    """Refuse a component without safetensors that can be read; reads headers alone.

    Raises:
        ModelLoadError: the folder is missing, empty, or holds pickles or GGUF files only; a file is
            damaged or ends too early; its weights are quantized in a way that is not read.
    """
    if not folder.is_dir():
        raise ModelLoadError(f"{folder}: the folder is missing; pull the model again")
    _require_unquantized(folder)
    if present := files(folder):
        for file in present:
            _require_whole(file)
        return
    pickles = sorted(file.name for file in folder.glob("*") if file.suffix in {".bin", ".ckpt"})
    if pickles:
        raise ModelLoadError(
            f"{folder}: holds only {', '.join(pickles)}; pickles can run code and are never "
            "read: convert the checkpoint to safetensors"
        )
    if packed := sorted(file.name for file in folder.glob("*.gguf")):
        raise ModelLoadError(
            f"{folder}: holds only {packed[0]}, weights that are quantized as GGUF, which "
            "Overpaint does not read; use the files in full precision"
        )
    raise ModelLoadError(f"{folder}: holds no .safetensors file")


def _require_unquantized(folder: Path) -> None:
    """Refuse a component whose configuration says that another library quantized it."""
    config = folder / CONFIG
    try:
        quantization = json.loads(config.read_text(encoding="utf-8")).get("quantization_config")
    except (OSError, ValueError, AttributeError):
        return  # said where the configuration is needed
    if quantization:
        method = dict(quantization).get("quant_method", "another library")
        raise ModelLoadError(
            f"{folder}: its weights are quantized by {method}, which Overpaint does not "
            "read; use the files in full precision, and make them smaller with `backend` "
            "or `dtype`"
        )


def _require_whole(file: Path) -> None:
    tensor_entries = entries(file)
    end = max((entry["data_offsets"][1] for entry in tensor_entries.values()), default=0)
    if file.stat().st_size < 8 + len(header(file)) + end:
        raise ModelLoadError(f"{file}: it ends too early; pull the model again")
    if (name := next(filter(QUANTIZED.search, tensor_entries), None)) is not None:
        raise ModelLoadError(
            f"{file}: its weights are quantized by another program ('{name}'), which would be read "
            "wrongly; use the files in full precision"
        )


def header(file: Path) -> bytes:
    """The file's JSON header: names, types, shapes and offsets of its tensors.

    Raises:
        ModelLoadError: the file does not start with one.
    """
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        content = stream.read(length) if 2 <= length <= MAX_HEADER else b""
    if not content or len(content) < length:
        raise ModelLoadError(f"{file}: not a safetensors file; pull the model again")
    return content


def parameters(file: Path, pattern: re.Pattern[str] | None = None) -> int:
    """How many numbers the file holds, in all or in tensors whose names contain the pattern."""
    return sum(
        torch.Size(entry["shape"]).numel()
        for name, entry in entries(file).items()
        if pattern is None or pattern.search(name)
    )


def stored_as(folder: Path, dtype: torch.dtype) -> bool:
    """Whether all floating-point weights of a component are stored in that precision."""
    return all(_is_stored_as(file, dtype) for file in files(folder))


def load_into(
    model: torch.nn.Module,
    folder: Path,
    dtype: torch.dtype,
    device: Any,
    name_of: Callable[[str], str] = str,
) -> bool:
    """Fill an empty model from a folder's files: mapped, or with one piece in memory at a time.

    Args:
        model: made by `empty`; its weights are on the 'meta' device.
        folder: of the component.
        dtype: precision of floating-point weights.
        device: where they go.
        name_of: a weight's name in the model, from its name in a file.

    Returns:
        Whether every weight was found under that name. If not, the model is not usable and
        the libraries' own loaders, which know older names, have to be asked.
    """
    expected = set(model.state_dict())
    for file in files(folder):
        read = _mapped if _is_stored_as(file, dtype) else _tensors
        names = {stored: name_of(stored) for stored in entries(file)}
        keys = {stored for stored, name in names.items() if name in expected}
        state = {names[stored]: each for stored, each in read(file, keys, dtype, device)}
        # While another model is being made, parameters set here would become empty.
        with LOADING.shared():
            model.load_state_dict(state, strict=False, assign=True)
    with LOADING.shared():
        tie_weights = getattr(model, "tie_weights", None)
        if callable(tie_weights):
            tie_weights()
        if any(weight.is_meta for weight in model.state_dict().values()):
            return False
        # Buffers that no file holds follow: the class computes them (CLIP's `position_ids`).
        model.to(device)
    return True


def tensors(folder: Path, names: Collection[str]) -> Iterator[tuple[str, torch.Tensor]]:
    """The named tensors of a component's files, as stored.

    Raises:
        ModelLoadError: one is not there.
    """
    missing = set(names)
    for file in files(folder):
        for name, tensor in _tensors(file, missing.copy()):
            missing.remove(name)
            yield name, tensor
    if missing:
        raise ModelLoadError(f"{folder}: holds no '{min(missing)}'; pull the model again")


def key(folder: Path, *context: object) -> str:
    """A name for what is made of a component's files in some context; other files, another name.

    Raises:
        ModelLoadError: its configuration is missing.
    """
    digest = hashlib.sha256(" ".join(map(str, context)).encode())
    for file in [folder / CONFIG, *files(folder)]:
        try:
            status = file.resolve().stat()
        except OSError as error:
            raise ModelLoadError(f"{file}: cannot be read; pull the model again") from error
        digest.update(f"{file.resolve()} {status.st_size} {status.st_mtime_ns}".encode())
    return digest.hexdigest()[:32]


def empty(cls: Any, folder: Path) -> torch.nn.Module:
    """A model of a diffusers or transformers class without memory for its weights."""
    with init_empty_weights(include_buffers=False), Uninitialized():
        if hasattr(cls, "load_config"):
            model = cls.from_config(cls.load_config(folder, local_files_only=True))
        else:
            model = _uninitialized(cls)(
                cls.config_class.from_pretrained(folder, local_files_only=True)
            )
            model.__class__ = cls
    assert isinstance(model, torch.nn.Module)
    return model


class Uninitialized(TorchFunctionMode):
    """Random starts are left out where there is no memory for them: for those, torch imports a
    computer algebra system."""

    MODULES = ("torch.nn.init", "transformers.initialization")
    """Where random starts are; transformers puts its own in the place of torch's."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) in self.MODULES:
            tensor = kwargs["tensor"] if "tensor" in kwargs else args[0]
            if tensor.is_meta:
                return tensor
        return func(*args, **kwargs)


def _uninitialized(cls: Any) -> Any:
    """The class of transformers without its random start, which takes a second even for nothing."""
    return type(cls.__name__, (cls,), {"initialize_weights": lambda _: None})


def entries(file: Path) -> dict[str, Any]:
    """What the file's header says of its tensors by name: `dtype`, `shape`, `data_offsets`.

    Raises:
        ModelLoadError: it is damaged.
    """
    try:
        metadata = json.loads(header(file))
        metadata.pop("__metadata__", None)
        assert all({"shape", "data_offsets"} <= entry.keys() for entry in metadata.values())
        assert all(entry["dtype"] in DTYPES for entry in metadata.values())
    except (ValueError, AttributeError, KeyError, AssertionError) as error:
        raise ModelLoadError(f"{file}: its header is damaged; pull the model again") from error
    return dict(metadata)


def _is_stored_as(file: Path, dtype: torch.dtype) -> bool:
    dtypes = {DTYPES[entry["dtype"]] for entry in entries(file).values()}
    return {kind for kind in dtypes if kind.is_floating_point} <= {dtype}


def _mapped(
    file: Path, keys: set[str], _: torch.dtype, device: Any
) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of these keys on the device, as stored; on the CPU they are the file's pages."""
    with safe_open(file, framework="pt") as handle:
        for name in keys.intersection(handle.keys()):
            yield name, handle.get_tensor(name).to(device)


def _tensors(
    file: Path, keys: set[str], dtype: torch.dtype | None = None, device: Any = "cpu"
) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of these keys on the device, floating-point ones as `dtype`, read by threads."""
    selection = {name: entry for name, entry in entries(file).items() if name in keys}
    reader = Reader(file, dtype)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for name, tensor in zip(
            selection, pool.map(reader, selection, selection.values()), strict=True
        ):
            yield name, tensor.to(device)


class Reader:
    """Reads tensors of a file; floating-point ones become `dtype`, where one is given.

    A float8 weight that has a scale beside it is multiplied by that, in float32.
    """

    def __init__(self, file: Path, dtype: torch.dtype | None) -> None:
        self._file, self._dtype = file, dtype
        self._start = 8 + len(header(file))
        self._scales = {
            name: entry for name, entry in entries(file).items() if name.endswith(SCALE)
        }

    def __call__(self, name: str, entry: dict[str, Any]) -> torch.Tensor:
        scale = self._scales.get(name.removesuffix(".weight") + SCALE)
        if scale is None or entry["dtype"] not in FLOAT8:
            return self._read(name, entry, read_as(DTYPES[entry["dtype"]], self._dtype))
        factor = self._read(name, scale, torch.float32)
        scaled = self._read(name, entry, torch.float32).mul_(factor)
        return scaled.to(self._dtype or torch.float32)

    def _read(self, name: str, entry: dict[str, Any], dtype: torch.dtype) -> torch.Tensor:
        stored = DTYPES[entry["dtype"]]
        tensor = torch.empty(entry["shape"], dtype=dtype)
        with self._file.open("rb") as stream:
            stream.seek(self._start + entry["data_offsets"][0])
            if not _fill(tensor.view(-1), stream, stored):
                raise ModelLoadError(f"{self._file}: ends within '{name}'; pull the model again")
        return tensor


def is_scaled(folder: Path) -> bool:
    """Whether a component has weights that mean nothing without the scales beside them."""
    return any(name.endswith(SCALE) for file in files(folder) for name in entries(file))


def read_as(stored: torch.dtype, dtype: torch.dtype | None) -> torch.dtype:
    """The precision of a tensor in memory: only floating-point ones change theirs."""
    return dtype if dtype is not None and stored.is_floating_point else stored


def _fill(flat: torch.Tensor, stream: BinaryIO, stored: torch.dtype) -> bool:
    """Read numbers that are stored as `stored`; whether all of them were there."""
    staging = torch.empty(PIECE, dtype=stored)
    into = staging.view(torch.uint8).numpy()
    for begin in range(0, len(flat), PIECE):
        part = flat[begin : begin + PIECE]
        length = len(part) * stored.itemsize
        if stream.readinto(into[:length]) < length:  # type: ignore[attr-defined]
            return False
        part.copy_(staging[: len(part)])
    return True
