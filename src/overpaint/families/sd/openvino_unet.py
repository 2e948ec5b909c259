"""Stable Diffusion's UNet on OpenVINO."""

from __future__ import annotations

from typing import Any

import torch

from overpaint.checkpoints.compute.openvino import (
    Arrays,
    Conversion,
    Network,
    StandIn,
    converted,
)

ODD = 9
"""Latents along a side of the traced example. It is not divisible by two, so that the upsampling to
the size of the skip connections is part of the trace and any size fits."""


class Unet(StandIn):
    """A UNet whose timesteps become sines in float32, as in torch: a network in bfloat16 would
    round the angles, and 981 with them to 980."""

    def __init__(self, module: Any, network: Network) -> None:
        super().__init__(module)
        self._sines = module.time_proj
        self._network = network
        self.samples: list[Arrays] | None = None
        """A list here collects the inputs that the network is given."""

    def __call__(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        *,
        encoder_hidden_states: torch.Tensor,
        return_dict: bool,
    ) -> tuple[torch.Tensor]:
        assert not return_dict
        inputs = (sample, self._sines(timestep.expand(len(sample))), encoder_hidden_states)
        if self.samples is not None:
            self.samples.append((sample.clone(), inputs[1], encoder_hidden_states.clone()))
        return (self._network(*inputs),)


def replace(conversion: Conversion) -> Unet:
    """The UNet's stand-in; in int8 where there are samples of its inputs."""
    if conversion.samples is not None:
        return Unet(conversion.module, conversion.quantized("unet", _trace))
    return Unet(conversion.module, conversion.compressed("unet", _trace))


def _trace(unet: Any) -> Any:
    unet.get_time_embed = lambda sample, timestep: timestep
    example = (
        torch.zeros(2, unet.config.in_channels, ODD, ODD),
        torch.zeros(2, unet.config.block_out_channels[0]),
        torch.zeros(2, 8, unet.config.cross_attention_dim),
    )
    return converted(
        unet,
        lambda sample, sines, text: unet(
            sample, sines, encoder_hidden_states=text, return_dict=False
        )[0],
        example,
    )
