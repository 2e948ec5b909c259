"""The commands about where a picture comes from: verify, replay."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overpaint.apps.cli import console, output
from overpaint.apps.cli.edits import Control, CopyFrom, Force, Loras, Mask, NotFrom, Reference
from overpaint.apps.cli.job import parse_lora

if TYPE_CHECKING:
    from overpaint.core.images import Picture

File = Annotated[Path, typer.Argument(metavar="FILE", help="A picture that Overpaint made.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, for programs.")]


def verify(file: File, as_json: Json = False) -> None:
    """Show what a picture says about how it was made; exit 2 if it says nothing."""
    from overpaint.core import images

    with console.reporting_errors(as_json=as_json):
        told = _told(images.decode(file, field="file"))
        if as_json:
            console.print_json(told)
        else:
            _print(told)
        if told["digital_source_type"] is None and told["recipe"] is None:
            raise typer.Exit(console.INPUT_AT_FAULT)


def replay(
    file: File,
    image: Annotated[Path | None, typer.Option("--image", help="The picture it was.")] = None,
    mask: Mask = None,
    control: Control = None,
    reference: Reference = None,
    copy_from: CopyFrom = None,
    not_from: NotFrom = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="Where the recipe leaves it out.")
    ] = None,
    negative: Annotated[
        str | None, typer.Option("--negative", help="Where the recipe leaves it out.")
    ] = None,
    lora: Loras = None,
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", metavar="FILE", help="Default: FILE-edited.png beside it."),
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Make a picture again from the recipe in it; exit 1 if it comes out otherwise."""
    from overpaint.apps import replay as replay_
    from overpaint.apps import settings as settings_
    from overpaint.core import images

    with console.reporting_errors(as_json=as_json):
        settings = settings_.load()
        target = output.choose(str(file), out, 1, force=force)
        given = replay_.Given(
            image=image,
            mask=mask,
            control=control,
            references=reference or (),
            copy_from=copy_from,
            not_from=not_from,
            prompt=prompt,
            negative=negative,
            loras=[parse_lora(each) for each in lora or ()],
        )
        made = images.decode(file, field="file")
        with console.StepBar(hidden=as_json) as bar:
            again = replay_.replay(made, given, settings, bar)
        written = target.write([again.picture])
        if as_json:
            console.print_json({"output": written[0], "same": again.same, "notes": again.notes})
        else:
            for note in again.notes:
                console.say(f"Note: {note}", style="yellow")
            console.say("the same picture" if again.same else "not the same picture")
            sys.stdout.write(f"{written[0]}\n")
        if not again.same:
            raise typer.Exit(console.OUR_FAULT)


def _told(picture: Picture) -> dict[str, Any]:
    from overpaint.core import provenance, xmp

    mark, recipe = xmp.read(picture.xmp), provenance.recipe_in(picture)
    return {
        "digital_source_type": mark.source_type,
        "trained_model": None if mark.source_type is None else mark.source_type in xmp.TRAINED,
        "tool": mark.tool,
        "recipe": recipe,
        "unchanged": None if recipe is None else _unchanged(picture, recipe),
    }


def _unchanged(picture: Picture, recipe: dict[str, Any]) -> bool | None:
    """Whether the pixels are those that were made; lossy files cannot tell."""
    if recipe.get("picture") == picture.sha256:
        return True
    return False if picture.format == "PNG" else None


def _print(told: dict[str, Any]) -> None:
    if told["digital_source_type"] is None and told["recipe"] is None:
        console.say("it says nothing about how it was made")
        return
    lines = {
        "digital source type": told["digital_source_type"],
        "tool": told["tool"],
        "recipe": "none" if told["recipe"] is None else "embedded",
        "pixels": {True: "as made", False: "changed since", None: "unknown"}[told["unchanged"]],
    }
    for name, value in lines.items():
        sys.stdout.write(f"{name}: {value}\n")
