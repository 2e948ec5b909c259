"""The commands about licences: `overpaint licence show` and `accept`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overpaint.apps.cli import console

if TYPE_CHECKING:
    from overpaint.apps.settings import Settings
    from overpaint.core.models import ModelSpec

app = typer.Typer(help="Show a model's licence, or accept it.", no_args_is_help=True)

_COMMERCIAL = {True: "allowed", False: "not allowed", None: "unknown"}

LicensedModel = Annotated[str, typer.Argument(help="Name of the model; see `overpaint models`.")]
Json = console.Json


@app.command()
def show(model: LicensedModel, as_json: Json = False) -> None:
    """Show what a licence forbids and demands, where its text is, and whether it was accepted."""
    from overpaint.apps import settings as settings_
    from overpaint.apps.wiring.models import licences

    with console.reporting_errors(as_json=as_json):
        settings = settings_.load()
        facts = licences.describe(_spec(model, settings), settings)
        if as_json:
            console.print_json(facts)
        else:
            _print(facts)


@app.command()
def accept(
    model: LicensedModel,
    who: Annotated[
        str | None, typer.Option("--who", help="Who accepts it. Default: your login name.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Accept a model's licence, so that it can be pulled, loaded and served."""
    from overpaint.apps import settings as settings_
    from overpaint.apps.wiring.models import licences
    from overpaint.core import licences as known

    with console.reporting_errors(as_json=as_json):
        settings = settings_.load()
        spec = _spec(model, settings)
        licence = known.find(spec)
        if licence is None or not licence.gated:
            _nothing_to_accept(spec, as_json=as_json)
            return
        acceptance = licences.accept(spec, licence, who, settings)
        if as_json:
            console.print_json(acceptance.model_dump())
        else:
            console.say(
                f"{acceptance.who} accepts the {licence.name} {licence.version} ({licence.url}), "
                f"noted in {licences.place(settings)}"
            )


def _spec(model: str, settings: Settings) -> ModelSpec:
    from overpaint.apps.wiring.models import catalogue
    from overpaint.apps.wiring.models.segmentation import SEGMENTERS

    return SEGMENTERS.get(model) or catalogue.find_model(model, settings)


def _nothing_to_accept(spec: ModelSpec, *, as_json: bool) -> None:
    if as_json:
        console.print_json({"model": spec.name, "licence": spec.licence, "accepted": None})
    else:
        console.say(f"{spec.name}: nothing to accept, its licence is: {spec.licence}")


def _print(facts: dict[str, Any]) -> None:
    lines = [f"{facts['model']}: {facts['licence']} {facts.get('version', '')}".rstrip()]
    lines += [f"commercial use: {_COMMERCIAL[facts['commercial']]}"]
    if "url" not in facts:
        lines += ["nothing more is known about it; ask the makers of the model"]
    else:
        lines += [f"- {each}" for each in facts["restrictions"]]
        lines += [f"This is a guide; only the text is binding: {facts['url']}"]
        lines += [f"(sha256 {facts['text_sha256']})"]
        if facts["attribution"]:
            lines += [f"Notice to pass on with the model: {facts['attribution']}"]
        lines += [_acceptance(facts)]
    sys.stdout.write("\n".join(lines) + "\n")


def _acceptance(facts: dict[str, Any]) -> str:
    by = facts["accepted"]
    if by is not None:
        return f"accepted by {by['who']} at {by['when']}"
    if facts["must_be_accepted"]:
        return f"not accepted; `overpaint licence accept {facts['model']}` accepts it"
    return "need not be accepted"
