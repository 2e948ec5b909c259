"""Passes of the FLUX.2 transformer over the tokens of edits.

Everything that the steps need lies on the transformer's device before the first one. Sources:
diffusers `pipelines/flux2/pipeline_flux2_klein.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from overpaint.diffusion.denoiser import Latent
from overpaint.diffusion.recorded import recorded
from overpaint.diffusion.tokens.layout import Layout, RotaryEmbedding, TokenGrid
from overpaint.diffusion.tokens.sparse import Sparse
from overpaint.families.flux2 import attention
from overpaint.families.flux2.references import ReferenceKeys


@dataclass(frozen=True, kw_only=True, eq=False)
class Steering:
    """Inputs of the passes of all steps, beside tokens, on the transformer's device.

    Attributes:
        times: (steps,) timesteps in thousandths, in the transformer's precision.
        prompt, negative: (1, T, width) embedded texts; `negative` None = there is no guidance.
        scale: (1, 1, 1) of classifier-free guidance.
    """

    times: torch.Tensor
    prompt: torch.Tensor
    negative: torch.Tensor | None
    scale: torch.Tensor

    def text(self, *, negative: bool) -> torch.Tensor:
        """The text of one of the passes of a step."""
        if not negative:
            return self.prompt
        assert self.negative is not None
        return self.negative


@dataclass(kw_only=True)
class Flux2Latent(Latent):
    """One FLUX.2 image on its way; `latents` are tokens (1, N, C).

    Attributes:
        grid: its height and width, in tokens.
        layout: of the passes over all tokens.
        steering: of all steps.
        sparse: which of the picture's tokens most steps compute; None = all in every step.
        keys: of references that no step computes; None = there are none.
    """

    grid: TokenGrid
    layout: Layout
    steering: Steering
    sparse: Sparse | None = None
    keys: ReferenceKeys | None = None

    @property
    def guided(self) -> bool:
        """Whether this step has a pass with the negative prompt."""
        return self.steering.negative is not None and super().guided

    @property
    def key(self) -> tuple[object, ...]:
        """Equal where images fit one pass. A sparse one goes alone: its tokens are its own."""
        if self.sparse is not None:
            return (id(self),)
        return (self.layout.key, self.steering.negative is None)


LONGEST = 4300
"""Noise tokens up to which the shift depends on the number of steps: 1.1 megapixels."""


def shift(tokens: int, steps: int) -> float:
    """The exponent of the time shift (`compute_empirical_mu`); it jumps above `LONGEST` tokens."""
    many = 0.00016927 * tokens + 0.45666666
    if tokens > LONGEST:
        return many
    few = 8.73809524e-05 * tokens + 1.89833333
    slope = (many - few) / 190.0
    return slope * steps + (many - 200.0 * slope)


def steer(
    transformer: Any,
    timesteps: torch.Tensor,
    prompts: tuple[torch.Tensor, torch.Tensor | None],
    scale: float,
) -> Steering:
    """Put on the transformer's device what all steps are given.

    Args:
        transformer: whose.
        timesteps: (steps,) of the edit, 0..1000.
        prompts: positive and negative, embedded.
        scale: of classifier-free guidance.
    """
    device, dtype = transformer.device, transformer.dtype
    positive, negative = prompts
    return Steering(
        times=timesteps.to(device, dtype) / 1000,
        prompt=positive.to(device, dtype),
        negative=None if negative is None else negative.to(device, dtype),
        scale=torch.full((1, 1, 1), scale, device=device, dtype=dtype),
    )


def prepare(transformer: Any) -> None:
    """Let a transformer run sparsely, with angles and references' keys computed ahead."""
    transformer.pos_embed = RotaryEmbedding(transformer.pos_embed)
    attention.install(transformer)


def predict(transformer: Any, batch: Sequence[Flux2Latent], inputs: torch.Tensor) -> torch.Tensor:
    """Velocity of each image's noise tokens, with classifier-free guidance where asked.

    Args:
        transformer: made ready by `prepare`.
        batch: images of equal `key`.
        inputs: (B, N + further tokens, C), noise first.

    Returns:
        (B, N, C).
    """
    first, sparse = batch[0], batch[0].sparse
    if sparse is not None and not sparse.is_whole(first.step, guided=first.guided):
        active = _guided(transformer, batch, inputs[:, sparse.computed], sparse.layout)
        return sparse.spread(active, first.latents, first.timestep / 1000)
    whole = _guided(transformer, batch, inputs, first.layout)
    if sparse is not None:
        sparse.whole = first.step
    return whole[:, : first.latents.shape[1]]


def _guided(
    transformer: Any, batch: Sequence[Flux2Latent], inputs: torch.Tensor, layout: Layout
) -> torch.Tensor:
    """Velocity of every token of `inputs`, whose places `layout` says."""
    positive = _forward(transformer, batch, inputs, layout, negative=False)
    if not batch[0].guided:
        return positive
    negative = _forward(transformer, batch, inputs, layout, negative=True)
    scales = torch.cat([image.steering.scale for image in batch])
    return negative + scales * (positive - negative)


def _forward(
    transformer: Any,
    batch: Sequence[Flux2Latent],
    inputs: torch.Tensor,
    layout: Layout,
    *,
    negative: bool,
) -> torch.Tensor:
    first = batch[0]
    conditions = [(image.step, image.steering) for image in batch]
    embeds = torch.cat([each.text(negative=negative) for _, each in conditions])
    with _attach_caches(transformer, first, inputs, layout, negative=negative):
        return recorded(
            transformer,
            computed,
            inputs,
            torch.cat([each.times[step : step + 1] for step, each in conditions]),
            embeds[:, : len(layout.text)],
            layout.text,
            layout.picture,
            layout.rows,
            first.sparse is not None,
            None if first.keys is None else len(first.layout.text),
            negative,
            owner=first.sparse or first.keys,
        )


@contextmanager
def _attach_caches(
    transformer: Any, image: Flux2Latent, inputs: torch.Tensor, layout: Layout, *, negative: bool
) -> Iterator[None]:
    """Keys and values that an image keeps, at the attentions during a pass."""
    with ExitStack() as stack:
        if image.keys is not None:
            stack.enter_context(image.keys.attached(transformer))
        cache = None
        if image.sparse is not None:
            cache = image.sparse.negative if negative else image.sparse.prompt
            stack.enter_context(cache.attached(transformer, len(image.layout), like=inputs))
        yield
    if cache is not None and layout.rows is None:
        cache.filled = True


def computed(
    transformer: Any,
    inputs: torch.Tensor,
    times: torch.Tensor,
    embeds: torch.Tensor,
    text: torch.Tensor,
    picture: torch.Tensor,
    rows: torch.Tensor | None,
    keep: bool,
    before: int | None,
    negative: bool,
) -> torch.Tensor:
    """One pass, of device tensors alone, so that it can be recorded.

    `negative` changes nothing here: it says which of its owner's caches is attached, and keeps the
    recordings of the two apart.
    """
    sparse_options = {"keep": keep, "rows": rows, "before": before}
    velocity: torch.Tensor = transformer(
        hidden_states=inputs,
        timestep=times,
        encoder_hidden_states=embeds,
        txt_ids=text,
        img_ids=picture,
        joint_attention_kwargs=sparse_options if keep or before is not None else None,
        return_dict=False,
    )[0]
    return velocity
