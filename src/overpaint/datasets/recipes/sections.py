"""Sections of a recipe: sources, masks, filters, looking, rules, gate, output."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    create_model,
    model_validator,
)

from overpaint.core.parts import Kind
from overpaint.core.types import PARTS
from overpaint.jobs.output.encoding import PictureEncoding


def _from_base(path: Path, info: ValidationInfo) -> Path:
    """Relative paths of a recipe start at its folder."""
    base: Path = (info.context or {}).get("base", Path())
    return base / path.expanduser()


RecipePath = Annotated[Path, AfterValidator(_from_base)]
Share = Annotated[float, Field(ge=0, le=1)]
Issue = Literal["dark", "light", "blurry", "low_information", "odd_aspect_ratio", "grayscale"]
DataSetFormat = Literal["imagefolder", "webdataset", "coco", "parquet", "triples"]


class Section(BaseModel):
    """A section of a recipe: unknown keys are refused, values are fixed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


OWN = {
    "image": "it is a picture of the sources",
    "prompt": "the recipe has a template of it",
    "mask": "the recipe says how to find it",
    "mask_is": "the recipe says how to find the mask",
    "extend": "the pictures of a data set keep their sizes",
    "seed": "each task has its own, derived from the recipe's",
    "num_images": "the recipe has quotas",
    "model": "it is a key of the recipe with a meaning of its own: a rule may name another",
    "options": "as the model",
}
"""Parts of an edit that a recipe does not give for all of its edits, and why."""

COMMON = tuple(part for part in PARTS if part.name not in OWN)
"""Parts that a recipe gives by name, for all of its edits."""

_TYPES: dict[Kind, Any] = {
    "picture": RecipePath | None,
    "mask": RecipePath | None,
    "pictures": tuple[RecipePath, ...],
    "text": str | None,
    "number": int | None,
}

S = TypeVar("S", bound=Section)


def with_common_parts(recipe: type[S]) -> type[S]:
    """The recipe with a key for each of the parts that are the same in all of its edits."""
    keys: dict[str, Any] = {
        part.name: (
            _TYPES[part.kind],
            Field(default=() if part.kind == "pictures" else None, description=part.help),
        )
        for part in COMMON
    }
    return create_model(
        recipe.__name__,
        __base__=recipe,
        __module__=recipe.__module__,
        __doc__=recipe.__doc__,
        **keys,
    )


class Blank(Section):
    """A picture of one colour, to be painted over whole."""

    width: int = Field(ge=16, le=8192)
    height: int = Field(ge=16, le=8192)
    colour: str = Field(default="#808080", pattern=r"^#[0-9a-fA-F]{6}$")


class SourceSection(Section):
    """Where pictures come from: exactly one of the first seven keys.

    Attributes:
        folder: pictures in a folder and its subfolders.
        jsonl: a picture per line: {"image": "a.png", "mask": "b.png", …}.
        parquet: a picture per row: bytes, {"bytes": …} as Hugging Face writes them, or a path.
        imagefolder: Hugging Face's layout: pictures and metadata.jsonl, .csv or .parquet.
        webdataset: tar files; a pattern such as `shards/*.tar`.
        coco: annotations; their masks can be the mask.
        blank: a picture of one colour.
        images: folder that relative paths of jsonl, parquet and coco start at, and that they
            must stay in; None = the file's own.
        masks: folder with a mask of the same name (.png) for each picture.
        image_column, mask_column: of jsonl and parquet.
        categories: of coco: whose annotations are the mask; empty = all.
        limit: pictures taken at most.
        licence: what the pictures may be used for; goes into the data-set card.
    """

    folder: RecipePath | None = None
    jsonl: RecipePath | None = None
    parquet: RecipePath | None = None
    imagefolder: RecipePath | None = None
    webdataset: RecipePath | None = None
    coco: RecipePath | None = None
    blank: Blank | None = None
    images: RecipePath | None = None
    masks: RecipePath | None = None
    image_column: str = "image"
    mask_column: str = "mask"
    categories: tuple[str, ...] = ()
    limit: int | None = Field(default=None, ge=1)
    licence: str = "unknown"

    @model_validator(mode="after")
    def _one_kind(self) -> SourceSection:
        if len(self._kinds()) != 1:
            raise ValueError(f"give exactly one of {', '.join(KINDS)}")
        return self

    @property
    def kind(self) -> str:
        """Which of the keys is given."""
        return self._kinds()[0]

    def _kinds(self) -> list[str]:
        return [name for name in KINDS if getattr(self, name) is not None]


KINDS = ("folder", "jsonl", "parquet", "imagefolder", "webdataset", "coco", "blank")
"""Kinds of sources."""


class MaskSection(Section):
    """What an edit may repaint: exactly one of these.

    Attributes:
        box: left, top, right, bottom as shares of the picture's sides.
        find: words; a zero-shot detector says where it is. May have {fields}.
        everywhere: the whole picture.
        of_source: the mask that came with the picture.
        grow: pixels by which it is widened, below 0 narrowed.
    """

    box: tuple[Share, Share, Share, Share] | None = None
    find: str | None = None
    everywhere: bool = False
    of_source: bool = False
    grow: int = Field(default=0, ge=-512, le=512)

    @model_validator(mode="after")
    def _one_way(self) -> MaskSection:
        ways = (self.box is not None, self.find is not None, self.everywhere, self.of_source)
        if sum(ways) != 1:
            raise ValueError("give exactly one of box, find, everywhere, of_source")
        if self.box is not None and (self.box[0] >= self.box[2] or self.box[1] >= self.box[3]):
            raise ValueError("box is left, top, right, bottom, each from 0 to 1")
        return self


class Vision(Section):
    """A vision model behind an OpenAI-compatible API. Its key is not part of a recipe.

    Attributes:
        base_url: such as http://127.0.0.1:8000/v1.
        model: its name there.
        timeout_s: for one answer.
        retries: further attempts after a timeout, a busy server or an unreadable answer.
        boxes: how this model gives boxes: as shares of the sides, in pixels of the picture it
            was sent (Qwen2.5-VL), as left, top, right, bottom in thousandths (xyxy1000: Qwen3-VL,
            InternVL), or as top, left, bottom, right in thousandths (yxyx1000: Gemini). 'auto'
            takes numbers up to 1 as shares, and asks once for a thing whose place is known.
        longest_side: larger pictures are sent smaller.
    """

    base_url: str = Field(pattern=r"^https?://")
    model: str
    timeout_s: float = Field(default=60, gt=0, le=600)
    retries: int = Field(default=2, ge=0, le=10)
    boxes: Literal["auto", "shares", "pixels", "xyxy1000", "yxyx1000"] = "auto"
    longest_side: int = Field(default=1024, ge=64, le=8192)


class Filters(Section):
    """What a picture must pass to be kept.

    Attributes:
        issues: CleanVision's, of which it must have none.
        duplicates: largest distance (bits of 64) of perceptual hashes at which two pictures
            count as the same; None = duplicates are kept.
        changed: least and largest share of its pixels that differ from the source.
        shows: words with {fields} that must be true of the picture: 'a {colour} {shape}'.
        shows_by: who says so: the vision model, or the zero-shot detector.
        shows_score: how sure they must be of it.
        least_side: of the picture, in pixels.
    """

    issues: tuple[Issue, ...] = ()
    duplicates: int | None = Field(default=None, ge=0, le=32)
    changed: tuple[Share, Share] | None = None
    shows: str | None = None
    shows_by: Literal["vision", "detector"] = "vision"
    shows_score: Share = 0.0
    least_side: int = Field(default=1, ge=1)


class Exact(Section):
    """Exact operations, without a model, in the order in which they stand here.

    Attributes:
        exposure: mean brightness (luma, 0..1) to reach, by gamma: black and white stay, unless
            too much of the picture is black or white already.
        contrast: standard deviation of luma (0..0.5) to reach, around its mean.
        clahe: clip limit of adaptive histogram equalisation (OpenCV) of the lightness.
    """

    exposure: float | None = Field(default=None, gt=0, lt=1)
    contrast: float | None = Field(default=None, gt=0, le=0.5)
    clahe: float | None = Field(default=None, gt=0, le=40)


class EditSection(Section):
    """One edit of every picture with the model.

    Attributes:
        prompt: words or an instruction; may have {fields} of the source.
        mask: what may be repainted; None for instructions.
    """

    prompt: str = ""
    mask: MaskSection | None = None


class LookSection(Section):
    """Says what is in a picture.

    Attributes:
        labels: what to look for, such as 'a watermark'; empty = the vision model names whatever
            is there, in its own words.
        by: the vision model, or the zero-shot detector.
        outline: a segmentation model that outlines the boxes that the vision model gives, such as
            'grabcut' (no weights) or 'sam2'; None = boxes are repainted whole.
        confidence: from which something counts as found.
    """

    labels: tuple[str, ...] = ()
    by: Literal["vision", "detector"] = "vision"
    outline: str | None = None
    confidence: Share = 0.5

    @model_validator(mode="after")
    def _words(self) -> LookSection:
        if not self.labels and self.by == "detector":
            raise ValueError("a detector finds what it is asked for; give labels, or by: vision")
        return self


class Rule(Section):
    """What to do where something was found.

    Attributes:
        when: a label, compared without case, article and plural; or a pattern with '*' and '?',
            '*' for any. If the look has no labels, 'cone' fits 'an orange traffic cone', too.
        do: 'instruct' gives `prompt` to the model; 'inpaint' and 'erase' repaint what was found
            (its box, or its outline); 'reject' leaves the picture out; 'keep' leaves it as it is.
        prompt: may have {label} and {fields}.
        model: another model than the recipe's.
        grow: pixels around what was found.
        within: instead of `grow`, for 'instruct': what it changed further away than so many pixels
            is put back; None = it may change the whole picture.
    """

    when: str
    do: Literal["instruct", "inpaint", "erase", "reject", "keep"]
    prompt: str = ""
    model: str | None = None
    grow: int = Field(default=8, ge=0, le=512)
    within: int | None = Field(default=None, ge=0, le=4096)
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _words(self) -> Rule:
        if self.do == "instruct" and not self.prompt:
            raise ValueError("do: instruct needs a prompt")
        if self.do != "instruct" and self.within is not None:
            raise ValueError("within is for do: instruct; the others have grow")
        return self


class Gate(Section):
    """When an edit counts as failed, so that the original is kept.

    Attributes:
        changed: least and largest share of pixels that changed; None = 0.0005 to 0.9, or to 1
            where the edit is meant for the whole picture ('make it brighter').
        gone: whether what was found must not be found again.
        kept_psnr: least likeness (dB) of what lies outside the mask or the found boxes.
        new_issues: whether a CleanVision issue that the original lacks fails the edit.
        tries: how often an edit is made, each time with another seed, before it counts as failed.
        failed: what becomes of a picture whose edit failed: 'keep' it as it was, or 'reject' it.
        likeness: least cosine likeness of the pictures' embeddings, by the model in the folder
            `likeness_model` (CLIP, SigLIP or DINO in transformers layout).
    """

    changed: tuple[Share, Share] | None = None
    gone: bool = False
    kept_psnr: float | None = Field(default=None, gt=0)
    new_issues: bool = True
    tries: int = Field(default=1, ge=1, le=16)
    failed: Literal["keep", "reject"] = "keep"
    likeness: float | None = Field(default=None, ge=-1, le=1)
    likeness_model: RecipePath | None = None

    @model_validator(mode="after")
    def _model(self) -> Gate:
        if (self.likeness is None) != (self.likeness_model is None):
            raise ValueError("likeness and likeness_model go together")
        return self


class OutputSection(Section):
    """What is written beside the report.

    Attributes:
        formats: of the data set.
        shard: pictures in one tar or Parquet file.
        sources: whether each picture's source and mask go along as columns.
        pictures: how made pictures are written; 'input' keeps the format of each source. JPEG
            changes every pixel a little.
        quality: 1 to 100, of JPEG and WebP; None = 95 for JPEG, every pixel kept for WebP.
        licence: of the data set; goes into its card.
    """

    formats: tuple[DataSetFormat, ...] = ("imagefolder",)
    shard: int = Field(default=1000, ge=1)
    sources: bool = True
    pictures: Literal["png", "jpeg", "webp", "input"] = "png"
    quality: int | None = Field(default=None, ge=1, le=100)
    licence: str = "unknown"

    @model_validator(mode="after")
    def _quality(self) -> OutputSection:
        if self.quality is not None and self.pictures == "png":
            raise ValueError("PNG keeps every pixel and has no quality; give output.pictures, too")
        return self

    @property
    def encoding(self) -> PictureEncoding:
        """How made pictures are written."""
        return PictureEncoding(self.pictures, self.quality)
