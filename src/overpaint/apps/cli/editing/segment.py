"""The command `segment`, and the hints by which other commands make their masks."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overpaint.apps.cli import console
from overpaint.apps.cli.editing import output
from overpaint.core.errors import InvalidMask, InvalidRequest, UnsupportedOption

if TYPE_CHECKING:
    from PIL import Image

    from overpaint.apps.settings import Settings
    from overpaint.core.imaging.detections import Detection
    from overpaint.core.imaging.images import Picture
    from overpaint.segmenters.segmenter import Hints

Points = Annotated[
    list[str] | None,
    typer.Option(
        "--point",
        metavar="X,Y",
        help="A point on the thing, in pixels; repeatable, all on one thing.",
    ),
]
NotPoints = Annotated[
    list[str] | None,
    typer.Option("--not-point", metavar="X,Y", help="A point that is not on it; repeatable."),
]
Boxes = Annotated[
    list[str] | None,
    typer.Option("--box", metavar="L,T,R,B", help="A box around a thing, in pixels; repeatable."),
]
SegmenterName = Annotated[
    str | None,
    typer.Option(
        "--segmenter",
        metavar="NAME",
        help="Model that finds it: grabcut, sam2, grounding-dino, owlv2, sam3, FINDER+OUTLINER "
        "or a folder.",
    ),
]


@dataclass(kw_only=True)
class Selection:
    """The command line's words on what to find, unchecked."""

    points: Sequence[str] = ()
    not_points: Sequence[str] = ()
    boxes: Sequence[str] = ()
    words: str | None = None
    segmenter: str | None = None

    @property
    def is_given(self) -> bool:
        """Whether there is any hint."""
        return bool(self.points or self.not_points or self.boxes or self.words is not None)

    def hints(self) -> Hints:
        """The hints.

        Raises:
            UnsupportedOption: something is not made of numbers.
        """
        from overpaint.segmenters.segmenter import Hints, Point

        points = []
        for inside, name, texts in (
            (True, "point", self.points),
            (False, "not-point", self.not_points),
        ):
            for text in texts:
                x, y = _numbers(text, 2, name)
                points.append(Point(x, y, inside))
        boxes: list[Any] = [_numbers(each, 4, "box") for each in self.boxes]
        return Hints(points=tuple(points), boxes=tuple(boxes), words=self.words)

    def find(self, picture: Picture, settings: Settings) -> list[Detection]:
        """The detections in the picture.

        Raises:
            InvalidRequest, ModelNotFound, ModelLoadError: see `segmentation.segment`.
        """
        from overpaint.apps.wiring.models import segmentation

        return segmentation.segment(picture, self.hints(), model=self.segmenter, settings=settings)

    def mask(self, picture: Picture, settings: Settings, *, as_json: bool) -> Image.Image:
        """The mask of all that is found; where that is, people read on the standard error.

        Raises:
            InvalidMask: nothing is found.
        """
        detections = self.find(picture, settings)
        mask = mask_of(detections, picture, self)
        if not as_json:
            _say_places(detections)
        return mask


def segment(
    image: output.ImageFile,
    out: Annotated[
        str,
        typer.Option(
            "--out", "-o", metavar="MASK", help="Where to write the mask; - means stdout."
        ),
    ],
    point: Points = None,
    not_point: NotPoints = None,
    box: Boxes = None,
    text: Annotated[
        str | None, typer.Option("--text", metavar="WORDS", help="What to look for, in words.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--everything", help="Mark everything that is found (sam2).")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-M",
            help="Model that finds it: grabcut, sam2, grounding-dino, owlv2, sam3 or a folder.",
        ),
    ] = None,
    grow: Annotated[int, typer.Option("--grow", help="Grow the mask by this many pixels.")] = 0,
    invert: Annotated[bool, typer.Option("--invert", help="Mark everything else.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
    as_json: console.Json = False,
) -> None:
    """Make a mask from a point, a box or words; what was found is white."""
    from overpaint.apps import settings as settings_

    selection = Selection(
        points=point or (),
        not_points=not_point or (),
        boxes=box or (),
        words=text,
        segmenter=model,
    )
    with console.reporting_errors(as_json=as_json):
        _check_given(selection, everything=everything)
        settings = settings_.load()
        target = output.choose(image, out, 1, force=force)
        if as_json and not target.paths:
            raise UnsupportedOption("JSON and the mask cannot share stdout", field="json")
        picture = _read(image)
        with console.waiting("Looking", hidden=as_json):
            detections = selection.find(picture, settings)
        mask = _finish(mask_of(detections, picture, selection), grow=grow, invert=invert)
        paths = _write(mask, target)
        _tell(detections, paths, as_json=as_json)


def mask_of(results: Sequence[Detection], picture: Picture, selection: Selection) -> Image.Image:
    """The union of what was found.

    Raises:
        InvalidMask: nothing was found.
    """
    from overpaint.core.imaging import detections

    some = [each for each in results if each.mask is None or each.mask.any()]
    if not some:
        what = f"'{selection.words}'" if selection.words else "a thing there"
        raise InvalidMask(f"{what} was not found; give other hints or another model", field="mask")
    return detections.union(some, picture.size, field="mask")


def _check_given(selection: Selection, *, everything: bool) -> None:
    if selection.is_given == everything:
        raise InvalidRequest(
            "give --point, --box or --text, or --everything alone", field="segmentation"
        )


def _numbers(text: str, count: int, name: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        form = "X,Y" if count == 2 else "LEFT,TOP,RIGHT,BOTTOM"
        raise UnsupportedOption(f"'{text}' is not {form} in pixels", field=name)
    return numbers


def _read(image: str) -> Picture:
    from overpaint.core.imaging import images

    return images.decode(sys.stdin.buffer.read() if image == output.STDIO else Path(image))


def _finish(mask: Image.Image, *, grow: int, invert: bool) -> Image.Image:
    from overpaint.core.imaging import masks

    mask = masks.grow(mask, grow)
    return masks.invert(mask) if invert else mask


def _write(mask: Image.Image, target: output.Output) -> list[str]:
    from overpaint.core.imaging.images import Picture

    return target.write([Picture.from_pil(mask)])


def _tell(detections: Sequence[Detection], paths: list[str], *, as_json: bool) -> None:
    if as_json:
        console.print_json(
            {
                "output": paths[0],
                "detections": [
                    {"box": each.box, "label": each.label, "confidence": each.confidence}
                    for each in detections
                ],
            }
        )
        return
    for path in paths:
        if path != output.STDIO:
            sys.stdout.write(f"{path}\n")
    _say_places(detections)


def _say_places(detections: Sequence[Detection]) -> None:
    for each in detections:
        box = ",".join(f"{value:.0f}" for value in each.box)
        sure = "" if each.confidence is None else f", confidence {each.confidence:.2f}"
        console.say(f"{each.label or 'found'} at {box}{sure}", style="dim")
