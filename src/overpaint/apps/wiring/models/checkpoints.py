"""From a model's entry to its checkpoint: where it lies, how it is opened, whether it fits."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overpaint.apps.wiring.models import calibration, licences
from overpaint.checkpoints.files import hub, layout
from overpaint.core.errors import ModelLoadError, ModelNotFound
from overpaint.core.models import Lora, ModelSpec

if TYPE_CHECKING:
    from overpaint.apps.settings import Settings
    from overpaint.checkpoints.checkpoint import Checkpoint
    from overpaint.checkpoints.placement import MemoryPlan
    from overpaint.diffusion.family import FamilySpec


def locate(spec: ModelSpec, settings: Settings) -> Path:
    """The folder of a model with weights.

    Raises:
        LicenceNotAccepted: its licence must be accepted first.
        ModelNotFound: it was not pulled yet.
        ModelLoadError: its files changed or are gone.
    """
    licences.require(spec, settings)
    if spec.source != "hub":
        return Path(spec.location)
    pulled = hub.locate(spec.location, spec.revision, cache=settings.cache)
    if pulled is None:
        size = f" (about {spec.size})" if spec.size else ""
        raise ModelNotFound(
            f"'{spec.name}' is not on this machine; run `overpaint pull {spec.name}`{size}",
            field="model",
        )
    return pulled.folder


def opened(
    spec: ModelSpec,
    family: FamilySpec,
    settings: Settings,
    *,
    device: str,
    dtype: str,
    loras: Sequence[Lora],
) -> Checkpoint:
    """A model's checkpoint, checked; its weights follow on first use.

    Args:
        spec: which; one with weights.
        family: the one that reads it.
        settings: say where pulled models lie, and what computes.
        device, dtype: as `placement.choose` takes them.
        loras: adapters for the denoiser.

    Raises:
        LicenceNotAccepted: its licence must be accepted first.
        ModelNotFound, ModelLoadError: its files are not there, or not what they should be.
    """
    from overpaint.checkpoints.checkpoint import Checkpoint
    from overpaint.checkpoints.compute.backends import Backend
    from overpaint.checkpoints.placement import choose, weights_in

    folder = locate(spec, settings)
    _require_family(folder, family)
    placement = choose(device, dtype, parameters=weights_in(folder))
    cache = settings.cache or Path("~/.cache/overpaint").expanduser()
    backend = Backend(
        settings.backend,
        cache=cache / "openvino",
        record=settings.record,
        attention=settings.attention,
        compile=settings.compile,
        compile_cache=cache / "compiled",
    )
    if backend.name == "openvino-int8" and placement.device.type == "cpu":
        samples = calibration.samples(family, folder, placement, backend)
        backend = replace(backend, samples=samples)
    return Checkpoint(
        folder,
        family.components,
        placement,
        loras=tuple(loras),
        backend=backend,
        cache=cache / "weights",
    )


def memory_plan(spec: ModelSpec, checkpoint: Checkpoint, *, reserved: int = 0) -> MemoryPlan:
    """How a checkpoint would be held in the memory that is free now; loads nothing.

    Args:
        spec: which.
        checkpoint: on its device.
        reserved: bytes of what is free that are promised to other models there.

    Raises:
        OutOfMemory: it does not fit.
    """
    from overpaint.checkpoints.placement import free_memory, preflight

    free = max(0, free_memory(checkpoint.placement.device) - reserved)
    return preflight(spec.name, checkpoint.need(), free)


def record(
    spec: ModelSpec, checkpoint: Checkpoint, settings: Settings, loras: Sequence[Lora]
) -> dict[str, Any]:
    """What a recipe says of the checkpoint that made its picture."""
    return {
        "revision": _revision(spec, checkpoint, settings),
        "licence": spec.licence,
        "device": str(checkpoint.placement.device),
        "dtype": str(checkpoint.placement.dtype).removeprefix("torch."),
        "loras": [_lora_record(lora) for lora in loras],
        **({"backend": settings.backend} if checkpoint.accelerated else {}),
        **({"attention": settings.attention} if settings.attention != "auto" else {}),
        **({"compile": settings.compile} if checkpoint.compiles_later else {}),
        **({"tiled": True} if checkpoint.tiled else {}),
    }


def _require_family(folder: Path, family: FamilySpec) -> None:
    pipeline = layout.pipeline(layout.read_index(folder))
    refusal = family.refusal(pipeline, lambda component: layout.config(folder / component))
    if refusal is not None:
        raise ModelLoadError(f"{folder}: {refusal}")


def _revision(spec: ModelSpec, checkpoint: Checkpoint, settings: Settings) -> str:
    """The commit of a pulled model, else a hash of the checkpoint."""
    if spec.source == "hub":
        pulled = hub.locate(spec.location, spec.revision, cache=settings.cache)
        if pulled is not None:
            return pulled.commit
    return checkpoint.revision()


def _lora_record(lora: Lora) -> dict[str, object]:
    """An adapter in a recipe: the hash tells which, whatever its file is called."""
    weights = sorted(lora.path.glob("*.safetensors")) if lora.path.is_dir() else [lora.path]
    digest = hashlib.sha256()
    for file in weights:
        try:
            digest.update(file.read_bytes())
        except OSError as error:
            raise ModelLoadError(f"{file}: cannot be read: {error.strerror}") from error
    return {"path": str(lora.path), "scale": lora.scale, "sha256": digest.hexdigest()}
