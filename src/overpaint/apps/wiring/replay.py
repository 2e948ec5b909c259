"""Making a picture again from the recipe in its file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from pydantic import BaseModel, Field, ValidationError

from overpaint.apps.wiring import build
from overpaint.core import images, masks
from overpaint.core.errors import InvalidRequest, ModelNotFound
from overpaint.core.images import Picture
from overpaint.core.types import EditRequest, Progress
from overpaint.core.version import __version__
from overpaint.provenance import marks, recipes

if TYPE_CHECKING:
    from overpaint.apps.settings import Settings
    from overpaint.core.models import Lora
    from overpaint.engine.engine import Engine

FIELD = "file"

_FLAGS = {
    "image": "--image",
    "mask": "--mask",
    "control": "--control",
    "reference": "--reference",
    "copy_from": "--from",
    "not_from": "--not-from",
}
_NOTHING = Picture(Image.new("RGB", (1, 1)))


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a recipe only names: the pictures, and the prompts where it leaves them out."""

    image: Path | None = None
    mask: Path | None = None
    control: Path | None = None
    references: Sequence[Path] = ()
    copy_from: Path | None = None
    not_from: Path | None = None
    prompt: str | None = None
    negative: str | None = None
    loras: Sequence[Lora] = ()


@dataclass(frozen=True)
class Replayed:
    """A picture made again.

    Attributes:
        picture: what was made.
        same: whether it has every pixel of the one that the recipe was written for.
        notes: what is different here; one sentence each.
    """

    picture: Picture
    same: bool
    notes: tuple[str, ...]


class _Inputs(BaseModel):
    image: str
    mask: str | None = None
    control: str | None = None
    references: tuple[str, ...] = ()
    copy_from: str | None = None
    not_from: str | None = None


class _Model(BaseModel):
    name: str
    revision: str | None = None
    device: str | None = None
    dtype: str | None = None
    loras: tuple[dict[str, Any], ...] = ()


class _Recipe(BaseModel):
    overpaint: str
    model: _Model
    prompt: str | None = None
    negative_prompt: str | None = None
    seeds: tuple[int, ...] = Field(min_length=1, max_length=1)
    options: dict[str, Any]
    inputs: _Inputs
    picture: str


def replay(
    made: Picture,
    given: Given,
    settings: Settings,
    on_progress: Callable[[Progress], None] | None = None,
) -> Replayed:
    """Make the picture again that `made`'s recipe describes.

    Raises:
        InvalidRequest: it has no recipe, or something that it names is missing or another one; the
            message names all that is.
        OverpaintError: as for any edit.
    """
    recipe = _recipe(made)
    request = _request(recipe, given)
    engine = build.engine(
        _known_model(recipe, settings),
        dtype=recipe.model.dtype,
        loras=given.loras,
        settings=settings,
    )
    notes = _differences(recipe, engine)
    picture = engine.run([request], on_progress=on_progress)[0].pictures[0]
    return Replayed(picture, picture.sha256 == recipe.picture, notes)


def _recipe(made: Picture) -> _Recipe:
    found = marks.recipe_in(made)
    if found is None:
        raise InvalidRequest(
            "there is no recipe in it; set `recipe = true` in [provenance] before an edit",
            field=FIELD,
        )
    try:
        return _Recipe.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidRequest(
            f"the recipe in it is damaged: {where}: {first['msg']}", field=FIELD
        ) from error


def _request(recipe: _Recipe, given: Given) -> EditRequest:
    """The edit as it was asked for.

    Raises:
        InvalidRequest: of all that is missing, or is not what the recipe names.
    """
    inputs, find = recipe.inputs, _Finder()
    request = EditRequest(
        image=find.picture("image", given.image, inputs.image),
        prompt=find.words("prompt", given.prompt, recipe) or "",
        negative_prompt=find.words("negative_prompt", given.negative, recipe),
        mask=find.mask("mask", given.mask, inputs.mask),
        control=find.plain("control", given.control, inputs.control),
        references=tuple(
            image
            for path, digest in zip_longest(given.references, inputs.references)
            if (image := find.plain("reference", path, digest)) is not None
        ),
        copy_from=find.mask("copy_from", given.copy_from, inputs.copy_from),
        not_from=find.mask("not_from", given.not_from, inputs.not_from),
        seed=recipe.seeds[0],
        options=recipe.options,
    )
    if find.problems:
        raise InvalidRequest("; ".join(find.problems), field=FIELD)
    return request


class _Finder:
    """Finds what a recipe names among what is given, and notes what is not there."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def picture(self, name: str, path: Path | None, digest: str) -> Picture:
        found = None if path is None else images.decode(path, field=name)
        if found is None or found.sha256 != digest:
            self._note(name, found is not None, digest)
        return found or _NOTHING

    def plain(self, name: str, path: Path | None, digest: str | None) -> Image.Image | None:
        found = None if path is None else images.decode(path, field=name).to_srgb()
        return self._matching(name, [] if found is None else [found], digest)

    def mask(self, name: str, path: Path | None, digest: str | None) -> Image.Image | None:
        found = None if path is None else images.decode_mask(path, field=name)
        # The recipe has the mask as it was used, after --invert.
        return self._matching(name, [] if found is None else [found, masks.invert(found)], digest)

    def words(self, name: str, given: str | None, recipe: _Recipe) -> str | None:
        if name in recipe.model_fields_set:
            told: str | None = getattr(recipe, name)
            return told if given is None else given
        if given is None:
            flag = {"prompt": "--prompt", "negative_prompt": "--negative"}[name]
            self.problems.append(f"the recipe leaves the {name.replace('_', ' ')} out: add {flag}")
        return given

    def _matching(
        self, name: str, found: Sequence[Image.Image], digest: str | None
    ) -> Image.Image | None:
        for image in found:
            if recipes.digest(image) == digest:
                return image
        if found or digest is not None:
            self._note(name, bool(found), digest)
        return None

    def _note(self, name: str, is_there: bool, digest: str | None) -> None:
        flag = _FLAGS[name]
        if digest is None:
            self.problems.append(f"the edit had no {flag}")
        elif is_there:
            self.problems.append(f"{flag} is another one than the edit had (sha256 {digest[:12]}…)")
        else:
            self.problems.append(f"{flag} is missing (sha256 {digest[:12]}…)")


def _known_model(recipe: _Recipe, settings: Settings) -> str:
    """The recipe's model by its name alone: a file from elsewhere names no folders here."""
    name = recipe.model.name
    if name not in build.models(settings):
        raise ModelNotFound(
            f"the picture was made with '{name}', which is not among the models here "
            "(`overpaint models`); add it to the settings",
            field="model",
        )
    return name


def _differences(recipe: _Recipe, engine: Engine) -> tuple[str, ...]:
    """What is not as it was.

    Raises:
        InvalidRequest: the weights are others, so that it cannot be the same picture.
    """
    here = engine.model().record
    for name, wanted in (("revision", recipe.model.revision), ("loras", _digests(recipe.model))):
        found = here.get(name) if name == "revision" else _digests(_Model(**here))
        if found != wanted:
            raise InvalidRequest(
                f"the picture was made with other weights of {recipe.model.name}: {name} "
                f"{wanted or 'none'}, here {found or 'none'}",
                field="model",
            )
    then = {"Overpaint": recipe.overpaint, "the device": recipe.model.device}
    now = {"Overpaint": __version__, "the device": here.get("device")}
    return tuple(
        f"{what} was {then[what]}, is {now[what]}" for what in then if then[what] != now[what]
    )


def _digests(model: _Model) -> list[tuple[Any, Any]]:
    return [(each.get("sha256"), each.get("scale")) for each in model.loras]
