"""The commands that edit a picture: inpaint, edit, erase."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from overpaint.apps.cli import console
from overpaint.apps.cli.job import Job, run
from overpaint.apps.cli.segment import Boxes, Points, SegmenterName, Selection

_MASK = "Mask of the picture's size: white = repaint, black = keep."

Image = Annotated[str, typer.Argument(metavar="IMAGE", help="PNG, JPEG or WebP; - = stdin.")]
Mask = Annotated[Path | None, typer.Option("--mask", "-m", help=_MASK)]
Select = Annotated[
    str | None,
    typer.Option("--select", metavar="WORDS", help="Instead of a mask: what to look for."),
]
Out = Annotated[
    str | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE",
        help="Where the result goes; - = stdout. Default: IMAGE-edited.png beside the input.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Write over existing files.")]
ModelName = Annotated[
    str | None,
    typer.Option("--model", "-M", help="Name (see `overpaint models`) or folder of a model."),
]
Negative = Annotated[
    str | None, typer.Option("--negative", metavar="TEXT", help="What shall not appear.")
]
Control = Annotated[
    Path | None, typer.Option("--control", help="Line, pose or depth picture, for flex2.")
]
Reference = Annotated[
    list[Path] | None,
    typer.Option("--reference", help="A further picture the instruction refers to; repeatable."),
]
Seed = Annotated[
    int | None, typer.Option("--seed", help="Same seed, same picture. Default: drawn and told.")
]
Count = Annotated[
    int, typer.Option("-n", "--num-images", metavar="N", help="Pictures, with seeds S, S+1, …")
]
Loras = Annotated[
    list[str] | None,
    typer.Option("--lora", metavar="PATH[:SCALE]", help="Low-rank adapter; repeatable."),
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
Invert = Annotated[bool, typer.Option("--invert", help="The mask's black is repainted.")]
Grow = Annotated[
    int | None, typer.Option("--grow", help="Pixels by which the mask grows (negative: shrinks).")
]
Feather = Annotated[
    int | None, typer.Option("--feather", help="Pixels over which the edit is blended in.")
]
Preset = Annotated[
    str | None,
    typer.Option("--preset", help="exact, balanced or fast: less work at a measured cost."),
]
Device = Annotated[
    str | None,
    typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps, xpu. Default: settings."),
]
Devices = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="auto, cpu, cuda, mps, xpu; several at once: cuda:0,cuda:1, or all. "
        "Default: settings.",
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option("--dtype", help="auto, float32, bfloat16, float16. Default: settings."),
]
CopyFrom = Annotated[
    Path | None,
    typer.Option("--from", metavar="MASK", help="Copy only from where this mask is white."),
]
NotFrom = Annotated[
    Path | None,
    typer.Option("--not-from", metavar="MASK", help="Never copy from where this mask is white."),
]
Shadow = Annotated[
    bool | None,
    typer.Option("--shadow/--no-shadow", help="Erase a soft shadow beside the mask, too."),
]
Json = console.Json


def inpaint(
    image: Image,
    prompt: Annotated[
        str, typer.Argument(metavar="PROMPT", help="What the masked area shall show.")
    ],
    mask: Mask = None,
    select: Select = None,
    point: Points = None,
    box: Boxes = None,
    segmenter: SegmenterName = None,
    out: Out = None,
    force: Force = False,
    model: ModelName = None,
    negative: Negative = None,
    control: Control = None,
    seed: Seed = None,
    num_images: Count = 1,
    lora: Loras = None,
    option: Options = None,
    invert: Invert = False,
    grow: Grow = None,
    feather: Feather = None,
    preset: Preset = None,
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Repaint the masked part of a picture as the prompt says."""
    run(
        Job(
            task="inpaint",
            image=image,
            prompt=prompt,
            mask=mask,
            selection=Selection(
                points=point or (), boxes=box or (), words=select, segmenter=segmenter
            ),
            negative=negative,
            control=control,
            out=out,
            force=force,
            model=model,
            seed=seed,
            num_images=num_images,
            loras=lora or [],
            options=option or [],
            invert=invert,
            grow=grow,
            feather=feather,
            preset=preset,
            device=device,
            dtype=dtype,
            as_json=as_json,
        )
    )


def edit(
    image: Image,
    instruction: Annotated[
        str,
        typer.Argument(metavar="INSTRUCTION", help="What to change, as you would tell a person."),
    ],
    mask: Mask = None,
    select: Select = None,
    point: Points = None,
    box: Boxes = None,
    segmenter: SegmenterName = None,
    reference: Reference = None,
    out: Out = None,
    force: Force = False,
    model: ModelName = None,
    negative: Negative = None,
    seed: Seed = None,
    num_images: Count = 1,
    lora: Loras = None,
    option: Options = None,
    invert: Invert = False,
    grow: Grow = None,
    feather: Feather = None,
    preset: Preset = None,
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Change a picture as an instruction says; a mask limits where."""
    run(
        Job(
            task="edit",
            image=image,
            prompt=instruction,
            mask=mask,
            selection=Selection(
                points=point or (), boxes=box or (), words=select, segmenter=segmenter
            ),
            negative=negative,
            references=reference or [],
            out=out,
            force=force,
            model=model,
            seed=seed,
            num_images=num_images,
            loras=lora or [],
            options=option or [],
            invert=invert,
            grow=grow,
            feather=feather,
            preset=preset,
            device=device,
            dtype=dtype,
            as_json=as_json,
        )
    )


def erase(
    image: Image,
    mask: Mask = None,
    select: Select = None,
    point: Points = None,
    box: Boxes = None,
    segmenter: SegmenterName = None,
    copy_from: CopyFrom = None,
    not_from: NotFrom = None,
    shadow: Shadow = None,
    out: Out = None,
    force: Force = False,
    model: ModelName = None,
    seed: Seed = None,
    num_images: Count = 1,
    option: Options = None,
    invert: Invert = False,
    grow: Grow = None,
    feather: Feather = None,
    as_json: Json = False,
) -> None:
    """Remove what the mask covers; no words, no weights."""
    run(
        Job(
            task="erase",
            image=image,
            mask=mask,
            selection=Selection(
                points=point or (), boxes=box or (), words=select, segmenter=segmenter
            ),
            copy_from=copy_from,
            not_from=not_from,
            shadow=shadow,
            out=out,
            force=force,
            model=model,
            seed=seed,
            num_images=num_images,
            options=option or [],
            invert=invert,
            grow=grow,
            feather=feather,
            as_json=as_json,
        )
    )
