"""Work left out on request: as much as was asked for, per image, and nothing by default."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from overpaint.core.errors import UnsupportedOption
from overpaint.core.types import EditRequest
from overpaint.diffusion.shortcuts import EXACT, Prediction, Shortcuts, extrapolated
from overpaint.engine.intake import as_picture
from tests.conftest import box_mask, picture

FAMILIES = ["sd2", "sdxl", "flex2", "fill", "kontext"]


@given(st.integers(1, 60), st.integers(1, 10))
def test_the_first_steps_and_the_last_are_computed(total, every):
    computed = [Shortcuts(compute_every=every).computes(step, total) for step in range(total)]
    assert all(computed[:2])
    assert computed[-1]
    skipped = [index for index, done in enumerate(computed) if not done]
    assert len(skipped) <= max(0, total - 3) * (every - 1) / every + 1
    assert all(EXACT.computes(step, total) for step in range(total))


def test_guidance_is_computed_between_its_shares():
    half = Shortcuts(guidance_start=0.2, guidance_stop=0.6)
    assert [half.guides(step, 10) for step in range(10)] == [False] * 2 + [True] * 4 + [False] * 4


@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(0, 900))
def test_a_prediction_that_moves_on_a_line_is_extrapolated_exactly(slope, offset, timestep):
    def said(time: float) -> Prediction:
        return Prediction(time, torch.tensor([offset + slope * time], dtype=torch.float64))

    found = extrapolated(said(1000.0), said(950.0), timestep)
    assert torch.allclose(found, said(timestep).value, atol=1e-6)


def test_a_timestep_that_comes_twice_repeats_the_prediction():
    once, again = Prediction(900.0, torch.zeros(1)), Prediction(900.0, torch.ones(1))
    assert torch.equal(extrapolated(once, again, 800.0), torch.ones(1))


def edit(engine, **options):
    kontext = engine.default_model == "kontext"
    if engine.default_model == "sdxl":
        options["strength"] = 1.0  # its default leaves out a step
    return engine.edit(
        picture(),
        "a red circle",
        mask=None if kontext else box_mask(),
        negative_prompt="blue",
        seed=3,
        num_inference_steps=8,
        **options,
    )


def passes(engine, **options) -> list[int]:
    """Images in each pass of the network."""
    network = engine.model().checkpoint.component(engine.model().family.denoiser)
    sizes: list[int] = []

    def told(_module, args, kwargs):
        given = args[0] if args else kwargs["hidden_states"]
        sizes.append(len(given))

    handle = network.register_forward_pre_hook(told, with_kwargs=True)
    try:
        edit(engine, **options)
    finally:
        handle.remove()
    return sizes


@pytest.mark.parametrize("family", FAMILIES)
def test_the_network_is_asked_as_often_as_said(make_engine, family):
    engine = make_engine(family)
    whole = sum(passes(engine))
    assert whole == 2 * 8
    # Steps 0, 1, 3, 5 and the last of eight.
    assert sum(passes(engine, compute_every=2)) == 2 * 5
    # Guidance in the first half only.
    assert sum(passes(engine, guidance_stop=0.5)) == 2 * 4 + 4


@pytest.mark.parametrize("family", FAMILIES)
def test_presets_set_what_is_not_given(make_engine, family):
    engine = make_engine(family)
    exact = np.asarray(edit(engine).images[0], int)
    by_hand = {"compute_every": 1, "guidance_stop": 1.0}
    if family not in ("sd2", "sdxl"):
        by_hand["refresh_every"] = 1
    assert np.array_equal(exact, np.asarray(edit(engine, preset="exact").images[0]))
    assert np.array_equal(exact, np.asarray(edit(engine, preset="fast", **by_hand).images[0]))
    assert not np.array_equal(exact, np.asarray(edit(engine, preset="fast").images[0]))


@pytest.mark.parametrize("options", [{"guidance_start": 0.7, "guidance_stop": 0.2},
                                     {"guidance_start": 0.5, "guidance_stop": 0.5}])  # fmt: skip
def test_guidance_cannot_end_before_it_begins(make_engine, options):
    with pytest.raises(UnsupportedOption, match=r"options\.guidance_start.*is not before"):
        edit(make_engine("sd2"), **options)


@pytest.mark.parametrize("family", FAMILIES)
def test_shortcuts_of_one_edit_do_not_touch_another(make_engine, family):
    engine = make_engine(family)

    def request(seed: int, **options) -> EditRequest:
        return EditRequest(
            image=as_picture(picture(64, 64)),
            prompt="a red circle",
            mask=None if family == "kontext" else box_mask(64, 64),
            negative_prompt="",
            seed=seed,
            options={"num_inference_steps": 6, **options},
        )

    requests = [request(1), request(2, preset="fast"), request(3, compute_every=3)]
    alone = [engine.run([each])[0].images[0] for each in requests]
    together = [result.images[0] for result in engine.run(requests)]
    for one, other in zip(alone, together, strict=True):
        assert np.abs(np.asarray(one, int) - np.asarray(other, int)).max() <= 1
