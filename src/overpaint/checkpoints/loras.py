"""Low-rank adapters: read in every naming that people have, added to what they change.

Files are safetensors in the naming of diffusers, PEFT, kohya, ComfyUI or ai-toolkit; diffusers' own
converters translate them. An adapter works at alpha / rank of its strength, where alpha stands in
the file's header (`lora_adapter_metadata`), in `.alpha` tensors or in PEFT's `adapter_config.json`.
"""

from __future__ import annotations

import importlib
import inspect
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from overpaint.checkpoints import shortage
from overpaint.core.errors import ModelLoadError
from overpaint.core.models import Lora

METADATA = "lora_adapter_metadata"
"""Key of a safetensors header under which diffusers keeps an adapter's configuration."""

CONFIG = "adapter_config.json"
"""PEFT's configuration, beside the weights."""

_PEFT = "base_model.model."
_COMFY = "diffusion_model."
_MODULE = re.compile(r"\.(?:lora|alpha|dora)[\w.]*$|_lora\.[\w.]*$|\.processor\..*$")
"""What follows the name of a module in the name of an adapter's weight."""

_CLIP = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}
_OLD_TEXT = re.compile(
    r"(?P<head>text_encoder.*\.)(?P<layer>\w+?)(?:_lora|\.lora_linear_layer)\.down\.weight"
)
"""Names that the converters give a text encoder's weights: an older naming of diffusers."""

_LIBRARIES = ("diffusers", "transformers", "peft")


@dataclass(frozen=True, eq=False)
class Adapter:
    """An adapter's weights, in diffusers' naming.

    Attributes:
        lora: where it comes from, and its scale.
        weights: by name, which begins with the component's.
        alphas: by module; None = the configuration has them, or they equal the rank.
        config: PEFT's configuration, its keys after the component's name; None = there is none.
    """

    lora: Lora
    weights: Mapping[str, torch.Tensor]
    alphas: Mapping[str, Any] | None = None
    config: Mapping[str, Any] | None = None

    def changes(self, component: str) -> bool:
        """Whether it has weights for a component."""
        return any(name.startswith(f"{component}.") for name in self.weights)


def read(lora: Lora, denoiser: str, loader: str | None, config: Any) -> Adapter:
    """An adapter from its file.

    Args:
        lora: which.
        denoiser: name of the component that adapters without a component's name are for.
        loader: 'module:Class' of diffusers' converter for the model's architecture.
        config: of the denoiser.

    Raises:
        ModelLoadError: it is not readable, or its naming is not known.
    """
    file = _file(lora.path)
    try:
        with safe_open(file, framework="pt") as opened:
            header = opened.metadata() or {}
            weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelLoadError(f"{file}: not a readable safetensors file: {error}") from error
    if all(name.startswith(_PEFT) for name in weights):
        bare = {name.removeprefix(_PEFT): value for name, value in weights.items()}
        return Adapter(lora, _prefixed(bare, denoiser), config=_peft_config(file, denoiser))
    try:
        with _quiet():
            converted, alphas = _converted(weights, loader, config)
    except (ValueError, KeyError, IndexError, AttributeError, RuntimeError) as error:
        raise ModelLoadError(
            f"{file}: its weights have names that no adapter of this model has "
            f"('{next(iter(weights), '')}'); {first_line(error)}"
        ) from error
    metadata = json.loads(header[METADATA]) if METADATA in header else None
    prefixes = (f"{denoiser}.", "text_encoder")
    if not any(name.startswith(prefixes) for name in converted):
        converted = _prefixed(converted, denoiser)
        alphas = _prefixed(alphas or {}, denoiser)
        metadata = metadata and _prefixed(metadata, denoiser)
    return Adapter(lora, converted, alphas or None, metadata)


def apply(model: Any, component: str, adapters: Sequence[Adapter], loader: str | None) -> list[str]:
    """Add adapters to a loaded component.

    Args:
        model: the component.
        component: its name.
        adapters: all of the model; those without weights for the component change nothing.
        loader: as for `read`.

    Returns:
        A sentence for each adapter of which only a part fits.

    Raises:
        ModelLoadError: one does not fit this component at all.
    """
    names, scales, warnings = [], [], []
    for index, adapter in enumerate(adapters):
        if not adapter.changes(component):
            continue
        fitting, warning = _fitting(model, component, adapter)
        warnings += [warning] if warning else []
        name = f"lora_{index}"
        try:
            with _quiet():
                _add(model, component, fitting, name, loader)
        except (ValueError, RuntimeError, KeyError, TypeError, IndexError) as error:
            if shortage.is_shortage(error):
                raise
            raise ModelLoadError(
                f"{adapter.lora.path}: does not fit this model's {component}: {first_line(error)}"
            ) from error
        names.append(name)
        scales.append(adapter.lora.scale)
    if names:
        _set_scales(model, names, scales)
    return warnings


def first_line(error: BaseException) -> str:
    """What an error says, in short."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _file(path: Path) -> Path:
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if len(files) != 1 or not files[0].is_file() or files[0].suffix != ".safetensors":
        raise ModelLoadError(f"{path}: not a .safetensors file or a folder with one")
    return files[0]


def _peft_config(file: Path, component: str) -> dict[str, Any] | None:
    """PEFT's configuration beside a file, with the keys that this PEFT knows."""
    where = file.parent / CONFIG
    if not where.is_file():
        return None
    from peft import LoraConfig

    try:
        values = json.loads(where.read_text(encoding="utf-8"))
        parameters = inspect.signature(LoraConfig).parameters
        return _prefixed({key: values[key] for key in values if key in parameters}, component)
    except (OSError, ValueError, TypeError) as error:
        raise ModelLoadError(f"{where}: cannot be read: {error}") from error


def _converted(
    weights: dict[str, torch.Tensor], loader: str | None, config: Any
) -> tuple[dict[str, torch.Tensor], dict[str, Any] | None]:
    """Weights in diffusers' naming, and alphas by module."""
    if loader is None:
        return weights, None
    module, _, name = loader.partition(":")
    converter = getattr(importlib.import_module(module), name).lora_state_dict
    parameters = inspect.signature(converter).parameters
    options = {"return_alphas": True} if "return_alphas" in parameters else {"unet_config": config}
    converted = converter(_kohya(weights), **options)
    # Without alphas where the converter has worked them into the weights.
    converted, alphas = converted if isinstance(converted, tuple) else (converted, None)
    return _text_weights(converted, alphas or {}), alphas


def _text_weights(
    weights: Mapping[str, torch.Tensor], alphas: dict[str, Any]
) -> dict[str, torch.Tensor]:
    """A text encoder's weights in today's naming, at their strength; others as they are."""
    renamed = dict(weights)
    for name in weights:
        if (match := _OLD_TEXT.fullmatch(name)) is None:
            continue
        module = match["head"] + _CLIP.get(match["layer"], match["layer"])
        down, up = renamed.pop(name), renamed.pop(name.replace(".down.", ".up."))
        alpha = float(alphas.pop(f"{name}.alpha", len(down)))
        renamed[f"{module}.lora_A.weight"] = down
        renamed[f"{module}.lora_B.weight"] = up * (alpha / len(down))
    return renamed


def _kohya(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """ComfyUI's dotted names as kohya writes them, which the converters know."""
    if not weights or not all(name.startswith(_COMFY) for name in weights):
        return dict(weights)
    renamed = {}
    for name, value in weights.items():
        module, _, kind = name.removeprefix(_COMFY).partition(".lora_")
        end = kind.replace("A.", "down.").replace("B.", "up.")
        renamed[f"lora_unet_{module.replace('.', '_')}.lora_{end}"] = value
    return renamed


def _prefixed(values: Mapping[str, Any], component: str) -> dict[str, Any]:
    return {f"{component}.{name}": value for name, value in values.items()}


def _fitting(model: Any, component: str, adapter: Adapter) -> tuple[Adapter, str | None]:
    """The part of an adapter that a component has modules for, and a sentence if that is not all.

    Raises:
        ModelLoadError: nothing fits.
    """
    modules = {name for name, _ in model.named_modules()}
    prefix = f"{component}."
    weights = {name: each for name, each in adapter.weights.items() if name.startswith(prefix)}
    places = {name: _place(name.removeprefix(prefix), modules) for name in weights}
    strangers = sorted({name for name, place in places.items() if place is None})
    if len(strangers) == len(weights):
        raise ModelLoadError(
            f"{adapter.lora.path}: does not fit this model's {component}: it has no "
            f"'{strangers[0].removeprefix(prefix)}'; the adapter was made for another model"
        )
    if not strangers:
        return adapter, None
    fitting = {name: each for name, each in adapter.weights.items() if name not in strangers}
    return (
        Adapter(adapter.lora, fitting, adapter.alphas, adapter.config),
        f"lora: {len(strangers)} of {len(weights)} weights of {adapter.lora.path.name} are for "
        f"parts that this model's {component} does not have ('{strangers[0]}'); the rest was used",
    )


def _place(name: str, modules: set[str]) -> str | None:
    """The module that a weight of an adapter is for."""
    module = _MODULE.sub("", name)
    candidates = (module, f"{module}.0", module.removeprefix("text_model."))
    return next((each for each in candidates if each in modules), None)


def _add(model: Any, component: str, adapter: Adapter, name: str, loader: str | None) -> None:
    """Add one adapter under a name, at full strength."""
    # The library takes alphas or a configuration, not both.
    alphas = None if adapter.config else adapter.alphas
    config = dict(adapter.config) if adapter.config else None
    if hasattr(model, "load_lora_adapter"):
        model.load_lora_adapter(
            dict(adapter.weights),
            prefix=component,
            adapter_name=name,
            network_alphas=alphas and dict(alphas),
            metadata=config,
        )
        return
    module, _, class_name = (loader or "").partition(":")
    converter = getattr(importlib.import_module(module), class_name)
    converter.load_lora_into_text_encoder(
        dict(adapter.weights),
        alphas and dict(alphas),
        model,
        prefix=component,
        adapter_name=name,
        metadata=config,
    )


def _set_scales(model: Any, names: list[str], scales: list[float]) -> None:
    if hasattr(model, "set_adapters"):
        model.set_adapters(names, scales)
        return
    from diffusers.utils import set_weights_and_activate_adapters

    set_weights_and_activate_adapters(model, names, scales)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the libraries' own log: what matters of it is said in one sentence here."""
    loggers = [logging.getLogger(name) for name in _LIBRARIES]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)
