"""Low-rank adapters: read from safetensors in diffusers' or PEFT's layout, added to a denoiser."""

from __future__ import annotations

from typing import Any

import torch
from safetensors import SafetensorError

from overpaint.checkpoints import shortage
from overpaint.core.errors import ModelLoadError
from overpaint.core.models import Lora


def apply(model: Any, component: str, loras: tuple[Lora, ...]) -> None:
    """Add adapters to a loaded denoiser.

    Raises:
        ModelLoadError: an adapter is not readable, or is for another model.
    """
    names = []
    for index, lora in enumerate(loras):
        state = _state(lora, component)
        names.append(f"lora_{index}")
        try:
            model.load_lora_adapter(state, prefix=component, adapter_name=names[-1])
        except (ValueError, RuntimeError, KeyError, TypeError) as error:
            if shortage.is_shortage(error):
                raise
            raise ModelLoadError(
                f"{lora.path}: does not fit this model's {component}: {first_line(error)}"
            ) from error
    if names:
        model.set_adapters(names, [lora.scale for lora in loras])


def _state(lora: Lora, component: str) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    files = sorted(lora.path.glob("*.safetensors")) if lora.path.is_dir() else [lora.path]
    if len(files) != 1 or not files[0].is_file() or files[0].suffix != ".safetensors":
        raise ModelLoadError(f"{lora.path}: not a .safetensors file or a folder with one")
    try:
        state = load_file(files[0])
    except SafetensorError as error:
        raise ModelLoadError(f"{files[0]}: not a readable safetensors file: {error}") from error
    if all(not key.startswith(f"{component}.") for key in state):
        # PEFT's own layout names the modules without the component.
        state = {
            f"{component}.{key.removeprefix('base_model.model.')}": state[key] for key in state
        }
    foreign = sorted(key for key in state if not key.startswith(f"{component}."))
    if foreign:
        raise ModelLoadError(
            f"{files[0]}: {len(foreign)} weights are for other parts ('{foreign[0]}'); only "
            f"adapters of the {component} are supported"
        )
    return state


def first_line(error: BaseException) -> str:
    """What an error says, in short."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
