"""Where the tokens of a transformer's text and pictures are, as angles.

After Su et al. 2021 (arXiv:2104.09864), rotary embedding.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

TokenGrid = tuple[int, int]
"""Height and width of a picture, in what its family counts: tokens or latents."""


@dataclass(frozen=True, eq=False)
class Layout:
    """The tokens that a pass of the transformer computes, on its device.

    Attributes:
        key: equal where all tokens are at the same positions.
        text, picture: (T, 2D) and (N, 2D) cosines and sines of the tokens' rotary embedding.
        rows: (T + N,) their places in the sequence of all text and picture tokens; None = they
            are that sequence.
    """

    key: Hashable
    text: torch.Tensor
    picture: torch.Tensor
    rows: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.text) + len(self.picture)

    def part(self, active: torch.Tensor, *, text: bool) -> Layout:
        """Some picture tokens, and either all text tokens or none.

        Args:
            active: (K,) places among the picture tokens.
            text: whether the text tokens are computed too.
        """
        before = self.text if text else self.text[:0]
        places = torch.arange(len(before), device=active.device)
        rows = torch.cat([places, len(self.text) + active])
        return Layout(self.key, before, self.picture[active], rows)


class RotaryEmbedding(nn.Module):
    """A transformer's rotary embedding that also takes angles which were computed ahead.

    `FluxTransformer2DModel.forward` calls it in every pass with the positions of all tokens,
    though they never change during an edit.

    Args:
        embedding: the transformer's own.
    """

    def __init__(self, embedding: Any) -> None:
        super().__init__()
        self.embedding = embedding

    def table(self, positions: torch.Tensor) -> torch.Tensor:
        """(tokens, axes) positions → (tokens, 2D) float32, cosines and sines."""
        return torch.cat(self.embedding(positions), dim=1)

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(tokens, axes) positions or (tokens, 2D) of a table → (tokens, D) cosines, and sines."""
        if ids.shape[1] == len(self.embedding.axes_dim):
            cosines, sines = self.embedding(ids)
        else:
            cosines, sines = ids.chunk(2, dim=1)
        return cosines, sines
