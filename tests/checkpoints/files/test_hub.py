"""Pulling from a hub: the real client against a server on the loopback interface."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import socket
from functools import partial

import pytest
import torch
from huggingface_hub import constants

from overpaint.checkpoints.files import hub
from overpaint.checkpoints.files.layout import choose_files, unused_shards
from overpaint.checkpoints.files.pins import PINS, Pin
from overpaint.core.errors import LicenceNotAccepted, ModelLoadError, ModelNotFound
from overpaint.families.flux2 import KLEIN_FAMILY
from overpaint.families.sd import SD2_FAMILY
from tests.hub_server import COMMIT, Hub, point_client_at, serving

INDEX = {
    "_class_name": "StableDiffusionInpaintPipeline",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "feature_extractor": [None, None],
}
WANTED = {
    "model_index.json": json.dumps(INDEX).encode(),
    "unet/config.json": b"{}",
    "unet/diffusion_pytorch_model.safetensors": bytes(range(256)) * 1000,
    "tokenizer/vocab.json": b'{"a": 0}',
    "tokenizer/merges.txt": b"#version: 0.2\n",
    "safety_checker/config.json": b'{"of": "the checker"}',
    "safety_checker/model.safetensors": b"for the safety policy",
}
UNWANTED = {
    "README.md": b"# Model",
    "pipeline.py": b"import os",
    "512-inpainting-ema.safetensors": b"root checkpoint",
    "512-inpainting-ema.ckpt": b"pickle",
    "unet/diffusion_pytorch_model.bin": b"pickle",
    "unet/diffusion_pytorch_model.fp16.safetensors": b"half",
    "unet/diffusion_pytorch_model.fp16.safetensors.index.json": b"{}",
    "unet/diffusion_pytorch_model.bin.index.json": b"{}",
    "unet/code.py": b"import os",
    "safety_checker/pytorch_model.bin": b"pickle",
}
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


pull = partial(hub.pull, components=SD2_FAMILY.components)


@pytest.fixture
def server(monkeypatch):
    with serving(Hub(files=WANTED | UNWANTED)) as offered:
        point_client_at(offered.url, monkeypatch)
        yield offered


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def test_pull_downloads_what_is_needed_at_one_commit_and_nothing_else(server, cache):
    pulled = pull("owner/model", cache=cache)

    assert pulled.commit == COMMIT
    assert set(pulled.files) == set(WANTED)
    assert set(server.downloads()) == set(WANTED)
    for name, content in WANTED.items():
        assert (pulled.folder / name).read_bytes() == content
    assert not [name for name in UNWANTED if (pulled.folder / name).exists()]


def test_progress_counts_all_bytes_once(server, cache):
    told = []
    pull("owner/model", cache=cache, on_progress=lambda *each: told.append(each))

    total = sum(len(content) for content in WANTED.values())
    assert {each[2] for each in told} == {total}
    done = [each[1] for each in told]
    assert done == sorted(done)
    assert done[-1] == total


def test_what_was_pulled_is_found_without_the_network(server, cache, monkeypatch):
    pulled = pull("owner/model", cache=cache)
    asked = len(server.requests)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    assert hub.locate("owner/model", cache=cache) == pulled
    assert len(server.requests) == asked


def test_a_model_that_was_not_pulled_is_not_found(cache):
    assert hub.locate("owner/model", cache=cache) is None


def test_revisions_are_kept_apart(server, cache):
    pull("owner/model", COMMIT, cache=cache)

    assert hub.locate("owner/model", cache=cache) is None
    assert hub.locate("owner/model", COMMIT, cache=cache).commit == COMMIT


def test_pulling_again_downloads_nothing(server, cache):
    pull("owner/model", cache=cache)
    server.requests.clear()
    pull("owner/model", cache=cache)

    assert server.downloads() == []


def test_a_new_commit_replaces_the_old_one(server, cache):
    pull("owner/model", cache=cache)
    server.commit = "f" * 40
    server.files = server.files | {WEIGHTS: b"new weights"}
    pulled = pull("owner/model", cache=cache)

    assert hub.locate("owner/model", cache=cache).commit == "f" * 40
    assert (pulled.folder / WEIGHTS).read_bytes() == b"new weights"


def test_a_connection_that_drops_is_resumed_where_it_broke(server, cache, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    server.truncate[WEIGHTS] = 100_000
    pulled = pull("owner/model", cache=cache)

    assert (pulled.folder / WEIGHTS).read_bytes() == WANTED[WEIGHTS]
    ranges = [asked for method, path, asked in server.requests if path.endswith(WEIGHTS) and asked]
    assert ranges == ["bytes=100000-"]


def test_files_that_arrived_whole_survive_a_failed_pull(server, cache):
    server.missing.add("tokenizer/vocab.json")
    with pytest.raises(ModelLoadError, match="files that arrived whole are kept"):
        pull("owner/model", cache=cache)
    assert hub.locate("owner/model", cache=cache) is None
    assert WEIGHTS in server.downloads()

    server.missing.clear()
    server.requests.clear()
    pull("owner/model", cache=cache)
    # What comes after the one that failed was not fetched before.
    later = {
        "tokenizer/vocab.json",
        "safety_checker/config.json",
        "safety_checker/model.safetensors",
    }
    assert set(server.downloads()) == later


def test_a_file_that_does_not_match_the_hubs_hash_is_refused(server, cache):
    server.corrupt.add(WEIGHTS)
    with pytest.raises(ModelLoadError, match=r"sha256 is .* the hub says"):
        pull("owner/model", cache=cache)

    assert hub.locate("owner/model", cache=cache) is None
    assert server.downloads().count(WEIGHTS) == 2  # fetched once more before giving up


def test_pulling_again_repairs_a_damaged_file(server, cache):
    pulled = pull("owner/model", cache=cache)
    (pulled.folder / WEIGHTS).resolve().write_bytes(bytes(len(WANTED[WEIGHTS])))

    with pytest.raises(ModelLoadError, match="was changed since it was pulled"):
        hub.locate("owner/model", cache=cache)
    pull("owner/model", cache=cache)
    assert (hub.locate("owner/model", cache=cache).folder / WEIGHTS).read_bytes() == WANTED[WEIGHTS]


def test_a_touched_but_equal_file_is_hashed_once_more_and_accepted(server, cache, monkeypatch):
    pulled = pull("owner/model", cache=cache)
    (pulled.folder / WEIGHTS).resolve().touch()

    found = hub.locate("owner/model", cache=cache)
    assert found.files[WEIGHTS].sha256 == pulled.files[WEIGHTS].sha256
    monkeypatch.setattr(hub, "_fingerprint", None)
    assert hub.locate("owner/model", cache=cache) == found


def test_a_deleted_file_is_named(server, cache):
    pulled = pull("owner/model", cache=cache)
    (pulled.folder / WEIGHTS).unlink()

    with pytest.raises(ModelLoadError, match="no longer there"):
        hub.locate("owner/model", cache=cache)


def test_a_broken_record_says_what_to_do(server, cache):
    pull("owner/model", cache=cache)
    (record,) = cache.glob("*/overpaint/main.json")
    record.write_text("{}", encoding="utf-8")

    with pytest.raises(ModelLoadError, match="pull the model again"):
        hub.locate("owner/model", cache=cache)


def test_an_unknown_repository(server, cache):
    with pytest.raises(ModelNotFound, match="no repository 'owner/other'"):
        hub.pull("owner/other", cache=cache)


PIN = Pin(COMMIT, {WEIGHTS: hashlib.sha256(WANTED[WEIGHTS]).hexdigest()})


class TestPins:
    def test_a_pull_takes_the_pinned_commit_and_is_found_without_naming_it(self, server, cache):
        server.head = "f" * 40
        pulled = pull("owner/model", pin=PIN, cache=cache)
        assert pulled.commit == COMMIT
        assert hub.locate("owner/model", cache=cache).commit == COMMIT
        (note,) = pulled.notes
        assert "main branch is now at ffffffffffff" in note

    def test_nothing_is_said_where_nothing_moved(self, server, cache):
        assert pull("owner/model", pin=PIN, cache=cache).notes == ()
        assert pull("owner/model", cache=cache).notes == ()

    def test_another_file_than_the_pins(self, server, cache):
        other = Pin(COMMIT, {WEIGHTS: "0" * 64})
        with pytest.raises(ModelLoadError, match="the catalogue says 0000000000000000"):
            pull("owner/model", pin=other, cache=cache)
        assert hub.locate("owner/model", cache=cache) is None

    def test_a_commit_that_is_gone(self, server, cache):
        with pytest.raises(ModelNotFound, match=r"has no commit a{40} any more; --revision main"):
            pull("owner/model", pin=Pin("a" * 40), cache=cache)

    def test_a_named_revision_wins(self, server, cache):
        pulled = pull("owner/model", "main", pin=Pin("a" * 40), cache=cache)
        assert pulled.commit == COMMIT

    def test_a_repository_that_has_moved(self, server, cache):
        server.name = "other/model"
        (note,) = pull("owner/model", cache=cache).notes
        assert "the hub answers with other/model" in note

    def test_a_branch_that_has_moved(self, server, cache):
        pull("owner/model", cache=cache)
        server.commit = "f" * 40
        (note,) = pull("owner/model", cache=cache).notes
        assert note == f"owner/model: commit ffffffffffff takes the place of {COMMIT[:12]}"

    @pytest.mark.parametrize(("repository", "pin"), PINS.items())
    def test_pins_are_commits_and_hashes(self, repository, pin):
        assert re.fullmatch("[0-9a-f]{40}", pin.commit)
        assert all(re.fullmatch("[0-9a-f]{64}", each) for each in pin.sha256.values())


def test_a_small_file_that_is_not_what_the_hub_says(server, cache):
    server.corrupt.add("tokenizer/vocab.json")
    with pytest.raises(ModelLoadError, match=r"vocab\.json: git hash is .* the hub says"):
        pull("owner/model", cache=cache)


def test_an_unknown_revision(server, cache):
    with pytest.raises(ModelNotFound, match="no revision 'v9'"):
        pull("owner/model", "v9", cache=cache)


def test_a_gated_repository_says_how_to_get_in(server, cache):
    server.gated = True
    with pytest.raises(LicenceNotAccepted, match="HF_TOKEN"):
        pull("owner/model", cache=cache)


def test_no_connection(cache, monkeypatch):
    with socket.socket() as silent:  # it has a port, and does not listen on it
        silent.bind(("127.0.0.1", 0))
        point_client_at(f"http://127.0.0.1:{silent.getsockname()[1]}", monkeypatch)
        with pytest.raises(ModelLoadError, match="check the connection"):
            pull("owner/model", cache=cache)


def test_offline_mode_is_named(server, cache, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelLoadError, match="HF_HUB_OFFLINE"):
        pull("owner/model", cache=cache)


def test_a_repository_without_index(server, cache):
    del server.files["model_index.json"]
    with pytest.raises(ModelLoadError, match="diffusers layout"):
        pull("owner/model", cache=cache)


@pytest.mark.parametrize(
    ("files", "named"),
    [
        (["unet/config.json", "unet/model.bin"], "unet/model.bin"),
        (["unet/config.json", "unet/model.fp16.safetensors"], "unet/model.fp16.safetensors"),
        (["unet/config.json"], "no weights at all"),
    ],
)
def test_a_component_without_usable_weights(files, named):
    with pytest.raises(ModelLoadError, match=named):
        choose_files("owner/model", INDEX, ["model_index.json", *files], SD2_FAMILY.components)


def test_shards_and_their_list_are_taken():
    shards = [f"unet/model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    index = "unet/model.safetensors.index.json"
    chosen = choose_files(
        "owner/model", INDEX, ["model_index.json", index, *shards], SD2_FAMILY.components
    )
    assert chosen == ["model_index.json", index, *shards]


def test_shards_that_no_family_reads_are_left_on_the_hub(checkpoint_folder, tmp_path, monkeypatch):
    from transformers import Qwen3ForCausalLM

    from overpaint.checkpoints.checkpoint import Checkpoint
    from overpaint.checkpoints.placement import Placement

    whole = checkpoint_folder("klein")
    folder = tmp_path / "sharded"
    shutil.copytree(whole, folder, ignore=shutil.ignore_patterns("text_encoder"))
    encoder = Qwen3ForCausalLM.from_pretrained(whole / "text_encoder")
    encoder.save_pretrained(folder / "text_encoder", max_shard_size="20KB")
    files = {str(each.relative_to(folder)): each for each in folder.rglob("*") if each.is_file()}
    with serving(Hub(files={name: each.read_bytes() for name, each in files.items()})) as server:
        point_client_at(server.url, monkeypatch)
        pulled = hub.pull("owner/model", components=KLEIN_FAMILY.components, cache=tmp_path / "c")
        left = {name for name in files if name.endswith(".safetensors")} - set(server.downloads())

    def states(where):
        placement = Placement(torch.device("cpu"), torch.float32)
        checkpoint = Checkpoint(where, KLEIN_FAMILY.components, placement)
        return checkpoint.component("text_encoder").state_dict()

    assert left
    assert left == {name for name in left if name.startswith("text_encoder/")}
    found, expected = states(pulled.folder), states(whole)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"weight_map": 3}'])
def test_a_damaged_list_of_shards_leaves_nothing_out(content):
    chosen = ["text_encoder/model.safetensors.index.json", "text_encoder/model-1.safetensors"]
    assert unused_shards(chosen, KLEIN_FAMILY.components, lambda _: content) == frozenset()
