"""The models that can be named: bundled, known, one's own, and folders; and which are here."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from overpaint.apps import settings as settings_
from overpaint.apps.wiring.models import adapters, families
from overpaint.checkpoints.files import hub, layout
from overpaint.checkpoints.files.layout import INDEX
from overpaint.core.errors import ModelLoadError, ModelNotFound
from overpaint.core.models import BUILTIN, ModelSpec

if TYPE_CHECKING:
    from overpaint.apps.settings import Settings

TWINS = "tiny-"
"""Bundled checkpoints are named after their family: `tiny-sd2` in `overpaint/twins/tiny-sd2`."""

ModelState = Literal["ready", "not pulled", "missing", "damaged"]


def models(settings: Settings) -> dict[str, ModelSpec]:
    """All models by name: bundled twins, well-known ones, and the user's own, which win."""
    return {spec.name: spec for spec in (*_twins(), *BUILTIN, *settings.own_models())}


def find_model(name: str, settings: Settings) -> ModelSpec:
    """The model of that name, with adapters where it names some; a path to a folder is a model too.

    Raises:
        ModelNotFound: no model of that name.
        ModelLoadError: the folder is not a checkpoint of a known family.
    """
    specs = models(settings)
    if name in specs:
        return specs[name]
    base, _, names = name.partition(adapters.JOINT)
    if names and base in specs:
        return adapters.adapted(specs[base], names, settings)
    if Path(name).is_file():
        from overpaint.checkpoints.files import foreign

        raise ModelNotFound(f"{name} is {foreign.description(Path(name))}", field="model")
    if "/" in name or "\\" in name or Path(name).is_dir():
        return _folder_model(Path(name))
    if name.startswith(TWINS) and not any(each.startswith(TWINS) for each in specs):
        raise ModelNotFound(
            f"'{name}' is not bundled with this installation; name another model with --model "
            f"(known are {', '.join(specs)}), or set a default in {settings_.FILE_NAME}",
            field="model",
        )
    raise ModelNotFound(
        f"there is no model '{name}'{_near(name, specs)}; known are {', '.join(specs)}, or give "
        "the path of a folder in diffusers layout",
        field="model",
    )


def state(spec: ModelSpec, settings: Settings) -> ModelState:
    """Whether the model's files are on this machine."""
    if spec.source == "none":
        return "ready"
    if spec.source == "hub":
        try:
            pulled = hub.locate(spec.location, spec.revision, cache=settings.cache)
        except ModelLoadError:
            return "damaged"
        return "ready" if pulled else "not pulled"
    return "ready" if (Path(spec.location) / INDEX).is_file() else "missing"


def _twins() -> Iterator[ModelSpec]:
    folder = files("overpaint") / "twins"
    if not folder.is_dir():
        return
    for twin in sorted(folder.iterdir(), key=lambda each: each.name):
        if twin.name.startswith(TWINS) and (twin / INDEX).is_file():
            yield ModelSpec(
                name=twin.name,
                family=twin.name.removeprefix(TWINS),
                source="bundled",
                location=str(twin),
                licence="Apache-2.0",
                size_gb=_size(Path(str(twin))) / 1e9,
                about="a tiny checkpoint that knows only simple shapes and colours",
            )


def _folder_model(folder: Path) -> ModelSpec:
    pipeline = _pipeline_class(folder)
    for family in families.importable():
        if family.refusal(pipeline, lambda component: layout.config(folder / component)) is None:
            return ModelSpec(
                name=folder.resolve().name,
                family=family.name,
                source="folder",
                location=str(folder),
                size_gb=_size(folder) / 1e9,
            )
    readable = sorted({name for each in families.importable() for name in each.pipelines})
    raise ModelLoadError(
        f"{folder}: this is a {pipeline or 'checkpoint without a pipeline class'}, which no "
        f"family reads; known are {', '.join(readable)}"
    )


def _pipeline_class(folder: Path) -> str:
    file = folder / INDEX
    if not file.is_file():
        there = "no such folder" if not folder.is_dir() else f"no {INDEX} in it"
        raise ModelNotFound(
            f"{folder}: {there}; a model is a folder in diffusers layout", field="model"
        )
    try:
        class_name = json.loads(file.read_text(encoding="utf-8"))["_class_name"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelLoadError(f"{file}: names no pipeline class ({error!r})") from error
    return str(class_name[-1] if isinstance(class_name, list) else class_name)


def _size(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _near(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(names), n=3)
    return f" (did you mean {' or '.join(near)}?)" if near else ""
