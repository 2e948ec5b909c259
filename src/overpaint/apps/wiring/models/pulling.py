"""From a model's name to its files on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from overpaint.apps.wiring.models import families, licences
from overpaint.checkpoints.files import hub
from overpaint.checkpoints.files.pins import PINS, Pin

if TYPE_CHECKING:
    from overpaint.apps.settings import Settings
    from overpaint.checkpoints.files.hub import OnProgress, Pulled
    from overpaint.core.models import ModelSpec


def pull(
    spec: ModelSpec,
    settings: Settings,
    *,
    edits: bool,
    revision: str | None = None,
    on_progress: OnProgress | None = None,
) -> Pulled:
    """Download a model of the hub, or complete and check one that is here.

    Args:
        spec: which; its source is the hub.
        settings: say where it goes, and which licences were accepted.
        edits: whether a family of models that edit reads it; else it is a segmenter.
        revision: branch, tag or commit; None = the one that the catalogue pins.
        on_progress: see `hub.pull`.

    Raises:
        LicenceNotAccepted: its licence must be accepted first.
        ModelNotFound, ModelLoadError: see `hub.pull`.
    """
    licences.require(spec, settings)
    family = families.find(spec.family) if edits else None
    return hub.pull(
        spec.location,
        spec.revision,
        pin=PINS.get(spec.location) if revision is None else Pin(revision),
        components=None if family is None else family.components,
        refusal=None if family is None else family.refusal,
        cache=settings.cache,
        on_progress=on_progress,
    )
