"""One edit from the command line: read, check, load, run, write, tell.

Everything that can be refused is refused before a model is loaded, and everything about the
output that can be known is known before anything is computed.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from overpaint.apps.cli import console, output
from overpaint.apps.cli.interrupt import Interrupt
from overpaint.apps.cli.segment import Selection
from overpaint.core.errors import InvalidImage, InvalidMask, UnsupportedOption

if TYPE_CHECKING:
    from PIL import Image

    from overpaint.apps.settings import Settings
    from overpaint.core.images import Picture
    from overpaint.core.models import Lora
    from overpaint.core.types import EditRequest, EditResult
    from overpaint.engine.engine import Engine


@dataclass(kw_only=True)
class Job:
    """The command line's words, unchecked."""

    task: Literal["inpaint", "edit", "erase"]
    image: str
    prompt: str = ""
    mask: Path | None = None
    selection: Selection = field(default_factory=Selection)
    negative: str | None = None
    control: Path | None = None
    references: list[Path] = field(default_factory=list)
    copy_from: Path | None = None
    not_from: Path | None = None
    out: str | None = None
    force: bool = False
    model: str | None = None
    seed: int | None = None
    num_images: int = 1
    loras: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    invert: bool = False
    grow: int | None = None
    feather: int | None = None
    preset: str | None = None
    shadow: bool | None = None
    device: str | None = None
    dtype: str | None = None
    as_json: bool = False


def run(job: Job) -> None:
    """Do the edit and leave with an exit code."""
    from overpaint.apps import settings as settings_

    with console.reporting_errors(as_json=job.as_json):
        settings = settings_.load()
        target = output.choose(job.image, job.out, max(job.num_images, 1), force=job.force)
        if job.as_json and not target.paths:
            raise UnsupportedOption("JSON and the picture cannot share stdout", field="json")
        result = _edit(job, settings)
        written = target.write(result.pictures)
        _tell(job, result, written, [*result.warnings, *target.warnings])


def _edit(job: Job, settings: Settings) -> EditResult:
    with Interrupt() as interrupt, console.StepBar(hidden=job.as_json) as bar:
        with console.waiting("Reading", hidden=job.as_json):
            from overpaint.core import images

            request = request_of(job, images.decode(_source(job.image)), settings)
        engine = engine_for(job, request, settings)
        return engine.run([request], on_progress=bar, cancelled=interrupt.cancelled)[0]


def engine_for(job: Job, request: EditRequest, settings: Settings) -> Engine:
    """An engine with the job's model, once the model is known to take the request.

    Raises:
        OverpaintError: as for `Engine.edit`, before anything is loaded where that can be.
    """
    model = job.model or getattr(settings.defaults, job.task)
    loras = [parse_lora(each) for each in job.loras]
    with console.waiting(f"Loading {model}", hidden=job.as_json):
        from overpaint.apps.wiring import build, families
        from overpaint.engine.intake import check

        family = families.find(build.find_model(model, settings).family)
        check(family, request)
        return build.engine(
            model, device=job.device, dtype=job.dtype, loras=loras, settings=settings
        )


def request_of(job: Job, picture: Picture, settings: Settings) -> EditRequest:
    """The edit of a picture that the job describes.

    Raises:
        InvalidRequest: something that it names is not there or does not fit.
    """
    from overpaint.core.types import EditRequest

    mask = _mask(job, picture, settings)
    return EditRequest(
        image=picture,
        prompt=job.prompt,
        mask=mask,
        negative_prompt=job.negative,
        control=_srgb(job.control, "control") if job.control is not None else None,
        references=tuple(_srgb(each, "references") for each in job.references),
        copy_from=_where(job.copy_from, "copy_from", picture),
        not_from=_where(job.not_from, "not_from", picture),
        seed=job.seed,
        num_images=job.num_images,
        options=_options(job),
    )


def _mask(job: Job, picture: Picture, settings: Settings) -> Image.Image | None:
    """From a file, or of what shall be found in the picture."""
    from overpaint.core import images, masks

    if job.mask is not None and job.selection.is_given:
        raise InvalidMask("give a mask, or say what to find, not both", field="mask")
    if job.mask is not None:
        mask = images.decode_mask(_named(job.mask, "mask"), size=picture.size)
    elif job.selection.is_given:
        mask = job.selection.mask(picture, settings)
    elif job.task != "edit":
        raise InvalidMask(
            "what shall be repainted? give --mask FILE, --select WORDS, --box or --point",
            field="mask",
        )
    elif job.invert:
        raise InvalidMask("there is no mask to invert; add --mask", field="mask")
    else:
        return None
    return masks.invert(mask) if job.invert else mask


def _where(path: Path | None, name: str, picture: Picture) -> Image.Image | None:
    """A mask of what may be copied, or must not be."""
    from overpaint.core import images

    if path is None:
        return None
    return images.decode_mask(_named(path, name), field=name, size=picture.size)


def _source(image: str) -> bytes | Path:
    return sys.stdin.buffer.read() if image == output.STDIO else _named(Path(image), "image")


def _named(path: Path, name: str) -> Path:
    if str(path) == output.STDIO:
        raise InvalidImage("only the picture to edit can come from stdin", field=name)
    return path


def _srgb(path: Path, name: str) -> Any:
    from overpaint.core import images

    return images.decode(_named(path, name), field=name).to_srgb()


def _options(job: Job) -> dict[str, Any]:
    options = dict(parse_option(each) for each in job.options)
    names = ("grow", "feather", "shadow", "preset")
    flags = {name: getattr(job, name) for name in names}
    return options | {name: value for name, value in flags.items() if value is not None}


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


def _tell(job: Job, result: EditResult, written: list[str], warnings: list[str]) -> None:
    if job.as_json:
        console.print_json(
            {
                "outputs": written,
                "seeds": list(result.seeds),
                "recipe": result.recipe,
                "timings": dict(result.timings),
                "warnings": warnings,
            }
        )
        return
    for warning in warnings:
        console.say(f"Warning: {warning}", style="yellow")
    seconds = result.timings["total"]
    for path, seed in zip(written, result.seeds, strict=True):
        if path == output.STDIO:
            continue
        sys.stdout.write(f"{path}\n")
        console.say(f"seed {seed}, {seconds:.1f} s", style="dim")
