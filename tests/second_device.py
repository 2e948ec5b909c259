"""A second torch device in ordinary memory, for tests of what runs on a card.

`plugged_in()` gives the machine two devices of the type 'card', `card:0` and `card:1`. Their
tensors lie in the processor's memory and every operator is the processor's own, so results are bit
for bit the processor's. Mixing devices fails as it does on CUDA; what CUDA allows is allowed:
copies between devices, 0-d tensors of the processor, and indices of `x[i]` that lie there.

Each card counts what a test wants to know: bytes held and their peak, copies from the processor,
operators. It can be given a capacity, beyond which it raises `torch.OutOfMemoryError`.

Uses torch's interface for backends written in Python (`torch.utils.backend_registration`).
"""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import library
from torch.utils import backend_registration
from torch.utils._pytree import tree_leaves, tree_map

NAME = "card"
COUNT = 2
CAPACITY = 64 * 2**30

COPIES = frozenset({"aten::copy_", "aten::_to_copy", "aten::to", "aten::_copy_from"})
"""Operators that move values between devices."""

MIXING = COPIES | {
    "aten::index",
    "aten::index_put_",
    "aten::index_put",
    "aten::_index_put_impl_",
}
"""Operators that may be given tensors of the processor beside those of a card."""

FACTORIES = ("CPU", "CompositeExplicitAutograd", "CompositeExplicitAutogradNonFunctional")
"""Dispatch keys whose kernels make tensors out of nothing."""


class Card:
    """What one card holds and has done.

    Attributes:
        capacity: bytes that fit.
        held, peak: bytes of live tensors now, and at most since `reset_peak`.
        uploads: copies from the processor so far; 0-d tensors do not count.
        downloads: copies to the processor so far, for which it waits.
        operators: how often each operator ran.
    """

    def __init__(self) -> None:
        self.capacity = CAPACITY
        self.held = self.peak = self.uploads = self.downloads = 0
        self.operators: Counter[str] = Counter()
        self._users: Counter[int] = Counter()
        self._lock = threading.RLock()

    def take(self, tensor: CardTensor) -> None:
        """Count a tensor's memory, unless another tensor of the card shares it.

        Raises:
            torch.OutOfMemoryError: it does not fit.
        """
        storage = tensor.raw.untyped_storage()
        address, size = storage.data_ptr(), storage.nbytes()
        with self._lock:
            if not self._users[address]:
                if self.held + size > self.capacity:
                    raise torch.OutOfMemoryError(
                        f"{NAME} out of memory. Tried to allocate {size} bytes."
                    )
                self.held += size
                self.peak = max(self.peak, self.held)
            self._users[address] += 1
        weakref.finalize(tensor, self._release, address, size)

    def reset_peak(self) -> None:
        """Measure the peak from now on."""
        self.peak = self.held

    @contextmanager
    def limited(self, capacity: int) -> Iterator[None]:
        """A smaller card for a while."""
        before, self.capacity = self.capacity, capacity
        try:
            yield
        finally:
            self.capacity = before

    def _release(self, address: int, size: int) -> None:
        with self._lock:
            self._users[address] -= 1
            if not self._users[address]:
                del self._users[address]
                self.held -= size


CARDS = tuple(Card() for _ in range(COUNT))


class CardTensor(torch.Tensor):
    """A tensor of a card; `raw` is the ordinary tensor behind it."""

    raw: torch.Tensor

    @staticmethod
    def __new__(cls, raw: torch.Tensor, index: int) -> CardTensor:
        # A view of a parameter counts versions, which inference tensors do not.
        with torch.inference_mode(False):
            made: CardTensor = torch.Tensor._make_wrapper_subclass(
                cls,
                raw.shape,
                strides=raw.stride(),
                storage_offset=raw.storage_offset(),
                dtype=raw.dtype,
                device=torch.device(NAME, index),
                requires_grad=False,
            )
        made.raw = raw
        CARDS[index].take(made)
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(
        cls, operator: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _run(operator, *args, **(kwargs or {}))

    def tolist(self) -> Any:
        return self.raw.tolist()

    def __repr__(self, **_: Any) -> str:
        return f"CardTensor({self.raw!r}, device='{self.device}')"


class _Module:
    """What torch asks of a device's module: `torch.card`."""

    present = False

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return self.present

    def current_device(self) -> int:
        return 0

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        return None

    def device_count(self) -> int:
        return COUNT if self.present else 0

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        card = CARDS[torch.device(device or NAME).index or 0]
        return card.capacity - card.held, card.capacity

    def memory_allocated(self, device: Any = None) -> int:
        return CARDS[torch.device(device or NAME).index or 0].held

    def memory_reserved(self, device: Any = None) -> int:
        return self.memory_allocated(device)

    def max_memory_allocated(self, device: Any = None) -> int:
        return CARDS[torch.device(device or NAME).index or 0].peak

    def reset_peak_memory_stats(self, device: Any = None) -> None:
        CARDS[torch.device(device or NAME).index or 0].reset_peak()

    def get_device_name(self, device: Any = None) -> str:
        return "ordinary memory"

    def synchronize(self, device: Any = None) -> None:
        return None

    def empty_cache(self) -> None:
        return None


class _Hooks(torch._C._acc.PrivateUse1Hooks):
    """What torch asks of a device from C++."""

    def is_available(self) -> bool:
        return _module.present

    def has_primary_context(self, index: int) -> bool:
        return True

    def is_built(self) -> bool:
        return True


_module = _Module()
_libraries: list[library.Library] = []


@contextmanager
def plugged_in() -> Iterator[tuple[Card, ...]]:
    """Two cards in this machine for a while; torch cannot forget the device type itself."""
    _register()
    _module.present = True
    try:
        yield CARDS
    finally:
        _module.present = False


def _register() -> None:
    if _libraries:
        return
    backend_registration._setup_privateuseone_for_python_backend(NAME, _module, _Hooks())
    anything = library.Library("_", "IMPL")
    anything.fallback(_run, "PrivateUse1")
    aten = library.Library("aten", "IMPL")
    _libraries.extend((anything, aten))
    for full in torch._C._dispatch_get_all_op_names():
        name, _, overload = full.removeprefix("aten::").partition(".")
        if not full.startswith("aten::") or not _makes_tensors(full):
            continue
        operator = getattr(getattr(torch.ops.aten, name), overload or "default", None)
        if operator is not None:
            aten.impl(full.removeprefix("aten::"), partial(_run, operator), "PrivateUse1")


def _makes_tensors(full: str) -> bool:
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    return not has(full, "PrivateUse1") and any(has(full, key) for key in FACTORIES)


def _run(operator: Any, *args: Any, **kwargs: Any) -> Any:
    """An operator on the ordinary tensors behind those of a card."""
    name = operator._schema.name
    if name == "aten::_has_compatible_shallow_copy_type":
        # A module that moves must take the new tensor itself: `raw` lies beside torch's own data.
        return False
    tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
    places = {each.device for each in tensors if isinstance(each, CardTensor)}
    _require_one_device(name, tensors, places)
    target = _target(args, kwargs, places)
    if target.type == NAME:
        card = CARDS[target.index or 0]
        card.operators[name] += 1
        if name in MIXING and any(each.dim() and each.device.type == "cpu" for each in tensors):
            card.uploads += 1
        if name == "aten::_local_scalar_dense":
            card.downloads += 1
    elif name in COPIES:
        for place in places:
            CARDS[place.index or 0].downloads += 1
    if name == "aten::_copy_from":
        _raw(args[1]).copy_(_raw(args[0]))
        return args[1]
    result = operator(*tree_map(_raw, args), **tree_map(_raw, kwargs))
    if target.type != NAME:
        return result
    known = {id(each.raw): each for each in tensors if isinstance(each, CardTensor)}
    return tree_map(partial(_on_card, known, target.index or 0), result)


def _require_one_device(name: str, tensors: list[torch.Tensor], places: set[torch.device]) -> None:
    if name in COPIES:
        return
    strangers = {
        each.device for each in tensors if not isinstance(each, CardTensor) and each.dim() > 0
    }
    if len(places) > 1 or (strangers and name not in MIXING):
        there = ", ".join(sorted(map(str, places | strangers)))
        raise RuntimeError(f"Expected all tensors to be on the same device, but {name} got {there}")


def _target(args: Any, kwargs: Any, places: set[torch.device]) -> torch.device:
    """Where the result goes: where it is asked for, else where its inputs are."""
    asked = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.device)]
    return next(iter(asked), min(places, key=str, default=torch.device(NAME, 0)))


def _raw(value: Any) -> Any:
    """What stands for a value on the processor."""
    if isinstance(value, torch.device):
        return torch.device("cpu")
    return value.raw if isinstance(value, CardTensor) else value


def _on_card(known: dict[int, CardTensor], index: int, value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    return known.get(id(value)) if id(value) in known else CardTensor(value, index)
