"""What a detector or a segmentation model found, from the forms in which people have it.

It reads `supervision.Detections`, the JSON of Roboflow's predictions (polygons, run lengths or
boxes), COCO annotations, what SAM's generators return, and lists of `Detection`. Coordinates are
pixels of the upright picture, from its top left corner; right and bottom are exclusive. Sizes are
(width, height).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from overpaint.core.errors import InvalidMask, InvalidRequest
from overpaint.core.imaging import masks

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

FIELD = "segmentation_mask"


class NoSuchClass(InvalidRequest):
    """Something was found, but nothing of the classes that were asked for."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Detection:
    """One thing in a picture.

    Attributes:
        box: (left, top, right, bottom).
        mask: H x W bool of the picture's size; None = the box is all that is known.
        label: name of its class.
        class_id: number of its class.
        confidence: 0..1; None = not known.
    """

    box: tuple[float, float, float, float]
    mask: NDArray[np.bool_] | None = None
    label: str | None = None
    class_id: int | None = None
    confidence: float | None = None

    def is_of(self, name: str | int) -> bool:
        """Whether it is of the class with that name or number."""
        return name == (self.label if isinstance(name, str) else self.class_id)


def are_detections(value: Any) -> bool:
    """Whether `parse` is for this value; a mask (array, picture, file) is not."""
    if isinstance(value, Mapping) or hasattr(value, "xyxy"):
        return True
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def parse(value: Any, size: tuple[int, int], *, field: str = FIELD) -> list[Detection]:
    """Detections from what people have.

    Args:
        value: see the module's docstring.
        size: of the picture that the detections are of.
        field: name of the field in errors.

    Raises:
        InvalidMask: another form; NaN; a confidence, box, polygon or mask that cannot be of that
            picture. The message names the detection by its index.
    """
    if hasattr(value, "xyxy"):
        return _from_supervision(value, size, field)
    if isinstance(value, Mapping) and "annotations" in value:
        return _from_coco(value["annotations"], _categories(value, field), size, field)
    if isinstance(value, Mapping) and "predictions" in value:
        _check_size(value.get("image"), size, field)
        return parse(value["predictions"], size, field=field)
    if isinstance(value, Mapping):
        return parse([value], size, field=field)
    if not are_detections(value):
        raise _unknown_form(value, field)
    if all(isinstance(each, Detection) for each in value):
        return list(value)
    if not all(isinstance(each, Mapping) for each in value):
        raise _unknown_form(value, field)
    if any({"bbox", "segmentation"} & set(each) for each in value):
        return _from_coco(value, {}, size, field)
    return [_from_roboflow(each, index, size, field) for index, each in enumerate(value)]


def select(
    detections: Sequence[Detection],
    *,
    classes: Sequence[str | int] | None = None,
    confidence: float | None = None,
) -> list[Detection]:
    """The detections of some classes, of some confidence.

    Args:
        detections: all.
        classes: names, or numbers; None = any.
        confidence: the least, 0..1; None = any.

    Raises:
        NoSuchClass: there are detections, but none of these classes.
        InvalidRequest: the classes are no list; the threshold is not in 0..1, or it is asked of
            detections that state no confidence.
    """
    matches = list(detections)
    if isinstance(classes, str | Real):
        raise InvalidRequest(f"{classes!r} is one class; give a list", field="classes")
    if classes is not None:
        matches = [
            each for each in matches if any(each.is_of(name_or_id) for name_or_id in classes)
        ]
        if detections and not matches:
            raise _no_such_class(detections, classes)
    if confidence is not None:
        if not _is_share(confidence):
            raise InvalidRequest(
                f"{confidence!r} is not a number between 0 and 1", field="confidence"
            )
        if any(each.confidence is None for each in matches):
            raise InvalidRequest(
                "the detections state no confidence to compare with; leave it out",
                field="confidence",
            )
        matches = [each for each in matches if (each.confidence or 0) >= confidence]
    return matches


def _is_share(value: Any) -> bool:
    return isinstance(value, Real) and 0 <= float(value) <= 1


def union(
    detections: Iterable[Detection], size: tuple[int, int], *, field: str = FIELD
) -> Image.Image:
    """The mask of all detections together: their masks, else their boxes.

    Raises:
        InvalidMask: a mask of another size, a box outside the picture, no detections.
    """
    regions = []
    for index, each in enumerate(detections):
        if each.mask is None:
            regions.append(masks.from_boxes([each.box], size, field=f"{field}[{index}]"))
        elif each.mask.shape != (size[1], size[0]):
            raise InvalidMask(
                f"The mask of detection {index} has {each.mask.shape[1]}x{each.mask.shape[0]} "
                f"pixels, the picture {size[0]}x{size[1]}; give detections of this picture.",
                field=field,
            )
        else:
            regions.append(masks.from_array(each.mask, field=field))
    return masks.combine(regions, field=field)


def box_of(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """The smallest box around a mask; four zeros around an empty one."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return 0.0, 0.0, 0.0, 0.0
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _from_supervision(value: Any, size: tuple[int, int], field: str) -> list[Detection]:
    data = getattr(value, "data", None) or {}
    names, run_lengths = data.get("class_name"), data.get("rle_mask")

    def mask_of(index: int) -> NDArray[np.bool_] | None:
        if value.mask is not None:
            return np.asarray(value.mask[index], np.bool_)
        if run_lengths is None:
            return None
        return _array(masks.from_coco_rle(run_lengths[index], size, field=f"{field}[{index}]"))

    return [
        Detection(
            box=_box(box, index, field),
            mask=mask_of(index),
            label=None if names is None else str(names[index]),
            class_id=None if value.class_id is None else int(value.class_id[index]),
            confidence=_confidence(
                None if value.confidence is None else value.confidence[index], index, field
            ),
        )
        for index, box in enumerate(np.asarray(value.xyxy))
    ]


def _from_roboflow(
    prediction: Mapping[str, Any], index: int, size: tuple[int, int], field: str
) -> Detection:
    """One of Roboflow's predictions: the centre and size of its box, perhaps an outline."""
    mask = _roboflow_mask(prediction, index, size, field)
    if {"x", "y", "width", "height"} <= set(prediction):
        x, y, width, height = (prediction[key] for key in ("x", "y", "width", "height"))
        half_width, half_height = (
            _number(width, index, field) / 2,
            _number(height, index, field) / 2,
        )
        x, y = _number(x, index, field), _number(y, index, field)
        box = (x - half_width, y - half_height, x + half_width, y + half_height)
    elif mask is not None:
        box = box_of(mask)
    else:
        raise InvalidMask(
            f"Detection {index} has neither a box (x, y, width, height) nor points nor run "
            f"lengths; it has: {', '.join(map(str, prediction)) or 'nothing'}.",
            field=field,
        )
    return Detection(
        box=box,
        mask=mask,
        label=_label(prediction.get("class", prediction.get("class_name"))),
        class_id=_class_id(prediction.get("class_id"), index, field),
        confidence=_confidence(prediction.get("confidence"), index, field),
    )


def _roboflow_mask(
    prediction: Mapping[str, Any], index: int, size: tuple[int, int], field: str
) -> NDArray[np.bool_] | None:
    run_lengths = prediction if "counts" in prediction else None
    for key in ("rle", "rle_mask"):
        run_lengths = prediction.get(key) or run_lengths
    if run_lengths is not None:
        return _array(masks.from_coco_rle(run_lengths, size, field=f"{field}[{index}]"))
    points = prediction.get("points")
    if not points:
        return None
    try:
        corners = [(point["x"], point["y"]) for point in points]
    except (TypeError, KeyError) as error:
        raise InvalidMask(
            f"The points of detection {index} are not a list of {{'x': …, 'y': …}}.", field=field
        ) from error
    return _array(masks.from_polygons([corners], size, field=f"{field}[{index}]"))


def _from_coco(
    annotations: Any, names: Mapping[int, str], size: tuple[int, int], field: str
) -> list[Detection]:
    detections = []
    for index, each in enumerate(annotations):
        mask = _coco_mask(each.get("segmentation"), index, size, field)
        if "bbox" in each:
            left, top, width, height = _box(each["bbox"], index, field)
            box = (left, top, left + width, top + height)
        elif mask is not None:
            box = box_of(mask)
        else:
            raise InvalidMask(
                f"Annotation {index} has neither a bbox nor a segmentation.", field=field
            )
        class_id = _class_id(each.get("category_id"), index, field)
        detections.append(
            Detection(
                box=box,
                mask=mask,
                label=names.get(class_id) if class_id is not None else None,
                class_id=class_id,
                confidence=_confidence(each.get("score"), index, field),
            )
        )
    return detections


def _coco_mask(
    segmentation: Any, index: int, size: tuple[int, int], field: str
) -> NDArray[np.bool_] | None:
    where = f"{field}[{index}]"
    if isinstance(segmentation, np.ndarray):
        # What SAM's generators return, in COCO's words.
        return _array(masks.from_array(segmentation, field=where))
    if not segmentation:
        return None
    if isinstance(segmentation, Mapping):
        return _array(masks.from_coco_rle(segmentation, size, field=where))
    return _array(masks.from_polygons(segmentation, size, field=where))


def _categories(dataset: Mapping[str, Any], field: str) -> dict[int, str]:
    """Names by number of a COCO data set, which must be of one picture."""
    pictures = {each.get("image_id") for each in dataset["annotations"]}
    if len(pictures) > 1:
        raise InvalidMask(
            f"The annotations are of {len(pictures)} pictures; give those of one.", field=field
        )
    return {int(each["id"]): str(each["name"]) for each in dataset.get("categories", ())}


def _check_size(picture_size: Any, size: tuple[int, int], field: str) -> None:
    """Predictions that say of which size their picture was, must be of this picture."""
    if not isinstance(picture_size, Mapping):
        return
    stated_size = picture_size.get("width"), picture_size.get("height")
    if None not in stated_size and tuple(int(str(side)) for side in stated_size) != size:
        raise InvalidMask(
            f"The predictions are of a picture of {stated_size[0]}x{stated_size[1]} pixels, this "
            f"one has {size[0]}x{size[1]}; give predictions of this picture.",
            field=field,
        )


def _box(values: Any, index: int, field: str) -> tuple[float, float, float, float]:
    try:
        left, top, right, bottom = (_number(value, index, field) for value in values)
    except (TypeError, ValueError) as error:
        raise InvalidMask(
            f"The box of detection {index} is not four numbers: {values!r}.", field=field
        ) from error
    return left, top, right, bottom


def _number(value: Any, index: int, field: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise InvalidMask(
            f"Detection {index} has a coordinate that is not a number: {value!r}.", field=field
        )
    return number


def _confidence(value: Any, index: int, field: str) -> float | None:
    if value is None:
        return None
    try:
        confidence = float(value)
    except (TypeError, ValueError):
        confidence = math.nan
    if not 0 <= confidence <= 1:
        raise InvalidMask(
            f"The confidence of detection {index} is {value}, which is not between 0 and 1.",
            field=field,
        )
    return confidence


def _class_id(value: Any, index: int, field: str) -> int | None:
    if value is None:
        return None
    try:
        return int(value)
    except (TypeError, ValueError) as error:
        raise InvalidMask(
            f"The class of detection {index} is {value!r}, which is not a number.", field=field
        ) from error


def _label(value: Any) -> str | None:
    return None if value is None else str(value)


def _array(mask: Image.Image) -> NDArray[np.bool_]:
    return np.asarray(mask) > 0


def _no_such_class(detections: Sequence[Detection], classes: Sequence[str | int]) -> NoSuchClass:
    names = sorted({each.label for each in detections if each.label is not None})
    ids = sorted({each.class_id for each in detections if each.class_id is not None})
    query = " and ".join(repr(each) for each in classes) or "nothing"
    near = difflib.get_close_matches(str(classes[0]), names, n=1) if classes else []
    listing = f"names: {', '.join(names) or 'none'}; numbers: {', '.join(map(str, ids)) or 'none'}"
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return NoSuchClass(f"no detection is of {query}{hint}; there are {listing}", field="classes")


def _unknown_form(value: Any, field: str) -> InvalidMask:
    return InvalidMask(
        f"A {type(value).__name__} is not a segmentation; give supervision.Detections, Roboflow's "
        "predictions, COCO annotations, or a mask of the picture's size.",
        field=field,
    )
