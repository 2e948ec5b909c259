"""The engine's promises: a seed is a picture, nothing else is touched, nothing is dropped."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from overpaint.core import errors
from overpaint.core.imaging import images
from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest
from overpaint.diffusion import denoise, latents
from overpaint.engine.engine import Engine
from tests.conftest import box_mask, picture

FAMILIES = ["sd2", "sdxl", "flex2", "fill", "kontext"]
FEW = {"num_inference_steps": 2}


def array(image) -> np.ndarray:
    return np.asarray(image).astype(int)


def request(seed, size=(64, 64), steps=2, **more) -> EditRequest:
    return EditRequest(
        image=Picture.from_pil(picture(*size, seed=seed)),
        prompt="a red cat",
        mask=box_mask(*size),
        seed=seed,
        options={"num_inference_steps": steps},
        **more,
    )


def unit_picture(edit) -> torch.Tensor:
    """The first image in [0, 1], before it is rounded to 8 bits."""
    prepared, vae = edit.prepared[0], edit.model.checkpoint.component("vae")
    tokens = prepared.latents
    if tokens.ndim == 3:
        tokens = latents.unpack(tokens, *prepared.grid)
    return vae.decode(latents.denormalize(vae, tokens)).sample * 0.5 + 0.5


def asked_steps(engine, computed: int) -> int:
    """Steps to ask for where so many are to be computed: SDXL's strength leaves one out."""
    return computed + (engine.default_model == "sdxl")


def _never(*_args, **_options):
    raise AssertionError("encoded again")


@pytest.fixture(scope="module", params=FAMILIES)
def engine(request, make_engine):
    return make_engine(request.param)


class TestMemo:
    def test_nothing_is_encoded_twice(self, engine, monkeypatch):
        first = engine.run([request(5)])[0].images[0]
        checkpoint = engine.model().checkpoint
        encoders = [name for name in checkpoint.components if name.startswith(("text_", "vae"))]
        for name in encoders:
            method = "encode" if name == "vae" else "forward"
            monkeypatch.setattr(checkpoint.component(name), method, _never)
        again = engine.run([request(5)])[0].images[0]
        assert again.tobytes() == first.tobytes()

    def test_another_prompt_is_encoded(self, engine):
        memo = engine.model().checkpoint.memo
        engine.edit(picture(64, 64), "cat", mask=box_mask(64, 64), seed=1, **FEW)
        misses = memo.misses
        engine.edit(picture(64, 64), "a dog", mask=box_mask(64, 64), seed=1, **FEW)
        assert memo.misses == misses + 1


class TestSeeds:
    def test_the_same_seed_gives_the_same_bytes(self, engine):
        first, second = (engine.run([request(5)])[0].images[0] for _ in range(2))
        assert first.tobytes() == second.tobytes()

    def test_another_seed_gives_another_picture(self, engine):
        one = engine.edit(picture(64, 64), "cat", mask=box_mask(64, 64), seed=1, **FEW)
        two = engine.edit(picture(64, 64), "cat", mask=box_mask(64, 64), seed=2, **FEW)
        assert one.images[0].tobytes() != two.images[0].tobytes()

    def test_beside_other_sizes_and_step_counts_as_if_alone(self, engine):
        requests = [
            request(1, (64, 64), 2),
            request(2, (96, 64), 3),
            request(3, (64, 64), 4),
            request(4, (70, 50), 2),
        ]
        together = [engine.begin(each) for each in requests]
        prepared = [image for edit in together for image in edit.prepared]
        denoise.denoise(together[0].model.family, prepared)
        for each, edit in zip(requests, together, strict=True):
            alone = engine.begin(each)
            denoise.denoise(alone.model.family, alone.prepared)
            assert (unit_picture(edit) - unit_picture(alone)).abs().max() <= 1e-5

    def test_images_of_a_request_are_runs_with_the_reported_seeds(self, engine):
        many = engine.edit(
            picture(64, 64), "cat", mask=box_mask(64, 64), seed=7, num_images=4, **FEW
        )
        assert many.seeds == (7, 8, 9, 10)
        for seed, image in zip(many.seeds, many.images, strict=True):
            alone = engine.edit(picture(64, 64), "cat", mask=box_mask(64, 64), seed=seed, **FEW)
            assert np.abs(array(alone.images[0]) - array(image)).max() <= 1

    def test_a_drawn_seed_is_told_and_makes_the_picture_again(self, engine):
        first = engine.edit(picture(64, 64), "cat", mask=box_mask(64, 64), **FEW)
        again = engine.edit(
            picture(64, 64), "cat", mask=box_mask(64, 64), seed=first.seeds[0], **FEW
        )
        assert first.images[0].tobytes() == again.images[0].tobytes()


class TestUntouchedPixels:
    @settings(
        max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(
        width=st.integers(1, 150),
        height=st.integers(1, 150),
        mode=st.sampled_from(["RGB", "RGBA", "L", "P", "LA"]),
        data=st.data(),
    )
    def test_same_size_and_same_bytes_outside_the_mask(self, engine, width, height, mode, data):
        image = picture(width, height).convert(mode)
        left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
        steps = asked_steps(engine, 1)
        box = (left, top, data.draw(st.integers(left + 1, width)), height)
        mask = box_mask(width, height, box)
        result = engine.edit(image, "cat", mask=mask, seed=0, num_inference_steps=steps)
        before, after = Picture.from_pil(image), result.pictures[0]
        assert after.size == (width, height)
        outside = np.asarray(mask) == 0
        assert np.array_equal(np.asarray(before.rgb)[outside], np.asarray(after.rgb)[outside])
        assert (before.alpha is None) == (after.alpha is None)
        if before.alpha is not None:
            assert before.alpha.tobytes() == after.alpha.tobytes()

    def test_a_small_mask_in_a_large_picture_computes_only_a_window(self, engine):
        image = picture(3000, 2000)
        mask = box_mask(3000, 2000, (1000, 900, 1040, 950))
        edit = engine.begin(request_of(image, mask, asked_steps(engine, 1)))
        assert edit.regions[0].plan.window.width < 1000
        assert edit.regions[0].plan.window.height < 1000
        denoise.denoise(edit.model.family, edit.prepared)
        result = engine.finish(edit)
        outside = np.asarray(mask) == 0
        assert np.array_equal(array(image)[outside], array(result.images[0])[outside])

    def test_the_masked_area_does_change(self, engine):
        image = picture(64, 64)
        result = engine.edit(image, "cat", mask=box_mask(64, 64), seed=0, **FEW)
        assert np.abs(array(image) - array(result.images[0]))[24:40, 24:40].mean() > 3

    def test_without_composite_the_models_own_picture_comes_back(self, engine):
        image = picture(64, 64)
        result = engine.edit(
            image, "cat", mask=box_mask(64, 64), seed=0, composite=False, window="full", **FEW
        )
        assert not np.array_equal(array(image)[:8], array(result.images[0])[:8])


def request_of(image, mask, steps) -> EditRequest:
    return EditRequest(
        image=Picture.from_pil(image),
        prompt="cat",
        mask=mask,
        options={"num_inference_steps": steps},
    )


class TestKontextWithoutMask:
    def test_the_answer_has_the_inputs_size_whatever_its_shape(self, make_engine):
        for size in [(1, 1), (33, 200), (201, 77)]:
            result = make_engine("kontext").edit(
                picture(*size), "make it red", seed=1, num_inference_steps=1
            )
            assert result.images[0].size == size

    def test_references_lengthen_the_sequence_and_change_the_picture(self, make_engine):
        engine, image = make_engine("kontext"), picture(64, 64)
        without = engine.edit(image, "the same cat", seed=1, **FEW)
        with_one = engine.edit(
            image, "the same cat", seed=1, references=[picture(40, 80, 3)], **FEW
        )
        assert without.images[0].tobytes() != with_one.images[0].tobytes()

    def test_keep_unchanged_can_be_switched_off(self, make_engine):
        engine, image = make_engine("kontext"), picture(64, 64)
        result = engine.edit(image, "make it red", seed=1, keep_unchanged=False, **FEW)
        raw = engine.edit(image, "make it red", seed=1, composite=False, **FEW)
        assert result.images[0].tobytes() == raw.images[0].tobytes()


class TestGrey:
    """A grey picture stays grey, unless the whole of it may take colours."""

    def test_in_a_mask(self, engine):
        grey = picture(64, 64).convert("L")
        edited = engine.edit(grey, "a red cat", mask=box_mask(64, 64), seed=1, **FEW).pictures[0]
        assert edited.is_grey
        outside = array(box_mask(64, 64)) == 0
        assert np.array_equal(edited.raster.values[outside, 0], np.asarray(grey)[outside])

    def test_an_instruction_may_colour_it(self, make_engine):
        grey = picture(64, 64).convert("L")
        edited = make_engine("kontext").edit(grey, "colour it", seed=1, **FEW).pictures[0]
        assert not edited.is_grey
        assert (np.ptp(array(edited.rgb), axis=2) > 20).any()


class TestDepth:
    def test_16_bits_stay_outside_the_mask(self, engine):
        values = np.random.default_rng(0).integers(0, 65536, (64, 64, 3), np.uint16)
        mask = box_mask(64, 64)
        edited = engine.edit(values, "a red cat", mask=mask, seed=1, **FEW).pictures[0]
        outside = array(mask) == 0
        again = images.decode(images.encode(edited)).raster.values
        assert np.array_equal(again[outside], values[outside])
        assert not np.array_equal(again[~outside], values[~outside])


class TestRefusals:
    """Nothing that a caller asked for is dropped in silence."""

    @pytest.mark.parametrize(
        ("family", "arguments", "field"),
        [
            ("sd2", {"prompt": ""}, "prompt"),
            ("sd2", {"prompt": "  "}, "prompt"),
            ("sd2", {"mask": None}, "mask"),
            ("sd2", {"mask": box_mask(32, 64)}, "mask"),
            ("sd2", {"mask": Image.new("L", (64, 64))}, "mask"),
            ("sd2", {"control": picture(64, 64)}, "control"),
            ("sd2", {"references": [picture(64, 64)]}, "references"),
            ("sd2", {"num_inference_steps": 0}, "options.num_inference_steps"),
            ("sd2", {"num_inference_steps": 1000}, "options.num_inference_steps"),
            ("sd2", {"guidance_scale": float("nan")}, "options.guidance_scale"),
            ("sd2", {"negative_prompt": "x", "guidance_scale": 1.0}, "options.guidance_scale"),
            ("sd2", {"strength": 0.1, "num_inference_steps": 2}, "options.strength"),
            ("sd2", {"height": 1000}, "options.width"),
            ("sd2", {"height": 60, "width": 64}, "options.height"),
            ("sd2", {"steps": 3}, "options.steps"),
            ("sd2", {"seed": -1}, "seed"),
            ("sd2", {"num_images": 0}, "num_images"),
            ("flex2", {"height": 1000, "width": 1024}, "options.height"),
            ("flex2", {"max_sequence_length": 0}, "options.max_sequence_length"),
            ("flex2", {"control_stop": 1.5}, "options.control_stop"),
            ("kontext", {"control": picture(64, 64)}, "control"),
            ("kontext", {"mask": None, "strength": 0.5}, "options.strength"),
            ("kontext", {"true_cfg_scale": 3.0}, "options.true_cfg_scale"),
            ("kontext", {"true_cfg_scale": 1, "negative_prompt": "x"}, "options.true_cfg_scale"),
            ("fill", {"mask": None}, "mask"),
            ("fill", {"control": picture(64, 64)}, "control"),
            ("fill", {"true_cfg_scale": 3.0}, "options.true_cfg_scale"),
            ("fill", {"true_cfg_scale": 1, "negative_prompt": "x"}, "options.true_cfg_scale"),
            ("fill", {"strength": 0.0}, "options.strength"),
            ("sdxl", {"mask": None}, "mask"),
            ("sdxl", {"references": [picture(64, 64)]}, "references"),
            ("sdxl", {"negative_prompt": "x", "guidance_scale": 1.0}, "options.guidance_scale"),
            ("sdxl", {"num_inference_steps": 1}, "options.strength"),
            ("erase", {"prompt": "a cat"}, "prompt"),
            ("erase", {"prompt": "", "negative_prompt": "x"}, "negative_prompt"),
        ],
    )
    def test_names_the_field(self, make_engine, family, arguments, field):
        given = {"prompt": "cat", "mask": box_mask(64, 64), **arguments}
        with pytest.raises(errors.InvalidRequest) as caught:
            make_engine(family).edit(picture(64, 64), **given)
        assert caught.value.field == field

    def test_a_long_prompt_is_told_with_its_tokens_and_the_lost_words(self, make_engine):
        result = make_engine("sd2").edit(
            picture(64, 64), "a" * 100 + " zebra", mask=box_mask(64, 64), **FEW
        )
        assert any("107 tokens" in each and "zebra" in each for each in result.warnings)

    def test_a_thin_mask_is_told(self, make_engine):
        mask = box_mask(64, 64, (3, 0, 6, 64))
        result = make_engine("sd2").edit(picture(64, 64), "cat", mask=mask, **FEW)
        assert any("too thin" in each for each in result.warnings)


class TestProgressAndCancel:
    def test_progress_counts_steps_and_previews(self, engine):
        seen = []

        def told(progress):
            seen.append((progress.step, progress.total, progress.preview().size))

        engine.edit(
            picture(64, 64),
            "cat",
            mask=box_mask(64, 64),
            on_progress=told,
            num_inference_steps=asked_steps(engine, 3),
            window="full",
        )
        assert [step for step, _, _ in seen] == [1, 2, 3]
        assert {total for _, total, _ in seen} == {3}

    def test_cancel_takes_effect_between_two_steps(self, engine):
        asked = iter([False, True])
        with pytest.raises(errors.Cancelled):
            engine.edit(
                picture(64, 64),
                "cat",
                mask=box_mask(64, 64),
                cancelled=lambda: next(asked),
                num_inference_steps=5,
            )


def test_models_of_requests_that_run_together_do_not_leave_for_each_other(make_engine):
    model = make_engine("sd2").model()
    size = sum(model.checkpoint.sizes().values())
    engine = Engine(lambda name: make_engine("sd2").model(), "a", budget=size)
    with pytest.raises(errors.Overloaded):
        engine.run([request(1, model="a"), request(2, model="b")])
    assert engine.models.names == ["a"]
    assert len(engine.run([request(1, model="a"), request(2, model="a")])) == 2


class TestErase:
    def test_fills_the_hole_and_touches_nothing_else(self, make_engine):
        image = Image.new("RGB", (200, 120), (10, 120, 200))
        image.paste((255, 0, 0), (90, 50, 110, 70))
        mask = box_mask(200, 120, (85, 45, 115, 75))
        result = make_engine("erase").edit(image, mask=mask)
        after = array(result.images[0])
        assert np.abs(after - (10, 120, 200)).max() <= 8

    def test_takes_files_and_arrays(self, make_engine, tmp_path):
        images.save(Picture.from_pil(picture(40, 30)), tmp_path / "photo.png")
        mask = np.zeros((30, 40), dtype=bool)
        mask[10:20, 10:20] = True
        result = make_engine("erase").edit(tmp_path / "photo.png", mask=mask)
        assert result.images[0].size == (40, 30)


def test_the_recipe_says_what_made_the_picture(engine):
    result = engine.run([request(5, negative_prompt="blue")])[0]
    recipe = result.recipe
    assert recipe["seeds"] == [5]
    assert recipe["prompt"] == "a red cat"
    assert recipe["negative_prompt"] == "blue"
    assert recipe["options"]["num_inference_steps"] == 2
    assert "guidance_scale" in recipe["options"]
    assert len(recipe["inputs"]["image"]) == 64
    assert set(result.timings) >= {"prepare", "steps", "decode", "composite", "total"}
