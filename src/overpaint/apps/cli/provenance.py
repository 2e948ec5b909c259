"""The commands about where a picture comes from: verify, replay, provenance init."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overpaint.apps.cli import console
from overpaint.apps.cli.editing import output
from overpaint.apps.cli.editing.edits import Force, Loras
from overpaint.apps.cli.editing.job import parse_lora
from overpaint.apps.cli.parts import (
    files_of,
    flag_of,
    options_of_parts,
    read_parts,
    take_parts,
    with_arguments,
)

if TYPE_CHECKING:
    from overpaint.apps.wiring.replay import Replayed

app = typer.Typer(help="Sign results with content credentials (C2PA).", no_args_is_help=True)

NOT_TRUSTED = (
    "Others will not trust these signatures, because this authority is not on their validators' "
    "list. For pictures that you publish, buy a certificate from an authority that is."
)

File = Annotated[Path, typer.Argument(metavar="FILE", help="A picture that Overpaint made.")]
Json = console.Json


@app.command()
def init(
    folder: Annotated[
        Path | None, typer.Argument(help="Folder for the files. Default: in the user's folder.")
    ] = None,
    name: Annotated[
        str, typer.Option("--name", help="Name of the signer, as people will read it.")
    ] = "Overpaint, local",
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
    as_json: Json = False,
) -> None:
    """Make a certificate for content credentials, and an authority that vouches for it."""
    from overpaint.apps import settings as settings_
    from overpaint.provenance import certificates

    with console.reporting_errors(as_json=as_json):
        certificate = certificates.make(
            folder or settings_.user_folder() / "provenance", name, force=force
        )
        paths = {field: str(path.absolute()) for field, path in certificate._asdict().items()}
        if as_json:
            console.print_json({"provenance": paths, "trusted_by_others": False})
        else:
            console.say(f"{NOT_TRUSTED}\nPut this into overpaint.toml:")
            lines = [f"{field} = {json.dumps(path)}" for field, path in paths.items()]
            sys.stdout.write("\n".join(["[provenance]", *lines]) + "\n")


def verify(file: File, as_json: Json = False) -> None:
    """Show what a picture says about how it was made.

    The exit code is 1 if its signature is not valid, and 2 if it says nothing.
    """
    from overpaint.apps import settings as settings_
    from overpaint.core.imaging import images
    from overpaint.provenance import origins

    with console.reporting_errors(as_json=as_json):
        picture = images.decode(file, field="file")
        with console.waiting("Looking for a watermark", hidden=as_json):
            facts = origins.facts(picture, settings_.load().provenance.trust)
        if as_json:
            console.print_json(facts)
        else:
            _print(facts)
        if origins.says_nothing(facts):
            raise typer.Exit(console.INPUT_AT_FAULT)
        if facts["credentials"] is not None and facts["credentials"]["state"] == "invalid":
            raise typer.Exit(console.OUR_FAULT)


REPLAY_LEFT_OUT = {
    "mask_is": "every reading is tried, and the recipe's hash says which one it was",
    "extend": "the recipe has it",
    "seed": "the recipe has it",
    "num_images": "a recipe is of one picture",
    "model": "the recipe has it",
    "options": "the recipe has them",
}
"""Parts that `replay` leaves out, and why."""

ReplayFile = Annotated[
    str | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE",
        help="Where to write the picture. Default: FILE-edited.png beside it.",
    ),
]


@with_arguments(
    {"file": File},
    {
        **options_of_parts(REPLAY_LEFT_OUT),
        "lora": Loras,
        "out": ReplayFile,
        "force": Force,
        "as_json": Json,
    },
)
def replay(values: dict[str, Any]) -> None:
    """Make a picture again from the recipe in it; the exit code is 1 if the result differs.

    The recipe has no pictures or masks; it has prompts only if the settings say so.
    """
    from overpaint.apps import settings as settings_
    from overpaint.apps.wiring import replay as replay_
    from overpaint.core.imaging import images

    file, as_json, parts = values["file"], values["as_json"], take_parts(values)
    with console.reporting_errors(as_json=as_json):
        settings = settings_.load()
        parts = read_parts(parts)
        target = output.choose(
            str(file),
            values["out"],
            1,
            force=values["force"],
            others=files_of(parts),
            field="file",
        )
        loras = [parse_lora(each) for each in values["lora"] or ()]
        picture = images.decode(file, field="file")
        with console.StepBar(hidden=as_json) as bar:
            again = replay_.replay(
                picture, parts, settings, name_of=flag_of, loras=loras, on_progress=bar
            )
        paths = target.write([again.picture])
        if as_json:
            console.print_json(
                {
                    "output": paths[0],
                    "same": again.same,
                    "levels": again.levels,
                    "notes": again.notes,
                }
            )
        else:
            for note in again.notes:
                console.say(f"Note: {note}", style="yellow")
            console.say(_sameness(again))
            sys.stdout.write(f"{paths[0]}\n")
        if not again.is_rounding:
            raise typer.Exit(console.OUR_FAULT)


def _sameness(again: Replayed) -> str:
    if again.same:
        return "the same picture"
    if again.is_rounding:
        return f"the same picture but for rounding: values differ by {again.levels} of 255 at most"
    return "not the same picture"


_STATES = {
    "trusted": "intact, signed by somebody whom you trust",
    "valid": "intact, signed by somebody who is not in your list of trusted authorities",
    "invalid": "NOT intact: changed after it was signed",
}


def _print(facts: dict[str, Any]) -> None:
    from overpaint.provenance import origins

    if origins.says_nothing(facts):
        console.say("it does not say how it was made")
        return
    lines = [
        f"digital source type: {facts['digital_source_type']}",
        f"tool: {facts['tool']}",
        f"recipe: {'none' if facts['recipe'] is None else 'embedded'}",
        f"pixels: {_PIXELS[facts['unchanged']]}",
        f"watermark: {_watermark_line(facts['watermark'])}",
        *_credential_lines(facts["credentials"]),
    ]
    # Text that strangers wrote must not control the terminal.
    printable = ("".join(each if each.isprintable() else "?" for each in line) for line in lines)
    sys.stdout.write("\n".join(printable) + "\n")


_PIXELS = {True: "as made", False: "changed since", None: "unknown"}


def _watermark_line(watermark: dict[str, Any] | None) -> str:
    if watermark is None:
        return "none"
    left, top, right, bottom = watermark["box"]
    return (
        f"Overpaint's, around {left},{top} to {right},{bottom}, at {watermark['scale']:.0%} of the "
        f"size that it was made in (score {watermark['score']})"
    )


def _credential_lines(credential: dict[str, Any] | None) -> Iterator[str]:
    if credential is None:
        yield "content credentials: none"
        return
    yield f"content credentials: {_STATES[credential['state']]}"
    if credential["problems"]:
        yield f"  problems: {', '.join(credential['problems'])}"
    yield from _manifest_lines(credential["manifest"], "  ")


def _manifest_lines(manifest: dict[str, Any], indent: str) -> Iterator[str]:
    yield f"{indent}signed by: {manifest['signer']}, made with {', '.join(manifest['generator'])}"
    for action in manifest["actions"]:
        parameters = ", ".join(f"{key}={value}" for key, value in action["parameters"].items())
        details = filter(None, (action["action"], action["digital_source_type"], parameters))
        yield f"{indent}- {'; '.join(map(str, details))}"
    for ingredient in manifest["ingredients"]:
        problems = f" ({', '.join(ingredient['problems'])})" if ingredient["problems"] else ""
        own = ingredient["manifest"]
        yield f"{indent}from: {ingredient['title']}{problems}{', unsigned' if own is None else ''}"
        if own is not None:
            yield from _manifest_lines(own, f"{indent}  ")
