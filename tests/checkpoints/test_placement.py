"""Device, precision and memory are decided before anything is loaded."""

from __future__ import annotations

import pytest
import torch

from overpaint.checkpoints import machine, placement
from overpaint.checkpoints.loading import Loader
from overpaint.checkpoints.placement import MemoryNeed
from overpaint.core.errors import OutOfMemory, UnsupportedOption
from tests.conftest import open_checkpoint


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        ("flags: avx2 avx512_bf16", torch.bfloat16),
        ("flags: amx_bf16", torch.bfloat16),
        ("flags: avx2", torch.float32),
        (None, torch.float32),
    ],
)
def test_precision_follows_the_processor(monkeypatch, tmp_path, flags, dtype):
    cpuinfo = tmp_path / "cpuinfo"
    if flags is not None:
        cpuinfo.write_text(flags)
    monkeypatch.setattr(machine, "_CPU_FLAGS", cpuinfo)
    assert placement.choose("cpu").dtype == dtype


def test_names_overrule_the_hardware():
    assert placement.choose("cpu", "float16").dtype == torch.float16


@pytest.mark.parametrize(
    ("device", "dtype", "field"),
    [("tpu", "auto", "device"), ("cuda:9", "auto", "device"), ("cpu", "int4", "dtype")],
)
def test_unknown_names_are_refused(device, dtype, field, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UnsupportedOption) as caught:
        placement.choose(device, dtype)
    assert caught.value.field == field


NEED = MemoryNeed(
    {"transformer": 160, "text_encoder": 2, "text_encoder_2": 95, "vae": 2},
    text=frozenset({"text_encoder", "text_encoder_2"}),
    ahead=40,
    decode=20,
)


@pytest.mark.parametrize(
    ("free", "tier", "peak"),
    [
        (400, "all resident", 259 + 20),
        (270, "text encoders out", 162 + 20),
        (170, "modulation out", 122 + 20),
        (140, "tiled decode", 122 + 16),
    ],
)
def test_the_first_tier_that_fits(free, tier, peak):
    plan = placement.preflight("flex2", NEED, free)
    assert (plan.tier, plan.peak) == (tier, peak)
    assert plan.evict_text_encoders is (tier != "all resident")
    assert plan.evict_ahead is (tier in ("modulation out", "tiled decode"))
    assert plan.tiled is (tier == "tiled decode")
    assert tier in str(plan)


def test_a_model_without_modulation_skips_that_tier():
    need = MemoryNeed(
        {"unet": 100, "text_encoder": 40, "vae": 10}, text=frozenset({"text_encoder"}), decode=40
    )
    plan = placement.preflight("sd2", need, free=130)
    assert plan.tier == "tiled decode"
    assert not plan.evict_ahead


def test_what_never_fits_is_refused_with_what_would():
    with pytest.raises(OutOfMemory, match="flex2 needs about") as caught:
        placement.preflight("flex2", NEED, free=100)
    assert "bfloat16" in str(caught.value)


def test_the_need_is_read_from_headers(checkpoint_folder):

    where = placement.Placement(torch.device("cpu"), torch.bfloat16)
    checkpoint = open_checkpoint(checkpoint_folder("flex2"), where)
    need = checkpoint.need()
    transformer = checkpoint.component("transformer")
    modulation = sum(
        each.numel()
        for name, each in transformer.named_parameters()
        if ".linear." in name and "norm" in name
    )
    assert need.ahead == 2 * modulation > 0
    assert need.sizes["transformer"] == 2 * sum(p.numel() for p in transformer.parameters())
    assert open_checkpoint(checkpoint_folder("sd2"), where).need().ahead == 0


def test_text_encoders_and_denoiser_take_turns(checkpoint_folder):

    where = placement.Placement(torch.device("cpu"), torch.float32)
    checkpoint = open_checkpoint(checkpoint_folder("sd2"), where)
    checkpoint.follow(placement.MemoryPlan(1, 1, 1, "text encoders out"))
    checkpoint.component("unet")
    checkpoint.component("text_encoder")
    assert "unet" not in checkpoint._loaded
    checkpoint.component("unet")
    assert "text_encoder" not in checkpoint._loaded
    assert not checkpoint.component("vae").use_tiling


def test_tiles_where_memory_is_short(checkpoint_folder):
    from overpaint.diffusion import latents

    where = placement.Placement(torch.device("cpu"), torch.float32)
    whole, tiled = (open_checkpoint(checkpoint_folder("sd2"), where) for _ in range(2))
    tiled.follow(placement.MemoryPlan(1, 1, 1, "tiled decode"))
    for side, same in ((64, True), (72, False)):
        noise = torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(0))
        pictures = [latents.decode(each, noise) for each in (whole, tiled)]
        assert (pictures[0].tobytes() == pictures[1].tobytes()) is same


def test_free_memory_of_this_machine():
    assert placement.free_memory(torch.device("cpu")) > 0


def test_taking_turns_loads_each_part_once_an_edit(checkpoint_folder, monkeypatch):
    from overpaint.engine.engine import Engine
    from overpaint.engine.model import Model
    from overpaint.families.sd import SD2_FAMILY
    from tests.conftest import box_mask, picture

    checkpoint = open_checkpoint(
        checkpoint_folder("sd2"), placement.Placement(torch.device("cpu"), torch.float32)
    )
    checkpoint.take_turns = True
    loaded = []
    load = Loader.load
    monkeypatch.setattr(
        Loader, "load", lambda self, name, **how: loaded.append(name) or load(self, name, **how)
    )
    engine = Engine(lambda _: Model(SD2_FAMILY.open(checkpoint), checkpoint), "sd2")
    engine.edit(picture(64, 64), "cat", mask=box_mask(64, 64), num_inference_steps=1)
    assert sorted(loaded) == sorted(set(loaded))


def test_an_evicted_text_encoder_changes_no_byte(checkpoint_folder):
    from overpaint.engine.engine import Engine
    from overpaint.engine.model import Model
    from overpaint.families.flux1 import FLEX2_FAMILY
    from tests.conftest import box_mask, picture

    def edited(evict: bool) -> bytes:
        where = placement.Placement(torch.device("cpu"), torch.float32)
        checkpoint = open_checkpoint(checkpoint_folder("flex2"), where)
        checkpoint.take_turns = evict
        model = Model(FLEX2_FAMILY.open(checkpoint), checkpoint)
        engine = Engine(lambda _: model, "flex2")
        result = engine.edit(
            picture(64, 64), "cat", mask=box_mask(64, 64), seed=1, num_inference_steps=1
        )
        assert ("text_encoder_2" in checkpoint._loaded) is not evict
        return result.images[0].tobytes()

    assert edited(evict=True) == edited(evict=False)
