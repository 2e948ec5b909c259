"""The command `overpaint doctor`: what this machine has, and what is broken."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from overpaint import __version__
from overpaint.apps.cli import console
from overpaint.core.errors import LicenceNotAccepted, OutOfMemory, OverpaintError

if TYPE_CHECKING:
    from overpaint.apps.settings import Settings
    from overpaint.core.models import ModelSpec

GIB = 1024**3

Health = Literal["ok", "note", "broken"]
_STYLES: dict[Health, str] = {"ok": "green", "note": "yellow", "broken": "red"}


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    what: str
    verdict: Health
    text: str


def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on stdout, for programs.")
    ] = False,
) -> None:
    """Check Python, torch, device, memory, disk and models; the exit code is 1 if one is broken."""
    with console.reporting_errors(as_json=as_json):
        findings = list(examine())
        broken = any(each.verdict == "broken" for each in findings)
        if as_json:
            console.print_json({"ok": not broken, "findings": [vars(each) for each in findings]})
        else:
            _print(findings)
        if broken:
            raise typer.Exit(console.OUR_FAULT)


def examine() -> Iterator[Finding]:
    """All findings, in the order in which they matter."""
    yield Finding("overpaint", "ok", __version__)
    yield _python()
    yield _torchvision()
    for package in ("torch", "diffusers", "transformers"):
        yield _library(package)
    yield from _guarded("device", _device)
    yield from _guarded("memory", _memory)
    from overpaint.apps import settings as settings_

    try:
        settings = settings_.load()
    except OverpaintError as error:
        yield Finding("settings", "broken", str(error))
        return
    yield _settings()
    yield from _guarded("cache", lambda: _cache(settings))
    yield from _guarded("safety", lambda: _safety(settings))
    yield from _guarded("provenance", lambda: _provenance(settings))
    yield from _models(settings)


def _guarded(what: str, check: Callable[[], Finding]) -> Iterator[Finding]:
    """A check that cannot run is a finding too."""
    try:
        yield check()
    except OverpaintError as error:
        yield Finding(what, "broken", str(error))
    except Exception as error:
        yield Finding(what, "broken", f"unknown: {type(error).__name__}: {error}")


def _python() -> Finding:
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Finding("python", "ok" if sys.version_info >= (3, 11) else "broken", text)


def _torchvision() -> Finding:
    """A torchvision that does not match torch breaks diffusers and transformers at import."""
    if importlib.util.find_spec("torchvision") is None:
        return Finding("torchvision", "ok", "not installed, not needed")
    try:
        importlib.import_module("torchvision")
    except Exception as error:
        return Finding(
            "torchvision",
            "broken",
            f"installed but cannot be imported ({error}), which breaks diffusers and "
            "transformers; run `pip uninstall torchvision`",
        )
    return Finding("torchvision", "ok", f"{version('torchvision')}, not needed")


def _library(package: str) -> Finding:
    try:
        importlib.import_module(package)
        return Finding(package, "ok", version(package))
    except PackageNotFoundError:
        return Finding(package, "note", "version unknown")
    except Exception as error:
        return Finding(package, "broken", f"cannot be imported: {error}")


def _device() -> Finding:
    import torch

    from overpaint.checkpoints.machine import cpu_has_fast_bfloat16
    from overpaint.checkpoints.placement import choose

    placement = choose()
    if placement.device.type == "cuda":
        name = torch.cuda.get_device_name(placement.device)
    else:
        fast = "with" if cpu_has_fast_bfloat16() else "without"
        name = f"{torch.get_num_threads()} threads, {fast} fast bfloat16"
    dtype = str(placement.dtype).removeprefix("torch.")
    return Finding("device", "ok", f"{placement.device} ({name}); dtype auto = {dtype}")


def _memory() -> Finding:
    import psutil

    memory = psutil.virtual_memory()
    verdict: Health = "ok" if memory.available > 2 * GIB else "note"
    text = f"{memory.available / GIB:.1f} GiB free of {memory.total / GIB:.1f} GiB"
    return Finding("memory", verdict, text)


def _settings() -> Finding:
    from overpaint.apps import settings as settings_

    file = settings_.find_file(os.environ)
    return Finding("settings", "ok", str(file) if file else "no file; defaults and environment")


def _cache(settings: Settings) -> Finding:
    from overpaint.checkpoints.files import hub

    cache = settings.cache or hub.default_cache()
    there = next(each for each in (cache, *cache.absolute().parents) if each.exists())
    free = shutil.disk_usage(there).free / 1e9
    if not there.is_dir() or not os.access(there, os.W_OK):
        return Finding("cache", "broken", f"{cache} is not a writable folder")
    return Finding("cache", "ok", f"{cache}, {free:.0f} GB free")


def _safety(settings: Settings) -> Finding:
    """The checkers are made, as for an edit; a service is not called."""
    from overpaint.apps.wiring import safety

    if settings.safety.is_unset:
        return Finding("safety", "note", "no content is checked; see docs/safety.md")
    policy = safety.policy(settings)
    if not policy.checks:
        return Finding("safety", "ok", "off: no content is checked, as the settings say")
    texts, pictures = policy.text_checkers, policy.image_checkers
    checkers = [*(each.name for each in texts), *(each.name for each in pictures)]
    unseen = "" if policy.checks_images else "; pictures are not checked"
    return Finding("safety", "ok", f"{policy.mode}: {', '.join(checkers)}{unseen}")


def _provenance(settings: Settings) -> Finding:
    from overpaint.apps.wiring import safety

    marking = safety.marking(settings)
    report = {
        "source type": marking.source_type,
        "recipe": marking.recipe,
        "content credentials": marking.signer is not None,
    }
    carried = ", ".join(name for name, is_carried in report.items() if is_carried)
    return Finding(
        "provenance", "ok" if carried else "note", f"results carry {carried or 'no mark'}"
    )


def _models(settings: Settings) -> Iterator[Finding]:
    from overpaint.apps.wiring.models import catalogue, defaults

    models = catalogue.models(settings)
    for spec in models.values():
        state = catalogue.state(spec, settings)
        verdicts: dict[str, Health] = {"ready": "ok", "damaged": "broken", "missing": "broken"}
        text: str = state
        if state == "not pulled":
            text = f"not pulled; `overpaint pull {spec.name}` fetches {spec.size or 'it'}"
        if state == "damaged":
            text = f"damaged; `overpaint pull {spec.name}` repairs it"
        if state == "missing":
            text = f"missing: {spec.location} holds no model_index.json"
        if state == "ready" and spec.source != "none":
            yield from _memory_of(spec, settings)
            continue
        yield Finding(f"model {spec.name}", verdicts.get(state, "ok"), text)
    for task, name in defaults.resolved(settings).defaults:
        if name not in models and not Path(name).is_dir():
            yield Finding(
                f"default {task}",
                "note",
                f"'{name}' is not here; name a model with --model or in overpaint.toml",
            )


def _memory_of(spec: ModelSpec, settings: Settings) -> Iterator[Finding]:
    """A model that is here, and how it fits the free memory of each device."""
    from overpaint.apps.wiring.models import build

    what = f"model {spec.name}"
    try:
        plans = build.memory_plans(spec, settings)
        text = "ready"
        if spec.source != "bundled" and build.is_convertible(spec, settings):
            text += f"; `overpaint convert {spec.name}` would make it load faster"
        yield Finding(what, "ok", text)
        for device, plan in plans.items():
            verdict: Health = "note" if isinstance(plan, OutOfMemory) else "ok"
            yield Finding(f"{what} on {device}", verdict, str(plan))
    except LicenceNotAccepted:
        yield Finding(what, "ok", "ready; its licence was not accepted yet")
    except OverpaintError as error:
        yield Finding(what, "broken", str(error))


def _print(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    for each in findings:
        style = _STYLES[each.verdict]
        table.add_row(escape(each.what), f"[{style}]{each.verdict}[/]", escape(each.text))
    Console(highlight=False).print(table)
