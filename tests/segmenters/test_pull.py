"""`overpaint pull` of a model in transformers layout, from a hub on the loopback interface."""

from __future__ import annotations

import pytest

from overpaint.apps.settings import Settings
from overpaint.apps.wiring.models import segmentation
from overpaint.checkpoints.files import hub
from overpaint.core.errors import ModelLoadError
from overpaint.core.imaging.images import Picture
from overpaint.segmenters.segmenter import Hints
from tests.conftest import picture
from tests.hub_server import Hub, point_client_at, serving

UNWANTED = {
    "README.md": b"# Model",
    "sam2.1_hiera_base_plus.pt": b"pickle",
    "model.fp16.safetensors": b"half",
    "code.py": b"import os",
    "onnx/model.onnx": b"other",
    "onnx/config.json": b"{}",
}


@pytest.fixture
def server(segmenter_folder, monkeypatch):
    offered = Hub(repository="facebook/sam2.1-hiera-base-plus", files=dict(UNWANTED))
    offered.add(segmenter_folder("sam2"))
    with serving(offered):
        point_client_at(offered.url, monkeypatch)
        yield offered


def test_what_was_pulled_segments_offline(server, tmp_path, monkeypatch):
    pulled = hub.pull(server.repository, cache=tmp_path)
    assert set(pulled.files) == {"config.json", "preprocessor_config.json", "model.safetensors"}
    point_client_at("http://127.0.0.1:9", monkeypatch)

    hints = Hints(boxes=((10, 10, 40, 40),))
    image = Picture.from_pil(picture(64, 48))
    found = segmentation.segment(image, hints, model="sam2", settings=Settings(cache=tmp_path))
    assert found[0].mask.shape == (48, 64)


def test_a_single_model_without_safetensors_is_refused(server, tmp_path):
    del server.files["model.safetensors"]
    with pytest.raises(ModelLoadError, match=r"sam2\.1_hiera_base_plus\.pt"):
        hub.pull(server.repository, cache=tmp_path)
