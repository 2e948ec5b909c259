"""A pool of encoded samples that is used several times and renewed bit by bit.

Encoding a scene costs as much as a training step of it, so samples stay in the pool for a while;
each step takes a random batch and replaces a few of the oldest, so the world never repeats.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Sample = dict[str, Tensor]
"""Tensors by name, each with the batch as its first dimension."""


class Pool:
    """Encoded samples, at most `capacity`, renewed by `fresh` at each batch."""

    def __init__(
        self,
        make: Callable[[range], Sample],
        seed: int,
        step: int,
        capacity: int = 4096,
        initial: int = 768,
        fresh: int = 8,
    ) -> None:
        """
        Args:
            make: encodes the samples of these numbers; a number always gives the same sample.
            seed: of the batches drawn.
            step: the training step to go on from, so that a resumed run sees new samples.
            capacity: samples kept.
            initial: samples made before the first batch.
            fresh: samples made for each batch.
        """
        self._make, self._seed = make, seed
        self._capacity, self._fresh = capacity, fresh
        self._next = step * fresh + (initial if step else 0)
        self._held: Sample = {}
        self._count = 0
        while self._count < initial:
            self._renew(64)

    def batch(self, step: int, size: int) -> Sample:
        """A random batch, after renewing a part of the pool."""
        self._renew(self._fresh)
        rows = np.random.default_rng([self._seed, 5, step]).integers(self._count, size=size)
        chosen = torch.from_numpy(rows)
        return {name: held[chosen] for name, held in self._held.items()}

    def _renew(self, count: int) -> None:
        samples = self._make(range(self._next, self._next + count))
        if not self._held:
            self._held = {
                name: made.new_empty((self._capacity, *made.shape[1:]))
                for name, made in samples.items()
            }
        slots = torch.arange(self._next, self._next + count) % self._capacity
        if self._count < self._capacity:
            slots = torch.arange(self._count, self._count + count) % self._capacity
            self._count = min(self._count + count, self._capacity)
        for name, made in samples.items():
            self._held[name][slots] = made
        self._next += count
