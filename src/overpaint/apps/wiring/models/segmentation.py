"""From a name and the settings to a loaded segmenter, as `build` does for models that edit."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from overpaint.apps import settings as settings_
from overpaint.apps.wiring import imports
from overpaint.apps.wiring.models import catalogue, checkpoints
from overpaint.core.errors import InvalidSettings, ModelLoadError, ModelNotFound
from overpaint.core.models import ModelSpec

if TYPE_CHECKING:
    from PIL import Image

    from overpaint.apps.settings import Settings
    from overpaint.core.imaging.detections import Detection
    from overpaint.core.imaging.images import Picture
    from overpaint.segmenters.detector import Detector
    from overpaint.segmenters.segmenter import Hints, Segmenter

SEGMENTERS: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        ModelSpec(
            name="grabcut",
            family="grabcut",
            source="none",
            licence="Apache-2.0",
            about="from a box or points; no weights",
        ),
        ModelSpec(
            name="sam2",
            family="sam2",
            source="hub",
            location="facebook/sam2.1-hiera-base-plus",
            licence="Apache-2.0",
            size_gb=0.3,
            about="from a box or points, or all things in the picture",
        ),
        ModelSpec(
            name="sam2-large",
            family="sam2",
            source="hub",
            location="facebook/sam2.1-hiera-large",
            licence="Apache-2.0",
            size_gb=0.9,
            about="as sam2, more precise",
        ),
        ModelSpec(
            name="grounding-dino",
            family="grounding-dino",
            source="hub",
            location="IDEA-Research/grounding-dino-base",
            licence="Apache-2.0",
            size_gb=0.9,
            about="by words, together with sam2",
        ),
        ModelSpec(
            name="owlv2",
            family="owlv2",
            source="hub",
            location="google/owlv2-base-patch16-ensemble",
            licence="Apache-2.0",
            size_gb=0.6,
            about="by words, together with sam2",
        ),
        ModelSpec(
            name="sam3",
            family="sam3",
            source="hub",
            location="facebook/sam3",
            licence="SAM License",
            size_gb=3.4,
            about="by words; gated",
        ),
    )
}
"""Segmentation models by name; a path to a folder is one too."""

JOINT = "+"
"""`owlv2+grabcut`: the first finds boxes by words, the second outlines what is in them."""

OUTLINER = "sam2"

_lock = threading.Lock()
_loaded: tuple[str, Settings, Segmenter] | None = None


def segment(
    picture: Picture, hints: Hints, *, model: str | None = None, settings: Settings | None = None
) -> list[Detection]:
    """Find what the hints say. The last model stays loaded; safe to call from several threads.

    Args:
        picture: what to look at.
        hints: what to look for.
        model: name or folder; None = grabcut for points and boxes, for words sam3 where it was
            pulled, else grounding-dino, and sam2 without hints.
        settings: None = read them.

    Raises:
        InvalidRequest: the hints do not fit the picture.
        ModelNotFound, ModelLoadError: the model was not pulled, or is not what it should be.
    """
    global _loaded
    settings = settings or settings_.load()
    hints.check(picture.size)
    name = model or default_model(hints, settings)
    with _lock:
        if _loaded is None or _loaded[:2] != (name, settings):
            _loaded = name, settings, load(name, settings)
        return _loaded[2].segment(picture.to_srgb(), hints)


@dataclass(frozen=True)
class WordLocator:
    """Finds what an instruction names; see `core.imaging.fidelity.target.Locator`.

    Attributes:
        name: of a segmenter by words.
        settings: say where it lies.
    """

    name: str
    settings: Settings

    def place(self, picture: Picture, words: str) -> Image.Image | None:
        """'L' of the picture's size, 255 = what the words name; None where it finds nothing.

        Raises:
            ModelNotFound, ModelLoadError, UnsupportedOption: as for `segment`.
        """
        from overpaint.core.imaging import detections
        from overpaint.segmenters.segmenter import Hints

        hints = Hints(words=words)
        things = segment(picture, hints, model=self.name, settings=self.settings)
        return detections.union(things, picture.size) if things else None


def locator(settings: Settings) -> WordLocator | None:
    """What finds the things that instructions name; None = nothing is configured.

    Raises:
        InvalidSettings: there is no segmenter of that name.
    """
    name = settings.target_segmenter
    if name is None:
        return None
    for part in name.split(JOINT):
        if part not in SEGMENTERS and not Path(part).is_dir():
            raise InvalidSettings(
                f"there is no segmenter '{part}'; those by words are sam3, grounding-dino and "
                "owlv2",
                field="target_segmenter",
            )
    return WordLocator(name, settings)


def default_model(hints: Hints, settings: Settings) -> str:
    """The model for such hints where none is named."""
    if hints.words is not None:
        return (
            "sam3" if catalogue.state(SEGMENTERS["sam3"], settings) == "ready" else "grounding-dino"
        )
    return "grabcut" if hints.points or hints.boxes else "sam2"


def load(name: str, settings: Settings) -> Segmenter:
    """The segmenter of that name: `sam2`, `grounding-dino` (outlined by sam2), `owlv2+grabcut`.

    Raises:
        ModelNotFound: there is none of that name, or it was not pulled.
        ModelLoadError: its files are not what they should be.
    """
    from overpaint.segmenters.detector import ByWords, Detector

    finder, joint, outliner = name.partition(JOINT)
    first = _load_one(finder, settings)
    if not isinstance(first, Detector):
        if joint:
            raise ModelNotFound(f"'{finder}' does not find boxes by words", field="model")
        return first
    second = _load_one(outliner if joint else OUTLINER, settings)
    if isinstance(second, Detector):
        raise ModelNotFound(f"'{outliner}' does not outline boxes", field="model")
    return ByWords(first, second)


def _load_one(name: str, settings: Settings) -> Segmenter | Detector:
    from overpaint.segmenters.grabcut import GrabCut

    if name == GrabCut.name:
        return GrabCut()
    return _load_weights(_folder(name, settings), settings)


def _load_weights(folder: Path, settings: Settings) -> Segmenter | Detector:
    """torch and transformers are imported for segmenters with weights alone."""
    from overpaint.checkpoints.placement import choose, first_device
    from overpaint.segmenters import checkpoint

    imports.quieten()
    placement = choose(first_device(settings.device), "float32")
    kind = checkpoint.model_type(folder)
    if kind.startswith("sam2"):  # published checkpoints call themselves sam2_video
        from overpaint.segmenters.sam import Sam2

        return Sam2(folder, placement)
    from overpaint.segmenters import text

    if kind.startswith("sam3"):
        return text.Sam3(folder, placement)
    for detector in (text.GroundingDino, text.Owlv2):
        if kind == detector.name:
            return detector(folder, placement)
    raise ModelLoadError(
        f"{folder}: a model of type '{kind}'; known are sam2, sam3, grounding-dino and owlv2"
    )


def _folder(name: str, settings: Settings) -> Path:
    if name in SEGMENTERS:
        return checkpoints.locate(SEGMENTERS[name], settings)
    if Path(name).is_dir():
        return Path(name)
    raise ModelNotFound(
        f"there is no segmentation model '{name}'; known are {', '.join(SEGMENTERS)}, or give the "
        "path of a folder in transformers layout",
        field="model",
    )
