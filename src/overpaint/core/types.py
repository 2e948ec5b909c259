"""The request that goes in, the result that comes out, and the updates on the way."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

from overpaint.core.parts import MaskReading, about, parts_of

if TYPE_CHECKING:
    from PIL import Image

    from overpaint.core.imaging.borders import Borders
    from overpaint.core.imaging.fidelity.layer import ModelOutput
    from overpaint.core.imaging.images import Picture
    from overpaint.core.safety import Verdict

MAX_SEED = 2**63 - 1


@dataclass(frozen=True, eq=False, kw_only=True)
class EarlierRun:
    """An edit without a mask that was made before.

    Attributes:
        recipe: of its one picture.
        read: gives what the model made; may raise `StoreUnavailable`.
    """

    recipe: Mapping[str, Any]
    read: Callable[[], ModelOutput]


@dataclass(frozen=True, eq=False, kw_only=True)
class EditRequest:
    """One edit of one picture, for any family.

    Attributes:
        image: the picture to edit.
        prompt: what the masked area should show, or the instruction to follow; empty for families
            that take no words.
        mask: 'L', same size as `image`, 255 = repaint, 0 = keep; values between blend.
        mask_is: how a picture of the mask is read, until it is `mask`: 'white' (white is
            repainted), 'alpha' (transparent is), 'paint' (what is painted is) or 'openai'
            (transparent is, where something is transparent). None = as what it evidently is, and
            where `mask` is there already.
        extend: how far the picture grows on each side; the border is filled. None = not at all.
        negative_prompt: what to avoid. None = none; families run true
            classifier-free guidance with it or refuse it, they never drop it.
        control: 'RGB' line, pose or depth picture; resized with the picture it belongs to.
        references: further 'RGB' pictures that an instruction refers to.
        copy_from: 'L', same size as `image`, 255 = the only pixels that an eraser may copy.
        not_from: 'L', same size as `image`, 255 = pixels that it must not copy.
        target: 'L', same size as `image`, 255 = where the thing is that an instruction without a
            mask names; what changes far from it is put back.
        seed: of the first image; the i-th image of the request uses `seed + i`. None = drawn.
        num_images: images to make, >= 1.
        model: name of the model; None = the engine's default.
        options: the family's own options by name, checked by `Family.Options`.
        earlier_runs: turns that a session keeps; where this edit differs from one of them in
            nothing but the areas that stay, the model need not run. It is no part of an edit:
            sessions alone fill it in.
    """

    image: Picture = field(metadata=about("picture", "The picture to edit."))
    prompt: str = field(
        default="",
        metadata=about("text", "What the area should show, or the instruction.", family=True),
    )
    mask: Image.Image | None = field(
        default=None,
        metadata=about("mask", "Mask whose white part is repainted.", family=True),
    )
    mask_is: MaskReading | None = field(
        default=None,
        metadata=about(
            "choice",
            "How the mask is read: white, alpha (transparent is repainted), paint, or openai "
            "(alpha where something is transparent).",
            choices=get_args(MaskReading),
        ),
    )
    extend: Borders | None = field(
        default=None,
        metadata=about(
            "borders",
            "How much to add to the picture: left, top, right, bottom, or the ratio `to`.",
        ),
    )
    negative_prompt: str | None = field(
        default=None, metadata=about("text", "What to avoid.", family=True)
    )
    control: Image.Image | None = field(
        default=None,
        metadata=about(
            "picture", "A line, pose or depth picture that steers the edit.", family=True
        ),
    )
    references: tuple[Image.Image, ...] = field(
        default=(),
        metadata=about("pictures", "Further pictures that the instruction refers to.", family=True),
    )
    copy_from: Image.Image | None = field(
        default=None,
        metadata=about(
            "mask", "Mask whose white part is the only place to copy texture from.", family=True
        ),
    )
    not_from: Image.Image | None = field(
        default=None,
        metadata=about("mask", "Mask whose white part is never copied from.", family=True),
    )
    target: Image.Image | None = field(
        default=None,
        metadata=about(
            "mask",
            "White where the thing is that the instruction names; what changes far from it is put "
            "back.",
            family=True,
        ),
    )
    seed: int | None = field(
        default=None,
        metadata=about(
            "number",
            "Seed of the first image; the next ones get the next seeds. Default: random.",
            minimum=0,
            maximum=MAX_SEED,
        ),
    )
    num_images: int = field(
        default=1, metadata=about("number", "How many images to make.", minimum=1)
    )
    model: str | None = field(default=None, metadata=about("name", "Name of the model."))
    options: Mapping[str, Any] = field(
        default_factory=dict, metadata=about("options", "The model family's own options.")
    )
    earlier_runs: tuple[EarlierRun, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the picture with the border that it gets."""
        return self.image.size if self.extend is None else self.extend.around(self.image.size)


PARTS = parts_of(EditRequest)
"""All parts of an edit."""

FAMILY_PARTS = tuple(part for part in PARTS if part.family)
"""Those of which a family says whether it uses them."""


@dataclass(frozen=True, eq=False, kw_only=True)
class EditResult:
    """What an edit gives back.

    Attributes:
        pictures: one per image, of the input's own size unless it was extended, or height and
            width were asked for.
        seeds: the seed of each; the same request with `seed=seeds[i]`, `num_images=1` makes
            `pictures[i]` again.
        recipe: plain data that makes the result again: model, revision, options, hashes, versions.
        measures: of each picture, what was kept and what the model did to the whole; see
            docs/staying.md. Empty where the model's own picture was asked for.
        timings: seconds by stage ('safety', 'prepare', 'steps', 'decode', 'composite', 'total').
        warnings: one sentence each: what was done differently from what a caller may expect.
        safety: what the safety policy found in the request and in the pictures, of each text and
            picture that was checked; None = nothing was checked.
        model_outputs: of each picture what the model itself made, where it has changed areas, else
            None. Sessions keep it; the safety policy has not seen it.
    """

    pictures: tuple[Picture, ...]
    seeds: tuple[int, ...]
    recipe: Mapping[str, Any]
    timings: Mapping[str, float]
    measures: tuple[Mapping[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()
    safety: tuple[Verdict, ...] | None = None
    model_outputs: tuple[ModelOutput | None, ...] = ()

    @property
    def flagged(self) -> tuple[bool | None, ...]:
        """Whether each picture is flagged; None = it was not checked, which is not False."""
        checked = {
            verdict.index: bool(verdict.flagged)
            for verdict in self.safety or ()
            if verdict.stage == "output_image"
        }
        return tuple(checked.get(index) for index in range(len(self.pictures)))

    @property
    def images(self) -> list[Image.Image]:
        """The pictures as PIL images of 8 bits; see `Picture.to_pil`."""
        return [picture.to_pil() for picture in self.pictures]

    def save(self, path: str | os.PathLike[str], index: int = 0) -> None:
        """Write one of the pictures, with its metadata and the mark of how it was made.

        Args:
            path: ends in .png, .jpg, .jpeg or .webp; an existing file is replaced.
            index: which of the pictures.

        Raises:
            OutputError: it cannot be written there.
            InvalidRequest: it does not fit the format.
        """
        from overpaint.core.imaging import images

        images.save(self.pictures[index], path)


@dataclass(frozen=True, eq=False, kw_only=True)
class Progress:
    """The update after each step.

    Attributes:
        step: steps done by the slowest image, 1..total.
        total: steps of that image.
        preview: called without arguments, decodes the first image as it stands: an 'RGB' picture
            of the model's canvas. Costs one decode, so call it only where someone looks. Raises
            `ContentBlocked` where the safety policy refuses what is to be seen.
        is_even: whether the steps take about equally long, so that the rest can be estimated.
    """

    step: int
    total: int
    preview: Any
    is_even: bool = True
