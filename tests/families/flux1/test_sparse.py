"""Sparse steps compute the tokens of the edit; whole steps are the dense ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from overpaint.apps.wiring.models import families
from overpaint.checkpoints.placement import Placement
from overpaint.core.types import EditRequest
from overpaint.diffusion.flow import noised
from overpaint.diffusion.tokens import sparse
from overpaint.diffusion.tokens.sparse import active_tokens, bucket, kept_bytes
from overpaint.engine.engine import Engine
from overpaint.engine.intake import as_picture
from overpaint.engine.model import Model
from tests.conftest import box_mask, open_checkpoint, picture

FAMILIES = ["flex2", "kontext"]
CORNER = (0, 0, 32, 32)


def begin(engine, mask, *, negative=None, **options):
    return engine.begin(
        EditRequest(
            image=as_picture(picture()),
            prompt="a red circle",
            mask=mask,
            negative_prompt=negative,
            seed=3,
            options={"window": "full", "num_inference_steps": 4, **options},
        )
    )


def latents(engine, mask, **options) -> torch.Tensor:
    """What the steps end with."""
    edit = begin(engine, mask, **options)
    while not edit.prepared[0].done:
        edit.model.family.advance(edit.prepared)
    return edit.prepared[0].latents


def tokens(engine, mask, **options) -> list[int]:
    """Picture tokens in each pass."""
    return passed(engine, "x_embedder", mask, **options)


def passed(engine, layer: str, mask, **options) -> list[int]:
    """Tokens that a layer is given in each pass."""
    transformer = engine.model().checkpoint.component("transformer")
    counts: list[int] = []
    handle = getattr(transformer, layer).register_forward_pre_hook(
        lambda _module, args: counts.append(args[0].shape[1])
    )
    try:
        latents(engine, mask, **options)
    finally:
        handle.remove()
    return counts


@pytest.mark.parametrize("family", [*FAMILIES, "fill"])
@pytest.mark.parametrize("negative", [None, "blue"])
def test_a_whole_step_is_the_dense_one_bit_for_bit(make_engine, family, negative):
    engine = make_engine(family)
    given = {"negative": negative, "num_inference_steps": 1}
    dense = latents(engine, box_mask(), **given)
    whole = latents(engine, box_mask(), refresh_every=9, **given)
    assert torch.equal(dense, whole)


@pytest.mark.parametrize("family", [*FAMILIES, "fill"])
def test_only_active_tokens_are_computed_between_whole_steps(make_engine, family):
    mask = box_mask(box=CORNER)
    noise = (128 // 16) ** 2
    whole = 2 * noise if family == "kontext" else noise
    # Two by two tokens under the mask, and their border.
    assert tokens(make_engine(family), mask, refresh_every=2) == [whole, 9, whole, 9]
    assert tokens(make_engine(family), mask, refresh_every=1) == [whole] * 4


def test_without_a_mask_only_references_are_kept(make_engine):
    assert tokens(make_engine("kontext"), None, refresh_every=3) == [128, 64, 64, 128]


def test_where_everything_is_edited_sparse_is_dense(make_engine):
    engine, everything = make_engine("flex2"), Image.new("L", (128, 128), 255)
    dense = latents(engine, everything, negative="blue")
    sparse = latents(engine, everything, negative="blue", refresh_every=4)
    assert torch.allclose(dense, sparse, atol=1e-5)


@pytest.mark.parametrize("family", ["flex2", "fill"])
def test_what_is_not_computed_ends_as_the_picture(make_engine, family):
    edit = begin(make_engine(family), box_mask(box=CORNER), refresh_every=9)
    while not edit.prepared[0].done:
        edit.model.family.advance(edit.prepared)
    image = edit.prepared[0]
    kept = torch.ones(image.latents.shape[1], dtype=torch.bool)
    kept[image.sparse.active] = False
    assert torch.allclose(image.latents[:, kept], image.sparse.picture[:, kept], atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_negative_passes_that_start_late_start_whole(make_engine, family):
    found = tokens(
        make_engine(family), box_mask(box=CORNER), negative="blue", refresh_every=9,
        guidance_start=0.5,
    )  # fmt: skip
    whole = 64 if family == "flex2" else 128
    assert found == [whole, 9, whole, whole, 9, 9]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("negative", [None, "blue"])
def test_the_bytes_that_it_keeps_are_known_ahead(make_engine, family, negative):
    edit = begin(make_engine(family), box_mask(box=CORNER), refresh_every=3, negative=negative)
    image = edit.prepared[0]
    transformer = edit.model.checkpoint.component("transformer")
    texts = 1 if negative is None else 2
    expected = kept_bytes(transformer.config, len(image.layout), 4, texts=texts)
    while not image.done:
        edit.model.family.advance(edit.prepared)
    held = image.sparse.prompt.nbytes + image.sparse.negative.nbytes
    assert image.held_bytes == held == expected > 0
    assert begin(make_engine(family), box_mask()).prepared[0].held_bytes == 0


def test_a_real_model_keeps_gigabytes():
    config = {
        "num_layers": 8, "num_single_layers": 38,
        "num_attention_heads": 24, "attention_head_dim": 128,
    }  # fmt: skip
    assert kept_bytes(config, 4096 + 512, 2) == pytest.approx(2.6e9, rel=0.01)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pass_leaves_nothing_on_the_transformer_even_when_it_fails(
    make_engine, family, monkeypatch
):
    edit = begin(make_engine(family), box_mask(box=CORNER), refresh_every=3)
    transformer = edit.model.checkpoint.component("transformer")
    edit.model.family.advance(edit.prepared)

    def broken(*_, **__):
        assert transformer.transformer_blocks[0].attn.kept_keys is not None
        raise RuntimeError("in a pass")

    monkeypatch.setattr(transformer.norm_out, "forward", broken)
    with pytest.raises(RuntimeError, match="in a pass"):
        edit.model.family.advance(edit.prepared)
    for module in transformer.modules():
        assert not {"kept_keys", "kept_values"} & vars(module).keys()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_noise_is_put_back_as_the_scheduler_would(dtype):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(28)
    scheduler.set_begin_index(0)
    torch.manual_seed(0)
    source, noise = torch.randn(2, 1, 64, 64).to(dtype)
    for step, timestep in enumerate(scheduler.timesteps):
        scheduler._step_index = step
        expected = scheduler.scale_noise(source, timestep.reshape(1), noise)
        assert torch.equal(noised(source, noise, scheduler.sigmas[step]), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_frozen_text_is_computed_in_whole_steps_only(make_engine, family):
    engine, mask = make_engine(family), box_mask(box=CORNER)
    given = {"refresh_every": 2, "freeze_text": True, "max_sequence_length": 16}
    assert passed(engine, "context_embedder", mask, **given) == [16, 0, 16, 0]
    assert tokens(engine, mask, **given) == tokens(engine, mask, refresh_every=2)
    frozen, fresh = latents(engine, mask, **given), latents(engine, mask, refresh_every=2)
    assert not torch.equal(frozen, fresh)
    assert torch.allclose(frozen, fresh, atol=0.5)


@pytest.mark.parametrize("family", FAMILIES)
def test_frozen_text_changes_nothing_where_every_step_is_whole(make_engine, family):
    engine, mask = make_engine(family), box_mask(box=CORNER)
    dense = latents(engine, mask, refresh_every=1)
    assert torch.equal(latents(engine, mask, refresh_every=1, freeze_text=True), dense)


@pytest.mark.parametrize(
    ("active", "computed"),
    [(0, 0), (1, 128), (128, 128), (129, 256), (1024, 1024), (1025, 1280), (1281, 1536)],
)
def test_tokens_come_in_buckets(active, computed):
    assert bucket(active, 4096) == computed
    assert bucket(active, active) == active


def test_three_tokens_less_fall_into_the_same_bucket():
    assert {bucket(count, 4096) for count in (484, 481)} == {512}
    assert {bucket(count, 4096) for count in (1473, 1470)} == {1536}


@given(st.integers(1, 4096))
def test_buckets_are_few_and_cost_little(active):
    assert len({bucket(count, 4096) for count in range(1, active + 1)}) <= 8 + 12
    assert active <= bucket(active, 4096) < active + (128 if active <= 1024 else 256)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_repeated_tokens_change_no_other(checkpoint_folder, monkeypatch, family, dtype):
    """A processor fills nothing up; made to, it gives the same bits."""
    checkpoint = open_checkpoint(checkpoint_folder(family), Placement(torch.device("cpu"), dtype))
    model = Model(families.find(family).open(checkpoint), checkpoint, record={"name": family})
    engine, mask = Engine(lambda _: model, "model"), box_mask(box=CORNER)
    given = {"refresh_every": 2, "negative": "blue"}
    expected = latents(engine, mask, **given)
    monkeypatch.setattr(sparse, "BUCKET", 16)
    monkeypatch.setattr(sparse, "computed_tokens", sparse.filled_up)
    counted = passed(engine, "x_embedder", mask, refresh_every=2)
    assert counted[1] == 16
    assert torch.equal(latents(engine, mask, **given), expected)


@given(st.integers(0, 7), st.integers(0, 7))
def test_a_token_is_active_where_its_neighbour_is_masked(row, column):
    mask = torch.zeros(1, 64, 4)
    mask[0, row * 8 + column, 2] = 0.01
    places = {(int(each) // 8, int(each) % 8) for each in active_tokens(mask, (16, 16))}
    near = {(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)}
    assert places == {(r, c) for r, c in near if 0 <= r < 8 and 0 <= c < 8}


@pytest.mark.parametrize("family", FAMILIES)
def test_pixels_outside_the_mask_stay(make_engine, family):
    given, mask = picture(), box_mask(box=CORNER)
    made = make_engine(family).edit(
        given, "a red circle", mask=mask, seed=1, preset="fast", num_inference_steps=6
    )
    outside = np.asarray(mask) == 0
    assert np.array_equal(np.asarray(made.images[0])[outside], np.asarray(given)[outside])
