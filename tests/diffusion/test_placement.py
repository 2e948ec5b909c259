"""Device, precision and memory are decided before anything is loaded."""

from __future__ import annotations

import pytest
import torch

from overpaint.core.errors import OutOfMemory, UnsupportedOption
from overpaint.diffusion import placement


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
    monkeypatch.setattr(placement, "_CPU_FLAGS", cpuinfo)
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


SIZES = {"transformer": 16, "text_encoder": 1, "text_encoder_2": 9, "vae": 1}


def test_everything_stays_where_there_is_room():
    plan = placement.preflight("flex2", SIZES, free=40)
    assert not plan.evict_text_encoders


def test_text_encoders_leave_where_memory_is_short():
    plan = placement.preflight("flex2", SIZES, free=25)
    assert plan.evict_text_encoders
    assert plan.peak < plan.weights
    assert "text encoders leave" in str(plan)


def test_what_never_fits_is_refused_with_figures():
    with pytest.raises(OutOfMemory, match="flex2 needs about"):
        placement.preflight("flex2", SIZES, free=10)


def test_free_memory_of_this_machine():
    assert placement.free_memory(torch.device("cpu")) > 0


def test_an_evicted_text_encoder_changes_no_byte(checkpoint_folder):
    from overpaint.diffusion.loading import Checkpoint
    from overpaint.engine.engine import Engine
    from overpaint.engine.model import Model
    from overpaint.families.flex2 import Flex2
    from tests.conftest import box_mask, picture

    def edited(evict: bool) -> bytes:
        where = placement.Placement(torch.device("cpu"), torch.float32)
        checkpoint = Checkpoint(checkpoint_folder("flex2"), where)
        model = Model(Flex2(checkpoint), checkpoint, evict_text_encoders=evict)
        engine = Engine(lambda _: model, "flex2")
        result = engine.edit(
            picture(64, 64), "cat", mask=box_mask(64, 64), seed=1, num_inference_steps=1
        )
        assert ("text_encoder_2" in checkpoint._loaded) is not evict
        return result.images[0].tobytes()

    assert edited(evict=True) == edited(evict=False)
