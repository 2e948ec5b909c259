"""OpenVINO as the processor's backend of Stable Diffusion's UNet and autoencoder.

A component is converted once, from float32, and kept on disk; afterwards it is read from there,
without its torch module. Computed are float32 or bfloat16, as the placement says; tensors go in and
come out as float32. With samples of its inputs the UNet is computed in int8 where that is possible
(NNCF's post-training quantization), with an error that docs/performance.md tells. Its pictures
differ from torch's, in float32 in the last bits (about 1e-6 of the prediction), so it is chosen by
hand and the recipe names it.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import nn

from overpaint.checkpoints.files import weights
from overpaint.checkpoints.placement import Placement
from overpaint.core.errors import ModelLoadError

ODD = 9
"""Latents along a side of the traced example. It is not divisible by two, so that the upsampling to
the size of the skip connections is part of the trace and any size fits."""

_log = logging.getLogger(__name__)

LoadModule = Callable[[], Any]

FORM = 2
"""Of what is kept on disk; a network in another form is converted anew."""

Inputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""What a UNet's network is given: latents with conditions, sines of the timesteps, texts."""

Samples = Callable[[], list[Inputs]]
"""Gives what a UNet's network is given in the steps of ordinary edits."""


def replace(
    cls: type,
    folder: Path,
    placement: Placement,
    cache: Path,
    load: LoadModule,
    samples: Samples | None = None,
) -> Any:
    """A component on OpenVINO with the calls of its torch class that families use.

    Args:
        cls: the component's class, UNet2DConditionModel or AutoencoderKL.
        folder: the component's own, with config.json and weights.
        placement: on the CPU; its dtype says in which precision is computed.
        cache: folder of converted components.
        load: gives the torch module in float32; called where nothing is converted yet.
        samples: the UNet is quantized to int8, by these; called where that is not done yet.

    Raises:
        ModelLoadError: OpenVINO or NNCF is not installed, or cannot convert the component.
    """
    module = weights.empty(cls, folder)
    converted_folder = cache / weights.key(folder, FORM, _import().__version__, placement.dtype)

    def network(name: str, trace: Callable[[Any], Any]) -> _Network:
        return _Network(_compiled(converted_folder / name, placement, lambda: trace(load())))

    if cls.__name__ == "UNet2DConditionModel" and samples is not None:
        return _Unet(
            module, network("unet-int8", lambda unet: _quantized(_trace_unet(unet), samples()))
        )
    if cls.__name__ == "UNet2DConditionModel":
        return _Unet(module, network("unet", _trace_unet))
    return _Autoencoder(
        module, network("encoder", _trace_encoder), network("decoder", _trace_decoder)
    )


def _compiled(path: Path, placement: Placement, convert: Callable[[], Any]) -> Any:
    """An inference request for the network at `path` (.xml and .bin), converted where missing."""
    openvino = _import()
    precision = "bf16" if placement.dtype == torch.bfloat16 else "f32"
    options = {
        "INFERENCE_PRECISION_HINT": precision,
        "EXECUTION_MODE_HINT": "PERFORMANCE" if precision == "bf16" else "ACCURACY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
    }
    file = path.with_suffix(".xml")
    try:
        if not file.is_file():
            _log.info("converting %s for OpenVINO", path.name)
            _save(convert(), path, halved=placement.dtype != torch.float32)
        if os.access(path.parent, os.W_OK):
            # What it compiles is kept too, without the weights: those it maps from the .bin.
            options |= {"CACHE_DIR": str(path.parent / "compiled"), "CACHE_MODE": "OPTIMIZE_SIZE"}
        core = openvino.Core()
        return core.compile_model(file, "CPU", options).create_infer_request()
    except RuntimeError as error:
        raise ModelLoadError(
            f"{path.name}: OpenVINO cannot use it: {str(error).splitlines()[0]}; set "
            'backend = "torch"'
        ) from error


def _save(network: Any, path: Path, *, halved: bool) -> None:
    """Written beside its place and renamed, the weights first: the .xml says it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}-partial")
    _import().save_model(network, partial.with_suffix(".xml"), compress_to_fp16=halved)
    for suffix in (".bin", ".xml"):
        partial.with_suffix(suffix).replace(path.with_suffix(suffix))


class _Network:
    """A compiled network of one output."""

    def __init__(self, request: Any) -> None:
        self._request = request

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        arrays = [each.float().contiguous().numpy() for each in inputs]
        return torch.from_numpy(self._request.infer(arrays, share_inputs=True)[0].copy())


class _Component:
    """What families ask of any component."""

    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self, module: Any) -> None:
        self.config = module.config


class _Unet(_Component):
    """A UNet whose timesteps become sines in float32, as in torch: a network in bfloat16 would
    round the angles, and 981 with them to 980."""

    def __init__(self, module: Any, network: _Network) -> None:
        super().__init__(module)
        self._sines = module.time_proj
        self._network = network
        self.taken: list[Inputs] | None = None
        """Where it is a list, what the network is given goes there."""

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
        if self.taken is not None:
            self.taken.append((sample.clone(), inputs[1], encoder_hidden_states.clone()))
        return (self._network(*inputs),)


class _Autoencoder(_Component):
    def __init__(self, module: Any, encoder: _Network, decoder: _Network) -> None:
        super().__init__(module)
        self._encoder, self._decoder = encoder, decoder

    def encode(self, pixels: torch.Tensor) -> SimpleNamespace:
        """(B, 3, H, W) → `.latent_dist`, as `AutoencoderKL.encode`."""
        return SimpleNamespace(latent_dist=DiagonalGaussianDistribution(self._encoder(pixels)))

    def decode(self, latents: torch.Tensor, *, return_dict: bool) -> tuple[torch.Tensor]:
        """(B, C, h, w) → ((B, 3, H, W),), as `AutoencoderKL.decode`."""
        assert not return_dict
        return (self._decoder(latents),)


class _Call(nn.Module):
    """A function of a module as a module, for the tracer."""

    def __init__(self, module: nn.Module, call: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.module, self._call = module, call

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Whatever the function gives."""
        return self._call(*inputs)


def _trace_unet(unet: Any) -> Any:
    unet.get_time_embed = lambda sample, timestep: timestep
    example = (
        torch.zeros(2, unet.config.in_channels, ODD, ODD),
        torch.zeros(2, unet.config.block_out_channels[0]),
        torch.zeros(2, 8, unet.config.cross_attention_dim),
    )
    return _converted(
        _Call(
            unet,
            lambda sample, sines, text: unet(
                sample, sines, encoder_hidden_states=text, return_dict=False
            )[0],
        ),
        example,
    )


def _trace_encoder(vae: Any) -> Any:
    side = 8 * 2 ** (len(vae.config.block_out_channels) - 1)
    return _converted(
        _Call(vae, lambda pixels: vae.encode(pixels).latent_dist.parameters),
        (torch.zeros(1, vae.config.in_channels, side, side),),
    )


def _trace_decoder(vae: Any) -> Any:
    return _converted(
        _Call(vae, lambda latents: vae.decode(latents, return_dict=False)[0]),
        (torch.zeros(1, vae.config.latent_channels, 8, 8),),
    )


def _converted(module: nn.Module, example: tuple[torch.Tensor, ...]) -> Any:
    with torch.inference_mode(), warnings.catch_warnings():
        # What the trace fixes are checks of channels and of huge sizes, which hold for any edit.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        # OpenVINO's frontend for `torch.export` fixes the sizes; for the trace it does not.
        warnings.filterwarnings("ignore", "`torch.jit.trace", DeprecationWarning)
        traced = torch.jit.trace(module.eval(), example, check_trace=False)  # type: ignore[no-untyped-call]
    # Not by `openvino.convert_model`: that tells Intel's telemetry about each conversion.
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    manager = FrontEndManager()
    frontend = manager.load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced, example_input=example)
    return frontend.convert(frontend.load(decoder))


def _quantized(network: Any, samples: list[Inputs]) -> Any:
    """The network with int8 where NNCF finds it possible; what it does not take stays as it was."""
    # NNCF tells Intel of each quantization, unless it believes to run in its own tests.
    os.environ.setdefault("NNCF_CI", "1")
    try:
        import nncf
    except ImportError as error:
        raise ModelLoadError(
            "backend 'openvino-int8' needs a package: pip install 'overpaint[int8]'; or set "
            'backend = "openvino"'
        ) from error
    nncf.set_log_level(logging.ERROR)
    arrays = [tuple(each.float().numpy() for each in inputs) for inputs in samples]
    return nncf.quantize(
        network,
        nncf.Dataset(arrays),
        subset_size=len(arrays),
        model_type=nncf.ModelType.TRANSFORMER,
    )


def _import() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise ModelLoadError(
            "backend 'openvino' needs a package: pip install 'overpaint[openvino]'; or set "
            'backend = "torch"'
        ) from error
    return openvino
