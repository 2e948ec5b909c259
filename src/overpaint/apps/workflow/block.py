"""What the blocks share: pictures in and out of a workflow, batches, manifests.

Pictures are BGR arrays in workflows and RGB everywhere else: they are turned here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
from inference.core.workflows.execution_engine.entities.base import (
    Batch,
    OutputDefinition,
    WorkflowImageData,
)
from inference.core.workflows.execution_engine.entities.types import (
    DICTIONARY_KIND,
    IMAGE_KIND,
    INTEGER_KIND,
    LIST_OF_VALUES_KIND,
)
from inference.core.workflows.prototypes.block import WorkflowBlock, WorkflowBlockManifest
from pydantic import ConfigDict, create_model

from overpaint.apps.wiring.painting import BLOCK_PARTS, Painted, Painting, paint
from overpaint.apps.workflow.fields import (
    ANY_MODEL,
    BORDERS,
    CHOICE,
    IMAGE,
    KEEP_SIZE,
    PLACE,
    REQUIRED,
    SEGMENTATION,
    ManifestField,
    family_options,
    of_part,
    parts,
)
from overpaint.core.imaging import borders
from overpaint.core.imaging.images import Picture
from overpaint.core.models import BUILTIN, EditTask, border_task
from overpaint.diffusion.family import FamilySpec

WORDS: Mapping[EditTask, tuple[str, str]] = {
    "inpaint": (
        "Inpainting",
        "Repaints what a model detected in a picture, from a prompt, with {}.",
    ),
    "edit": (
        "Edit",
        "Changes a picture as an instruction says, with {}; a mask limits where.",
    ),
}
"""The end of a block's title, and what it does with a model of that name."""

BLENDING = ("grow", "feather", "repaint_beyond", "follow", "hold")
"""Options of where an edit goes and how it is blended in; an eraser has some of them."""

STEP_OPTIONS = ("num_inference_steps", "guidance_scale", "strength")

logger = logging.getLogger(__name__)


class Block(WorkflowBlock):  # type: ignore[misc]
    """What the blocks share: they differ in their manifests."""

    manifest: ClassVar[type[WorkflowBlockManifest]]
    family: ClassVar[str | None]
    task: ClassVar[EditTask]

    @classmethod
    def get_manifest(cls) -> type[WorkflowBlockManifest]:
        return cls.manifest

    def run(self, **inputs: Any) -> list[dict[str, Any]]:
        """Repaint a batch of pictures; each other input is one value for all, or one for each."""
        pictures: Batch[WorkflowImageData] = inputs["image"]
        rows = _rows(inputs, len(pictures))
        painted = paint([self._painting(row) for row in rows])
        return [
            self._output(origin, answer) for origin, answer in zip(pictures, painted, strict=True)
        ]

    def _painting(self, row: Mapping[str, Any]) -> Painting:
        values = {name: _plain(value) for name, value in row.items()}
        return Painting.of(self.family, self.task, values)

    def _output(self, origin: WorkflowImageData, answer: Painted) -> dict[str, Any]:
        for warning in answer.warnings:
            logger.warning(warning)
        pixels = origin.numpy_image if answer.seed is None else _bgr(answer.picture)
        image = WorkflowImageData.copy_and_replace(origin_image_data=origin, numpy_image=pixels)
        return {
            "image": image,
            "seed": answer.seed,
            "warnings": list(answer.warnings),
            "recipe": dict(answer.recipe),
        }


class ExtensionBlock(Block):
    """A block that makes a picture larger: by its words with a model, without words by the
    eraser."""

    def _painting(self, row: Mapping[str, Any]) -> Painting:
        values = {name: _plain(value) for name, value in row.items() if value is not None}
        keys = {name: values.pop(name) for name in BORDERS if name in values}
        return Painting.of(
            self.family,
            border_task(str(values.get("prompt", ""))),
            {**values, "extend": borders.of_keywords(**keys)},
        )


class BlockManifest(WorkflowBlockManifest):  # type: ignore[misc]
    """What the manifests share."""

    @classmethod
    def describe_outputs(cls) -> list[OutputDefinition]:
        return [
            OutputDefinition(name="image", kind=[IMAGE_KIND]),
            OutputDefinition(name="seed", kind=[INTEGER_KIND]),
            OutputDefinition(name="warnings", kind=[LIST_OF_VALUES_KIND]),
            OutputDefinition(name="recipe", kind=[DICTIONARY_KIND]),
        ]

    @classmethod
    def get_parameters_accepting_batches(cls) -> list[str]:
        return ["image"]

    @classmethod
    def get_parameters_accepting_batches_and_scalars(cls) -> list[str]:
        return [name for name in cls.model_fields if name not in {"type", "name", "image"}]

    @classmethod
    def get_execution_engine_compatibility(cls) -> str | None:
        return ">=1.6.0,<2.0.0"

    @classmethod
    def get_air_gapped_availability(cls) -> Any:
        """Nothing is fetched when a block runs; engines before this hook never ask."""
        from inference.core.workflows.prototypes.block import AirGappedAvailability

        return AirGappedAvailability(available=True)


def block(
    title: str,
    *,
    about: str,
    spec: FamilySpec,
    task: EditTask,
    options: Sequence[str],
    sides: Mapping[str, ManifestField] | None = None,
) -> type[Block]:
    """A block for the edits of one family.

    Args:
        title: for people; its type in a definition is made of it.
        about: one sentence.
        spec: the family: which parts of an edit it takes.
        task: of the settings' default models.
        options: those of the family's own that become fields, beside `BLENDING`.
        sides: `height` and `width`, where an answer may have another size than its picture.
    """
    fields = {
        "image": IMAGE,
        "segmentation_mask": replace(SEGMENTATION, default=REQUIRED)
        if spec.accepts["mask"] == "required"
        else SEGMENTATION,
        **parts(spec),
        **CHOICE,
        **({**sides, "keep_input_size": KEEP_SIZE} if sides else {}),
        **family_options(spec.options, *options, *blending(spec)),
        **PLACE,
    }
    licence = next(each.licence for each in BUILTIN if each.family == spec.name)
    attributes = {"family": spec.name, "task": task}
    return _block_type(Block, title, about, fields, attributes, [spec.name], licence)


def blending(spec: FamilySpec) -> list[str]:
    """The options of `BLENDING` that a family has."""
    return [name for name in BLENDING if name in spec.options.model_fields]


def block_of_words(
    title: str,
    model: str,
    task: EditTask,
    spec: FamilySpec,
    sides: Mapping[str, ManifestField],
    options: Sequence[str] = STEP_OPTIONS,
) -> type[Block]:
    """A block of a model that words steer.

    Args:
        title: of the model, in the block's name.
        model: its name for people.
        task: 'inpaint' or 'edit'.
        spec, sides, options: as for `block`.
    """
    kind, about = WORDS[task]
    return block(
        f"{title} {kind}",
        about=about.format(model),
        spec=spec,
        task=task,
        options=options,
        sides=sides,
    )


def extension_block(title: str, *, about: str) -> type[Block]:
    """A block that lets pictures grow, with a model of any family.

    Args:
        title, about: as for `block`.
    """
    words = [part for part in BLOCK_PARTS if part.name in ("prompt", "negative_prompt", "seed")]
    fields = {
        "image": IMAGE,
        **{part.name: of_part(part, required=False) for part in words},
        **BORDERS,
        **PLACE,
        "model": ANY_MODEL,
    }
    tags = ["outpainting", "uncrop"]
    attributes = {"family": None, "task": "extend"}
    return _block_type(ExtensionBlock, title, about, fields, attributes, tags, "that of the model")


def _block_type(
    base: type[Block],
    title: str,
    about: str,
    fields: Mapping[str, ManifestField],
    attributes: Mapping[str, Any],
    tags: Sequence[str],
    licence: str,
) -> type[Block]:
    """A block with these fields."""
    name = title.lower().replace(" ", "_")
    definitions: dict[str, Any] = {
        "type": (Literal[f"overpaint/{name}@v1"], ...),
        **{key: each.definition() for key, each in fields.items()},
    }
    class_name = title.replace(" ", "")
    manifest = create_model(
        f"{class_name}BlockManifest",
        __base__=BlockManifest,
        __module__=__name__,
        **definitions,
    )
    manifest.model_config = BlockManifest.model_config | _description(title, about, tags, licence)
    manifest.model_rebuild(force=True)
    own = {"__module__": __name__, "__doc__": about, "manifest": manifest}
    return type(f"{class_name}Block", (base,), {**own, **attributes})


def _description(title: str, about: str, tags: Sequence[str], licence: str) -> ConfigDict:
    """What the editor of workflows shows of a block."""
    return ConfigDict(
        json_schema_extra={
            "name": title,
            "version": "v1",
            "short_description": about,
            "long_description": f"{about} Runs on your own machine, or on your own Overpaint "
            "server. Pixels outside the mask do not change if the result has the input's size.",
            "license": licence,
            "block_type": "model",
            "search_keywords": ["inpainting", "image editing", "overpaint", *tags],
        },
    )


def _rows(inputs: Mapping[str, Any], count: int) -> Iterator[dict[str, Any]]:
    """Inputs of each picture: batches are taken apart, single values go to all."""
    for index in range(count):
        yield {
            name: value[index] if isinstance(value, Batch) else value
            for name, value in inputs.items()
        }


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return _picture(value) if isinstance(value, WorkflowImageData) else value


def _picture(image: WorkflowImageData) -> Picture:
    pixels = image.numpy_image
    if pixels.ndim == 3 and pixels.shape[2] >= 3:
        pixels = np.concatenate([pixels[..., 2::-1], pixels[..., 3:]], axis=2)
    return Picture.from_array(pixels)


def _bgr(picture: Picture) -> Any:
    return np.ascontiguousarray(np.asarray(picture.rgb)[..., ::-1])
