"""The commands that edit a picture: inpaint, edit, erase, extend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from overpaint.apps.cli import console
from overpaint.apps.cli.editing import output
from overpaint.apps.cli.editing.job import Job, run
from overpaint.apps.cli.editing.segment import Boxes, Points, SegmenterName
from overpaint.apps.cli.parts import options_of_parts, ordered, take_parts, with_arguments
from overpaint.core.imaging.borders import ANCHORS, SIDES
from overpaint.core.models import border_task

Image = output.ImageFile
PromptWords = Annotated[
    str,
    typer.Argument(
        metavar="PROMPT", help="What the masked area should show; @FILE reads it from a file."
    ),
]
Instruction = Annotated[
    str,
    typer.Argument(metavar="INSTRUCTION", help="What to change, in your own words."),
]
BorderWords = Annotated[
    str | None,
    typer.Argument(
        metavar="[PROMPT]",
        help="What the border shows; @FILE reads it from a file. Without it, the eraser fills "
        "the border.",
    ),
]


def _side(name: str) -> Any:
    """The option of a side that may grow."""
    help_ = f"Pixels, or percent of the picture's side, that are added at the {name}."
    return Annotated[str | None, typer.Option(f"--{name}", metavar="N|N%", help=help_)]


BORDERS: Mapping[str, Any] = {
    **{name: _side(name) for name in SIDES},
    "to": Annotated[
        str | None,
        typer.Option(
            "--to", metavar="W:H", help="Ratio of width to height to reach, such as 16:9."
        ),
    ],
    "anchor": Annotated[
        str | None,
        typer.Option(
            "--anchor",
            metavar="PLACE",
            help=f"Where the picture stays in the larger one: {', '.join(ANCHORS)}.",
        ),
    ],
}
"""Options of how far a picture grows, each a key of the part `extend`."""

Select = Annotated[
    str | None,
    typer.Option("--select", metavar="WORDS", help="Say what to find, instead of giving a mask."),
]
OutFile = Annotated[
    str | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE",
        help="Where to write the result; - means stdout. Default: IMAGE-edited.png.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite existing files.")]
FormatName = Annotated[
    str | None,
    typer.Option("--format", help="png, jpeg or webp. Default: the ending of the result's name."),
]
Quality = Annotated[
    int | None,
    typer.Option(
        "--quality", help="Quality of JPEG and WebP, 1 to 100. Default: WebP is lossless."
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option("--model", "-M", help="Name (see `overpaint models`) or folder of a model."),
]
Loras = Annotated[
    list[str] | None,
    typer.Option(
        "--lora", metavar="PATH[:SCALE]", help="Adapter (LoRA) to add to the model; repeatable."
    ),
]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "-O",
        "--option",
        metavar="KEY=VALUE",
        help="Option of the model (see `overpaint models NAME`); repeatable.",
    ),
]
Invert = Annotated[
    bool, typer.Option("--invert", help="Repaint the black part of the mask instead of the white.")
]
Grow = Annotated[
    int | None,
    typer.Option("--grow", help="Grow the mask by this many pixels; negative numbers shrink it."),
]
Feather = Annotated[
    int | None,
    typer.Option(
        "--feather", help="Blend the edit in over this many pixels inside the mask's edge."
    ),
]
RepaintBeyond = Annotated[
    int | None,
    typer.Option(
        "--repaint-beyond", metavar="PIXELS", help="Let the model repaint beyond the mask, too."
    ),
]
Follow = Annotated[
    int | None,
    typer.Option(
        "--follow",
        metavar="PIXELS",
        help="Let the blend grow beyond the mask, where the edit goes on there.",
    ),
]
HoldRest = Annotated[
    bool | None,
    typer.Option(
        "--hold/--no-hold",
        help="Keep the rest where it is and fit the edit's border, or blend the model's pixels as "
        "they are.",
    ),
]
KeepAreas = Annotated[
    str | None,
    typer.Option(
        "--keep-areas",
        metavar="NUMBERS",
        help="Changed areas that stay, as 1,3; the others are put back.",
    ),
]
PresetName = Annotated[
    str | None,
    typer.Option(
        "--preset",
        help="exact (the default), balanced or fast; the last two save work at a measured cost "
        "in quality.",
    ),
]
DeviceName = Annotated[
    str | None,
    typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps, xpu. Default: from the settings."),
]
DeviceNames = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="auto, cpu, cuda, mps, xpu; several at once: cuda:0,cuda:1, or all. Default: from "
        "the settings.",
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option("--dtype", help="auto, float32, bfloat16, float16. Default: from the settings."),
]
Shadow = Annotated[
    bool | None,
    typer.Option("--shadow/--no-shadow", help="Also erase a soft shadow beside the mask."),
]
Json = console.Json

SELECTION: Mapping[str, Any] = {
    "select": Select,
    "point": Points,
    "box": Boxes,
    "segmenter": SegmenterName,
}
"""Options that find the mask in the picture."""

ON_MASK: Mapping[str, Any] = {"invert": Invert, "grow": Grow, "feather": Feather, "hold": HoldRest}
"""Options of how the mask is used."""

BEYOND: Mapping[str, Any] = {"repaint_beyond": RepaintBeyond, "follow": Follow}
"""Options of what models repaint beyond the mask."""

RUNNING: Mapping[str, Any] = {"device": DeviceName, "dtype": Dtype, "as_json": Json}
"""Options that say where an edit runs and how its outcome is printed."""

ORDER = (
    *BORDERS,
    *("mask", "select", "point", "box", "segmenter", "…", "shadow", "out", "force"),
    *("format", "quality", "model"),
    *("negative_prompt", "seed", "num_images", "lora", "option", "invert", "grow", "feather"),
    *("repaint_beyond", "follow", "hold", "keep_areas"),
    *("preset", "device", "dtype", "as_json"),
)
"""The order of the options in a command's help."""

POSITIONAL = {
    "image": "the command's first argument",
    "prompt": "an argument of the command, where it takes words",
    "options": "-O KEY=VALUE gives one at a time",
}
"""Parts that are not options of a command that edits, and why."""

_ONLY_ERASER = {"copy_from": "only the eraser copies", "not_from": "only the eraser copies"}
_OWN_COMMAND = {"extend": "`extend` is a command of its own"}

LEFT_OUT: Mapping[str, Mapping[str, str]] = {
    "inpaint": {
        "references": "no family that repaints a masked area takes any",
        "target": "the mask says where",
        **_ONLY_ERASER,
        **_OWN_COMMAND,
    },
    "edit": {
        "control": "no family that follows instructions takes any",
        **_ONLY_ERASER,
        **_OWN_COMMAND,
    },
    "extend": {
        "extend": "--left, --top, --right, --bottom, --to and --anchor are its keys",
        "target": "only the border is repainted",
    },
    "erase": {
        **_OWN_COMMAND,
        "negative_prompt": "an eraser takes no words",
        "control": "an eraser takes no steering picture",
        "references": "an eraser follows no instruction",
        "target": "an eraser follows no instruction",
    },
}
"""Parts that a command leaves out beside those, and why."""


def common_options(leave_out: Mapping[str, str], **further: Any) -> dict[str, Any]:
    """The options of a command that edits.

    Args:
        leave_out: names of parts that are none, and why.
        further: annotations of options of its own.
    """
    parts = options_of_parts({**POSITIONAL, **leave_out})
    all_of_them = {**parts, **SELECTION, **further, "option": Options, **ON_MASK, **RUNNING}
    return ordered(all_of_them, ORDER)


FILES: Mapping[str, Any] = {
    "out": OutFile,
    "force": Force,
    "format": FormatName,
    "quality": Quality,
}
WEIGHTS: Mapping[str, Any] = {"lora": Loras, "preset": PresetName}


@with_arguments(
    {"image": Image, "prompt": PromptWords},
    common_options(LEFT_OUT["inpaint"], **FILES, **WEIGHTS, **BEYOND),
)
def inpaint(values: dict[str, Any]) -> None:
    """Repaint the masked part of a picture to match a prompt."""
    run(Job.of("inpaint", take_parts(values), values))


@with_arguments(
    {"image": Image, "prompt": Instruction},
    common_options(LEFT_OUT["edit"], **FILES, **WEIGHTS, **BEYOND, keep_areas=KeepAreas),
)
def edit(values: dict[str, Any]) -> None:
    """Follow an instruction to change a picture; with a mask, only inside it."""
    run(Job.of("edit", take_parts(values), values))


_ERASE = common_options(LEFT_OUT["erase"], **FILES, shadow=Shadow)
for _name in ("device", "dtype"):  # an eraser has no weights to place
    del _ERASE[_name]


@with_arguments({"image": Image}, _ERASE)
def erase(values: dict[str, Any]) -> None:
    """Remove what the mask covers; no words, no weights."""
    run(Job.of("erase", take_parts(values), values))


_EXTEND = {**common_options(LEFT_OUT["extend"], **FILES, **WEIGHTS), **BORDERS}
for _name in ("select", "point", "box", "segmenter", "invert"):  # the border is its mask
    del _EXTEND[_name]


@with_arguments({"image": Image}, {"prompt": BorderWords, **ordered(_EXTEND, ORDER)})
def extend(values: dict[str, Any]) -> None:
    """Make a picture larger: add a border and fill it, with or without words.

    Without a side or a ratio, the picture's own transparent border is filled.
    """
    keys = {name: values.pop(name) for name in BORDERS}
    parts = take_parts(values)
    parts["extend"] = {name: value for name, value in keys.items() if value is not None}
    parts["prompt"] = parts["prompt"] or ""
    run(Job.of(border_task(parts["prompt"]), parts, values))
