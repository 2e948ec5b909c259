"""`overpaint warm`: what it compiles, and what it says where there is nothing to compile."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from overpaint.checkpoints import compiling


@pytest.mark.parametrize("model", ["tiny-sd2", "erase"])
def test_where_nothing_is_compiled_it_says_so(overpaint, model):
    ran = overpaint("warm", model)
    assert ran.code == 0
    assert f"{model} on " in ran.err
    assert "no network is compiled here" in ran.err
    assert overpaint("warm", model, "--json").json["folder"] is None


@pytest.mark.skipif(
    not compiling.has_compiler(), reason="torch's compiler needs a C++ compiler, and there is none"
)
def test_it_compiles_and_keeps_what_comes_of_it(overpaint, desk, checkpoint_folder, monkeypatch):
    (desk / "overpaint.toml").write_text(
        "cache = 'cache'\nbackend = 'torch-compiled'\n", encoding="utf-8"
    )
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    del os.environ["TORCHINDUCTOR_CACHE_DIR"]
    report = overpaint("warm", str(checkpoint_folder("sd2")), "--json").json
    assert report["compiled"] > 0
    assert report["edits"] > 1
    kept = Path(report["folder"])
    assert kept == desk / "cache" / "compiled"
    assert report["bytes"] == compiling.artifacts(kept).stat().st_size > 0
    assert any((kept / "inductor").iterdir())


def test_an_unknown_model_is_named(overpaint):
    ran = overpaint("warm", "kontex")
    assert ran.code == 2
    assert "did you mean kontext" in ran.err
