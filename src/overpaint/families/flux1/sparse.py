"""FLUX steps that compute only the tokens of the edit: of the others, keys and values are kept.

A *whole* step computes every token and keeps each layer's keys and values. In the steps until the
next whole one, only active tokens (under the mask, with a border) pass through the network; they
attend to their fresh keys and values among the kept ones. What a token outside the mask becomes is
known without the network: the picture. A whole step is bit for bit the step of a dense edit, so an
edit whose steps are all whole is the dense edit.

After RegionE (arXiv:2510.25590) and InstGenIE/FlashPS (arXiv:2505.20600).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_flux import FluxAttnProcessor
from torch import nn
from torch.nn import functional

from overpaint.diffusion.shortcuts import Shortcuts

BORDER = 1
"""Tokens around the mask that are computed with it, where the edit meets the picture."""


class Kept:
    """Keys and values of every layer, of one text and its picture.

    Attributes:
        rows: places in the sequence (text, then picture) of the tokens that a coming pass
            computes; None = all of them, and their keys and values are kept.
    """

    def __init__(self) -> None:
        self.rows: torch.Tensor | None = None
        self._layers: dict[nn.Module, tuple[torch.Tensor, torch.Tensor]] = {}

    def __bool__(self) -> bool:
        return bool(self._layers)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def joined(
        self, layer: nn.Module, keys: torch.Tensor, values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Fresh (B, tokens, heads, D) keys and values among the kept ones."""
        if self.rows is None:
            self._layers[layer] = keys, values
            return keys, values
        all_keys, all_values = self._layers[layer]
        all_keys[:, self.rows] = keys
        all_values[:, self.rows] = values
        return all_keys, all_values


class KeepingAttention(FluxAttnProcessor):  # type: ignore[misc]
    """FLUX's attention that can keep keys and values; without a `Kept` it is diffusers' own."""

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
        kept: Kept | None = None,
    ) -> Any:
        """Text and picture (or both in one) → the same, attended."""
        if kept is None:
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
        key, value = kept.joined(attn, key, value)
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
    for block in (*transformer.transformer_blocks, *transformer.single_transformer_blocks):
        block.attn.set_processor(KeepingAttention())


@dataclass(eq=False)
class Sparse:
    """Which of an image's tokens are computed in every step, and what is kept of the others.

    Attributes:
        active: (K,) places of those tokens among all picture tokens; noise tokens only.
        every: a whole step comes after at most so many steps.
        picture: (1, N, 4C) packed latents that inactive noise tokens end as; None where all noise
            tokens are active.
        prompt, negative: what is kept of the passes with each text.
        whole: the last whole step; None = there was none.
    """

    active: torch.Tensor
    every: int
    picture: torch.Tensor | None = None
    prompt: Kept = field(default_factory=Kept)
    negative: Kept = field(default_factory=Kept)
    whole: int | None = None

    def rows(self, step: int, *, guided: bool) -> torch.Tensor | None:
        """The tokens that a step computes; None = it is a whole one."""
        due = self.whole is None or step - self.whole >= self.every
        return None if due or (guided and not self.negative) else self.active

    def spread(
        self, prediction: torch.Tensor, latents: torch.Tensor, sigma: torch.Tensor
    ) -> torch.Tensor:
        """Velocities (1, K, 4C) of active tokens → (1, N, 4C) of all.

        The rest heads for the picture: on the line x = (1 - sigma)·picture + sigma·noise of
        rectified flow, the velocity noise - picture is (x - picture) / sigma.
        """
        if self.picture is None:
            return prediction
        velocity = (latents - self.picture) / sigma
        velocity[:, self.active] = prediction.to(velocity.dtype)
        return velocity


def choose(
    shortcuts: Shortcuts,
    grid: tuple[int, int],
    mask: torch.Tensor | None,
    picture: torch.Tensor,
) -> Sparse | None:
    """How an edit's steps are made sparse; None = every step is whole.

    Args:
        shortcuts: of the edit.
        grid: latents' height and width, in latents.
        mask: (1, N, C) packed; None = all noise tokens are edited, only references are left out.
        picture: (1, N, 4C) packed latents of the picture.
    """
    if shortcuts.refresh_every == 1:
        return None
    if mask is None:
        return Sparse(
            torch.arange(picture.shape[1], device=picture.device), shortcuts.refresh_every
        )
    return Sparse(active_tokens(mask, grid), shortcuts.refresh_every, picture)


def active_tokens(mask: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """(K,) places of the tokens that a packed mask (1, N, C) touches, and of their border."""
    touched = (mask > 0).any(dim=2).float().reshape(1, 1, grid[0] // 2, grid[1] // 2)
    near = functional.max_pool2d(touched, 2 * BORDER + 1, stride=1, padding=BORDER)
    return near.flatten().nonzero().flatten()
