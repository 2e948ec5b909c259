"""FLUX steps that compute only the tokens of the edit; keys and values of the others are kept.

A *whole* step computes every token and keeps each layer's keys and values. In the steps until the
next whole one, only active tokens (under the mask, with a border) pass through the network; they
attend to their fresh keys and values among the kept ones. A token outside the mask becomes the
picture's own, which is known without the network. The text's tokens pass through it too, unless the
edit asks to freeze them: then theirs are kept as well. A whole step is bit for bit the step of a
dense edit, so an edit whose steps are all whole is the dense edit.

After RegionE (arXiv:2510.25590) and InstGenIE/FlashPS (arXiv:2505.20600).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch.nn import functional

from overpaint.diffusion.shortcuts import Shortcuts
from overpaint.diffusion.tokens.layout import Layout

BORDER = 1
"""Tokens around the mask that are computed with it, where the edit meets the picture."""


BUCKET, WIDE_BUCKET, WIDE = 128, 256, 1024
"""Tokens of a sparse pass come in multiples of `BUCKET`, of `WIDE_BUCKET` above `WIDE` tokens."""


def attentions(transformer: Any) -> Iterator[Any]:
    """All attentions of a FLUX transformer, in the order in which they compute."""
    for block in chain(transformer.transformer_blocks, transformer.single_transformer_blocks):
        yield block.attn


class AttentionCache:
    """Keys and values of all attentions of a transformer, for one text and its picture.

    They belong to the edit. While a pass runs, the attention modules have them as their tensors
    `kept_keys` and `kept_values`: torch can compile that without a break, and without compiling
    each layer by itself.

    Attributes:
        filled: whether a pass over all tokens has written them.
    """

    def __init__(self) -> None:
        self.filled = False
        self._layers: list[tuple[torch.Tensor, torch.Tensor]] = []

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return sum(keys.nbytes + values.nbytes for keys, values in self._layers)

    @contextmanager
    def attached(self, transformer: Any, tokens: int, like: torch.Tensor) -> Iterator[None]:
        """Let a transformer's attentions use it during a pass.

        Args:
            transformer: its attentions keep: its family has installed such.
            tokens: of all text and picture.
            like: a tensor of the transformer's device and precision.
        """
        layers = list(attentions(transformer))
        if not self._layers:
            shape = (1, tokens, layers[0].heads, layers[0].head_dim)
            self._layers = [(like.new_empty(shape), like.new_empty(shape)) for _ in layers]
        keys, values = zip(*self._layers, strict=True)
        with lent(layers, {"kept_keys": keys, "kept_values": values}):
            yield


@contextmanager
def lent(layers: Sequence[Any], tensors: Mapping[str, Sequence[torch.Tensor]]) -> Iterator[None]:
    """Let attentions have tensors as their own during a pass.

    Afterwards they have those again that they had before: a pass may be made in the middle of
    another one.

    Args:
        layers: attention modules.
        tensors: by the name of the attribute, one for each attention.
    """
    before = [{name: vars(each).get(name) for name in tensors} for each in layers]
    try:
        for number, each in enumerate(layers):
            vars(each).update({name: several[number] for name, several in tensors.items()})
        yield
    finally:
        for each, values in zip(layers, before, strict=True):
            for name, value in values.items():
                if value is None:
                    vars(each).pop(name, None)
                else:
                    vars(each)[name] = value


def kept_bytes(config: Mapping[str, Any], tokens: int, width: int, *, texts: int = 1) -> int:
    """Bytes of keys and values that an edit with sparse steps keeps.

    Args:
        config: of the transformer.
        tokens: of text and picture together, references included.
        width: bytes of a number.
        texts: 2 with a negative prompt, else 1.
    """
    layers = config["num_layers"] + config["num_single_layers"]
    features = config["num_attention_heads"] * config["attention_head_dim"]
    return int(2 * texts * layers * tokens * features * width)


def held_bytes(transformer: Any, sparse: Sparse | None, layout: Layout, *, guided: bool) -> int:
    """Bytes of keys and values that an edit will keep on the device.

    Args:
        transformer: whose.
        sparse: None = the edit keeps nothing.
        layout: of its whole steps.
        guided: whether it has a negative prompt.
    """
    if sparse is None:
        return 0
    width, texts = transformer.dtype.itemsize, 2 if guided else 1
    return kept_bytes(transformer.config, len(layout), width, texts=texts)


@dataclass(eq=False)
class Sparse:
    """Which of an image's tokens are computed in every step, and what is kept of the others.

    Attributes:
        active: (K,) places of those tokens among all picture tokens; noise tokens only.
        computed: (K',) the same, and further ones that only fill a pass up, see `filled_up`.
        layout: of the passes that compute them.
        every: a whole step comes after at most so many steps.
        picture: (1, N, 4C) packed latents that inactive noise tokens end as; None where all noise
            tokens are active.
        prompt, negative: what is kept of the passes with each text.
        whole: the last whole step; None = there was none.
    """

    active: torch.Tensor
    computed: torch.Tensor
    layout: Layout
    every: int
    picture: torch.Tensor | None = None
    prompt: AttentionCache = field(default_factory=AttentionCache)
    negative: AttentionCache = field(default_factory=AttentionCache)
    whole: int | None = None

    def is_whole(self, step: int, *, guided: bool) -> bool:
        """Whether a step computes all tokens."""
        due = self.whole is None or step - self.whole >= self.every
        return due or (guided and not self.negative.filled)

    def spread(
        self, prediction: torch.Tensor, latents: torch.Tensor, sigma: torch.Tensor
    ) -> torch.Tensor:
        """Velocities (1, K', 4C) of the computed tokens → (1, N, 4C) of all.

        The rest heads for the picture: on the line x = (1 - sigma)·picture + sigma·noise of
        rectified flow, the velocity noise - picture is (x - picture) / sigma.
        """
        if self.picture is None:
            return prediction
        velocity = (latents - self.picture) / sigma
        velocity[:, self.active] = prediction[:, : len(self.active)].to(velocity.dtype)
        return velocity


def choose(
    shortcuts: Shortcuts,
    layout: Layout,
    grid: tuple[int, int],
    mask: torch.Tensor | None,
    picture: torch.Tensor,
) -> Sparse | None:
    """How an edit's steps are made sparse; None = every step is whole.

    Args:
        shortcuts: of the edit.
        layout: of its whole steps.
        grid: latents' height and width, in latents.
        mask: (1, N, C) packed; None = all noise tokens are edited, only references are left out.
        picture: (1, N, 4C) packed latents of the picture.
    """
    if shortcuts.refresh_every == 1:
        return None
    if mask is None:
        active, goal = torch.arange(picture.shape[1], device=picture.device), None
    else:
        active, goal = active_tokens(mask, grid), picture
    places = computed_tokens(active, picture.shape[1])
    return Sparse(
        active=active,
        computed=places,
        layout=layout.part(places, text=not shortcuts.freeze_text),
        every=shortcuts.refresh_every,
        picture=goal,
    )


def computed_tokens(active: torch.Tensor, tokens: int) -> torch.Tensor:
    """The tokens that a sparse pass computes on the device of `active`; see `filled_up`."""
    return active if active.device.type == "cpu" else filled_up(active, tokens)


def filled_up(active: torch.Tensor, tokens: int) -> torch.Tensor:
    """Active tokens, the last one repeated until they fill a bucket.

    A card plans its kernels and records its graphs for each number of rows, so few numbers are
    better than one for each mask. A repeated token computes what the first one computes and writes
    the same keys and values to the same place: the others do not notice. A processor plans
    nothing, and each row costs it time: there no tokens are added.

    Args:
        active: (K,) places.
        tokens: noise tokens of the picture; no more are computed.
    """
    missing = bucket(len(active), tokens) - len(active)
    return torch.cat([active, active[-1:].repeat(missing)])


def bucket(active: int, tokens: int) -> int:
    """How many of a picture's noise tokens a pass computes where `active` ones have to be."""
    multiple = BUCKET if active <= WIDE else WIDE_BUCKET
    return min(-(-active // multiple) * multiple, tokens)


def active_tokens(mask: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """(K,) places of the tokens that a packed mask (1, N, C) touches, and of their border."""
    coverage = (mask > 0).any(dim=2).float().reshape(1, 1, grid[0] // 2, grid[1] // 2)
    near = functional.max_pool2d(coverage, 2 * BORDER + 1, stride=1, padding=BORDER)
    return near.flatten().nonzero().flatten()
