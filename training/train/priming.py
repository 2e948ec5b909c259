"""Attention heads that start out looking at a fixed relative position.

A transformer with rotary positions knows places only through them, and from a random start needs
many samples to find the kernel 'the token one to the left'. Constant queries and keys give such a
kernel at once: their energy is put into the fast frequencies, and the key's phases are turned by
the offset. Training goes on from there and may change it.
"""

from __future__ import annotations

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor

HEAD_WIDTH = 32
AXES = (8, 12, 12)
"""Rotary widths of frame, row and column; head width 32."""

Offset = tuple[int, int, int]
"""Frame, row and column from the query to the token that the head shall look at."""

SAME_PLACE_IN_REFERENCE: Offset = (1, 0, 0)

_PAIRS = ((0, 0, 1.0), (8, 1, 1.0), (10, 1, 0.2154), (20, 2, 1.0), (22, 2, 0.2154))
"""Rotary pairs used: (first feature, axis, frequency). The second frequency of rows and columns
tells places six apart, which look alike to the first."""


def patterns(offset: Offset) -> tuple[Tensor, Tensor]:
    """The constant query and key (32,) whose product peaks at the offset."""
    query, key = torch.zeros(HEAD_WIDTH), torch.zeros(HEAD_WIDTH)
    for feature, axis, frequency in _PAIRS:
        angle = torch.tensor(-offset[axis] * frequency)
        query[feature] = 1.0
        key[feature], key[feature + 1] = torch.cos(angle), torch.sin(angle)
    return query, key


@torch.no_grad()
def prime(model: FluxTransformer2DModel, offsets: list[list[Offset]], sharpness: float) -> None:
    """Primes the first heads of each block.

    Args:
        model: an untrained transformer with head width 32 and axes (8, 12, 12).
        offsets: for each block (used in turn) the offsets of its heads 0, 1, …
        sharpness: factor on the norm of all queries and keys.
    """
    blocks = (*model.transformer_blocks, *model.single_transformer_blocks)
    for number, block in enumerate(blocks):
        attention = block.attn
        attention.norm_q.weight.fill_(sharpness)
        attention.norm_k.weight.fill_(sharpness)
        for head, offset in enumerate(offsets[number % len(offsets)]):
            rows = slice(head * HEAD_WIDTH, (head + 1) * HEAD_WIDTH)
            query, key = patterns(offset)
            for projection, pattern in ((attention.to_q, query), (attention.to_k, key)):
                projection.weight[rows] *= 0.1
                projection.bias[rows] = 2 * pattern


NEIGHBOURS: list[list[Offset]] = [
    [(0, 0, -1), (0, 0, 1)],
    [(0, -1, 0), (0, 1, 0)],
    [(0, 0, -2), (0, 0, 2)],
    [(0, -2, 0), (0, 2, 0)],
    [(0, -1, -1), (0, 1, 1)],
    [(0, 1, -1), (0, -1, 1)],
]
"""Two neighbours for each block: through them a token learns where in the mask it lies."""
