"""Making a picture again from the recipe in its file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from PIL import Image, ImageChops
from pydantic import BaseModel, Field, ValidationError

from overpaint.apps.settings import RewriterSettings
from overpaint.apps.wiring.models import build, catalogue
from overpaint.core import plain_values
from overpaint.core.errors import InvalidRequest, ModelNotFound
from overpaint.core.imaging import images, masks
from overpaint.core.imaging.images import Picture
from overpaint.core.parts import MaskReading, Part
from overpaint.core.types import PARTS, EditRequest, Progress
from overpaint.core.version import __version__
from overpaint.engine import intake
from overpaint.provenance import marks, recipes

if TYPE_CHECKING:
    from overpaint.apps.settings import Settings
    from overpaint.core.models import Lora
    from overpaint.engine.engine import Engine

FIELD = "file"

ROUNDING = 1
"""Levels of 255 by which a picture that was made in a batch may differ from the same one alone:
products of other shapes are rounded otherwise."""

_TEXTS = tuple(part for part in PARTS if part.kind == "text")


@dataclass(frozen=True)
class Replayed:
    """A picture made again.

    Attributes:
        picture: what was made.
        same: whether it has every pixel of the one that the recipe was written for.
        levels: largest difference of a value, of 255, from the picture in the file; None = not
            known, because the file's own pixels are others or of another size.
        notes: what is different here; one sentence each.
    """

    picture: Picture
    same: bool
    levels: int | None
    notes: tuple[str, ...]

    @property
    def is_rounding(self) -> bool:
        """Whether it is the same, or differs by rounding alone."""
        return self.same or (self.levels is not None and self.levels <= ROUNDING)


class _Model(BaseModel):
    name: str
    revision: str | None = None
    device: str | None = None
    dtype: str | None = None
    loras: tuple[dict[str, Any], ...] = ()


class _Recipe(BaseModel):
    overpaint: str
    model: _Model
    words: dict[str, str | None]
    seeds: tuple[int, ...] = Field(min_length=1, max_length=1)
    options: dict[str, Any]
    inputs: dict[str, str | tuple[str, ...] | None]
    extend: dict[str, int] | None = None
    target_found: dict[str, str] | None = None
    measures: list[dict[str, Any]] = Field(default_factory=list)

    def size_of_input(self, size: tuple[int, int]) -> tuple[int, int]:
        """(width, height) of the picture that was edited, from that of the result."""
        sides = defaultdict(int, self.extend or {})
        return size[0] - sides["left"] - sides["right"], size[1] - sides["top"] - sides["bottom"]

    picture: str
    watermark: bool = False


def replay(
    original: Picture,
    parts: Mapping[str, Any],
    settings: Settings,
    *,
    name_of: Callable[[str], str],
    loras: Sequence[Lora] = (),
    on_progress: Callable[[Progress], None] | None = None,
) -> Replayed:
    """Make the picture again that `made`'s recipe describes.

    Args:
        original: the picture with the recipe.
        parts: of the edit, by name, that a recipe only names: paths of pictures and masks, and
            words where it leaves them out.
        settings: say which models there are.
        name_of: what a part is called where its file is given, for messages.
        loras: adapters of the edit.
        on_progress: called after each step.

    Raises:
        InvalidRequest: it has no recipe, or something that it names is missing or another one; the
            message names all that is.
        OverpaintError: as for any edit.
    """
    recipe = _recipe(original)
    size = recipe.size_of_input(original.size)
    request = _request(recipe, parts, _Finder(name_of, size, parts.get("image")))
    provenance = settings.provenance.model_copy(update={"watermark": recipe.watermark})
    engine = build.engine(
        _known_model(recipe, settings),
        dtype=recipe.model.dtype,
        loras=loras,
        # The recipe has the prompt as it was rewritten.
        settings=settings.model_copy(
            update={"rewriter": RewriterSettings(), "provenance": provenance}
        ),
    )
    notes = _differences(recipe, engine)
    picture = engine.run([request], on_progress=on_progress)[0].pictures[0]
    is_original = original.sha256 == recipe.picture and original.size == picture.size
    levels = _largest_difference(original, picture) if is_original else None
    return Replayed(picture, picture.sha256 == recipe.picture, levels, notes)


def _largest_difference(one: Picture, other: Picture) -> int:
    """The largest difference of any value, in levels of 255."""
    extrema = ImageChops.difference(one.rgb, other.rgb).getextrema()
    return max(int(high) for _, high in extrema)  # type: ignore[misc]


def _recipe(original: Picture) -> _Recipe:
    content = marks.recipe_in(original)
    if content is None:
        raise InvalidRequest(
            "the file has no recipe; set `recipe = true` in [provenance] before the edit",
            field=FIELD,
        )
    try:
        words = {part.name: content[part.name] for part in _TEXTS if part.name in content}
        return _Recipe.model_validate({**content, "words": words})
    except ValidationError as error:
        first = plain_values.first_error(error)
        where = ".".join(str(part) for part in first["loc"]).removeprefix("words.")
        raise InvalidRequest(
            f"its recipe is damaged: {where}: {plain_values.complaint(first)}", field=FIELD
        ) from error


def _request(recipe: _Recipe, parts: Mapping[str, Any], finder: _Finder) -> EditRequest:
    """The edit as it was asked for.

    Raises:
        InvalidRequest: of all that is missing, or is not what the recipe names.
    """
    values: dict[str, Any] = {
        "seed": recipe.seeds[0],
        "options": {
            **recipes.options_since(recipe.options),
            **recipe.options,
            **recipes.areas_kept(recipe.model_dump()),
        },
        "extend": recipe.extend,
    }
    for part in PARTS:
        value = parts.get(part.name)
        if part.is_visual:
            values[part.name] = finder.visual(part, value, recipe.inputs.get(part.name))
        elif part.kind == "text":
            values[part.name] = finder.words(part, value, recipe.words)
    if finder.problems:
        raise InvalidRequest("; ".join(finder.problems), field=FIELD)
    return intake.request_of(values)


class _Finder:
    """Finds what a recipe names among what is there, and notes what is not.

    Args:
        name_of: what a part is called where an error is read.
        size: (width, height) of the picture that was edited.
        image: the picture's file, if it was named.
    """

    def __init__(
        self, name_of: Callable[[str], str], size: tuple[int, int], image: Path | None
    ) -> None:
        self.problems: list[str] = []
        self._name_of = name_of
        self._size = size
        self._image = image

    def visual(self, part: Part, value: Any, digest: Any) -> Any:
        """Pictures or a mask that match what the recipe has of them."""
        if part.kind != "pictures":
            return self._one(part, value, digest or None)
        several = zip_longest(value or (), digest or ())
        return [
            image
            for one, own_digest in several
            if (image := self._one(part, one, own_digest)) is not None
        ]

    def _one(self, part: Part, path: Path | None, digest: Any) -> Any:
        candidates = [] if path is None else list(self._candidates(part, path))
        for value, own_digest in candidates:
            if own_digest == digest:
                return value
        if candidates or digest is not None:
            self._note(part, bool(candidates), digest)
        return None

    def _candidates(self, part: Part, path: Path) -> Iterator[tuple[Any, str | None]]:
        """The forms that a file may have in the edit, each with its digest."""
        if part.kind == "mask":
            for mask in self._readings(part, path):
                # The recipe has the mask as it was used, after --invert.
                for each in (mask, masks.invert(mask)):
                    yield each, recipes.digest(each)
            return
        picture = images.decode(path, field=part.name)
        if part.required:
            yield picture, picture.sha256
        else:
            yield picture, recipes.digest(picture.to_srgb())

    def _readings(self, part: Part, path: Path) -> Iterator[Image.Image]:
        """The masks that a file may be read as; as what it evidently is, if nothing else."""
        for reads in get_args(MaskReading):
            with suppress(InvalidRequest):
                yield intake.as_mask(path, part.name, size=self._size, reads=reads)
        image = None if self._image is None else self._image.name
        yield intake.as_mask(path, part.name, size=self._size, picture=image)

    def words(self, part: Part, value: str | None, recorded: Mapping[str, str | None]) -> Any:
        if part.name not in recorded and value is None:
            name, flag = part.name.replace("_", " "), self._name_of(part.name)
            self.problems.append(f"the recipe leaves the {name} out: add {flag}")
        return recorded.get(part.name) if value is None else value

    def _note(self, part: Part, is_there: bool, digest: Any) -> None:
        flag = self._name_of(part.name)
        if digest is None:
            self.problems.append(f"the edit had no {flag}")
        elif is_there:
            self.problems.append(f"{flag} is not the one that the edit had (sha256 {digest[:12]}…)")
        else:
            self.problems.append(f"{flag} is missing (sha256 {digest[:12]}…)")


def _known_model(recipe: _Recipe, settings: Settings) -> str:
    """The recipe's model by its name alone: a file from elsewhere names no folders here."""
    name = recipe.model.name
    if name not in catalogue.models(settings):
        raise ModelNotFound(
            f"the picture was made with '{name}', which this machine does not have "
            "(`overpaint models` lists what it has); add it to the settings",
            field="model",
        )
    return name


def _differences(recipe: _Recipe, engine: Engine) -> tuple[str, ...]:
    """Differences between the recipe and this machine, one sentence each.

    Raises:
        InvalidRequest: the weights are others, so that it cannot be the same picture.
    """
    here = engine.model().record
    for name, original in (("revision", recipe.model.revision), ("loras", _digests(recipe.model))):
        content = here.get(name) if name == "revision" else _digests(_Model(**here))
        if content != original:
            raise InvalidRequest(
                f"the picture was made with other weights of {recipe.model.name}: {name} "
                f"{original or 'none'}, here {content or 'none'}",
                field="model",
            )
    then = {"Overpaint": recipe.overpaint, "the device": recipe.model.device}
    now = {"Overpaint": __version__, "the device": here.get("device")}
    return tuple(
        f"{what} was {then[what]}, is {now[what]}" for what in then if then[what] != now[what]
    )


def _digests(model: _Model) -> list[tuple[Any, Any]]:
    return [(each.get("sha256"), each.get("scale")) for each in model.loras]
