"""Words to embeddings: CLIP's hidden states, CLIP's pooled vector, T5's hidden states.

Prompts are padded to the encoder's length exactly as the reference pipelines do it. A prompt
longer than its encoder is cut there too, but never in silence: `overflow_warning` says how many
tokens were used and which words were not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from overpaint.checkpoints.checkpoint import Checkpoint
from overpaint.core.errors import UnsupportedOption


@dataclass(frozen=True, eq=False)
class FluxPrompt:
    """A prompt as FLUX models take it.

    Attributes:
        embeds: (1, tokens, joint dim) T5 hidden states, padding included and not masked.
        pooled: (1, pooled dim) CLIP's pooled output.
    """

    embeds: torch.Tensor
    pooled: torch.Tensor


def overflow_warning(tokenizer: Any, text: str, *, limit: int, field: str) -> str | None:
    """A sentence that says what of `text` does not fit `limit` tokens, or None."""
    ids = tokenizer(text, padding=False, truncation=False, verbose=False).input_ids
    if len(ids) <= limit:
        return None
    specials = tokenizer.num_special_tokens_to_add()
    words = [token for token in ids if token not in tokenizer.all_special_ids]
    unused = tokenizer.decode(words[limit - specials :]).strip()
    return (
        f"{field}: {len(ids)} tokens, the text encoder takes {limit}; not used: "
        f"'{unused}'. Shorten the text."
    )


def sd2_prompt(checkpoint: Checkpoint, text: str) -> torch.Tensor:
    """(1, tokens, width) hidden states of `text`, remembered.

    A remembered text needs no text encoder, so that one may have left memory.
    """

    def encode() -> torch.Tensor:
        tokenizer = checkpoint.component("tokenizer")
        with checkpoint.borrowed("text_encoder") as encoder:
            return clip_hidden_states(tokenizer, encoder, text)

    return checkpoint.memo.get(("clip", text), encode)


def flux_prompt(checkpoint: Checkpoint, text: str, length: int) -> FluxPrompt:
    """`text` embedded with T5 (padded to `length` tokens) and CLIP, remembered."""

    def encode() -> FluxPrompt:
        clip, t5 = (checkpoint.component(name) for name in ("tokenizer", "tokenizer_2"))
        with checkpoint.borrowed("text_encoder") as encoder:
            pooled = clip_pooled(clip, encoder, text)
        with checkpoint.borrowed("text_encoder_2") as encoder:
            embeds = t5_hidden_states(t5, encoder, text, length)
        return FluxPrompt(embeds=embeds, pooled=pooled)

    return checkpoint.memo.get(("flux", text, length), encode)


@torch.inference_mode()
def clip_hidden_states(tokenizer: Any, encoder: Any, text: str) -> torch.Tensor:
    """(1, tokens, width) last hidden states, as Stable Diffusion 2 takes them."""
    tokens = padded(tokenizer, text, tokenizer.model_max_length)
    mask = (
        tokens.attention_mask.to(encoder.device)
        if getattr(encoder.config, "use_attention_mask", False)
        else None
    )
    hidden = encoder(tokens.input_ids.to(encoder.device), attention_mask=mask)[0]
    return hidden.to(encoder.dtype)  # type: ignore[no-any-return]


@torch.inference_mode()
def clip_pooled(tokenizer: Any, encoder: Any, text: str) -> torch.Tensor:
    """(1, width) pooled output, as FLUX models take it beside T5."""
    tokens = padded(tokenizer, text, tokenizer.model_max_length)
    output = encoder(tokens.input_ids.to(encoder.device), output_hidden_states=False)
    return output.pooler_output.to(encoder.dtype)  # type: ignore[no-any-return]


@torch.inference_mode()
def t5_hidden_states(tokenizer: Any, encoder: Any, text: str, length: int) -> torch.Tensor:
    """(1, length, width) hidden states; padding is not masked, as FLUX was trained."""
    tokens = padded(tokenizer, text, length)
    hidden = encoder(tokens.input_ids.to(encoder.device), output_hidden_states=False)[0]
    return hidden.to(encoder.dtype)  # type: ignore[no-any-return]


def padded(tokenizer: Any, text: str, length: int) -> Any:
    """Tokens of `text`, cut or padded to `length`, as the tokenizer pads: (1, length) tensors."""
    return tokenizer(
        [text], padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    )


def require_guidance(scale: float, field: str) -> None:
    """Refuse to go without guidance where there is a negative prompt, which would have no effect.

    Args:
        scale: of classifier-free guidance; above 1 it is on.
        field: of the option that sets it.

    Raises:
        UnsupportedOption: it is off.
    """
    if scale <= 1:
        raise UnsupportedOption(
            f"{scale} switches guidance off, so the negative prompt would have no effect; give "
            "more than 1, or no negative prompt",
            field=field,
        )
