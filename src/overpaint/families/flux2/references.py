"""References that no step computes: what the noise and the text attend to of them.

The -kv weights compute references by themselves, as if they were clean pictures: their tokens
attend to each other alone and are modulated as at timestep 0. So their keys and values depend on
the references and on nothing else, neither on the prompt nor on the seed, and are computed once
for all steps of all edits of the same pictures. diffusers' `Flux2KleinKVPipeline` computes them
beside the first step of each edit; the numbers are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from overpaint.diffusion.tokens.layout import Layout
from overpaint.diffusion.tokens.sparse import attentions, lent


@dataclass(frozen=True, eq=False)
class References:
    """Pictures that an edit is made from.

    Attributes:
        tokens: (1, M, C) of all of them.
        layout: of their tokens alone.
        key: equal where the pictures are: what `tokens` has, and where they stand.
    """

    tokens: torch.Tensor
    layout: Layout
    key: tuple[object, ...]


@dataclass(frozen=True, eq=False)
class ReferenceKeys:
    """Keys and values of references, which the noise and the text of an edit attend to.

    Attributes:
        keys, values: (layers, 1, M, heads, D), keys with their rotary embedding.
    """

    keys: torch.Tensor
    values: torch.Tensor

    @classmethod
    def empty(cls, transformer: Any, tokens: int) -> ReferenceKeys:
        """Room for those of so many tokens, on the transformer's device."""
        layers = list(attentions(transformer))
        shape = (len(layers), 1, tokens, layers[0].heads, layers[0].head_dim)
        keys, values = (
            torch.empty(shape, dtype=transformer.dtype, device=transformer.device) for _ in range(2)
        )
        return cls(keys, values)

    @property
    def nbytes(self) -> int:
        """Bytes that they take."""
        return self.keys.nbytes + self.values.nbytes

    @contextmanager
    def attached(self, transformer: Any, name: str = "reference") -> Iterator[None]:
        """Let a transformer's attentions use them during a pass.

        Args:
            transformer: whose.
            name: 'reference' = they are attended to, 'kept' = the pass writes them.
        """
        tensors = {f"{name}_keys": list(self.keys), f"{name}_values": list(self.values)}
        with lent(list(attentions(transformer)), tensors):
            yield
