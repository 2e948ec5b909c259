"""OpenVINO as the processor's backend of denoisers and autoencoders.

A component is converted once and kept on disk; afterwards it is read from there, without its torch
module. It computes in float32 or bfloat16, as the placement says; tensors go in and come out as
float32. Its pictures differ from torch's, in float32 in the last bits (about 1e-6 of the
prediction), so it is chosen by hand and the recipe names it.

A denoiser can be made smaller and faster at a cost in quality, which docs/performance.md gives:

- with samples of its inputs it is computed in int8 where that is possible (NNCF's post-training
  quantization);
- its weights are held in int8 or int4, and computed with in the precision of the rest.

Its family says which networks a component has, and what stands in its place (`Component.openvino`).
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from overpaint.checkpoints.files import weights
from overpaint.checkpoints.placement import Placement
from overpaint.core.errors import ModelLoadError

_log = logging.getLogger(__name__)

FORM = 2
"""Version of the form that networks have on disk; one in another form is converted again."""

GROUP = 64
"""Weights that share a scale in int4; fewer where a row does not consist of whole groups."""

HALVES = (torch.bfloat16, torch.float16)

WeightBits = Literal[4, 8]

Tracing = Callable[[Any], Any]
"""Makes a network of OpenVINO from a torch module (`converted`)."""

Arrays = tuple[torch.Tensor, ...]
"""What a network is given."""


class Network:
    """A compiled network of one output."""

    def __init__(self, request: Any) -> None:
        self._request = request

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        arrays = [each.float().contiguous().numpy() for each in inputs]
        return torch.from_numpy(self._request.infer(arrays, share_inputs=True)[0].copy())


class StandIn:
    """Stands in a component's place: what families ask of any component."""

    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self, module: Any) -> None:
        self.config = module.config


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A component that OpenVINO will compute, as its family's `Component.openvino` is given it.

    Attributes:
        module: of its torch class, without memory for its weights.
        folder: the component's own, with config.json and weights.
        placement: on the CPU; its dtype says in which precision is computed.
        cache: folder of converted components.
        load: gives the torch module in a precision; called where nothing is converted yet.
        bits: of a denoiser's weights; None = as they are.
        samples: gives what a denoiser's network is given in ordinary edits.
    """

    module: nn.Module
    folder: Path
    placement: Placement
    cache: Path
    load: Callable[[torch.dtype], nn.Module]
    bits: WeightBits | None = None
    samples: Callable[[], list[Arrays]] | None = None

    def network(self, name: str, trace: Tracing) -> Network:
        """A network of the component, kept under that name.

        Raises:
            ModelLoadError: OpenVINO is not installed, or cannot convert or compute it.
        """
        return self._from_cache(name, lambda: trace(self._loaded()))

    def quantized(self, name: str, trace: Tracing) -> Network:
        """The same, computed in int8 where NNCF finds that possible by the samples.

        Raises:
            ModelLoadError: as `network`; or NNCF is not installed.
        """
        assert self.samples is not None
        samples = self.samples
        return self._from_cache(
            f"{name}-int8", lambda: _quantized(trace(self._loaded()), samples())
        )

    def compressed(self, name: str, trace: Tracing) -> Network:
        """The same, with its weights in so many `bits`; without, it is `network`.

        Raises:
            ModelLoadError: as `network`; or NNCF is not installed.
        """
        if self.bits is None:
            return self.network(name, trace)
        bits = self.bits
        return self._from_cache(
            f"{name}-w{bits}", lambda: _with_small_weights(trace(self._loaded()), bits)
        )

    def _from_cache(self, name: str, convert: Callable[[], Any]) -> Network:
        key = weights.key(self.folder, FORM, _import().__version__, self.placement.dtype)
        return Network(_compiled(self.cache / key / name, self.placement, convert))

    def _loaded(self) -> nn.Module:
        """The module in float32, or in 16 bits where it is stored so: that takes half the memory,
        or none where the files are mapped."""
        stored = (each for each in HALVES if weights.stored_as(self.folder, each))
        return _without_halves(self.load(next(stored, torch.float32)).eval())


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
            # Compiled networks are kept too, without the weights, which are mapped from the .bin.
            options |= {"CACHE_DIR": str(path.parent / "compiled"), "CACHE_MODE": "OPTIMIZE_SIZE"}
        core = openvino.Core()
        return core.compile_model(file, "CPU", options).create_infer_request()
    except RuntimeError as error:
        raise ModelLoadError(
            f"{path.name}: OpenVINO cannot use it: {str(error).splitlines()[0]}; set "
            'backend = "torch"'
        ) from error


def _save(network: Any, path: Path, *, halved: bool) -> None:
    """Write it beside its place and rename it, the weights first: the .xml says that it is
    whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}-partial")
    _import().save_model(network, partial.with_suffix(".xml"), compress_to_fp16=halved)
    for suffix in (".bin", ".xml"):
        partial.with_suffix(suffix).replace(path.with_suffix(suffix))


class _Call(nn.Module):
    """A function of a module as a module, for the tracer."""

    def __init__(self, module: nn.Module, call: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.module, self._call = module, call

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """The function's result."""
        return self._call(*inputs)


def converted(module: Any, call: Callable[..., torch.Tensor], example: Arrays) -> Any:
    """A network of OpenVINO that computes a function of a module.

    Args:
        module: whose weights it has.
        call: of tensors alone; it is traced.
        example: what it is given; other sizes fit too, where no size of it equals one.
    """
    with torch.inference_mode(), warnings.catch_warnings():
        # The trace fixes only checks of channels and of huge sizes, which hold for any edit.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        # OpenVINO's frontend for `torch.export` fixes the sizes; for the trace it does not.
        warnings.filterwarnings("ignore", "`torch.jit.trace", DeprecationWarning)
        traced = torch.jit.trace(_Call(module, call), example, check_trace=False)  # type: ignore[no-untyped-call]
    # Not by `openvino.convert_model`: that reports each conversion to Intel's telemetry.
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    manager = FrontEndManager()
    frontend = manager.load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced, example_input=example)
    return frontend.convert(frontend.load(decoder))


def _without_halves(module: nn.Module) -> nn.Module:
    """Let a module compute in float32 though linear layers keep their weights in 16 bits.

    OpenVINO takes those as they are; the tracer computes nothing with them.
    """
    from openvino.frontend.pytorch import ModuleExtension, patch_model

    linear = ModuleExtension(
        nn.Linear,
        "ov_ext::linear",
        convert=lambda layer, target, tokens: target(tokens, layer.weight, layer.bias),
        evaluate=lambda layer, tokens, *_: tokens.new_zeros(*tokens.shape[:-1], layer.out_features),
        condition=lambda layer: layer.weight.dtype in HALVES,
    )
    patch_model.patch_model(module, {nn.Linear: linear}, "_forward_of_torch")
    for part in module.modules():
        if type(part) is not nn.Linear:
            for weight in part.parameters(recurse=False):
                weight.data = weight.data.float()
    return module


def _quantized(network: Any, samples: list[Arrays]) -> Any:
    """The network with int8 where NNCF finds it possible; what it does not take stays as it was."""
    nncf = _import_nncf()
    arrays = [tuple(each.float().numpy() for each in inputs) for inputs in samples]
    return nncf.quantize(
        network,
        nncf.Dataset(arrays),
        subset_size=len(arrays),
        model_type=nncf.ModelType.TRANSFORMER,
    )


def _with_small_weights(network: Any, bits: WeightBits) -> Any:
    """The network with its weights in 8 bits, one scale a row, or in 4, one scale a `GROUP`."""
    nncf = _import_nncf()
    if bits == 8:
        return nncf.compress_weights(network, mode=nncf.CompressWeightsMode.INT8_SYM)
    adjusted = nncf.GroupSizeFallbackMode.ADJUST
    return nncf.compress_weights(
        network,
        mode=nncf.CompressWeightsMode.INT4_SYM,
        group_size=GROUP,
        ratio=1.0,
        advanced_parameters=nncf.AdvancedCompressionParameters(group_size_fallback_mode=adjusted),
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


def _import_nncf() -> Any:
    # NNCF reports each quantization to Intel, unless it believes that its own tests run.
    os.environ.setdefault("NNCF_CI", "1")
    try:
        import nncf
    except ImportError as error:
        raise ModelLoadError(
            "int8 and int4 need a package: pip install 'overpaint[int8]'; or set "
            'backend = "openvino"'
        ) from error
    nncf.set_log_level(logging.ERROR)
    return nncf
