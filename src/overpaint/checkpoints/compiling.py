"""Networks that run as they are until they are compiled in the background.

Compiling takes a minute or more, and nobody waits for it: a part of a network computes as it is,
a copy of it that shares the weights is compiled by a thread, with what the part was given, and the
part changes over when that is done. Other kinds of arguments (more dimensions, another precision,
other flags) are compiled in their turn, and computed as they are until then; sizes are left open.
If compiling fails, the part stays as it is.

Compiled code is kept in files, so that the next process has it within seconds.
"""

from __future__ import annotations

import copy
import importlib.util
import logging
import os
import queue
import shutil
import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.fx.experimental import _config as shapes
from torch.utils._pytree import tree_map

from overpaint.checkpoints.exclusion import LOADING

COMPILERS = ("c++", "g++", "clang++", "cl")

PATIENCE_S = 20.0
"""Seconds that a kind of arguments must be in use before anything is compiled for it: a single edit
is over before that would help."""

VERSION = "compiled_parts"
"""Attribute of a network: how often a part of it changed over."""

Compilable = Callable[..., Any]

_log = logging.getLogger(__name__)


def has_compiler() -> bool:
    """Whether there is a C++ compiler, which torch's compiler needs on any device."""
    return any(shutil.which(each) for each in (os.environ.get("CXX"), *COMPILERS) if each)


def is_ready(device: torch.device) -> bool:
    """Whether networks are compiled on a device without being asked: on CUDA, with the tools."""
    triton = importlib.util.find_spec("triton") is not None
    return device.type == "cuda" and triton and has_compiler()


class Background:
    """Compiles in a thread of its own, one thing after the other.

    Attributes:
        patience: as `PATIENCE_S`.
    """

    def __init__(self, patience: float = PATIENCE_S) -> None:
        self.patience = patience
        self._jobs: queue.Queue[Callable[[], None]] = queue.Queue()
        self._thread: threading.Thread | None = None

    def submit(self, job: Callable[[], None]) -> None:
        """Do it later."""
        if self._thread is None:
            # A daemon: a process that ends does not wait for a compiler.
            self._thread = threading.Thread(target=self._work, name="compiler", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def wait(self) -> None:
        """Wait until all of it is done."""
        self._jobs.join()

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            try:
                job()
            finally:
                self._jobs.task_done()


BACKGROUND = Background()


def open_sizes(function: Compilable) -> Compilable:
    """A function compiled once for all sizes, in one graph.

    Equal sizes are not taken for one, so that a picture does not depend on the sizes of earlier
    ones.
    """
    shapes.use_duck_shape = False
    return torch.compile(function, fullgraph=True, dynamic=True)


class CompiledPart:
    """Modules of one class in a network, which are compiled together.

    Args:
        network: that they are parts of.
        modules: of one class.
        background: compiles.
        compiler: makes a function a compiled one.
        smallest: positions of the first argument from which compiling is worth it; with it, sizes
            are fixed: each one is compiled by itself.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        modules: Sequence[torch.nn.Module],
        background: Background = BACKGROUND,
        compiler: Callable[[Compilable], Compilable] = open_sizes,
        *,
        smallest: int = 0,
    ) -> None:
        self._network = network
        self._function: Compilable = type(modules[0]).forward
        self._compiled = compiler(self._function)
        self._background = background
        self._smallest = smallest
        self._first_seen: dict[Hashable, float] = {}
        self._submitted: set[Hashable] = set()
        self._ready: set[Hashable] = set()
        for module in modules:
            module.forward = partial(self, module)

    def __call__(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        """A module's result, compiled where that is ready."""
        kind = _kind((args, kwargs), fixed=self._smallest > 0)
        if kind in self._ready:
            return self._compiled(module, *args, **kwargs)
        if kind not in self._submitted and self._is_worth_it(kind, args):
            self._submitted.add(kind)
            copies = tree_map(_copied, (args, kwargs))
            self._background.submit(partial(self._compile, kind, twin(module), *copies))
        return self._function(module, *args, **kwargs)

    def _is_worth_it(self, kind: Hashable, args: Sequence[Any]) -> bool:
        if self._smallest and args and args[0].shape[-2:].numel() < self._smallest:
            return False
        now = time.monotonic()
        return now - self._first_seen.setdefault(kind, now) >= self._background.patience

    def _compile(
        self, kind: Hashable, module: torch.nn.Module, args: Any, kwargs: Mapping[str, Any]
    ) -> None:
        name = type(module).__name__
        started = time.perf_counter()
        try:
            # Libraries change how modules are made while they load.
            with LOADING.shared(), torch.inference_mode():
                self._compiled(module, *args, **kwargs)
        except Exception:
            _log.warning("%s is not compiled and runs as it is", name, exc_info=True)
            return
        self._ready.add(kind)
        setattr(self._network, VERSION, getattr(self._network, VERSION, 0) + 1)
        _log.info("%s was compiled in %.1f s", name, time.perf_counter() - started)


def twin(module: torch.nn.Module) -> torch.nn.Module:
    """A module of its own with the same weights, to be compiled while the first one computes.

    Tensors that its parts hold beside their weights, as keys and values, are copied.
    """
    shared_tensors: list[Any] = [*module.parameters(), *module.buffers()]
    shared_tensors += [value for name, value in vars(module).items() if not name.startswith("_")]
    clone = copy.deepcopy(module, {id(each): each for each in shared_tensors})
    vars(clone).pop("forward", None)
    return clone


def repeated(model: Any) -> list[list[torch.nn.Module]]:
    """The blocks that a network of diffusers repeats, by class."""
    names = getattr(model, "_repeated_blocks", None) or []
    groups: dict[type, list[torch.nn.Module]] = {}
    for module in model.modules():
        if type(module).__name__ in names:
            groups.setdefault(type(module), []).append(module)
    return list(groups.values())


def compilations() -> int:
    """Graphs that torch compiled in this process so far, or took as they were kept."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])


def keep_in(folder: Path) -> None:
    """Keep what torch compiles in a folder, and take what is there; before anything is compiled."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder / "inductor"))
    file = artifacts(folder)
    if file.is_file():
        torch.compiler.load_cache_artifacts(file.read_bytes())


def save(folder: Path) -> int:
    """Write what this process compiled into one file, for other machines of the kind.

    Returns:
        Bytes written; 0 = nothing was compiled.
    """
    bundle = torch.compiler.save_cache_artifacts()
    if bundle is None:
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    file = artifacts(folder)
    partial_file = file.with_suffix(".partial")
    partial_file.write_bytes(bundle[0])
    partial_file.replace(file)
    return len(bundle[0])


def artifacts(folder: Path) -> Path:
    """The file of `save`; another version of torch has another one."""
    return folder / f"artifacts-{torch.__version__}.bin"


def _kind(value: Any, *, fixed: bool) -> Hashable:
    """A key that arguments share if one compilation serves them."""
    if isinstance(value, torch.Tensor):
        sizes = tuple(value.shape) if fixed else tuple(size == 1 for size in value.shape)
        # A graph is made for a layout, too: with another one it would be compiled again, at once.
        channels_last = value.dim() == 4 and value.is_contiguous(memory_format=torch.channels_last)
        return (value.dtype, sizes, value.device, value.is_contiguous(), channels_last)
    if isinstance(value, list | tuple):
        return tuple(_kind(each, fixed=fixed) for each in value)
    if isinstance(value, Mapping):
        return tuple((name, _kind(each, fixed=fixed)) for name, each in sorted(value.items()))
    if value is None or isinstance(value, bool | int | str):
        return (type(value), value)
    return type(value).__name__


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, torch.Tensor) else value
