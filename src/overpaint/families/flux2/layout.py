"""Where the tokens of FLUX.2's text and pictures are.

A position has four numbers: picture, row, column, word. The noise is picture 0, references are 10,
20 and so on. Sources: diffusers `pipelines/flux2/pipeline_flux2_klein.py` (`_prepare_text_ids`,
`_prepare_latent_ids`, `_prepare_image_ids`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from overpaint.checkpoints.checkpoint import Checkpoint
from overpaint.diffusion.tokens.layout import Layout, TokenGrid

BETWEEN = 10
"""From one picture's number to the next one's."""


def lay_out(
    checkpoint: Checkpoint, *, text: int, noise: TokenGrid | None, references: Sequence[TokenGrid]
) -> Layout:
    """All tokens of a pass, remembered: text, noise, references.

    Args:
        checkpoint: whose transformer.
        text: tokens of the prompt; 0 = none.
        noise: size of the picture that is made, in tokens; None = none is.
        references: sizes of the pictures that it is made from.
    """
    key = ("layout", text, noise, tuple(references))

    @torch.inference_mode()
    def compute() -> Layout:
        ids = [words(text)]
        ids += [] if noise is None else [places(noise, 0)]
        ids += [places(grid, BETWEEN * (1 + i)) for i, grid in enumerate(references)]
        with checkpoint.borrowed("transformer") as transformer:
            table = transformer.pos_embed.table(torch.cat(ids).to(transformer.device))
        return Layout(key, table[:text], table[text:])

    return checkpoint.memo.get(key, compute)


def words(count: int) -> torch.Tensor:
    """(count, 4) positions of a prompt's tokens."""
    ids = torch.zeros(count, 4, dtype=torch.int64)
    ids[:, 3] = torch.arange(count)
    return ids


def places(grid: TokenGrid, number: int) -> torch.Tensor:
    """(h·w, 4) positions of a picture's tokens, row by row."""
    rows, columns = torch.arange(grid[0]), torch.arange(grid[1])
    one = torch.arange(1)
    return torch.cartesian_prod(one + number, rows, columns, one)
