"""Sparse steps of `klein` compute the tokens of the edit, in both kinds of blocks."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest
from overpaint.diffusion.tokens.sparse import kept_bytes
from tests.conftest import box_mask, picture

CORNER = (0, 0, 32, 32)
SHORT = {"max_sequence_length": 48, "num_inference_steps": 4, "window": "full"}


@pytest.fixture(scope="module")
def engine(make_engine, checkpoint_folder):
    made = {}

    def make(name):
        if name not in made:
            made[name] = make_engine("klein", checkpoint_folder(name))
        return made[name]

    return make


def finished(engine, mask, **options):
    """The image after its last step."""
    edit = engine.begin(
        EditRequest(
            image=Picture.from_pil(picture(64, 64)),
            prompt="a red circle",
            mask=mask,
            seed=3,
            options={**SHORT, **options},
        )
    )
    while not edit.prepared[0].done:
        edit.model.family.advance(edit.prepared)
    return edit.prepared[0]


def counted(engine, layer: str, mask, **options) -> list[int]:
    """Tokens that a layer is given in each pass."""
    transformer = engine.model().checkpoint.component("transformer")
    counts: list[int] = []
    handle = getattr(transformer, layer).register_forward_pre_hook(
        lambda _module, args: counts.append(args[0].shape[1])
    )
    try:
        finished(engine, mask, **options)
    finally:
        handle.remove()
    return counts


@pytest.mark.parametrize("name", ["klein", "klein_base"])
def test_a_whole_step_is_the_dense_one_bit_for_bit(engine, name):
    dense = finished(engine(name), box_mask(64, 64), num_inference_steps=1)
    whole = finished(engine(name), box_mask(64, 64), num_inference_steps=1, refresh_every=9)
    assert torch.equal(dense.latents, whole.latents)


def test_only_active_tokens_are_computed_between_whole_steps(engine):
    mask = box_mask(64, 64, CORNER)
    # Two by two tokens under the mask, and their border; the picture is a reference too.
    assert counted(engine("klein"), "x_embedder", mask, refresh_every=2) == [32, 9, 32, 9]
    assert counted(engine("klein"), "x_embedder", mask) == [32] * 4
    assert counted(engine("klein_base"), "x_embedder", mask, refresh_every=4) == [
        *(32, 32), *(9, 9), *(9, 9), *(9, 9)
    ]  # fmt: skip


def test_without_a_mask_only_references_are_kept(engine):
    assert counted(engine("klein"), "x_embedder", None, refresh_every=3) == [32, 16, 16, 32]


def test_the_text_may_be_kept_too(engine):
    given = {"refresh_every": 2, "freeze_text": True}
    assert counted(engine("klein"), "context_embedder", None, **given) == [48, 0, 48, 0]


@pytest.mark.parametrize(
    ("preset", "expected"), [("balanced", [32, 9, 32, 9]), ("fast", [32, 9, 9, 9])]
)
def test_presets_of_four_steps_leave_no_step_out(engine, preset, expected):
    mask = box_mask(64, 64, CORNER)
    assert counted(engine("klein"), "x_embedder", mask, preset=preset) == expected


@pytest.mark.parametrize("name", ["klein", "klein_base"])
def test_where_everything_is_edited_a_sparse_step_after_a_whole_one_is_close(engine, name):
    everything = Image.new("L", (64, 64), 255)
    dense = finished(engine(name), everything).latents
    sparse = finished(engine(name), everything, refresh_every=4).latents
    # The references' keys are those of the last whole step.
    assert torch.allclose(dense, sparse, atol=0.05)
    assert not torch.equal(dense, sparse)


def test_what_is_not_computed_ends_as_the_picture(engine):
    image = finished(engine("klein"), box_mask(64, 64, CORNER), refresh_every=4)
    kept = torch.ones(image.latents.shape[1], dtype=torch.bool)
    kept[image.sparse.active] = False
    assert torch.allclose(image.latents[:, kept], image.source[:, kept], atol=1e-4)


@pytest.mark.parametrize(("name", "texts"), [("klein", 1), ("klein_base", 2)])
def test_the_bytes_that_it_keeps_are_known_ahead(engine, name, texts):
    image = finished(engine(name), box_mask(64, 64, CORNER), refresh_every=3)
    transformer = engine(name).model().checkpoint.component("transformer")
    held = image.sparse.prompt.nbytes + image.sparse.negative.nbytes
    expected = kept_bytes(transformer.config, 48 + 2 * 16, 4, texts=texts)
    assert image.held_bytes == held == expected > 0
