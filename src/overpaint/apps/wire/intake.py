"""Makes a checked request of the encoded parts that every protocol hands over.

Runs in a thread pool: decoding pictures takes time. No picture is fetched from a URL and no file
is opened: pictures come with the request.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from overpaint.apps.settings import ServerSettings
from overpaint.core.errors import InvalidImage, InvalidRequest, UnsupportedOption
from overpaint.core.imaging.images import ImageLimits, Picture
from overpaint.core.models import EditTask, border_task
from overpaint.core.parts import Part
from overpaint.core.types import PARTS
from overpaint.diffusion.conditions import asked_size
from overpaint.diffusion.family import FamilySpec
from overpaint.diffusion.options import FamilyOptions
from overpaint.engine.checking import CheckedRequest, check
from overpaint.engine.intake import as_picture, request_of
from overpaint.jobs.rows import Row

MEGA = 1_000_000
MAX_PICTURES = 15
"""Pictures that one part may have."""


@dataclass(frozen=True, kw_only=True)
class EncodedEdit:
    """An edit as it came over the wire.

    Attributes:
        values: the parts by name; pictures are encoded files, or decoded where they did not come
            over the wire. None = not given.
        fit_mask: stretch a mask of another size to the picture's, instead of refusing it.
        markup: file of a transparent drawing over the picture; the model is shown the picture
            under it, as one more reference.
        reads_canvas: a picture may bring its own border, as `borders.is_canvas` says.
    """

    values: Mapping[str, Any]
    fit_mask: bool = False
    markup: bytes | None = None
    reads_canvas: bool = False

    @property
    def task(self) -> EditTask:
        """The task, where the edit names no model; without words the eraser fills a border."""
        if self.values.get("extend") is not None:
            return border_task(str(self.values.get("prompt") or ""))
        return "edit" if self.values.get("mask") is None else "inpaint"


def of_row(row: Row) -> EncodedEdit:
    """The edit of a row; its mask may have another size than its picture."""
    return EncodedEdit(values=row.parts, fit_mask=True)


def image_limits(server: ServerSettings) -> ImageLimits:
    """The limits of a picture that comes over the wire."""
    return ImageLimits(
        max_bytes=int(server.max_body_mb * MEGA), max_pixels=int(server.max_megapixels * MEGA)
    )


def build(
    edit: EncodedEdit, model: str, family: FamilySpec, limits: ImageLimits, *, size_step: int = 1
) -> CheckedRequest:
    """Decode and check an edit that `cost.of_edit` lets in.

    Args:
        edit: from the wire.
        model: name of the model that makes it.
        family: the model's.
        limits: what each picture may cost.
        size_step: pixels that widths and heights are multiples of.

    Raises:
        InvalidRequest: with the field that is at fault.
    """
    values = {name: value for name, value in edit.values.items() if value is not None}
    if edit.markup is not None:
        values |= _with_markup(values, edit.markup, limits)
    request = request_of(
        {**values, "model": model},
        limits=limits,
        fit_mask=edit.fit_mask,
        reads_canvas=edit.reads_canvas,
    )
    checked = check(family, request)
    asked_size(checked.options, size_step)
    return checked


def _with_markup(values: Mapping[str, Any], markup: bytes, limits: ImageLimits) -> dict[str, Any]:
    """The picture, decoded, and the references with one more: the picture under its markup.

    Raises:
        InvalidImage: the markup is not a transparent picture of the same size.
    """
    picture = as_picture(values["image"], limits=limits)
    drawing = as_picture(markup, "markup", limits=limits)
    if drawing.size != picture.size:
        raise InvalidImage(
            f"it has {drawing.size[0]}x{drawing.size[1]} pixels, and the picture that it is drawn "
            f"over {picture.size[0]}x{picture.size[1]}",
            field="markup",
        )
    if drawing.alpha is None or drawing.alpha.getextrema() == (255, 255):
        raise InvalidImage("nothing of it is transparent; send the drawing alone", field="markup")
    overlay = Image.composite(drawing.to_srgb(), picture.to_srgb(), drawing.alpha)
    return {"image": picture, "references": (*values.get("references", ()), overlay)}


def check_values(values: Mapping[str, Any], server: ServerSettings) -> None:
    """Hold the parts of an edit against the limits, before anything is decoded.

    Raises:
        InvalidRequest: one is beyond its limit, or is a picture's path instead of a picture.
    """
    for part in PARTS:
        if values.get(part.name) is not None:
            _check_limits(part, values[part.name], server)


def _check_limits(part: Part, value: Any, server: ServerSettings) -> None:
    """Refuse what is over a limit, before anything is decoded."""
    if part.kind == "text" and len(value) > server.max_prompt:
        raise InvalidRequest(
            f"{len(value)} characters are more than the limit of {server.max_prompt}",
            field=part.name,
        )
    if part.kind == "pictures" and len(value) > MAX_PICTURES:
        raise InvalidRequest(
            f"{len(value)} pictures are more than the limit of {MAX_PICTURES}", field=part.name
        )
    if part.is_visual and not all(isinstance(each, _PIXELS) for each in each_of(part, value)):
        # Text would be taken for a file's path.
        raise InvalidRequest("send the picture itself", field=part.name)
    if part.name == "num_images" and value > server.max_images:
        raise InvalidRequest(
            f"{value} is more than the {server.max_images} that this server makes at once",
            field=part.name,
        )


_PIXELS = (bytes, Picture, Image.Image)


def each_of(part: Part, value: Any) -> Iterator[Any]:
    """The pictures of a visual part: several, or the one."""
    return iter(value if part.kind == "pictures" else (value,))


def check_options(options: FamilyOptions, server: ServerSettings) -> None:
    """Hold the options of an edit against the limits.

    Raises:
        UnsupportedOption: more steps than the server makes.
    """
    steps = getattr(options, "num_inference_steps", 0)
    if steps > server.max_steps:
        raise UnsupportedOption(
            f"{steps} is more than the {server.max_steps} steps that this server makes",
            field="options.num_inference_steps",
        )
