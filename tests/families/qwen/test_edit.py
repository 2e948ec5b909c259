"""What the engine promises holds for `qwen-edit`: seeds, untouched pixels, company, refusals."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from overpaint.core.errors import Cancelled, InvalidRequest, UnsupportedOption
from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest
from overpaint.diffusion import denoise, recorded
from overpaint.engine.batching.batcher import Batcher
from tests.conftest import box_mask, picture
from tests.diffusion.test_recorded import Repeat

WAIT = 60
STEPS = 3


@pytest.fixture(scope="module")
def engine(make_engine):
    return make_engine("qwen-edit")


def request(seed=0, *, size=(64, 64), steps=STEPS, masked=False, **more) -> EditRequest:
    options = {"num_inference_steps": steps, **more.pop("options", {})}
    return EditRequest(
        image=Picture.from_pil(picture(*size, seed=more.pop("source", seed))),
        prompt=more.pop("prompt", "make it red"),
        mask=box_mask(*size) if masked else None,
        seed=seed,
        options=options,
        **more,
    )


def pixels(result) -> np.ndarray:
    return np.stack([np.asarray(each, int) for each in result.images])


def edited(engine, asked: EditRequest) -> np.ndarray:
    return pixels(engine.run([asked])[0])


def latents_of(engine, requests) -> list[torch.Tensor]:
    """Of each request's first image after its last step; all steps are mixed."""
    edits = [engine.begin(each) for each in requests]
    images = [image for edit in edits for image in edit.prepared]
    denoise.denoise(edits[0].model.family, images)
    return [edit.prepared[0].latents for edit in edits]


MIXTURE = [
    request(1),
    request(2, steps=4),
    request(3, size=(96, 64)),
    request(4, masked=True),
    request(5, masked=True, options={"strength": 0.6}),
    request(6, options={"true_cfg_scale": 1.0}),
    request(7, prompt="a longer wish than the others"),
    request(8, references=(picture(50, 70, seed=3),)),
    request(9, options={"preset": "fast"}),
]


def test_beside_others_as_if_alone(engine):
    together = latents_of(engine, MIXTURE)
    for asked, found in zip(MIXTURE, together, strict=True):
        assert (latents_of(engine, [asked])[0] - found).abs().max() <= 1e-4, asked.seed


def test_equal_shapes_share_passes_and_others_do_not(engine):
    def groups(requests):
        images = [image for each in requests for image in engine.begin(each).prepared]
        return [len(group) for group in denoise.groups(engine.model().family, images)]

    assert groups([request(1), request(2, steps=4), request(3, options={"strength": 1.0})]) == [3]
    assert groups([request(1), request(2, size=(96, 64))]) == [1, 1]
    assert groups([request(1), request(2, prompt="a longer wish")]) == [1, 1]
    assert groups([request(1), request(2, options={"true_cfg_scale": 1.0})]) == [1, 1]
    assert groups([request(1), request(2, references=(picture(50, 70),))]) == [1, 1]
    assert groups([request(1, num_images=4)]) == [4]


def test_two_at_once_are_each_alone(engine):
    both = edited(engine, request(7, num_images=2, masked=True, source=1))
    for index, seed in enumerate((7, 8)):
        alone = edited(engine, request(seed, masked=True, source=1))
        assert abs(both[index] - alone[0]).max() <= 1
    assert (both[0] != both[1]).any()


def test_in_the_batcher_with_previews(engine):
    asked = MIXTURE[:5]
    expected = [edited(engine, each) for each in asked]
    updates = []
    batcher = Batcher(engine)
    try:
        tickets = [batcher.submit(each, previews=1, on_update=updates.append) for each in asked]
        found = [pixels(ticket.result(WAIT)) for ticket in tickets]
    finally:
        batcher.close()
    assert all(abs(one - other).max() <= 1 for one, other in zip(found, expected, strict=True))
    assert any(update.preview is not None for update in updates)


def test_a_preview_is_a_smaller_picture_of_the_same(engine):
    edit = engine.begin(request(1))
    denoise.denoise(edit.model.family, edit.prepared)
    family, image = edit.model.family, edit.prepared[0]
    whole, small = family.decode(image), family.preview(image)
    assert max(small.size) <= 32 * 8
    assert whole.size == edit.regions[0].plan.canvas


def test_it_ends_between_two_steps(engine):
    stop = threading.Event()
    with pytest.raises(Cancelled):
        engine.run([request(1)], on_progress=lambda _: stop.set(), cancelled=stop.is_set)


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((1, 1), (0, 0, 1, 1)),
        ((33, 200), (3, 20, 30, 120)),
        ((150, 97), (0, 0, 150, 97)),
        ((1500, 1000), (600, 500, 640, 560)),
    ],
)
def test_nothing_outside_the_mask_is_touched(engine, size, box):
    image = picture(*size).convert("RGBA")
    image.putalpha(picture(*size, seed=9).convert("L"))
    mask = box_mask(*size, box)
    result = engine.edit(image, "red", mask=mask, seed=0, num_inference_steps=2)
    found, before, outside = result.images[0], np.asarray(image), np.asarray(mask) == 0
    assert found.size == size
    assert np.array_equal(np.asarray(found)[outside], before[outside])
    assert found.getchannel("A").tobytes() == image.getchannel("A").tobytes()


def test_a_small_mask_costs_what_its_window_costs(engine):
    mask = box_mask(1500, 1000, (600, 500, 640, 560))
    image = Picture.from_pil(picture(1500, 1000))
    edit = engine.begin(EditRequest(image=image, prompt="red", mask=mask, seed=1))
    assert edit.regions[0].plan.window.width < 300
    assert edit.prepared[0].reference.shape == edit.prepared[0].latents.shape


def test_without_a_mask_the_answer_has_the_inputs_size(engine):
    for size in [(1, 1), (33, 200), (2000, 3)]:
        result = engine.edit(picture(*size), "red", seed=1, num_inference_steps=2)
        assert result.images[0].size == size


def test_what_an_instruction_did_not_change_stays(engine, monkeypatch):
    image = picture(96, 96)
    family = engine.model().family
    decode, painted = type(family).decode, []

    def with_a_square(self, prepared):
        """The autoencoder's copy of the picture, but for a square."""
        source = prepared.reference[:, : prepared.latents.shape[1]]
        before, prepared.latents = prepared.latents, source
        copied = decode(self, prepared)
        prepared.latents = before
        copied.paste((255, 0, 0), (48, 48, 96, 96))
        painted.append(copied)
        return copied

    monkeypatch.setattr(type(family), "decode", with_a_square)
    found = pixels(engine.edit(image, "red", seed=1, num_inference_steps=2))[0]
    same = (found == np.asarray(image, int)).all(axis=2)
    assert painted
    assert 0.5 < same.mean() < 0.99
    assert same[60:, 60:].all()
    everything = pixels(
        engine.edit(image, "red", seed=1, num_inference_steps=2, keep_unchanged=False)
    )[0]
    assert (everything != found).any()


def test_a_blank_is_what_guidance_points_away_from(engine):
    plain, blank = edited(engine, request(1)), edited(engine, request(1, negative_prompt=" "))
    assert (plain == blank).all()
    assert (plain != edited(engine, request(1, negative_prompt="a blue thing"))).any()
    assert (plain != edited(engine, request(1, options={"true_cfg_scale": 1.0}))).any()


def test_guidance_keeps_each_tokens_norm(engine, monkeypatch):
    from overpaint.families.qwen import transformer

    edit = engine.begin(request(1, options={"true_cfg_scale": 8.0}))
    model = edit.model.checkpoint.component("transformer")
    with torch.inference_mode():
        guided = transformer.predict(model, edit.prepared)
        plain = transformer._branch(model, edit.prepared, negative=False)
    norms = [each.norm(dim=-1) for each in (guided, plain)]
    torch.testing.assert_close(*norms, rtol=1e-5, atol=1e-6)
    assert (guided - plain).abs().max() > 0.01


REFUSALS = [
    ({"options": {"strength": 0.5}}, "options.strength", "needs a mask"),
    (
        {"negative_prompt": "x", "options": {"true_cfg_scale": 1.0}},
        "options.true_cfg_scale",
        "negative prompt would have no effect",
    ),
    ({"options": {"num_inference_steps": 1}}, "options.num_inference_steps", "2"),
    ({"options": {"height": 100, "width": 96}}, "options.height", "multiple of 16"),
    ({"options": {"picture_positions": "plain"}}, "options.picture_positions", "grid"),
    ({"masked": True, "options": {"strength": 0.0}}, "options.strength", "none to compute"),
]


@pytest.mark.parametrize(("more", "field", "why"), REFUSALS)
def test_what_would_be_dropped_is_refused(engine, more, field, why):
    with pytest.raises(InvalidRequest, match=why) as caught:
        engine.begin(request(1, **more))
    assert caught.value.field == field


def test_a_control_picture_is_refused(engine):
    with pytest.raises((InvalidRequest, UnsupportedOption), match="control"):
        engine.begin(request(1, control=picture(64, 64)))


def test_too_many_pictures_and_thin_masks_are_said(engine):
    few = tuple(picture(40, 60, seed=index) for index in range(2))
    assert not engine.begin(request(1, references=few)).warnings
    said = engine.begin(request(1, references=(*few, picture(30, 30)))).warnings
    assert any("4 pictures" in each for each in said)
    line = box_mask(64, 64, (30, 0, 31, 64))
    asked = EditRequest(image=Picture.from_pil(picture(64, 64)), prompt="red", mask=line, seed=1)
    assert any("too thin" in each for each in engine.begin(asked).warnings)


def test_nothing_is_encoded_twice(engine, monkeypatch):
    def never(*_args, **_options):
        raise AssertionError("encoded again")

    asked = request(5, masked=True, references=(picture(50, 70, seed=3),))
    first = edited(engine, asked)
    checkpoint = engine.model().checkpoint
    monkeypatch.setattr(checkpoint.component("text_encoder").model, "forward", never)
    monkeypatch.setattr(checkpoint.component("vae"), "encode", never)
    assert (edited(engine, asked) == first).all()


def test_other_pictures_are_other_prompts(engine):
    own = {"composite": False}
    one, two = (
        edited(engine, request(5, source=1, references=(picture(50, 70, seed=seed),), options=own))
        for seed in (3, 4)
    )
    assert (one != two).any()


@pytest.mark.parametrize("more", [{}, {"masked": True}])
def test_a_recorded_edit_is_the_edit_bit_for_bit(make_engine, monkeypatch, more):
    asked = request(1, steps=6, **more)
    expected = latents_of(make_engine("qwen-edit"), [asked])[0]
    tapes: list[Repeat] = []

    def tape(device):
        tapes.append(Repeat(device))
        return tapes[-1]

    monkeypatch.setitem(recorded.TAPES, "cpu", tape)
    engine = make_engine("qwen-edit")
    for _ in range(2):
        assert torch.equal(latents_of(engine, [asked])[0], expected)
    assert tapes[0].replayed > 0
