"""What every protocol hands over, still encoded, made into a checked `EditRequest`.

Runs in a thread pool: decoding pictures takes time. No picture is fetched from a URL and no file
is opened: pictures come with the request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from overpaint.apps.settings import ServerSettings
from overpaint.core import images
from overpaint.core.errors import InvalidMask, InvalidRequest, UnsupportedOption
from overpaint.core.images import ImageLimits, Picture
from overpaint.core.morphology import fit, invert
from overpaint.core.types import EditRequest
from overpaint.diffusion.family import FamilySpec
from overpaint.diffusion.options import FamilyOptions
from overpaint.engine.intake import CheckedRequest, check, parse_options
from overpaint.jobs.rows import Row

MEGA = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Parts:
    """An edit as it came over the wire; pictures are encoded files.

    Attributes:
        image: the picture to edit; decoded where it did not come over the wire.
        transparent_is_edited: the mask is in its transparency, alpha 0 = repaint.
        fit_mask: stretch a mask of another size to the picture's, instead of refusing it.
    """

    image: bytes | Picture
    prompt: str = ""
    mask: bytes | None = None
    transparent_is_edited: bool = False
    fit_mask: bool = False
    copy_from: bytes | None = None
    not_from: bytes | None = None
    negative_prompt: str | None = None
    control: bytes | None = None
    references: tuple[bytes, ...] = ()
    seed: int | None = None
    num_images: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)


def of_row(row: Row) -> Parts:
    """The edit of a row; its mask may have another size than its picture."""
    return Parts(**row.parts, fit_mask=True)


def build(parts: Parts, model: str, family: FamilySpec, limits: ServerSettings) -> CheckedRequest:
    """Decode and check.

    Raises:
        InvalidRequest: with the field that is at fault.
    """
    _check_text("prompt", parts.prompt, limits)
    _check_text("negative_prompt", parts.negative_prompt or "", limits)
    if parts.num_images > limits.max_images:
        raise InvalidRequest(
            f"{parts.num_images} is more than the {limits.max_images} that this server makes at "
            "once",
            field="num_images",
        )
    options = parse_options(family, parts.options)
    _check_options(options, limits)
    may = ImageLimits(
        max_bytes=int(limits.max_body_mb * MEGA), max_pixels=int(limits.max_megapixels * MEGA)
    )
    picture = parts.image
    if not isinstance(picture, Picture):
        picture = images.decode(picture, limits=may)
    request = EditRequest(
        image=picture,
        prompt=parts.prompt,
        mask=_mask(parts, picture, may),
        copy_from=_source(parts.copy_from, "copy_from", may),
        not_from=_source(parts.not_from, "not_from", may),
        negative_prompt=parts.negative_prompt,
        control=None if parts.control is None else _srgb(parts.control, "control", may),
        references=tuple(_srgb(each, "references", may) for each in parts.references),
        seed=parts.seed,
        num_images=parts.num_images,
        model=model,
        options=parts.options,
    )
    return check(family, request)


def _mask(parts: Parts, picture: Picture, limits: ImageLimits) -> Image.Image | None:
    if parts.mask is None:
        return None
    if parts.fit_mask:
        return fit(images.decode_mask(parts.mask, limits=limits), picture.size)
    if not parts.transparent_is_edited:
        return images.decode_mask(parts.mask, size=picture.size, limits=limits)
    alpha = images.decode(parts.mask, field="mask", limits=limits).alpha
    if alpha is None:
        raise InvalidMask(
            "the mask has no transparency; here transparent pixels (alpha 0) are what is edited",
            field="mask",
        )
    return invert(alpha)


def _source(encoded: bytes | None, name: str, limits: ImageLimits) -> Image.Image | None:
    if encoded is None:
        return None
    return images.decode_mask(encoded, field=name, limits=limits)


def _srgb(encoded: bytes, name: str, limits: ImageLimits) -> Image.Image:
    return images.decode(encoded, field=name, limits=limits).to_srgb()


def _check_text(name: str, text: str, limits: ServerSettings) -> None:
    if len(text) > limits.max_prompt:
        raise InvalidRequest(
            f"{len(text)} characters are more than the limit of {limits.max_prompt}", field=name
        )


def _check_options(options: FamilyOptions, limits: ServerSettings) -> None:
    steps = getattr(options, "num_inference_steps", 0)
    if steps > limits.max_steps:
        raise UnsupportedOption(
            f"{steps} is more than the {limits.max_steps} steps that this server makes",
            field="options.num_inference_steps",
        )
    pixels = (options.width or 0) * (options.height or 0)
    if pixels > limits.max_megapixels * MEGA:
        raise UnsupportedOption(
            f"{options.width}x{options.height} is more than {limits.max_megapixels:g} megapixels",
            field="options.width",
        )
