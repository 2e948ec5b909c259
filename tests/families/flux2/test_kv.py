"""The -kv weights: keys and values of references are computed once, and kept across edits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from overpaint.checkpoints.memo import Memo
from overpaint.checkpoints.placement import MemoryPlan, Placement
from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest
from overpaint.diffusion.tokens.sparse import attentions
from overpaint.engine.engine import Engine
from overpaint.engine.model import Model
from overpaint.families.flux2 import KLEIN_KV_FAMILY
from tests.conftest import box_mask, open_checkpoint, picture

SHORT = {"max_sequence_length": 48, "num_inference_steps": 2}


@pytest.fixture
def checkpoint(checkpoint_folder):
    placement = Placement(torch.device("cpu"), torch.float32)
    return open_checkpoint(checkpoint_folder("klein_kv"), placement)


@pytest.fixture
def engine(checkpoint):
    model = Model(KLEIN_KV_FAMILY.open(checkpoint), checkpoint)
    return Engine(lambda _: model, "klein-kv")


@pytest.fixture
def passes(checkpoint):
    """Tokens of pictures in each pass so far."""
    counts: list[int] = []
    checkpoint.component("transformer").x_embedder.register_forward_pre_hook(
        lambda _module, args: counts.append(args[0].shape[1])
    )
    return counts


def edit(engine, prompt="red", **more) -> np.ndarray:
    more = {**SHORT, "seed": 1, **more}
    return np.asarray(engine.edit(more.pop("image", picture(64, 64)), prompt, **more).images[0])


def begin(engine, options=SHORT, **more):
    image = Picture.from_pil(picture(64, 64))
    return engine.begin(EditRequest(image=image, prompt="red", seed=1, options=options, **more))


def test_the_second_instruction_on_a_picture_starts_from_the_first_ones(engine, passes):
    edit(engine)
    assert passes == [16, 16, 16], "the references, then two steps of the noise alone"
    edit(engine, "blue", seed=9)
    assert passes[3:] == [16, 16]


def test_its_picture_is_bit_for_bit_the_one_without(engine, checkpoint):
    edit(engine)
    kept = edit(engine, "blue", seed=9)
    checkpoint.states.clear()
    assert np.array_equal(edit(engine, "blue", seed=9), kept)


@pytest.mark.parametrize(
    "more",
    [
        {"image": picture(64, 64, seed=3)},
        {"references": [picture(64, 64, seed=4)]},
        {"height": 80, "width": 64},
    ],
    ids=["another picture", "a reference more", "another size"],
)
def test_other_references_are_computed_anew(engine, passes, more):
    edit(engine)
    del passes[:]
    edit(engine, **more)
    assert len(passes) == 3


def test_all_seeds_of_a_request_share_one(engine, passes):
    engine.edit(picture(64, 64), "red", seed=1, num_images=3, **SHORT)
    assert len(passes) == 3


def test_they_are_kept_within_a_bound(engine, checkpoint, passes):
    edit(engine)
    size = checkpoint.states.size
    checkpoint.states = Memo(size)
    for seed in (0, 3, 0):
        del passes[:]
        edit(engine, image=picture(64, 64, seed=seed))
        assert len(passes) == 3
        assert checkpoint.states.size == size
    checkpoint.states = Memo(size - 1)
    first = edit(engine)
    assert checkpoint.states.size == 0
    assert np.array_equal(edit(engine), first)


def test_a_memory_plan_bounds_them(checkpoint):
    checkpoint.follow(MemoryPlan(weights=10, peak=10, free=1010, tier="all resident"))
    checkpoint.states.get("a", lambda: torch.zeros(501, dtype=torch.uint8))
    assert checkpoint.states.size == 0
    checkpoint.states.get("a", lambda: torch.zeros(500, dtype=torch.uint8))
    assert checkpoint.states.size == 500


def test_they_leave_first_where_memory_is_short(engine, checkpoint, passes):
    edit(engine)
    assert checkpoint.states.size > 0
    assert engine.models.make_room(engine.model())
    assert checkpoint.states.size == 0


def test_the_bytes_that_they_take_are_known_ahead(engine, checkpoint):
    started = begin(engine, num_images=2)
    first, second = started.prepared
    assert second.held_bytes == 0
    engine.step(started.model, started.prepared)
    assert first.keys is second.keys
    assert first.held_bytes == first.keys.nbytes == checkpoint.states.size > 0


def test_sparse_steps_compute_what_the_mask_covers(engine, passes):
    mask = box_mask(64, 64, (0, 0, 16, 16))
    given = {"mask": mask, "window": "full"}
    edit(engine, num_inference_steps=3, refresh_every=2, **given)
    # A token under the mask, and its border.
    assert passes == [16, 16, 4, 16]


def test_where_all_is_edited_sparse_is_dense(engine):
    mask = box_mask(64, 64, (0, 0, 64, 64))
    dense = edit(engine, mask=mask, num_inference_steps=3)
    sparse = edit(engine, mask=mask, num_inference_steps=3, refresh_every=3)
    assert abs(dense.astype(int) - sparse.astype(int)).max() <= 1


def test_without_a_mask_there_is_nothing_to_leave_out(engine):
    assert begin(engine).prepared[0].sparse is None
    assert begin(engine, options={**SHORT, "preset": "fast"}).prepared[0].sparse is None


def test_a_pass_leaves_nothing_on_the_transformer_even_when_it_fails(
    engine, checkpoint, monkeypatch
):
    transformer = checkpoint.component("transformer")
    started = begin(engine)
    engine.step(started.model, started.prepared)

    def broken(*_, **__):
        raise ValueError("broken")

    monkeypatch.setattr(transformer.proj_out, "forward", broken)
    with pytest.raises(ValueError, match="broken"):
        engine.step(started.model, started.prepared)
    left = {name for each in attentions(transformer) for name in vars(each)}
    assert not left & {"reference_keys", "reference_values", "kept_keys", "kept_values"}
