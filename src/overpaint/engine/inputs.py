"""Pictures and masks in whatever form people have them, for an `EditRequest`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from overpaint.core import images, masks
from overpaint.core.images import Picture
from overpaint.core.types import EditRequest

PictureLike = Picture | Image.Image | NDArray[Any] | bytes | str | os.PathLike[str]
"""A picture: decoded, a PIL image, an array (H, W[, C]), encoded bytes, or a file's path."""


def as_request(
    image: PictureLike,
    *,
    prompt: str,
    mask: PictureLike | None,
    negative_prompt: str | None,
    control: PictureLike | None,
    references: Sequence[PictureLike],
    copy_from: PictureLike | None,
    not_from: PictureLike | None,
    seed: int | None,
    num_images: int,
    model: str | None,
    options: Mapping[str, Any],
) -> EditRequest:
    """An edit of these parts; `Engine.edit` says what they are.

    Raises:
        InvalidRequest: a picture or a mask cannot be used; its `field` names it.
    """
    return EditRequest(
        image=as_picture(image),
        prompt=prompt,
        mask=None if mask is None else as_mask(mask),
        negative_prompt=negative_prompt,
        control=None if control is None else as_picture(control, "control").to_srgb(),
        references=tuple(as_picture(each, "references").to_srgb() for each in references),
        copy_from=None if copy_from is None else as_mask(copy_from, "copy_from"),
        not_from=None if not_from is None else as_mask(not_from, "not_from"),
        seed=seed,
        num_images=num_images,
        model=model,
        options=options,
    )


def as_picture(value: PictureLike, field: str = "image") -> Picture:
    """Whatever people have, as a `Picture`."""
    if isinstance(value, Picture):
        return value
    if isinstance(value, Image.Image):
        return Picture.from_pil(value)
    if isinstance(value, np.ndarray):
        return Picture.from_array(value)
    return images.decode(value, field=field)


def as_mask(value: PictureLike, field: str = "mask") -> Image.Image:
    """Whatever people have, as an 'L' mask, 255 = repaint."""
    if isinstance(value, np.ndarray):
        return masks.from_array(value, field=field)
    if isinstance(value, Picture):
        value = value.to_pil()
    if isinstance(value, Image.Image):
        return masks.from_pil(value, field=field)
    return images.decode_mask(value, field=field)
