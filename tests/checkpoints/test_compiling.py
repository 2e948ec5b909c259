"""Networks that change over to what was compiled in the background."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from overpaint.checkpoints import compiling
from overpaint.checkpoints.compiling import Background, CompiledPart
from overpaint.checkpoints.component import Component
from overpaint.checkpoints.compute import backends
from overpaint.checkpoints.compute.backends import Backend
from overpaint.checkpoints.placement import Placement
from overpaint.diffusion import latents
from tests.conftest import open_checkpoint, picture

CPU = Placement(torch.device("cpu"), torch.float32)
CUDA = torch.device("cuda")


class Waiting(Background):
    """Compiles when it is told to, in the caller's thread."""

    def __init__(self, patience: float = 0.0) -> None:
        super().__init__(patience)
        self.pending = []

    def submit(self, job) -> None:
        self.pending.append(job)

    def work(self) -> None:
        while self.pending:
            self.pending.pop(0)()


class Compiler:
    """Compiles nothing; counts what the functions that it made are called with."""

    def __init__(self, *, fails: bool = False) -> None:
        self.calls = []
        self._fails = fails

    def __call__(self, function):
        def compiled(module, *args, **kwargs):
            self.calls.append(module)
            if self._fails:
                raise RuntimeError("no")
            return function(module, *args, **kwargs)

        return compiled


class Adding(torch.nn.Module):
    """Adds what it is given to a weight, and up."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.inner = torch.nn.Module()
        self.inner.total = torch.zeros(1)

    def forward(self, values, *, twice: bool = False):
        with torch.no_grad():
            self.inner.total += values.sum()
            return values + (2 if twice else 1) * self.weight


@pytest.fixture
def background():
    return Waiting()


@pytest.fixture
def compiler():
    return Compiler()


@pytest.fixture
def module(background, compiler):
    made = Adding()
    CompiledPart(made, [made], background, compiler)
    return made


def test_it_changes_over_when_it_is_compiled(module, background, compiler):
    assert module(torch.ones(2)).tolist() == [2, 2]
    assert compiler.calls == []
    background.work()
    assert len(compiler.calls) == 1
    assert compiler.calls[0] is not module
    assert module(torch.ones(2)).tolist() == [2, 2]
    assert compiler.calls[1:] == [module]
    assert getattr(module, compiling.VERSION) == 1


def test_compiling_shares_the_weights_and_touches_nothing_else(module, background, compiler):
    module(torch.ones(2))
    background.work()
    assert compiler.calls[0].weight is module.weight
    assert module.inner.total.tolist() == [2]
    assert compiler.calls[0].inner.total.tolist() == [2]


def test_sizes_are_open_and_other_kinds_are_compiled_in_their_turn(module, background, compiler):
    module(torch.ones(2))
    background.work()
    for values in (torch.ones(5), torch.ones(2, 2), torch.ones(2).double(), torch.ones(1)):
        module(values)
    module(torch.ones(2), twice=True)
    module(torch.ones(3), twice=True)
    assert compiler.calls[1:] == [module]
    assert len(background.pending) == 4


def test_another_layout_is_compiled_in_its_turn(module, background, compiler):
    values = torch.ones(1, 3, 4, 4)
    module(values)
    background.work()
    module(values.to(memory_format=torch.channels_last))
    assert len(compiler.calls) == 1
    assert len(background.pending) == 1


def test_what_cannot_be_compiled_runs_as_it_is(background):
    compiler, module = Compiler(fails=True), Adding()
    CompiledPart(module, [module], background, compiler)
    for _ in range(3):
        assert module(torch.ones(2)).tolist() == [2, 2]
        background.work()
    assert len(compiler.calls) == 1
    assert not hasattr(module, compiling.VERSION)


def test_a_single_edit_compiles_nothing(compiler):
    background, module = Waiting(patience=1000.0), Adding()
    CompiledPart(module, [module], background, compiler)
    module(torch.ones(2))
    module(torch.ones(2))
    assert background.pending == []
    background.patience = 0.0
    module(torch.ones(2))
    assert len(background.pending) == 1


def test_small_pictures_are_not_compiled_and_others_each_by_their_size(background, compiler):
    module = Adding()
    CompiledPart(module, [module], background, compiler, smallest=16)
    module(torch.ones(1, 2, 3, 3))
    assert background.pending == []
    for side in (4, 5, 4):
        module(torch.ones(1, 2, side, side))
    assert len(background.pending) == 2


def test_a_thread_compiles(compiler):
    background, module = Background(patience=0.0), Adding()
    CompiledPart(module, [module], background, compiler)
    module(torch.ones(2))
    background.wait()
    assert len(compiler.calls) == 1


@pytest.mark.parametrize(
    ("backend", "role", "expected"),
    [
        (Backend(), "denoiser", True),
        (Backend(), "autoencoder", True),
        (Backend(), "text encoder", False),
        (Backend(compile="off"), "denoiser", False),
        (Backend("torch-compiled"), "denoiser", False),
        (Backend("torch-float8"), "autoencoder", True),
        (Backend("openvino"), "autoencoder", False),
    ],
)
def test_what_is_compiled_without_being_asked_for(monkeypatch, backend, role, expected):
    part = Component(role=role)
    monkeypatch.setattr(compiling, "is_ready", lambda device: device.type == "cuda")
    assert backend.compiles_later(part, CUDA) is expected
    assert backend.compiles_later(part, CPU.device) is False


def test_it_takes_a_card_triton_and_a_compiler(monkeypatch):
    monkeypatch.setattr(compiling.importlib.util, "find_spec", lambda _: object())
    assert compiling.is_ready(CUDA) is compiling.has_compiler()
    assert not compiling.is_ready(CPU.device)
    monkeypatch.setattr(compiling.importlib.util, "find_spec", lambda _: None)
    assert not compiling.is_ready(CUDA)


@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("sd2", {"UNet2DConditionModel"}),
        ("flex2", {"FluxTransformerBlock", "FluxSingleTransformerBlock"}),
    ],
)
def test_what_a_denoiser_is_compiled_in(checkpoint_folder, background, compiler, family, names):
    checkpoint = open_checkpoint(checkpoint_folder(family), CPU)
    name = "unet" if family == "sd2" else "transformer"
    denoiser = checkpoint.component(name)
    backends.compile_later(Backend(), denoiser, checkpoint.inventory[name], background, compiler)
    parts = {type(each).__name__ for each in denoiser.modules() if "forward" in vars(each)}
    assert parts == names


needs_compiler = pytest.mark.skipif(
    not compiling.has_compiler(), reason="torch's compiler needs a C++ compiler, and there is none"
)


@needs_compiler
def test_a_compiled_autoencoder_is_within_a_level(checkpoint_folder):
    checkpoint = open_checkpoint(checkpoint_folder("sd2"), CPU)
    pixels = latents.picture_tensor(picture(272, 272))

    def both_ways():
        checkpoint.memo._values.clear()
        encoded = latents.encode_distribution(checkpoint, pixels).mean
        return np.asarray(latents.decode(checkpoint, 0.2 * encoded)).astype(int)

    expected = both_ways()
    vae, background = checkpoint.component("vae"), Waiting()
    with torch.inference_mode():  # as it is where a component is loaded for an edit
        backends.compile_later(Backend(), vae, checkpoint.inventory["vae"], background)
    assert vae.decoder.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    for _ in range(2):  # a compiled encoder gives the decoder another layout
        both_ways()
        background.work()
    assert getattr(vae, compiling.VERSION) >= 2
    before = dict(counters["stats"])
    assert abs(both_ways() - expected).max() <= 1
    assert dict(counters["stats"])["calls_captured"] == before["calls_captured"]


@needs_compiler
def test_what_was_compiled_is_taken_from_the_file(checkpoint_folder, monkeypatch, tmp_path):
    checkpoint = open_checkpoint(checkpoint_folder("flex2"), CPU)
    block = checkpoint.component("transformer").single_transformer_blocks[0]
    heads = block.attn.heads * block.attn.head_dim
    given = {
        "hidden_states": torch.randn(1, 7, heads),
        "encoder_hidden_states": torch.randn(1, 5, heads),
        "temb": torch.randn(1, heads),
        "image_rotary_emb": (
            torch.ones(12, block.attn.head_dim),
            torch.zeros(12, block.attn.head_dim),
        ),
    }
    expected = block(**given)[1]
    background = Waiting()

    def compiled_anew(folder):
        monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
        torch._dynamo.reset()
        counters.clear()
        compiling.keep_in(folder)
        vars(block).pop("forward", None)
        CompiledPart(block, [block], background)
        with torch.inference_mode():
            block(**given)
            background.work()
            assert getattr(block, compiling.VERSION)
            assert torch.allclose(block(**given)[1], expected, atol=1e-5)
        return dict(counters["inductor"])

    folder = tmp_path / "kept"
    first = compiled_anew(folder)
    assert first["fxgraph_cache_miss"]
    assert compiling.save(folder) == compiling.artifacts(folder).stat().st_size
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    compiling.artifacts(folder).rename(compiling.artifacts(elsewhere))
    second = compiled_anew(elsewhere)
    assert second["fxgraph_cache_hit"]
    assert not second.get("fxgraph_cache_miss")
