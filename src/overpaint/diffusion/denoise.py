"""The denoising loop, one for all families, one step at a time.

Every image carries its own scheduler, timesteps and generator, so a batch of images at different
steps, of different lengths and schedules, is the same code as one image.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from overpaint.core.errors import Cancelled
from overpaint.diffusion.family import Family, Prepared
from overpaint.diffusion.shortcuts import Prediction, extrapolated

if TYPE_CHECKING:
    import torch

    from overpaint.diffusion.denoiser import Denoiser, Latent

MAX_BATCH = 8
"""Images stepped in one forward pass at most; more only costs memory."""


def denoise(
    family: Family[Any, Any],
    images: Sequence[Prepared],
    *,
    on_step: Callable[[], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> None:
    """Step all images until each is done.

    Args:
        family: the family that prepared them.
        images: any mixture of sizes, schedules and progress; changed in place.
        on_step: called after every round of steps.
        cancelled: asked before every round.

    Raises:
        Cancelled: `cancelled` said so.
    """
    while pending := [image for image in images if not image.done]:
        if cancelled is not None and cancelled():
            raise Cancelled("the edit was cancelled between two steps")
        for group in groups(family, pending):
            family.advance(group)
        if on_step is not None:
            on_step()


def groups(family: Family[Any, Any], images: Sequence[Prepared]) -> Iterator[list[Prepared]]:
    """Images that fit one forward pass, in order of arrival, `MAX_BATCH` at most."""
    by_key: dict[Hashable, list[Prepared]] = defaultdict(list)
    for image in images:
        by_key[family.batch_key(image)].append(image)
    for together in by_key.values():
        for start in range(0, len(together), MAX_BATCH):
            yield together[start : start + MAX_BATCH]


def advance(family: Denoiser[Any, Any], batch: Sequence[Latent]) -> None:
    """One step for each image, in place: one prediction for all, then the noise schedulers."""
    import torch

    from overpaint.checkpoints.compute import attention
    from overpaint.diffusion import recorded

    checkpoint = family.checkpoint
    with torch.inference_mode(), checkpoint.borrowed(family.denoiser) as model:
        if checkpoint.records:
            recorded.attach(model, checkpoint.placement.device)
        kernels = attention.ordered(
            model,
            checkpoint.placement.device,
            recurring=family.recurs(batch[0]),
            first=checkpoint.backend.attention,
        )
        try:
            with kernels:
                stepped = _stepped(batch, _predictions(family, batch))
        except Exception:
            # Memory may have run out: leave all of it to the next attempt.
            recorded.clear(model)
            raise
        for image, latents in zip(batch, stepped, strict=True):
            image.latents = latents
            image.step += 1
            family.after_step(image)


def _stepped(batch: Sequence[Latent], predictions: list[torch.Tensor]) -> list[torch.Tensor]:
    """Each image's latents after the step, (1, …): all at once where that gives the same bits."""
    from overpaint.diffusion import ddim

    coefficients = [image.ddim for image in batch if image.ddim is not None]
    if len(coefficients) == len(batch) and all(map(coefficients[0].fits, coefficients)):
        steps = [image.step for image in batch]
        latents = ddim.step(coefficients, steps, [image.latents for image in batch], predictions)
        return list(latents[:, None].unbind())
    return [
        image.scheduler.step(
            prediction, image.timestep, image.latents, **image.step_options, return_dict=False
        )[0]
        for image, prediction in zip(batch, predictions, strict=True)
    ]


def _predictions(family: Denoiser[Any, Any], batch: Sequence[Latent]) -> list[torch.Tensor]:
    """Each image's, (1, …): from one pass of the network, but for what shortcuts leave out."""
    together: dict[bool, list[Latent]] = defaultdict(list)
    for image in batch:
        if image.shortcuts.computes(image.step, image.total):
            together[image.guided].append(image)
    computed = {}
    for images in together.values():
        values = family.predict(images)
        for index, image in enumerate(images):
            computed[id(image)] = values[index : index + 1]
    for image in batch:
        if id(image) not in computed:
            earlier, later = image.predictions
            computed[id(image)] = extrapolated(earlier, later, float(image.timestep))
        elif image.shortcuts.compute_every > 1:
            image.predictions.append(Prediction(float(image.timestep), computed[id(image)]))
    return [computed[id(image)] for image in batch]
