"""Where families and engine meet: from a name and the settings to a loaded model."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overpaint.apps import settings as settings_
from overpaint.apps.wiring import imports, safety
from overpaint.apps.wiring.models import checkpoints, defaults, families, rewriting, segmentation
from overpaint.apps.wiring.models.catalogue import find_model
from overpaint.core.errors import OutOfMemory, UnsupportedOption
from overpaint.core.models import ERASER, EditTask, Lora, ModelSpec

if TYPE_CHECKING:
    from overpaint.apps.settings import Settings
    from overpaint.checkpoints.checkpoint import Checkpoint
    from overpaint.checkpoints.placement import MemoryPlan
    from overpaint.engine.engine import Engine
    from overpaint.engine.model import Model


def load_model(
    spec: ModelSpec,
    settings: Settings,
    *,
    device: str = "auto",
    dtype: str = "auto",
    loras: Sequence[Lora] = (),
    reserved: int = 0,
    notices: Sequence[str] = (),
) -> Model:
    """Load a model; its large parts follow on first use.

    Args:
        spec: which.
        settings: say where pulled models lie.
        device: as `placement.choose` takes it.
        dtype: as `placement.choose` takes it.
        loras: adapters beside the model's own.
        reserved: bytes that other models on the device were promised and have not taken yet.
        notices: sentences that every edit passes on to its caller.

    Raises:
        LicenceNotAccepted: its licence must be accepted first.
        ModelNotFound, ModelLoadError: its files are not there, or not what they should be.
        OutOfMemory: it does not fit, as far as can be told before anything is loaded.
        UnsupportedOption: adapters for a model without weights.
    """
    from overpaint.engine.model import Model

    family = families.find(spec.family)
    adapters = (*spec.loras, *loras)
    name = {"name": spec.name, "family": spec.family}
    if spec.source == "none":
        if adapters:
            raise UnsupportedOption(f"'{spec.name}' has no weights to adapt", field="lora")
        return Model(family.open(), record=name)
    imports.put_off(settings)
    if adapters:
        imports.restore("peft")
    imports.quieten()
    checkpoint = checkpoints.opened(
        spec, family, settings, device=device, dtype=dtype, loras=adapters
    )
    plan = checkpoints.memory_plan(spec, checkpoint, reserved=reserved)
    checkpoint.follow(plan)
    checkpoint.read_ahead()
    checkers, missing = safety.own_checkers(checkpoint.folder, family.components, settings)
    return Model(
        family.open(checkpoint),
        checkpoint,
        record={**name, **checkpoints.record(spec, checkpoint, settings, adapters)},
        notices=(*notices, *missing),
        checkers=checkers,
    )


def memory_plan(spec: ModelSpec, settings: Settings, *, device: str | None = None) -> MemoryPlan:
    """How a model that is here would be held by itself on a device; loads nothing.

    Args:
        spec: which.
        settings: say where pulled models lie, and in what precision they run.
        device: its name; None = the settings' first one.

    Raises:
        OverpaintError: see `load_model`.
    """
    return checkpoints.memory_plan(spec, _opened(spec, settings, device=device))


def memory_plans(spec: ModelSpec, settings: Settings) -> dict[str, MemoryPlan | OutOfMemory]:
    """The same on every device of this machine, by name: the plan, or why there is none.

    Raises:
        OverpaintError: see `load_model`.
    """
    from overpaint.checkpoints.placement import devices

    plans: dict[str, MemoryPlan | OutOfMemory] = {}
    for name in map(str, devices()):
        try:
            plans[name] = memory_plan(spec, settings, device=name)
        except OutOfMemory as error:
            plans[name] = error
    return plans


def convert(
    spec: ModelSpec, settings: Settings, *, dtype: str | None = None
) -> Iterator[tuple[str, Path]]:
    """Keep a model's weights in the precision that it runs in, one component after the other.

    Args:
        spec: which.
        settings: say where pulled models lie, and where the weights go.
        dtype: as `placement.choose` takes it; None = as in the settings.

    Yields:
        A component's name and the folder of its weights, once they are written; nothing where
        they are stored in that precision already.

    Raises:
        OverpaintError: see `load_model`; OutputError.
    """
    if spec.source == "none":
        return
    checkpoint = _opened(spec, settings, dtype=dtype)
    for name in checkpoint.unconverted():
        yield name, checkpoint.convert(name)


def is_convertible(spec: ModelSpec, settings: Settings) -> bool:
    """Whether `convert` would write anything for a model that is here.

    Raises:
        OverpaintError: see `load_model`.
    """
    return bool(_opened(spec, settings).unconverted())


def engine(
    model: str | None = None,
    *,
    task: EditTask = "inpaint",
    by_hand: Collection[str] | None = None,
    device: str | None = None,
    dtype: str | None = None,
    loras: Sequence[Lora] = (),
    settings: Settings | None = None,
    lazy: bool = False,
    budget: int | None = None,
) -> Engine:
    """An engine whose default model is loaded, so that what is wrong with it shows at once.

    Args:
        model: name, or folder in diffusers layout; None = the settings' default for the task.
        task: what it is for, where no model is named.
        by_hand: names of models that a person chose; results of other twins say what they are.
            None = `model`, or those that the settings name.
        device: 'auto', 'cpu', 'cuda', 'cuda:1', 'mps', 'xpu'; None = as in the settings, the
            first of several.
        dtype: 'auto', 'float32', 'bfloat16', 'float16'; None = as in the settings.
        loras: adapters for the default model.
        settings: None = read them.
        lazy: load the default model on its first use instead.
        budget: bytes of weights that stay loaded; None = as many as fit.

    Raises:
        OverpaintError: see `load_model`; InvalidSettings.
    """
    settings = settings or settings_.load()
    default = model or defaults.choose(task, settings)
    by_hand = _names_by_hand(model, settings) if by_hand is None else by_hand
    places = _places(default, device, dtype, settings)
    if device and len(places) > 1:
        raise UnsupportedOption(
            f"'{device}' is {len(places)} devices, and this runs on one; name that one",
            field="device",
        )
    return _engines(
        places[:1], default, dtype, loras, settings, by_hand=by_hand, lazy=lazy, budget=budget
    )[0]


def engines(
    model: str | None = None,
    *,
    task: EditTask = "inpaint",
    by_hand: Collection[str] | None = None,
    device: str | None = None,
    dtype: str | None = None,
    loras: Sequence[Lora] = (),
    settings: Settings | None = None,
    lazy: bool = False,
    budget: int | None = None,
) -> list[Engine]:
    """An engine for each of several devices, which share the safety policy: for one `Batcher`.

    Args:
        model: as for `engine`, like the others.
        device: one or several as `placement.devices_for` takes them; None = as in the settings.
        budget: bytes of weights that stay loaded on each device; None = as many as fit.

    Raises:
        OverpaintError: as for `engine`.
    """
    settings = settings or settings_.load()
    default = model or defaults.choose(task, settings)
    by_hand = _names_by_hand(model, settings) if by_hand is None else by_hand
    places = _places(default, device, dtype, settings)
    return _engines(
        places, default, dtype, loras, settings, by_hand=by_hand, lazy=lazy, budget=budget
    )


def _engines(
    places: Sequence[str],
    default: str,
    dtype: str | None,
    loras: Sequence[Lora],
    settings: Settings,
    *,
    by_hand: Collection[str],
    lazy: bool,
    budget: int | None,
) -> list[Engine]:
    from overpaint.engine.engine import Engine

    precision = dtype or settings.dtype
    shared: dict[str, Any] = {
        "policy": safety.policy(settings),
        "marking": safety.marking(settings),
        "rewriter": rewriting.rewriter(settings),
        "locator": segmentation.locator(settings),
        "eraser": ERASER,
    }

    def load(on: str, name: str) -> Model:
        adapters = loras if name == default else ()
        spec = find_model(name, settings)
        toy = defaults.notice(spec, settings, by_hand)
        return load_model(
            spec,
            settings,
            device=on,
            dtype=precision,
            loras=adapters,
            reserved=by_device[on].models.reserved,
            notices=() if toy is None else (toy,),
        )

    by_device = {
        on: Engine(partial(load, on), default, budget=budget, device=on, **shared) for on in places
    }
    engines = list(by_device.values())
    if not lazy:
        for each in engines:
            each.model()
    return engines


def _names_by_hand(model: str | None, settings: Settings) -> tuple[str, ...]:
    return defaults.chosen_by_hand(settings) if model is None else (model,)


def _places(model: str, device: str | None, dtype: str | None, settings: Settings) -> list[str]:
    """Devices by name; of a model without weights as they are asked for, without loading torch.

    Raises:
        UnsupportedOption: a device or precision is not there.
        ModelNotFound: there is no such model.
    """
    names = device or settings.device
    if find_model(model, settings).source == "none" and not (device or dtype):
        return ["auto" if names == "all" else names.partition(",")[0]]
    from overpaint.checkpoints.placement import choose, devices_for

    places = [str(each) for each in devices_for(names)]
    choose(places[0], dtype or settings.dtype)
    return places


def _opened(
    spec: ModelSpec, settings: Settings, *, device: str | None = None, dtype: str | None = None
) -> Checkpoint:
    """A model's checkpoint with its own adapters; on the settings' first device by default."""
    from overpaint.checkpoints.placement import first_device

    return checkpoints.opened(
        spec,
        families.find(spec.family),
        settings,
        device=device or first_device(settings.device),
        dtype=dtype or settings.dtype,
        loras=spec.loras,
    )
