"""Remembers encoded texts and pictures by content, within bounds, so that none is encoded twice.

Exact: a hit gives the tensors that were computed the first time. Keys hold everything that decides
the value (the text, or a hash of a tensor's values and memory layout), so different edits share
what they have in common.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import torch
from PIL import Image

CAPACITY = 256 * 2**20
"""Bytes that a checkpoint's memo may hold: about sixty prompts of 512 T5 tokens in bfloat16."""

MOST = 256
"""Values that it may hold. Small ones would fill `CAPACITY` only after thousands of edits, and a
batch's memory would grow all the while."""

T = TypeVar("T")


class Memo:
    """Values by key, the least recently used out first.

    Attributes:
        hits, misses: how often a value was there, and how often it had to be computed.
        size: bytes held.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._values: OrderedDict[Hashable, Any] = OrderedDict()
        self.hits = self.misses = self.size = 0

    def get(self, key: Hashable, compute: Callable[[], T]) -> T:
        """The value of `key`; the caller must not change it."""
        if key in self._values:
            self.hits += 1
            self._values.move_to_end(key)
            value: T = self._values[key]
            return value
        self.misses += 1
        value = compute()
        if key not in self._values:  # another edit may have been encoded in the middle of it
            self.size += size_of(value)
        self._values[key] = value
        while self.size > self._capacity or len(self._values) > MOST:
            self.size -= size_of(self._values.popitem(last=False)[1])
        return value

    def clear(self) -> bool:
        """Forget every value; whether there was any."""
        had_values = bool(self._values)
        self._values.clear()
        self.size = 0
        return had_values


def content(tensor: torch.Tensor) -> bytes:
    """A key for a tensor on the CPU: values, shape, type, and strides.

    Strides count because convolutions on strided and contiguous tensors differ in the last bits.
    """
    digest = hashlib.sha256(repr((tensor.shape, tensor.stride(), tensor.dtype)).encode())
    plain = tensor.detach().cpu().contiguous().view(torch.uint8)
    digest.update(plain.numpy().tobytes())
    return digest.digest()


def size_of(value: object) -> int:
    """Bytes of a tensor, of a picture, or of the tensors that an object holds."""
    if isinstance(value, torch.Tensor):
        return value.nbytes
    if isinstance(value, Image.Image):
        return value.width * value.height * len(value.getbands())
    tensors = [each for each in vars(value).values() if isinstance(each, torch.Tensor)]
    return sum(each.nbytes for each in tensors)
