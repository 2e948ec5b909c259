"""Prompts and the pictures in them to embeddings, with Qwen2.5-VL.

Sources: diffusers `pipelines/qwenimage/pipeline_qwenimage_edit_plus.py` (template, dropped tokens);
transformers `models/qwen2_5_vl/modeling_qwen2_5_vl.py` (`get_rope_index`); Qwen2.5-VL
(arXiv:2502.13923), section 2.1.2.
"""

from __future__ import annotations

from typing import Any

import torch

from overpaint.checkpoints.checkpoint import Checkpoint
from overpaint.checkpoints.memo import content
from overpaint.core.errors import InvalidRequest
from overpaint.families.qwen.options import PicturePositions
from overpaint.families.qwen.processor import Patches

SYSTEM = (
    "Describe the key features of the input image (color, shape, size, texture, objects, "
    "background), then explain how the user's text instruction should alter or modify the image. "
    "Generate a new image that meets the user's requirements while maintaining consistency with "
    "the original input where appropriate."
)
HEAD = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n"
TAIL = "<|im_end|>\n<|im_start|>assistant\n"
SLOT = "<|image_pad|>"
"""Stands for one token of a picture."""

DROPPED = 64
"""Tokens of the system's turn, whose states the transformer is not given."""


def encode(
    checkpoint: Checkpoint,
    text: str,
    patches: Patches,
    *,
    positions: PicturePositions,
    limit: int,
    field: str,
) -> torch.Tensor:
    """(1, T, joint dim) states of a text with its pictures, remembered.

    Args:
        checkpoint: whose text encoder.
        text: the instruction, or what the result should not show.
        patches: of the pictures, in order.
        positions: how the pictures' tokens are numbered.
        limit: states that the transformer takes at most.
        field: of the request, for the errors.

    Raises:
        InvalidRequest: the text has control tokens of the model, or is too long.
    """
    tokenizer = checkpoint.component("tokenizer")
    tokens = (SLOT, *tokenizer.all_special_tokens)
    if control := next((each for each in tokens if each in text), None):
        raise InvalidRequest(
            f"'{control}' is a control token of this model; leave it out", field=field
        )
    ids = tokenizer(_template(text, patches), return_tensors="pt").input_ids
    if (length := ids.shape[1] - DROPPED) > limit:
        raise InvalidRequest(
            f"{length} tokens with its pictures, this model takes {limit}; shorten the text",
            field=field,
        )
    picture = tokenizer.convert_tokens_to_ids(SLOT)

    @torch.inference_mode()
    def compute() -> torch.Tensor:
        with checkpoint.borrowed("text_encoder") as encoder:
            return _states(encoder, ids, patches, _positions(ids[0] == picture, patches, positions))

    pictures = patches.grids, content(patches.values)
    return checkpoint.memo.get(("qwen", text, positions, *pictures), compute)


def _template(text: str, patches: Patches) -> str:
    pictures = (
        f"Picture {number}: <|vision_start|>{SLOT * (rows * columns)}<|vision_end|>"
        for number, (rows, columns) in enumerate(patches.token_grids, start=1)
    )
    return HEAD + "".join(pictures) + text + TAIL


def _states(
    encoder: Any, ids: torch.Tensor, patches: Patches, positions: torch.Tensor
) -> torch.Tensor:
    """Last hidden states after the final norm, without the head that predicts words."""
    device = encoder.device
    grids = torch.tensor([(1, rows, columns) for rows, columns in patches.grids])
    hidden = encoder.model(
        input_ids=ids.to(device),
        attention_mask=torch.ones_like(ids).to(device),
        position_ids=positions.to(device),
        pixel_values=patches.values.to(device),
        image_grid_thw=grids.to(device),
        use_cache=False,
    ).last_hidden_state
    return hidden[:, DROPPED:].to(encoder.dtype)  # type: ignore[no-any-return]


def _positions(
    is_picture: torch.Tensor, patches: Patches, positions: PicturePositions
) -> torch.Tensor:
    """(3, 1, T) time, row and column of each token.

    Args:
        is_picture: (T,) whether a token is a picture's.
        patches: of the pictures.
        positions: 'grid': a picture's tokens share a time, and what follows it is numbered on from
            its longer side; 'sequence': all tokens are numbered one after the other.
    """
    length = len(is_picture)
    if positions == "sequence":
        return torch.arange(length).expand(3, 1, -1)
    runs: list[torch.Tensor] = []
    place = number = 0
    slots = is_picture.nonzero().flatten().tolist()
    for rows, columns in patches.token_grids:
        first = slots[0]
        runs.append(_text_run(number, first - place))
        number += first - place
        runs.append(_picture_run(number, rows, columns))
        number += max(rows, columns)
        place = first + rows * columns
        slots = slots[rows * columns :]
    runs.append(_text_run(number, length - place))
    return torch.cat(runs, dim=1)[:, None]


def _text_run(number: int, length: int) -> torch.Tensor:
    return torch.arange(number, number + length).expand(3, -1)


def _picture_run(number: int, rows: int, columns: int) -> torch.Tensor:
    grid = torch.cartesian_prod(torch.arange(1), torch.arange(rows), torch.arange(columns))
    return number + grid.T
