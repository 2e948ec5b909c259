"""The forward pass of Qwen-Image's transformer, of device tensors alone.

`QwenImageTransformer2DModel.forward` makes the tokens' angles and the list of which ones are
references in every pass, from Python's numbers. Here they are made once per edit, and times come as
an embedding or, with the modulation evicted, as the numbers of all layers.

Sources: diffusers `models/transformers/transformer_qwenimage.py`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from overpaint.checkpoints.checkpoint import Checkpoint
from overpaint.checkpoints.memo import content
from overpaint.diffusion.denoiser import InstructedLatent
from overpaint.diffusion.recorded import recorded
from overpaint.families.qwen import modulation

TABLE = 4096
"""Numbers that the rotary embedding knows; a text's begin where the largest picture's end."""

LatentGrid = tuple[int, int]
"""Height and width of a picture, in latents."""


@dataclass(frozen=True, eq=False)
class PictureAngles:
    """Where the tokens of an edit's pictures are, on the transformer's device.

    Attributes:
        grids: sizes of the picture that is made, and of its references.
        angles: (N, D/2) complex rotary embedding.
        is_reference: (1, N) int32, 1 for tokens of references.
    """

    grids: tuple[LatentGrid, ...]
    angles: torch.Tensor
    is_reference: torch.Tensor


@dataclass(frozen=True, eq=False)
class Branch:
    """Inputs of one of the passes of a step, beside the pictures.

    Attributes:
        states: (1, T, joint dim) of the text, in the transformer's precision on its device.
        angles: (T, D/2) complex rotary embedding of the text.
        pictures: where their tokens are.
    """

    states: torch.Tensor
    angles: torch.Tensor
    pictures: PictureAngles

    @property
    def key(self) -> Hashable:
        """Equal where all tokens are at the same places."""
        return len(self.angles), self.pictures.grids


@dataclass(frozen=True, kw_only=True, eq=False)
class StepTimes:
    """The times of an edit's steps, on the transformer's device.

    Attributes:
        times: (steps,) timesteps in thousandths, in the transformer's precision.
        numbers: (steps + 1, M) what modulates the layers in each step and, last, at time 0; None =
            the transformer makes it itself.
    """

    times: torch.Tensor
    numbers: torch.Tensor | None = None


@dataclass(kw_only=True)
class QwenLatent(InstructedLatent):
    """One image on its way; `latents` are packed tokens (1, N, 4C).

    Attributes:
        grid: latents' height and width, in latents.
        reference: (1, M, 4C) packed latents of all pictures in the prompt.
        prompt, negative: the passes of a step; `negative` None = no guidance.
        scale: (1, 1, 1) of guidance.
        times: of its steps.
    """

    grid: LatentGrid
    reference: torch.Tensor
    prompt: Branch
    negative: Branch | None
    scale: torch.Tensor
    times: StepTimes

    @property
    def guided(self) -> bool:
        """Whether this step has a negative pass."""
        return self.negative is not None and super().guided

    def branch(self, *, negative: bool) -> Branch:
        """One of the passes of a step."""
        if not negative:
            return self.prompt
        assert self.negative is not None
        return self.negative


def text_limit(grids: Sequence[LatentGrid]) -> int:
    """States of a text that the rotary embedding can number, beside pictures of these sizes."""
    return TABLE - _text_start(grids)


def _text_start(grids: Sequence[LatentGrid]) -> int:
    """Number of a text's first token: half of the longest side of all pictures, in tokens."""
    return max(side // 4 for grid in grids for side in grid)


def branch(checkpoint: Checkpoint, states: torch.Tensor, grids: tuple[LatentGrid, ...]) -> Branch:
    """A text's pass, on the transformer's device.

    Args:
        checkpoint: whose transformer.
        states: (1, T, joint dim) of the text.
        grids: sizes of the picture that is made, and of its references.
    """
    pictures = _picture_angles(checkpoint, grids)
    model = checkpoint.component("transformer")
    start = _text_start(grids)
    angles = model.pos_embed.pos_freqs[start : start + states.shape[1]].to(model.device)
    return Branch(states.to(model.device, model.dtype), angles, pictures)


def _picture_angles(checkpoint: Checkpoint, grids: tuple[LatentGrid, ...]) -> PictureAngles:
    """The places of all pictures' tokens, remembered."""

    @torch.inference_mode()
    def compute() -> PictureAngles:
        with checkpoint.borrowed("transformer") as transformer:
            angles = [_grid_angles(transformer.pos_embed, *each) for each in enumerate(grids)]
            device = transformer.device
        numbers = torch.cat([torch.full((len(each),), i > 0) for i, each in enumerate(angles)])
        return PictureAngles(grids, torch.cat(angles).to(device), numbers.int()[None].to(device))

    return checkpoint.memo.get(("qwen angles", grids), compute)


def _grid_angles(embedding: Any, frame: int, grid: LatentGrid) -> torch.Tensor:
    """(rows x columns, D/2) of one picture, whose rows and columns are numbered from its middle.

    What `QwenEmbedRope.forward` gives; that keeps every embedding that it was asked for, and each
    device's tables, for as long as the process lives.

    Args:
        embedding: the transformer's, with its tables.
        frame: number of the picture.
        grid: of the picture.
    """
    axes = [axis // 2 for axis in embedding.axes_dim]
    above, below = (
        table.split(axes, dim=1) for table in (embedding.pos_freqs, embedding.neg_freqs)
    )
    rows, columns = grid[0] // 2, grid[1] // 2
    parts = [above[0][frame].expand(rows, columns, -1)]
    for axis, (length, shape) in enumerate([(rows, (rows, 1, -1)), (columns, (1, columns, -1))], 1):
        half = length // 2
        centred = torch.cat([below[axis][half - length :], above[axis][:half]])
        parts.append(centred.view(shape).expand(rows, columns, -1))
    return torch.cat(parts, dim=-1).reshape(rows * columns, -1)


def step_times(checkpoint: Checkpoint, timesteps: torch.Tensor) -> StepTimes:
    """The times of an edit; what modulates the layers at them serves later edits too.

    Args:
        checkpoint: whose transformer.
        timesteps: (steps,) as the noise scheduler gives them, 0..1000.
    """
    transformer = checkpoint.component("transformer")
    times = timesteps.to(transformer.device, transformer.dtype) / 1000
    if not modulation.evicted(transformer):
        return StepTimes(times=times)

    def compute() -> torch.Tensor:
        with checkpoint.borrowed("transformer") as borrowed:
            folder = checkpoint.folder / "transformer"
            return modulation.compute(borrowed, folder, torch.cat([times, times[:1] * 0]))

    numbers = checkpoint.states.get(("modulation", content(timesteps)), compute)
    return StepTimes(times=times, numbers=numbers)


def predict(transformer: Any, batch: Sequence[QwenLatent]) -> torch.Tensor:
    """(B, N, 4C) velocity of each image's noise tokens, guided where asked.

    Guidance keeps each token's norm: that of the prediction with the prompt.
    """
    first = batch[0]
    positive = _branch(transformer, batch, negative=False)
    if not first.guided:
        return positive
    negative = _branch(transformer, batch, negative=True)
    scales = torch.cat([image.scale for image in batch])
    combined = negative + scales * (positive - negative)
    norm, widened = (torch.norm(each, dim=-1, keepdim=True) for each in (positive, combined))
    guided: torch.Tensor = combined * (norm / widened)
    return guided


def _branch(transformer: Any, batch: Sequence[QwenLatent], *, negative: bool) -> torch.Tensor:
    branches = [image.branch(negative=negative) for image in batch]
    pictures = branches[0].pictures
    tokens = [torch.cat([image.latents, image.reference], dim=1) for image in batch]
    is_reference = None
    if transformer.zero_cond_t:
        is_reference = torch.cat([pictures.is_reference for _ in batch])
    velocity = recorded(
        transformer,
        _computed,
        torch.cat(tokens),
        torch.cat([each.states for each in branches]),
        *_times(batch, still=is_reference is not None),
        branches[0].angles,
        pictures.angles,
        is_reference,
    )
    return velocity[:, : batch[0].latents.shape[1]]


def _times(batch: Sequence[QwenLatent], *, still: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Each image's time, and what modulates the layers where the transformer does not make it.

    Args:
        batch: images, each at its own step.
        still: whether references are taken at time 0, in a second half of the rows.
    """
    steps = [(image.step, image.times) for image in batch]
    times = torch.cat([each.times[step : step + 1] for step, each in steps])
    rows = [each.numbers[step : step + 1] for step, each in steps if each.numbers is not None]
    if still:
        times = torch.cat([times, times * 0])
        rows += [each.numbers[-1:] for _, each in steps if each.numbers is not None]
    return times, torch.cat(rows) if rows else None


def _computed(
    transformer: Any,
    tokens: torch.Tensor,
    states: torch.Tensor,
    times: torch.Tensor,
    numbers: torch.Tensor | None,
    text_angles: torch.Tensor,
    picture_angles: torch.Tensor,
    is_reference: torch.Tensor | None,
) -> torch.Tensor:
    """One pass, so that it can be recorded: (B, N + M, 4C) velocity of every picture token."""
    pictures = transformer.img_in(tokens)
    text = transformer.txt_in(transformer.txt_norm(states))
    embedded = numbers
    if embedded is None:
        embedded = transformer.time_text_embed(times, pictures)
    for block in transformer.transformer_blocks:
        text, pictures = block(
            hidden_states=pictures,
            encoder_hidden_states=text,
            encoder_hidden_states_mask=None,
            temb=embedded,
            image_rotary_emb=(picture_angles, text_angles),
            joint_attention_kwargs=None,
            modulate_index=is_reference,
        )
    velocity: torch.Tensor = transformer.proj_out(
        transformer.norm_out(pictures, embedded[: len(tokens)])
    )
    return velocity


def batch_key(image: QwenLatent) -> tuple[Hashable, ...]:
    """Images whose tokens are at the same places in each pass fit one forward pass."""
    negative = None if image.negative is None else image.negative.key
    return image.prompt.key, negative, image.times.numbers is None
