"""diffusers' pipelines of Qwen-Image-Edit on tiny checkpoints, where torchvision is not needed.

`plus` is diffusers' own pipeline with a processor whose pixels are transformers' arithmetic in
other words. No pipeline edits with a mask what 2509 and 2511 edit without one: `inpaint` is
diffusers' one for the earlier model, given the later ones' prompt and the posterior's mode.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImageEditInpaintPipeline,
    QwenImageEditPlusPipeline,
    QwenImageTransformer2DModel,
)
from diffusers.pipelines.qwenimage import (
    pipeline_qwenimage_edit_inpaint,
    pipeline_qwenimage_edit_plus,
)
from PIL import Image
from torch.nn import functional
from transformers import BatchFeature, Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer

from tests.tiny_checkpoints import QWEN_SIDE, Qwen2VLProcessor

SLOT = "<|image_pad|>"


class OracleProcessor:
    """`Qwen2VLProcessor` as the pipelines call it."""

    def __init__(self, tokenizer) -> None:
        self.tokenizer = tokenizer

    def __call__(self, *, text, images, padding, return_tensors):
        pixels, grids = zip(*map(patches, images), strict=True)
        counts = iter([rows * columns // 4 for _, rows, columns in grids])
        expanded = []
        for each in text:
            head, *tails = each.split(SLOT)
            expanded.append(head + "".join(SLOT * next(counts) + tail for tail in tails))
        encoded = self.tokenizer(expanded, padding=padding, return_tensors=return_tensors)
        return BatchFeature(
            {**encoded, "pixel_values": torch.cat(pixels), "image_grid_thw": torch.tensor(grids)}
        )


def patches(picture: Image.Image) -> tuple[torch.Tensor, tuple[int, int, int]]:
    """(N, 1176) and (1, rows, columns), of pictures whose area needs no correction."""
    pixels = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
    height, width = (round(side / 28) * 28 for side in pixels.shape[1:])
    if pixels.shape[1:] != (height, width):
        pixels = functional.interpolate(
            pixels[None], size=(height, width), mode="bicubic", antialias=True
        )[0]
    mean, std = (
        torch.tensor(Qwen2VLProcessor.config[name])[:, None, None] * (1.0 / (1 / 255))
        for name in ("image_mean", "image_std")
    )
    pixels = (pixels.float() - mean) / std
    rows, columns = height // 14, width // 14
    cut = pixels[None].reshape(1, 3, rows // 2, 2, 14, columns // 2, 2, 14)
    cut = cut.permute(0, 2, 5, 3, 6, 1, 4, 7).unsqueeze(6).expand(-1, -1, -1, -1, -1, -1, 2, -1, -1)
    return cut.reshape(rows * columns, 1176), (1, rows, columns)


class MaskedPlusPipeline(QwenImageEditInpaintPipeline):
    """The earlier model's pipeline with the later ones' prompt and without random latents."""

    def _get_qwen_prompt_embeds(self, prompt=None, image=None, device=None, dtype=None):
        width, height = pipeline_qwenimage_edit_plus.calculate_dimensions(
            384 * 384, self.seen.size[0] / self.seen.size[1]
        )
        seen = [self.image_processor.resize(self.seen, height, width)]
        plus = QwenImageEditPlusPipeline._get_qwen_prompt_embeds
        self.prompt_template_encode = self.template
        return plus(self, prompt, seen, device, dtype)

    def _encode_vae_image(self, image, generator):
        return QwenImageEditPlusPipeline._encode_vae_image(self, image, generator)


def plus(folder: Path) -> QwenImageEditPlusPipeline:
    """The pipeline, on a tiny checkpoint."""
    return _quiet(QwenImageEditPlusPipeline(**components(folder)))


def masked(folder: Path) -> MaskedPlusPipeline:
    """The pipeline for masks; its attribute `seen` is the picture that the text encoder sees."""
    pipeline = MaskedPlusPipeline(**components(folder))
    pipeline.template = plus(folder).prompt_template_encode
    return _quiet(pipeline)


def components(folder: Path) -> dict[str, object]:
    tokenizer = Qwen2Tokenizer.from_pretrained(folder / "tokenizer")
    return {
        "scheduler": FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler"),
        "vae": AutoencoderKLQwenImage.from_pretrained(folder / "vae").eval(),
        "text_encoder": Qwen2_5_VLForConditionalGeneration.from_pretrained(
            folder / "text_encoder"
        ).eval(),
        "tokenizer": tokenizer,
        "processor": OracleProcessor(tokenizer),
        "transformer": QwenImageTransformer2DModel.from_pretrained(folder / "transformer").eval(),
    }


def _quiet(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@contextmanager
def small_areas(size: tuple[int, int] | None = None) -> Iterator[None]:
    """The pipelines' own areas at the tiny checkpoint's size.

    Args:
        size: (width, height) of the canvas of a masked edit; None = of that area.
    """
    real = pipeline_qwenimage_edit_plus.calculate_dimensions
    share = (QWEN_SIDE / 1024) ** 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            pipeline_qwenimage_edit_plus,
            "calculate_dimensions",
            lambda area, ratio: real(share * area, ratio),
        )
        patch.setattr(
            pipeline_qwenimage_edit_inpaint,
            "calculate_dimensions",
            lambda area, ratio: (*(size or real(share * area, ratio)), None),
        )
        yield


@contextmanager
def grid_positions(pipeline) -> Iterator[None]:
    """The pipeline passes on which tokens are pictures', as it will where transformers 5 asks."""
    encoder = pipeline.text_encoder
    forward = encoder.forward

    def with_kinds(input_ids, **more):
        kinds = (input_ids == encoder.config.image_token_id).int()
        return forward(input_ids=input_ids, mm_token_type_ids=kinds, **more)

    encoder.forward = with_kinds
    try:
        yield
    finally:
        encoder.forward = forward
