"""What an edit will cost, from the headers of its pictures and from its options.

Nothing is decoded for that, and everything that a limit refuses is refused with the number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from PIL import Image

from overpaint.apps.settings import ServerSettings
from overpaint.apps.wire.intake import (
    MEGA,
    EncodedEdit,
    check_options,
    check_values,
    each_of,
    image_limits,
)
from overpaint.core.errors import InvalidImage, InvalidRequest, UnsupportedOption
from overpaint.core.geometry import Size
from overpaint.core.imaging import borders
from overpaint.core.imaging.codecs import headers
from overpaint.core.imaging.images import Picture
from overpaint.core.types import PARTS
from overpaint.diffusion.family import FamilySpec
from overpaint.diffusion.options import FamilyOptions
from overpaint.engine.checking import denoising_steps, parse_options


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What an edit will take.

    Attributes:
        megapixels: of all its pictures and masks together.
        work: in megapixel-steps.
        canvas: pixels that are likely computed for an image; None = there is no edit.
        is_plain: whether all its files are quickly decoded, hostile ones included.
    """

    megapixels: float
    work: float = 0.0
    canvas: int | None = None
    is_plain: bool = True


def of_file(encoded: bytes, field: str, server: ServerSettings) -> Cost:
    """What decoding a file takes, where no edit is made of it.

    Raises:
        InvalidImage: it is larger than a picture may be.
    """
    file = _file_of(encoded, field, server)
    width, height = file.size
    return Cost(megapixels=width * height / MEGA, is_plain=file.is_plain)


def of_edit(edit: EncodedEdit, family: FamilySpec, server: ServerSettings) -> Cost:
    """What an edit takes.

    Raises:
        InvalidRequest: it is more than one edit may take, or its options are no options of the
            family.
    """
    check_values(edit.values, server)
    extend = edit.values.get("extend")
    options = parse_options(family, edit.values.get("options") or {})
    check_options(options, server)
    files = [(name, _file_of(value, name, server)) for name, value in _pictures(edit)]
    further = [(name, file.size) for name, file in files]
    sizes = [size for _, size in further]
    size = next((size for name, size in further if name == "image"), None)
    if extend is not None and size is not None:
        size = _size_with_border(size, extend, server)
        sizes.append(size)
    total = sum(width * height for width, height in sizes) / MEGA
    canvas = _canvas(family, options, size, server)
    return Cost(
        megapixels=total,
        work=_work(edit, family, options, canvas, further, server),
        canvas=canvas,
        is_plain=all(file.is_plain for _, file in files),
    )


def _canvas(
    family: FamilySpec, options: FamilyOptions, picture: Size | None, server: ServerSettings
) -> int:
    """Pixels that are likely computed for an image, within the limit.

    Raises:
        UnsupportedOption: it is beyond the limit.
    """
    if picture is None:
        return 0  # it is refused for want of a picture
    size = (options.width, options.height) if options.width and options.height else None
    canvas = family.workload.canvas(picture, size)
    if size is not None and canvas > server.max_canvas_megapixels * MEGA:
        raise UnsupportedOption(
            f"{size[0]}x{size[1]} is {canvas / MEGA:.1f} megapixels, more than the limit of "
            f"{server.max_canvas_megapixels:g}; ask for a smaller size",
            field="options.width",
        )
    return canvas


def _work(
    edit: EncodedEdit,
    family: FamilySpec,
    options: FamilyOptions,
    canvas: int,
    further: list[tuple[str, Size]],
    server: ServerSettings,
) -> float:
    """The work of an edit, within the limits.

    Raises:
        InvalidRequest: it is beyond one of them.
    """
    images = edit.values.get("num_images") or 1
    steps = denoising_steps(options)
    work = family.workload.megapixel_steps(
        canvas,
        references=[size for name, size in further if name in ("references", "markup")],
        steps=steps,
        images=images if isinstance(images, int) else 1,
    )
    if work > server.max_megapixel_steps:
        raise InvalidRequest(
            f"the edit takes {work:.0f} megapixel-steps ({canvas / MEGA:.2f} megapixels, {steps} "
            f"steps, {images} images), more than the limit of {server.max_megapixel_steps:g}; ask "
            "for fewer steps or images, or a smaller size",
            field="options.width" if options.width else "options.num_inference_steps",
        )
    return work


def _size_with_border(size: Size, extend: Any, server: ServerSettings) -> Size:
    """The size of a picture with its border.

    A file may say in its EXIF that it stands on its side, so the dearer way up counts.

    Raises:
        InvalidRequest: the border is none, or too large, whichever way up the picture is.
    """
    most = image_limits(server).max_pixels
    if size == (most, 1):
        return size  # nobody knows its size yet
    larger: list[Size] = []
    problems: list[InvalidRequest] = []
    for each in (size, size[::-1]):
        try:
            larger.append(borders.parse(extend, each, most_pixels=most).around(each))
        except InvalidRequest as error:
            problems.append(error)
    if not larger:
        raise problems[0]
    return max(larger, key=lambda each: each[0] * each[1])


def _pictures(edit: EncodedEdit, *names: str) -> Iterator[tuple[str, Any]]:
    """The pictures and masks of an edit, by the part's name; of these parts, or of all."""
    for part in PARTS:
        value = edit.values.get(part.name)
        if part.is_visual and value is not None and (not names or part.name in names):
            for each in each_of(part, value):
                yield part.name, each
    if edit.markup is not None and not names:
        yield "markup", edit.markup


@dataclass(frozen=True)
class _PictureFile:
    size: Size
    is_plain: bool = True


def _file_of(value: Any, field: str, server: ServerSettings) -> _PictureFile:
    """The header of a picture's file, read once, because hostile files take long.

    A file whose header cannot be made out counts as a picture of the largest size.

    Raises:
        InvalidImage: it is larger than a picture may be.
    """
    if isinstance(value, Picture | Image.Image):
        return _PictureFile(value.size)
    header = headers.read(value) if isinstance(value, bytes) else None
    if header is None:
        return _PictureFile(
            (image_limits(server).max_pixels, 1), is_plain=not isinstance(value, bytes)
        )
    if header.pixels > server.max_megapixels * MEGA:
        raise InvalidImage(
            f"the picture has {header.width}x{header.height} pixels, more than the limit of "
            f"{server.max_megapixels:g} megapixels; give a smaller one",
            field=field,
        )
    return _PictureFile((header.width, header.height), header.is_plain(len(value)))
