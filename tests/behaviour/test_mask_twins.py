"""The mask families' twins paint what the prompt says; wired wrongly, they do not.

Small samples and fixed seeds; thresholds lie well below the benchmark's figures
(`python -m benchmarks.behaviour`), so that a condition that is lost fails and noise does not. Each
sabotage shows that the figure bites.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from PIL import ImageChops

import overpaint
from benchmarks.behaviour import measures, painters
from overpaint.diffusion import conditions, prompts
from overpaint.families.flux1 import flux
from overpaint.families.flux1.flex2 import Flex2
from overpaint.families.sd.sd2 import SD2

COUNT = 16
STEPS = 8
TWINS = ["tiny-flex2", "tiny-sd2"]
COLOUR_RIGHT = 0.6
"""Far above chance (one of eight colours) and far below what the twins reach."""


@functools.cache
def engine(name: str) -> overpaint.Engine:
    return overpaint.load(name, dtype="float32")


@functools.cache
def colour_right(name: str, sabotage: str = "") -> float:  # sabotage: what the cache tells apart
    paint = painters.inpainter(engine(name), num_inference_steps=STEPS)
    return measures.adherence(paint, measures.draw_tasks(COUNT))["colour"].value


def drop_text(monkeypatch):
    whole_flux, whole_clip = flux.encode_prompt, prompts.sd2_prompt
    monkeypatch.setattr(
        flux, "encode_prompt", lambda ckpt, _text, *args, **kw: whole_flux(ckpt, "", *args, **kw)
    )
    monkeypatch.setattr(prompts, "sd2_prompt", lambda ckpt, _text: whole_clip(ckpt, ""))


def invert_mask(monkeypatch):
    whole = conditions.canvas_mask
    monkeypatch.setattr(conditions, "canvas_mask", lambda *args: ImageChops.invert(whole(*args)))


def swap_channels(monkeypatch):
    """Flex.2: inpaint and control latents; Stable Diffusion: mask and picture latents."""
    start_flex2, start_sd2 = Flex2._start, SD2._start

    def flex2(*args):
        prepared = start_flex2(*args)
        width = prepared.latents.shape[-1]
        picture, mask, control = prepared.controlled.tensor_split((width, -width), dim=2)
        prepared.controlled = torch.cat([control, mask, picture], dim=2)
        prepared.control_steps = prepared.total
        return prepared

    def sd2(*args):
        prepared = start_sd2(*args)
        prepared.condition = prepared.condition.roll(1, dims=1)
        return prepared

    monkeypatch.setattr(Flex2, "_start", flex2)
    monkeypatch.setattr(SD2, "_start", sd2)


@pytest.mark.parametrize("name", TWINS)
class TestAdherence:
    def test_the_mask_shows_the_prompts_colour(self, name):
        assert colour_right(name) >= COLOUR_RIGHT

    def test_a_copy_of_the_input_does_not_pass(self, name):
        assert (
            measures.adherence(painters.nothing, measures.draw_tasks(COUNT))["colour"].value <= 0.2
        )

    @pytest.mark.parametrize("sabotage", [drop_text, invert_mask])
    def test_a_lost_condition_shows(self, name, sabotage, monkeypatch):
        sabotage(monkeypatch)
        assert colour_right(name, sabotage.__name__) < COLOUR_RIGHT - 0.15

    def test_swapped_channels_show(self, name, monkeypatch):
        swap_channels(monkeypatch)
        swapped = seam(name)
        monkeypatch.undo()
        assert swapped > 1.5 * seam(name)

    def test_nothing_outside_the_mask_changes(self, name):
        assert measures.outside(engine(name), 4) == 0


def seam(name: str) -> float:
    """Mean difference from the true ground in the mask's border, without compositing."""
    asked = measures.draw_tasks(COUNT // 2)
    paint = painters.inpainter(engine(name), num_inference_steps=STEPS, composite=False)
    from training.world.render import render

    errors = [
        np.abs(picture.astype(int) - render(task.before, painters.SIZE))[~task.mask].mean()
        for picture, task in zip(paint(asked), asked, strict=True)
    ]
    return float(np.mean(errors))


@pytest.mark.parametrize("name", TWINS)
def test_a_negative_prompt_keeps_a_colour_away(name):
    """Of the colours that come up by themselves, most stay away when named as unwanted."""
    from training.world.inpaint import vague_task
    from training.world.judge import judge_inpaint
    from training.world.palette import COLOURS

    asked = measures.tasks(COUNT, vague_task)
    plain = painters.inpainter(engine(name), num_inference_steps=STEPS)
    seen = [judge_inpaint(each, task).found for each, task in zip(plain(asked), asked, strict=True)]
    shown = [found.colour if found else None for found in seen]
    against = painters.inpainter(
        engine(name), num_inference_steps=STEPS, negative_prompt=lambda index: shown[index]
    )
    judged = [judge_inpaint(each, task) for each, task in zip(against(asked), asked, strict=True)]
    pairs = [(colour, verdict) for colour, verdict in zip(shown, judged, strict=True) if colour]
    again = sum(verdict.found is not None and verdict.found.colour == c for c, verdict in pairs)
    assert set(shown) & set(COLOURS)
    assert again <= 0.5 * len(pairs)


def control_iou(**options) -> float:
    return measures.control(engine("tiny-flex2"), COUNT // 2, **options)


class TestControl:
    def test_the_outline_of_the_control_picture_is_followed(self):
        steered = control_iou(control_strength=1.0, control_stop=1.0)
        assert steered > control_iou(control_strength=0.0, control_stop=1.0) + 0.1

    def test_it_bites_when_the_control_picture_is_lost(self, monkeypatch):
        steered = control_iou(control_strength=1.0, control_stop=1.0)
        start = Flex2._start

        def unsteered(*args):
            prepared = start(*args)
            prepared.controlled = prepared.uncontrolled
            return prepared

        monkeypatch.setattr(Flex2, "_start", unsteered)
        assert control_iou(control_strength=1.0, control_stop=1.0) < steered - 0.1
