"""From a picture and what was found in it to a repainted picture: what all blocks share.

The functions of `overpaint.blocks` and the plugin for Roboflow's workflows describe what they want
as a `Painting`; `paint` makes edit requests of them and runs those together, on the one engine of
this process or on an Overpaint server.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from overpaint.apps import settings as settings_
from overpaint.apps.wiring import remote
from overpaint.apps.wiring.models import build, catalogue, defaults
from overpaint.core.errors import InvalidRequest
from overpaint.core.imaging import detections, masks
from overpaint.core.imaging.images import Picture
from overpaint.core.models import EditTask
from overpaint.core.parts import Part
from overpaint.core.types import PARTS, EditRequest

if TYPE_CHECKING:
    from PIL import Image

    from overpaint.apps.settings import Settings
    from overpaint.core.types import EditResult
    from overpaint.engine.engine import Engine

WhenMissing = Literal["error", "keep"]

LEFT_OUT = {
    "image": "a field of its own",
    "mask": "it is made from the detections",
    "mask_is": "a picture in a workflow has no transparency",
    "num_images": "a step of a workflow has one result",
    "model": "a field of its own: it depends on the block's family",
    "options": "each is a field",
}
"""Parts that are not in `Painting.parts`, and why."""

BLOCK_PARTS = tuple(part for part in PARTS if part.name not in LEFT_OUT)

_BLOCK_NAMES = {
    "control": "control_image",  # as published workflows have it
    "references": "reference_images",  # beside it
}


def block_name(part: str) -> str:
    """The name of a part among the fields of a block."""
    return _BLOCK_NAMES.get(part, part)


def _field_of(field: str) -> str:
    """The field of a block that an engine's error means."""
    return detections.FIELD if field == "mask" else block_name(field)


@dataclass(frozen=True, eq=False, kw_only=True)
class Painting:
    """One picture, and how a block repaints it.

    Attributes:
        family: the model's, by name; None = of any family.
        task: of the settings' defaults.
        image: the picture, in any form that an engine takes.
        segmentation_mask: what was found in it (see `core.detections`), or a mask in any form
            that an engine takes; None = no mask, for families that need none.
        parts: further parts of an `EditRequest` by name; masks in any form of a
            `segmentation_mask`.
        classes, confidence: which detections; see `detections.select`.
        when_missing: what to do where something was found, but none of `classes`.
        invert: repaint all but the detections.
        height, width: of the answer; None = the picture's own.
        keep_input_size: leave `height` and `width` aside.
        options: further options of the family; None = the family's default.
        model: name; None = the settings' default for the task where it is of the family, else one
            of the family that is here, else its bundled twin. Without a family it is the default.
        server: URL of an Overpaint server; None = as in the settings, else this process.
    """

    family: str | None
    task: EditTask
    image: Any
    segmentation_mask: Any = None
    parts: Mapping[str, Any] = field(default_factory=dict)
    classes: Sequence[str | int] | None = None
    confidence: float | None = None
    when_missing: WhenMissing = "error"
    invert: bool = False
    height: int | None = None
    width: int | None = None
    keep_input_size: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None
    server: str | None = None

    @classmethod
    def of(cls, family: str | None, task: EditTask, values: Mapping[str, Any]) -> Painting:
        """Make one from a block's fields: a field that is neither a part nor ours is an option."""
        own = {each.name for each in fields(cls)}
        names = {block_name(part.name): part.name for part in BLOCK_PARTS}
        return cls(
            family=family,
            task=task,
            parts={names[name]: value for name, value in values.items() if name in names},
            options={n: value for n, value in values.items() if n not in own and n not in names},
            **{name: value for name, value in values.items() if name in own},
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Painted:
    """A repainted picture.

    Attributes:
        picture: with transparency, ICC profile and EXIF of the input.
        seed: makes it again; None where no model ran.
        warnings: one sentence each.
        recipe: plain data that makes it again; empty where no model ran.
    """

    picture: Picture
    seed: int | None = None
    warnings: tuple[str, ...] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)

    @property
    def image(self) -> Image.Image:
        """The picture as a PIL image; see `Picture.to_pil`."""
        return self.picture.to_pil()


def paint(paintings: Sequence[Painting]) -> list[Painted]:
    """Repaint pictures, those of one place together. Safe to call from several threads.

    If nothing was found, or nothing that counts, the picture comes back as it was with a warning,
    and no model runs.

    Raises:
        OverpaintError: of the first picture that fails; bad input is an `InvalidRequest`.
    """
    from overpaint.engine.intake import as_picture

    settings = settings_.load()
    answers: dict[int, Painted] = {}
    requests: dict[str | None, dict[int, EditRequest]] = {}
    for index, painting in enumerate(paintings):
        picture = as_picture(painting.image)
        try:
            request = _request(painting, picture, settings)
        except InvalidRequest as error:
            raise _with_place(error, index, len(paintings)) from error
        if isinstance(request, EditRequest):
            server = painting.server or settings.remote.url
            requests.setdefault(server, {})[index] = request
        else:
            answers[index] = Painted(picture=picture, warnings=(request,))
    for server, group in requests.items():
        edits = list(group.values())
        try:
            if server is None:
                results = _run_here(edits, settings)
            else:
                results = remote.Server(server, settings.remote).run(edits)
        except InvalidRequest as error:
            error.field = _field_of(error.field)
            raise
        for index, result in zip(group, results, strict=True):
            toy = () if server else _toy(paintings[index], group[index], settings)
            answers[index] = Painted(
                picture=result.pictures[0],
                seed=result.seeds[0],
                warnings=(*toy, *result.warnings),
                recipe=result.recipe,
            )
    return [answers[index] for index in range(len(paintings))]


def mask_of(painting: Painting, picture: Picture) -> Image.Image | str | None:
    """The mask of what to repaint, a sentence on why there is nothing to, or None.

    Raises:
        InvalidRequest: what was found does not fit the picture, or the choice does not fit it.
    """
    segmentation = painting.segmentation_mask
    if segmentation is None:
        return None
    if not detections.are_detections(segmentation):
        if painting.classes is not None or painting.confidence is not None:
            raise InvalidRequest(
                "a mask has neither classes nor confidences; give detections, or leave both out",
                field="classes" if painting.classes is not None else "confidence",
            )
        mask = _mask_from(segmentation, picture.size, detections.FIELD)
    else:
        results = detections.parse(segmentation, picture.size)
        try:
            matches = detections.select(
                results, classes=painting.classes, confidence=painting.confidence
            )
        except detections.NoSuchClass as error:
            if painting.when_missing == "error":
                raise
            return f"{error}; the picture is returned unchanged."
        if not matches:
            return _nothing(len(results), painting.confidence)
        mask = detections.union(matches, picture.size)
    if mask.getbbox() is None:
        return "The mask is empty; the picture is returned unchanged."
    return masks.invert(mask) if painting.invert else mask


def model_name(family: str | None, task: EditTask, name: str | None, settings: Settings) -> str:
    """The model that a block uses.

    Raises:
        InvalidRequest: the model of that name is of another family.
        ModelNotFound: there is none of that name.
    """
    if family is None:
        return name or defaults.choose(task, settings)
    if name is None:
        return defaults.choose_of_family(family, task, settings)
    model_family = catalogue.find_model(name, settings).family
    if model_family != family:
        raise InvalidRequest(
            f"'{name}' is of the family {model_family}, this block works with {family}",
            field="model",
        )
    return name


def _request(painting: Painting, picture: Picture, settings: Settings) -> EditRequest | str:
    """An edit request, or a sentence on why there is nothing to do."""
    mask = mask_of(painting, picture)
    if isinstance(mask, str):
        return mask
    options = {name: value for name, value in painting.options.items() if value is not None}
    if not painting.keep_input_size:
        sides = {"height": painting.height, "width": painting.width}
        options |= {name: side for name, side in sides.items() if side is not None}
    is_remote = painting.server or settings.remote.url
    return EditRequest(
        image=picture,
        mask=mask,
        **{
            part.name: _decoded(part, painting.parts[part.name], picture.size)
            for part in BLOCK_PARTS
            if painting.parts.get(part.name) is not None
        },
        model=painting.model or painting.family
        if is_remote
        else model_name(painting.family, painting.task, painting.model, settings),
        options=options,
    )


def _decoded(part: Part, value: Any, size: tuple[int, int]) -> Any:
    """A part as an `EditRequest` has it; errors name the field of the block."""
    from overpaint.engine.intake import as_picture, decoded

    name = block_name(part.name)
    if part.kind == "picture":
        return as_picture(value, name).to_srgb()
    if part.kind == "pictures":
        several = value if isinstance(value, list | tuple) else [value]
        return tuple(as_picture(each, name).to_srgb() for each in several)
    if part.kind == "mask":
        return _where(value, size, name)
    return decoded(replace(part, name=name), value, size)


def _where(segmentation: Any, size: tuple[int, int], name: str) -> Image.Image:
    """A mask of what may be copied, or must not be; all black where nothing was found."""
    from PIL import Image

    if not detections.are_detections(segmentation):
        return _mask_from(segmentation, size, name)
    results = detections.parse(segmentation, size, field=name)
    return detections.union(results, size, field=name) if results else Image.new("L", size)


def _mask_from(mask_like: Any, size: tuple[int, int], name: str) -> Image.Image:
    """A mask in any form that an engine takes."""
    from overpaint.engine.intake import as_mask

    mask = as_mask(_flat(mask_like, size), name)
    masks.check_size(mask, size, field=name)
    return mask


def _flat(mask_like: Any, size: tuple[int, int]) -> Any:
    """Masks stacked as N x H x W, as segmentation models give them, become one."""
    shape = getattr(mask_like, "shape", ())
    if len(shape) == 3 and shape[1:] == (size[1], size[0]) and shape[:2] != (size[1], size[0]):
        return mask_like.any(axis=0)
    return mask_like


def _nothing(count: int, confidence: float | None) -> str:
    if not count:
        return "Nothing was detected; the picture is returned unchanged."
    return (
        f"No detection has a confidence of at least {confidence}; the picture is returned "
        "as it was."
    )


def _toy(painting: Painting, request: EditRequest, settings: Settings) -> tuple[str, ...]:
    """The notice about a twin that was not asked for by name."""
    if painting.model is not None or request.model is None:
        return ()
    notice = defaults.notice_of_family(catalogue.find_model(request.model, settings), settings)
    return () if notice is None else (notice,)


def _with_place(error: InvalidRequest, index: int, count: int) -> InvalidRequest:
    """The same error, with the picture's place where there are several."""
    if count == 1:
        return error
    return type(error)(f"picture {index} of {count}: {error.message}", field=error.field)


_lock = threading.Lock()
_engine: Engine | None = None
_engine_settings: Settings | None = None


def _run_here(requests: Sequence[EditRequest], settings: Settings) -> list[EditResult]:
    """Run on the one engine of this process; models stay loaded from one call to the next."""
    global _engine, _engine_settings
    with _lock:
        if _engine is None or settings != _engine_settings:
            names = catalogue.models(settings)  # a twin says what it is by `_toy`
            _engine = build.engine(requests[0].model, by_hand=names, settings=settings, lazy=True)
            _engine_settings = settings
        return _engine.run(requests)
