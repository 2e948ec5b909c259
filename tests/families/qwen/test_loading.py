"""Networks from published files: under their first names, without surplus, in every precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import _dynamo as dynamo
from torch._dynamo.utils import counters
from torch.fx.experimental import _config as shapes

from overpaint.checkpoints import compiling
from overpaint.checkpoints.compute.backends import Backend
from overpaint.checkpoints.files import weights
from overpaint.checkpoints.placement import Placement
from overpaint.engine.engine import Engine
from overpaint.engine.model import Model
from overpaint.families.qwen import COMPONENTS, QWEN_EDIT_FAMILY
from tests.conftest import open_checkpoint, picture

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
NETWORKS = ("text_encoder", "transformer", "vae")


@pytest.fixture(scope="module")
def folder(checkpoint_folder):
    return checkpoint_folder("qwen-edit")


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_network_is_the_librarys_and_reads_its_files_once(folder, monkeypatch, name, dtype):
    load_into, complete = weights.load_into, []

    def watched(*arguments):
        complete.append(load_into(*arguments))
        return complete[-1]

    monkeypatch.setattr(weights, "load_into", watched)
    ours = open_checkpoint(folder, Placement(CPU, dtype)).component(name)
    theirs = type(ours).from_pretrained(folder / name).to(dtype)
    expected = dict(theirs.named_parameters())
    found = dict(ours.named_parameters())
    assert complete == [True]
    assert expected.keys() - found.keys() == (
        {"lm_head.weight"} if name == "text_encoder" else set()
    )
    assert all(torch.equal(found[each], expected[each]) for each in found)


def test_frequencies_keep_their_precision(folder):
    encoder = open_checkpoint(folder, Placement(CPU, torch.bfloat16)).component("text_encoder")
    kinds = {name: buffer.dtype for name, buffer in encoder.named_buffers()}
    assert set(kinds.values()) == {torch.float32}


def test_names_of_today_are_left_alone():
    name_of = COMPONENTS["text_encoder"].name_of
    assert name_of("model.layers.3.mlp.up_proj.weight") == (
        "model.language_model.layers.3.mlp.up_proj.weight"
    )
    assert name_of("visual.blocks.0.norm1.weight") == "model.visual.blocks.0.norm1.weight"
    for name in (
        "model.language_model.norm.weight",
        "model.visual.merger.ln_q.weight",
        "lm_head.weight",
    ):
        assert name_of(name) == name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_it_comes_near(folder, dtype):
    def edited(precision):
        checkpoint = open_checkpoint(folder, Placement(CPU, precision))
        model = Model(QWEN_EDIT_FAMILY.open(checkpoint), checkpoint)
        result = Engine(lambda _: model, "model").edit(
            picture(64, 64), "red", seed=1, num_inference_steps=2, composite=False
        )
        return np.asarray(result.images[0], int)

    assert abs(edited(dtype) - edited(torch.float32)).mean() < 4


def test_the_autoencoder_is_not_compiled(monkeypatch):
    """Its convolutions have no layout of pictures, which the compiler asks for."""
    monkeypatch.setattr(compiling, "is_ready", lambda _: True)
    assert not Backend().compiles_later(COMPONENTS["vae"], CUDA)
    assert Backend().compiles_later(COMPONENTS["transformer"], CUDA)


def test_blocks_compile_without_a_break(folder):
    def edited(*, compiled):
        checkpoint = open_checkpoint(folder, Placement(CPU, torch.float32))
        model = Model(QWEN_EDIT_FAMILY.open(checkpoint), checkpoint)
        if compiled:
            transformer = checkpoint.component("transformer")
            transformer.compile_repeated_blocks(dynamic=True, backend="eager", fullgraph=True)
        engine = Engine(lambda _: model, "model")
        return [
            engine.edit(picture(*size), words, seed=1, num_inference_steps=2).images[0].tobytes()
            for size, words in [((64, 64), "red"), ((64, 96), "a longer wish")]
        ]

    expected = edited(compiled=False)
    dynamo.reset()
    counters.clear()
    try:
        with shapes.patch(use_duck_shape=False):
            assert edited(compiled=True) == expected
        assert not counters["graph_break"]
        assert 0 < counters["stats"]["unique_graphs"] <= 4
    finally:
        dynamo.reset()
