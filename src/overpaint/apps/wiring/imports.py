"""The model libraries without what an edit does not use, for programs that make one and end.

diffusers imports peft and torch's compiler, and transformers parts of SciPy and tensors that are
spread over machines, each for something that hardly any edit asks for; together they take longer
than everything else. In a process of our own, other modules stand in their places until one of
their names is used, and the libraries are imported as beside a torch that was built for one machine
alone. Processes of others import the libraries as these are: what is put off here might be theirs.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from overpaint.apps import process
from overpaint.apps.settings import Settings

LATE = (
    "peft.helpers",
    "peft.tuners.tuners_utils",
    "scipy.integrate",
    "scipy.optimize",
    "scipy.stats",
)
"""Modules that adapters need, some noise schedulers and training."""

LATE_PACKAGES = ("transformers.models",)
"""Packages that read all of their files to know their own names; their modules are imported by
those modules' names."""

COMPILER = "torch._dynamo"
"""Libraries mark functions for it while they are imported."""

LATE_OF_COMPILER = (f"{COMPILER}._trace_wrapped_higher_order_op",)


class LateName:
    """A name of a module that is imported when the name is first used."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def _resolved(self) -> Any:
        restore(self._module.partition(".")[0])
        return getattr(importlib.import_module(self._module), self._name)

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._resolved()(*args, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._resolved(), name)

    def __instancecheck__(self, instance: object) -> bool:
        # Nothing is of a class of a module that nobody has imported.
        module = sys.modules.get(self._module)
        has_it = module is not None and not isinstance(module, LateModule)
        return has_it and isinstance(instance, getattr(module, self._name))


class LateModule(ModuleType):
    """A module all of whose names are late."""

    @classmethod
    def package(cls, name: str) -> LateModule:
        """A package whose names are late and whose modules are not."""
        parent, _, folder = name.rpartition(".")
        spec = importlib.util.find_spec(parent)
        assert spec is not None
        module = cls(name)
        module.__path__ = [f"{each}/{folder}" for each in spec.submodule_search_locations or ()]
        return module

    def __getattr__(self, name: str) -> LateName:
        if name.startswith("__"):
            raise AttributeError(name)
        return LateName(self.__name__, name)


class Uncompiled(ModuleType):
    """In the compiler's place: marks of functions, which say nothing where nothing is compiled."""

    @staticmethod
    def allow_in_graph(function: Any = None, *_: Any, **__: Any) -> Any:
        """The function as it is."""
        return function or Uncompiled.allow_in_graph

    disable = assume_constant_result = forbid_in_graph = nonstrict_trace = allow_in_graph


def put_off(settings: Settings) -> None:
    """From now on, import what hardly any edit uses when it is used; only in our own processes.

    Args:
        settings: say whether torch's compiler is used.
    """
    if not process.is_ours():
        return
    places: dict[str, ModuleType] = {name: LateModule(name) for name in LATE}
    places |= {name: LateModule.package(name) for name in LATE_PACKAGES}
    if settings.backend == "torch":
        importlib.import_module("torch")
        places |= {name: LateModule(name) for name in LATE_OF_COMPILER}
        places[COMPILER] = Uncompiled(COMPILER)
    for name, module in places.items():
        sys.modules.setdefault(name, module)
    try:
        with _on_one_machine():
            for each in ("diffusers.loaders.peft", "transformers.modeling_utils"):
                importlib.import_module(each)
    except Exception:
        # Another version of a library wants more than is here: it gets what there is.
        restore()


@contextmanager
def _on_one_machine() -> Iterator[None]:
    """Torch says that it cannot compute on several machines: what needs that is not imported."""
    import torch

    is_available = torch.distributed.is_available
    torch.distributed.is_available = lambda: False
    try:
        yield
    finally:
        torch.distributed.is_available = is_available


def restore(package: str | None = None) -> None:
    """Let a package be imported as it is; None = all."""
    for name, module in list(sys.modules.items()):
        is_ours = isinstance(module, LateModule | Uncompiled)
        if is_ours and package in (None, name.partition(".")[0]):
            del sys.modules[name]


def quieten() -> None:
    """No progress bars and advice of the model libraries; their errors still show."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for logging in (diffusers_logging, transformers_logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()
