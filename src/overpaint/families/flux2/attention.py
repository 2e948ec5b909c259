"""FLUX.2's two attentions, with keys and values that are kept.

An attention can keep those of a pass (sparse steps: `diffusion/tokens/sparse.py`), and it can take
those of references that were computed before (`families/flux2/references.py`): they stand between
the text's and the noise's. If it does neither, it is diffusers' own.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_flux2 import (
    Flux2AttnProcessor,
    Flux2ParallelSelfAttnProcessor,
)
from torch.nn import functional

Rotary = tuple[torch.Tensor, torch.Tensor]


class JointAttention(Flux2AttnProcessor):  # type: ignore[misc]
    """Attention of the blocks that have a stream for the text and one for the pictures."""

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        image_rotary_emb: Rotary | None = None,
        keep: bool = False,
        rows: torch.Tensor | None = None,
        before: int | None = None,
    ) -> Any:
        """Picture and text → the same, attended.

        Args:
            attn: the module; with `keep` it has `kept_keys` and `kept_values`, and with `before`
                `reference_keys` and `reference_values`.
            hidden_states, encoder_hidden_states: (B, tokens, width) of pictures and text.
            attention_mask: none in FLUX.2.
            image_rotary_emb: (tokens, D) cosines and sines.
            keep: whether keys and values are kept.
            rows: places of these tokens among the kept ones, to which they attend; None = they
                are all tokens.
            before: tokens before the references' keys; None = there are none of references.
        """
        if not keep and before is None:
            return super().__call__(
                attn, hidden_states, encoder_hidden_states, attention_mask, image_rotary_emb
            )
        query, key, value = (
            getattr(attn, name)(hidden_states).unflatten(-1, (-1, attn.head_dim))
            for name in ("to_q", "to_k", "to_v")
        )
        text_query, text_key, text_value = (
            getattr(attn, name)(encoder_hidden_states).unflatten(-1, (-1, attn.head_dim))
            for name in ("add_q_proj", "add_k_proj", "add_v_proj")
        )
        attended = _attended(
            attn,
            torch.cat([attn.norm_added_q(text_query), attn.norm_q(query)], dim=1),
            torch.cat([attn.norm_added_k(text_key), attn.norm_k(key)], dim=1),
            torch.cat([text_value, value], dim=1),
            image_rotary_emb,
            (keep, rows, before),
        )
        length = encoder_hidden_states.shape[1]
        text, picture = attended[:, :length], attended[:, length:]
        return attn.to_out[1](attn.to_out[0](picture)), attn.to_add_out(text)


class ParallelAttention(Flux2ParallelSelfAttnProcessor):  # type: ignore[misc]
    """Attention of the blocks with one stream, whose attention and feed-forward layers are one
    product."""

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        image_rotary_emb: Rotary | None = None,
        keep: bool = False,
        rows: torch.Tensor | None = None,
        before: int | None = None,
    ) -> Any:
        """Text and pictures in one → the same, attended; arguments as of `JointAttention`."""
        if not keep and before is None:
            return super().__call__(attn, hidden_states, attention_mask, image_rotary_emb)
        projected = attn.to_qkv_mlp_proj(hidden_states)
        attention_width = 3 * attn.inner_dim
        joint, forward = projected[..., :attention_width], projected[..., attention_width:]
        query, key, value = (
            each.unflatten(-1, (-1, attn.head_dim)) for each in joint.chunk(3, dim=-1)
        )
        attended = _attended(
            attn,
            attn.norm_q(query),
            attn.norm_k(key),
            value,
            image_rotary_emb,
            (keep, rows, before),
        )
        return attn.to_out(torch.cat([attended, attn.mlp_act_fn(forward)], dim=-1))


def _attended(
    attn: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    rotary: Rotary | None,
    cache: tuple[bool, torch.Tensor | None, int | None],
) -> torch.Tensor:
    """(B, tokens, heads, D) of each → (B, tokens, width)."""
    keep, rows, before = cache
    query = apply_rotary_emb(query, rotary, sequence_dim=1)
    key = apply_rotary_emb(key, rotary, sequence_dim=1)
    if keep and rows is None:
        attn.kept_keys.copy_(key)
        attn.kept_values.copy_(value)
    elif keep:
        key = attn.kept_keys.index_copy_(1, rows, key)
        value = attn.kept_values.index_copy_(1, rows, value)
    if before is not None:
        key = _with_references(key, attn.reference_keys, before)
        value = _with_references(value, attn.reference_values, before)
    attended = functional.scaled_dot_product_attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    )
    return attended.transpose(1, 2).flatten(2, 3).to(query.dtype)


def _with_references(own: torch.Tensor, references: torch.Tensor, before: int) -> torch.Tensor:
    """Keys or values of a pass, with those of references after the first `before` tokens'."""
    references = references.expand(own.shape[0], -1, -1, -1)
    return torch.cat([own[:, :before], references, own[:, before:]], dim=1)


def install(transformer: Any) -> None:
    """Give every attention of a FLUX.2 transformer a processor that can keep."""
    for block in transformer.transformer_blocks:
        block.attn.set_processor(JointAttention())
    for block in transformer.single_transformer_blocks:
        block.attn.set_processor(ParallelAttention())


def can_keep(transformer: Any) -> bool:
    """Whether its attentions are here to keep anything: those of OpenVINO's networks are not."""
    return hasattr(transformer, "transformer_blocks")
