"""Prompts as FLUX.2 [klein] takes them: three middle layers of Qwen3, side by side.

Sources: diffusers `pipelines/flux2/pipeline_flux2_klein.py` (`_get_qwen3_prompt_embeds`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from overpaint.checkpoints.checkpoint import Checkpoint
from overpaint.diffusion.prompts import overflow_warning

BEFORE = "<|im_start|>user\n"
AFTER = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
"""Qwen3's chat template around one turn, without thinking. The pipelines render the template that
lies beside the tokenizer; no template of a repository is run here."""

LAYERS = (9, 18, 27)
"""Layers whose outputs make up a prompt; those after the last one are never computed."""


def cut(encoder: Any) -> None:
    """Take out of a `Qwen3ForCausalLM` what comes after the last of `LAYERS`: norm and head too.

    Its last hidden state is then the bare output of that layer, as the pipelines take it.
    """
    encoder.model.layers = encoder.model.layers[: LAYERS[-1]]
    encoder.model.norm = nn.Identity()
    encoder.lm_head = nn.Identity()
    encoder.config.tie_word_embeddings = False


def encode(
    checkpoint: Checkpoint, text: str, length: int, *, field: str
) -> tuple[torch.Tensor, list[str]]:
    """`text` embedded, remembered; and a warning where it is too long.

    Args:
        checkpoint: whose tokenizer and text encoder.
        text: the prompt.
        length: tokens that it is cut or filled up to, template included.
        field: of the request, for the warning.

    Returns:
        (1, length, 3 widths) hidden states. Padding is a part of them: the transformer masks none.
    """
    tokenizer = checkpoint.component("tokenizer")
    template = len(tokenizer(BEFORE + AFTER).input_ids)
    warning = overflow_warning(tokenizer, text, limit=length - template, field=field)

    def compute() -> torch.Tensor:
        with checkpoint.borrowed("text_encoder") as encoder:
            return _hidden_states(tokenizer, encoder, text, length)

    embeds = checkpoint.memo.get(("qwen3", text, length), compute)
    return embeds, [warning] if warning else []


@torch.inference_mode()
def _hidden_states(tokenizer: Any, encoder: Any, text: str, length: int) -> torch.Tensor:
    tokens = tokenizer(
        BEFORE + text + AFTER,
        padding="max_length",
        max_length=length,
        truncation=True,
        return_tensors="pt",
    )
    output = encoder.model(
        input_ids=tokens.input_ids.to(encoder.device),
        attention_mask=tokens.attention_mask.to(encoder.device),
        output_hidden_states=True,
        use_cache=False,
    )
    return torch.cat([output.hidden_states[layer] for layer in LAYERS], dim=-1)
