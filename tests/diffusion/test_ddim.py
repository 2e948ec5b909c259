"""DDIM of several images at once is each image's own scheduler, bit for bit."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler

from overpaint.diffusion import ddim
from tests.tiny_checkpoints import SD2_NOISE

KINDS = [
    {"clip_sample": False, "set_alpha_to_one": False},
    {"clip_sample": True},
    {"clip_sample": False, "prediction_type": "v_prediction", "timestep_spacing": "trailing"},
]


def scheduler(steps: int, **more) -> DDIMScheduler:
    made = DDIMScheduler(**(SD2_NOISE | more))
    made.set_timesteps(steps)
    return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS, ids=["epsilon", "clipped", "v"])
def test_a_batch_is_stepped_as_each_image_alone(kind, dtype):
    torch.manual_seed(0)
    totals, done = (5, 7, 50), [4, 2, 49]
    schedulers = [scheduler(total, **kind) for total in totals]
    latents, predictions = (
        [3 * torch.randn(1, 4, 7, 9).to(dtype) for _ in totals] for _ in range(2)
    )
    expected = [
        each.step(output, each.timesteps[at], sample, eta=0.0, return_dict=False)[0]
        for each, at, output, sample in zip(schedulers, done, predictions, latents, strict=True)
    ]
    roots = [ddim.coefficients(each, each.timesteps, 0.0) for each in schedulers]
    found = ddim.step(roots, done, latents, predictions)
    assert found.dtype == dtype
    assert torch.equal(found, torch.cat(expected))


@pytest.mark.parametrize(
    ("other", "eta"),
    [
        (scheduler(5), 0.5),
        (scheduler(5, thresholding=True, clip_sample=False), 0.0),
        (scheduler(5, prediction_type="sample"), 0.0),
    ],
    ids=["noise", "thresholds", "samples"],
)
def test_what_is_not_deterministic_ddim_is_left_to_the_scheduler(other, eta):
    assert ddim.coefficients(other, other.timesteps, eta) is None


def test_other_schedulers_are_left_alone():
    other = EulerDiscreteScheduler(**SD2_NOISE)
    other.set_timesteps(5)
    assert ddim.coefficients(other, other.timesteps, 0.0) is None


def test_images_of_other_targets_do_not_fit():
    noise, velocity = (
        ddim.coefficients(each, each.timesteps, 0.0)
        for each in (scheduler(5), scheduler(9, prediction_type="v_prediction"))
    )
    assert noise.fits(noise)
    assert not noise.fits(velocity)
