"""FLUX.1's attention, with keys and values that are kept (`diffusion/tokens/sparse.py`)."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_flux import FluxAttnProcessor
from torch.nn import functional

from overpaint.diffusion.tokens.sparse import attentions


class KeepingAttention(FluxAttnProcessor):  # type: ignore[misc]
    """FLUX's attention that can keep keys and values; where it keeps none it is diffusers' own."""

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
        keep: bool = False,
        rows: torch.Tensor | None = None,
    ) -> Any:
        """Text and picture (or both in one) → the same, attended.

        Args:
            attn: the module; with `keep` it has `kept_keys` and `kept_values`, see
                `AttentionCache`.
            hidden_states, encoder_hidden_states: (1, tokens, width) of picture and text; of both
                where there is only one.
            attention_mask: none in FLUX.
            image_rotary_emb: (tokens, D) cosines and sines.
            keep: whether keys and values are kept.
            rows: places of these tokens among the kept ones, to which they attend; None = they
                are all tokens.
        """
        if not keep:
            return super().__call__(
                attn, hidden_states, encoder_hidden_states, attention_mask, image_rotary_emb
            )
        query, key, value = _heads(attn, hidden_states, ("to_q", "to_k", "to_v"))
        query, key = attn.norm_q(query), attn.norm_k(key)
        if encoder_hidden_states is not None:
            names = ("add_q_proj", "add_k_proj", "add_v_proj")
            text_query, text_key, text_value = _heads(attn, encoder_hidden_states, names)
            query = torch.cat([attn.norm_added_q(text_query), query], dim=1)
            key = torch.cat([attn.norm_added_k(text_key), key], dim=1)
            value = torch.cat([text_value, value], dim=1)
        query = apply_rotary_emb(query, image_rotary_emb, sequence_dim=1)
        key = apply_rotary_emb(key, image_rotary_emb, sequence_dim=1)
        if rows is None:
            attn.kept_keys.copy_(key)
            attn.kept_values.copy_(value)
        else:
            key = attn.kept_keys.index_copy_(1, rows, key)
            value = attn.kept_values.index_copy_(1, rows, value)
        attended = functional.scaled_dot_product_attention(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
        )
        attended = attended.transpose(1, 2).flatten(2, 3).to(query.dtype)
        if encoder_hidden_states is None:
            return attended
        length = encoder_hidden_states.shape[1]
        text, picture = attended[:, :length], attended[:, length:]
        picture = attn.to_out[1](attn.to_out[0](picture.contiguous()))
        return picture, attn.to_add_out(text.contiguous())


def _heads(attn: Any, tokens: torch.Tensor, names: tuple[str, ...]) -> list[torch.Tensor]:
    """(B, tokens, width) → (B, tokens, heads, D) through each projection."""
    return [getattr(attn, name)(tokens).unflatten(-1, (-1, attn.head_dim)) for name in names]


def install(transformer: Any) -> None:
    """Give every attention of a FLUX transformer a `KeepingAttention`."""
    for attention in attentions(transformer):
        attention.set_processor(KeepingAttention())
