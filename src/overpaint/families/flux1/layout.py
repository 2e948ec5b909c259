"""Where the tokens of FLUX's text and pictures are.

Sources: diffusers `pipelines/flux/pipeline_flux.py` (`_prepare_latent_image_ids`) and
`transformer_flux.py` (`FluxPosEmbed`).
"""

from __future__ import annotations

import torch

from overpaint.checkpoints.checkpoint import Checkpoint
from overpaint.diffusion.tokens.layout import Layout, TokenGrid

AXES = 3
"""Numbers of a position: source, row, column."""


def lay_out(
    checkpoint: Checkpoint, text: int, noise: TokenGrid, references: tuple[TokenGrid, ...]
) -> Layout:
    """All tokens of an edit, remembered.

    Args:
        checkpoint: whose transformer.
        text: tokens of the prompt.
        noise: size of the picture that is made.
        references: sizes of the pictures that it is made from; Flex.2 has none in the sequence.
    """
    key = ("layout", text, noise, references)

    @torch.inference_mode()
    def compute() -> Layout:
        ids = torch.cat([torch.zeros(text, AXES), picture_positions(noise, references)])
        with checkpoint.borrowed("transformer") as transformer:
            # The precision in which the pipelines give positions to the transformer.
            placed = ids.to(transformer.device, transformer.dtype)
            table = transformer.pos_embed.table(placed)
        return Layout(key, table[:text], table[text:])

    return checkpoint.memo.get(key, compute)


def picture_positions(noise: TokenGrid, references: tuple[TokenGrid, ...]) -> torch.Tensor:
    """Positions of the noise tokens, then of each reference, laid out side by side as source 1."""
    ids, column = [positions(*noise)], 0
    for height, width in references:
        placed = positions(height, width, source=1)
        placed[:, 2] += column
        ids.append(placed)
        column += width // 2
    return torch.cat(ids)


def positions(height: int, width: int, *, source: int = 0) -> torch.Tensor:
    """(height/2·width/2, 3) ids (source, row, column) of packed tokens; sizes count latents."""
    ids = torch.zeros(height // 2, width // 2, AXES)
    ids[..., 0] = source
    ids[..., 1] += torch.arange(height // 2)[:, None]
    ids[..., 2] += torch.arange(width // 2)[None, :]
    return ids.reshape(-1, AXES)
