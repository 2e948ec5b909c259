"""One edit from the command line: read, check, load, run, write, tell.

Everything that can be refused is refused before a model is loaded, and everything about the
output that can be known is known before anything is computed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overpaint.apps.cli import console
from overpaint.apps.cli.editing import output
from overpaint.apps.cli.editing.segment import Selection
from overpaint.apps.cli.interrupt import Interrupt
from overpaint.apps.cli.parts import files_of, read_parts
from overpaint.core.errors import InvalidImage, InvalidMask, UnsupportedOption
from overpaint.core.types import PARTS

if TYPE_CHECKING:
    from PIL import Image

    from overpaint.apps.settings import Settings
    from overpaint.core.imaging.images import Picture
    from overpaint.core.models import EditTask, Lora
    from overpaint.core.types import EditRequest, EditResult
    from overpaint.diffusion.family import FamilySpec
    from overpaint.engine.engine import Engine


OPTION_FLAGS = (
    *("grow", "feather", "repaint_beyond", "follow", "hold", "keep_areas"),
    *("shadow", "preset"),
)
"""Options of a family that have an option of their own on the command line."""


@dataclass(kw_only=True)
class Job:
    """The command line's words, unchecked.

    Attributes:
        task: which of the settings' default models runs.
        parts: of the edit by name, pictures as paths; without its mask where that is selected.
        selection: what to find in the picture for a mask.
        out: where the result goes.
        force: write over existing files.
        format, quality: of the result's file; see `output.Encoding`.
        loras, options: as they were typed.
        flags: options of the family that have an option of their own.
        invert: repaint what the mask leaves black.
        device, dtype: None = as in the settings.
        as_json: answer with JSON.
    """

    task: EditTask
    parts: Mapping[str, Any]
    selection: Selection = field(default_factory=Selection)
    out: str | None = None
    force: bool = False
    format: str | None = None
    quality: int | None = None
    loras: Sequence[str] = ()
    options: Sequence[str] = ()
    flags: Mapping[str, Any] = field(default_factory=dict)
    invert: bool = False
    device: str | None = None
    dtype: str | None = None
    as_json: bool = False

    @classmethod
    def of(
        cls,
        task: EditTask,
        parts: Mapping[str, Any],
        values: Mapping[str, Any],
    ) -> Job:
        """A job of a command's values; what it does not know is not used.

        Args:
            task: which of the settings' default models runs.
            parts: the edit's.
            values: the other options of the command, by their names.
        """
        own = {"out", "force", "format", "quality", "invert", "device", "dtype", "as_json"}
        return cls(
            task=task,
            parts={name: value for name, value in parts.items() if value not in (None, [])},
            selection=Selection(
                points=values.get("point") or (),
                boxes=values.get("box") or (),
                words=values.get("select"),
                segmenter=values.get("segmenter"),
            ),
            loras=values.get("lora") or (),
            options=values["option"] or (),
            flags={name: values[name] for name in OPTION_FLAGS if values.get(name) is not None},
            **{name: value for name, value in values.items() if name in own},
        )


def run(job: Job) -> None:
    """Do the edit and leave with an exit code."""
    from overpaint.apps import settings as settings_

    with console.reporting_errors(as_json=job.as_json):
        settings = settings_.load()
        count = max(job.parts.get("num_images", 1), 1)
        target = output.choose(
            job.parts["image"],
            job.out,
            count,
            force=job.force,
            others=files_of({**job.parts, "image": None}),
            encoding=output.Encoding(job.format, job.quality),
        )
        if job.as_json and not target.paths:
            raise UnsupportedOption("JSON and the picture cannot share stdout", field="json")
        result = _edit(job, settings)
        paths = target.write(result.pictures)
        losses = target.losses(result.pictures)
        _tell(job, result, paths, [*result.warnings, *target.warnings, *losses])


def _edit(job: Job, settings: Settings) -> EditResult:
    with Interrupt() as interrupt, console.StepBar(hidden=job.as_json) as bar:
        with console.waiting("Reading", hidden=job.as_json):
            from overpaint.core.imaging import images

            request = request_of(job, images.decode(_source(job.parts["image"])), settings)
        engine = engine_for(job, request, settings)
        return engine.run([request], on_progress=bar, cancelled=interrupt.cancelled)[0]


def engine_for(job: Job, request: EditRequest, settings: Settings) -> Engine:
    """An engine with the job's model, once the model is known to take the request.

    Raises:
        OverpaintError: as for `Engine.edit`, before anything is loaded where that can be.
    """
    from overpaint.apps.wiring.models import defaults

    model_option = job.parts.get("model")
    model = model_option or defaults.choose(job.task, settings)
    loras = [parse_lora(each) for each in job.loras]
    with console.waiting(f"Loading {model}", hidden=job.as_json):
        from overpaint.apps.wiring.models import build, catalogue, families
        from overpaint.engine.checking import check

        family = families.find(catalogue.find_model(model, settings).family)
        if "extend" not in job.parts:  # which goes with words and without
            _require_task(job.task, model, family)
        check(family, request)
        return build.engine(
            model_option,
            task=job.task,
            device=job.device,
            dtype=job.dtype,
            loras=loras,
            settings=settings,
        )


def _require_task(task: EditTask, model: str, family: FamilySpec) -> None:
    """Refuse a model whose family takes words where the command has none, and the other way round.

    Raises:
        UnsupportedOption: it does; the message names the command that fits.
    """
    if task == "erase" and family.need("prompt") == "required":
        fitting = "inpaint" if family.need("mask") == "required" else "edit"
        raise UnsupportedOption(
            f"'{model}' needs words, and 'erase' takes none; leave --model out, or use `overpaint "
            f"{fitting}`",
            field="model",
        )
    if task != "erase" and family.need("prompt") == "refused":
        raise UnsupportedOption(
            f"'{model}' takes no words; use `overpaint erase`, or another model", field="model"
        )


def request_of(job: Job, picture: Picture, settings: Settings) -> EditRequest:
    """The edit of a picture that the job describes.

    Raises:
        InvalidRequest: something that it names is not there or does not fit.
    """
    from overpaint.engine import intake

    for part in PARTS:
        for path in _paths(job.parts.get(part.name)):
            _refuse_stdin(path, part.name)
    job = replace(job, parts=read_parts(job.parts, picture.size))
    own = ("model", "mask_is")  # read here: the model and the mask
    parts = {name: value for name, value in job.parts.items() if name not in own}
    options = dict(parse_option(each) for each in job.options)
    return intake.request_of(
        {
            **parts,
            "image": picture,
            "mask": _mask(job, picture, settings),
            "options": {**options, **job.flags},
        }
    )


def _paths(value: Any) -> list[Path]:
    return [
        each for each in (value if isinstance(value, list) else [value]) if isinstance(each, Path)
    ]


def _mask(job: Job, picture: Picture, settings: Settings) -> Image.Image | None:
    """From a file, or of what a segmenter finds in the picture."""
    from overpaint.core.imaging import masks
    from overpaint.engine.intake import as_mask

    path = job.parts.get("mask")
    if path is not None and job.selection.is_given:
        raise InvalidMask("give a mask, or say what to find, not both", field="mask")
    if path is None and "mask_is" in job.parts:
        raise InvalidMask("there is no mask to read; add --mask", field="mask_is")
    if path is not None:
        image = Path(job.parts["image"]).name if "image" in job.parts else None
        reads = job.parts.get("mask_is")
        mask = as_mask(path, size=picture.size, reads=reads, picture=image)
        masks.check_size(mask, picture.size)
    elif job.selection.is_given:
        mask = job.selection.mask(picture, settings, as_json=job.as_json)
    elif job.task != "edit" and "extend" not in job.parts:
        raise InvalidMask(
            "nothing says what to repaint; give --mask FILE, --select WORDS, --box or --point",
            field="mask",
        )
    elif job.invert:
        raise InvalidMask("there is no mask to invert; add --mask", field="mask")
    else:
        return None
    return masks.invert(mask) if job.invert else mask


def _source(image: str) -> bytes | Path:
    return sys.stdin.buffer.read() if image == output.STDIO else Path(image)


def _refuse_stdin(path: Path, name: str) -> None:
    if str(path) == output.STDIO:
        raise InvalidImage("only the picture to edit can come from stdin", field=name)


def parse_option(text: str) -> tuple[str, Any]:
    """`key=value`; the value is JSON where it reads as JSON, else a string.

    Raises:
        UnsupportedOption: there is no '='.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UnsupportedOption(f"'{text}' is not KEY=VALUE", field="options")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def parse_lora(text: str) -> Lora:
    """`PATH` or `PATH:SCALE`.

    Raises:
        UnsupportedOption: the file is not there, or the scale is not a finite number.
    """
    from overpaint.core.models import Lora

    path, colon, scale = text.rpartition(":")
    if not colon or Path(text).exists():
        path, scale = text, "1"
    try:
        factor = float(scale)
    except ValueError:
        factor = float("nan")
    if not -100 <= factor <= 100:
        raise UnsupportedOption(f"'{scale}' is not a scale between -100 and 100", field="lora")
    if not Path(path).exists():
        raise UnsupportedOption(f"{path}: no such file", field="lora")
    return Lora(Path(path), factor)


def _tell(job: Job, result: EditResult, paths: list[str], warnings: list[str]) -> None:
    if job.as_json:
        console.print_json(
            {
                "outputs": paths,
                "seeds": list(result.seeds),
                "recipe": result.recipe,
                "measures": [dict(each) for each in result.measures],
                "timings": dict(result.timings),
                "warnings": warnings,
            }
        )
        return
    console.warn(warnings)
    seconds = result.timings["total"]
    for path, seed in zip(paths, result.seeds, strict=True):
        if path == output.STDIO:
            continue
        sys.stdout.write(f"{path}\n")
        console.say(f"seed {seed}, {seconds:.1f} s", style="dim")
