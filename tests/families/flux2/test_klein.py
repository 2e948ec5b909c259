"""FLUX.2 [klein]: what its checkpoints take, promises, and what is loaded of them."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from overpaint.apps.settings import Settings
from overpaint.apps.wiring.models import build
from overpaint.checkpoints.placement import Placement
from overpaint.core.errors import Cancelled, InvalidRequest, ModelLoadError, UnsupportedOption
from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest
from overpaint.engine.batching.batcher import Batcher
from overpaint.families.flux2 import COMPONENTS, passes, text
from overpaint.families.flux2.editor import LONGEST, cropped
from tests import tiny_checkpoints
from tests.conftest import box_mask, open_checkpoint, picture

CPU = Placement(torch.device("cpu"), torch.float32)
SHORT = {"max_sequence_length": 48}
FAMILIES = {"klein": "klein", "klein_base": "klein", "klein_kv": "klein-kv"}


@pytest.fixture(scope="module")
def engine(checkpoint_folder):
    """checkpoint → engine in float32 on the processor, made once."""
    made = {}

    def make(name):
        if name not in made:
            folder = str(checkpoint_folder(name))
            made[name] = build.engine(folder, device="cpu", settings=Settings(dtype="float32"))
        return made[name]

    return make


def pixels(result) -> np.ndarray:
    return np.stack([np.asarray(image, int) for image in result.images])


def request(index: int, **more) -> EditRequest:
    return EditRequest(
        image=Picture.from_pil(picture(64, 64, seed=index)),
        prompt="a red circle",
        seed=index,
        options={"num_inference_steps": 2 + index, **SHORT},
        **more,
    )


def begin(engine, size=(64, 64), options=SHORT, **more):
    image = Picture.from_pil(picture(*size))
    return engine.begin(EditRequest(image=image, prompt="red", seed=1, options=options, **more))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_folder_is_known_by_its_pipeline(checkpoint_folder, name):
    folder = str(checkpoint_folder(name))
    assert build.find_model(folder, Settings()).family == FAMILIES[name]


@pytest.mark.parametrize(
    ("name", "steps", "guidance"),
    [("klein", 4, 1.0), ("klein_base", 50, 4.0), ("klein_kv", 4, None)],
)
def test_what_was_left_open_is_the_checkpoints_own_and_in_the_recipe(engine, name, steps, guidance):
    edit = begin(engine(name))
    assert edit.prepared[0].total == edit.options.num_inference_steps == steps
    assert getattr(edit.options, "guidance_scale", None) == guidance


def test_a_recipe_has_what_was_used(engine):
    options = engine("klein").edit(picture(64, 64), "red", **SHORT).recipe["options"]
    assert (options["num_inference_steps"], options["guidance_scale"]) == (4, 1.0)


@pytest.mark.parametrize(
    ("name", "asked", "error", "field", "way_out"),
    [
        ("klein", {"negative_prompt": "blue"}, InvalidRequest, "negative_prompt", "base model"),
        ("klein_kv", {"negative_prompt": "blue"}, InvalidRequest, "negative_prompt", "leave it"),
        ("klein", {"guidance_scale": 4}, UnsupportedOption, "options.guidance_scale", "base model"),
        ("klein_kv", {"guidance_scale": 4}, UnsupportedOption, "options.guidance_scale", "no such"),
        (
            "klein_base",
            {"negative_prompt": "blue", "guidance_scale": 1},
            UnsupportedOption,
            "options.guidance_scale",
            "more than 1",
        ),
        ("klein", {"strength": 0.5}, UnsupportedOption, "options.strength", "mask"),
        ("klein", {"strength": 0, "mask": box_mask(64, 64)}, UnsupportedOption,
         "options.strength", "raise strength"),
        ("klein", {"references": [picture(63, 80)]}, InvalidRequest, "references", "63x80"),
        ("klein", {"references": [picture(64, 513)]}, InvalidRequest, "references", "8 times"),
    ],
)  # fmt: skip
def test_what_would_have_no_effect_is_refused_with_a_way_out(
    engine, name, asked, error, field, way_out
):
    with pytest.raises(error, match=way_out) as caught:
        engine(name).edit(picture(64, 64), "red", **SHORT, **asked)
    assert caught.value.field == field


def test_a_strength_that_leaves_all_steps_is_said(engine):
    mask = box_mask(64, 64)
    given = {"mask": mask, **SHORT}
    found = engine("klein").edit(picture(64, 64), "red", strength=0.8, **given).warnings
    assert any("0.8 of 4 steps is all of them" in warning for warning in found)
    found = engine("klein").edit(picture(64, 64), "red", strength=0.75, **given).warnings
    assert not any("strength" in warning for warning in found)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("size", [(64, 64), (150, 101)])
def test_pixels_outside_the_mask_do_not_change(engine, name, size):
    image, mask = picture(*size), box_mask(*size)
    steps = {"num_inference_steps": 2, **SHORT}
    found = pixels(engine(name).edit(image, "red", mask=mask, seed=1, **steps))[0]
    hidden, before = np.asarray(mask) > 0, np.asarray(image, int)
    assert (found[~hidden] == before[~hidden]).all()
    assert (found[hidden] != before[hidden]).any()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_seed_alone_is_the_seed_in_company(engine, name):
    shared = [request(index) for index in range(3)]
    shared += [request(0, mask=box_mask(64, 64)), request(1, references=(picture(70, 65),))]
    alone = [pixels(engine(name).run([each])[0]) for each in shared]
    updates = []
    batcher = Batcher(engine(name))
    try:
        tickets = [batcher.submit(each, previews=1, on_update=updates.append) for each in shared]
        found = [pixels(ticket.result(60)) for ticket in tickets]
    finally:
        batcher.close()
    assert all(abs(a - b).max() <= 1 for a, b in zip(alone, found, strict=True))
    assert any(update.preview is not None for update in updates)


def test_an_edit_ends_between_two_steps(engine):
    seen = []
    with pytest.raises(Cancelled):
        engine("klein").edit(
            picture(64, 64),
            "red",
            on_progress=seen.append,
            cancelled=lambda: len(seen) == 2,
            **SHORT,
        )
    assert [each.step for each in seen] == [1, 2]


def test_a_preview_is_small(engine):
    edit = begin(engine("klein"))
    family = edit.model.family
    family.advance(edit.prepared)
    assert max(family.preview(edit.prepared[0]).size) <= 256


def test_a_picture_is_padded_to_whole_tokens_and_comes_back_at_its_size(engine):
    plan = begin(engine("klein"), (100, 75)).regions[0].plan
    assert (plan.canvas, plan.output, plan.is_exact) == ((112, 80), (100, 75), True)
    assert engine("klein").edit(picture(100, 75), "red", **SHORT).images[0].size == (100, 75)


def test_a_real_canvas_stays_where_its_noise_schedule_suits(checkpoint_folder, tmp_path):
    folder = shutil.copytree(checkpoint_folder("klein"), tmp_path / "klein")
    config = json.loads((folder / "vae" / "config.json").read_text())
    (folder / "vae" / "config.json").write_text(json.dumps({**config, "sample_size": 1024}))
    family = build.load_model(build.find_model(str(folder), Settings()), Settings()).family
    for size in [(4000, 3000), (1048, 1048), (1000, 8000), (300, 300)]:
        asked = EditRequest(image=Picture.from_pil(picture(*size)), prompt="red")
        width, height = family.plan(asked, family.spec.options()).canvas
        assert (width // 16) * (height // 16) <= LONGEST
        assert max(width, height) >= 1024
    large = EditRequest(
        image=Picture.from_pil(picture(2000, 2000)),
        prompt="red",
        mask=box_mask(2000, 2000, (900, 900, 1000, 1000)),
    )
    assert family.plan(large, family.spec.options()).canvas == (512, 512)


@pytest.mark.parametrize(
    ("tokens", "steps", "expected"),
    [(4096, 4, 2.291), (4300, 4, 2.31), (4301, 4, 1.18), (1024, 4, 2.031)],
)
def test_the_shift_jumps_where_the_pipelines_does(tokens, steps, expected):
    from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

    assert passes.shift(tokens, steps) == compute_empirical_mu(tokens, steps)
    assert passes.shift(tokens, steps) == pytest.approx(expected, abs=0.006)


@pytest.mark.parametrize("size", [(64, 64), (65, 80), (1100, 1100), (2000, 1000)])
def test_a_reference_is_of_whole_tokens_and_a_megapixel_at_most(size):
    width, height = cropped(picture(*size), 16).size
    assert width % 16 == height % 16 == 0
    assert width * height <= 1024 * 1024


def test_thin_lines_of_a_mask(engine):
    mask = box_mask(64, 64, (10, 0, 13, 64))
    warned = (
        engine("klein").edit(picture(64, 64), "red", mask=mask, window="full", **SHORT).warnings
    )
    assert any("too thin" in warning for warning in warned)
    edit = begin(engine("klein"), mask=mask, options={"wide_mask": True, "window": "full", **SHORT})
    assert float(edit.prepared[0].surroundings.mask.sum()) > 0
    assert not any("too thin" in warning for warning in edit.warnings)


class TestTextEncoder:
    def test_only_what_a_prompt_is_made_of_is_loaded(self, checkpoint_folder):
        checkpoint = open_checkpoint(checkpoint_folder("klein"), CPU)
        encoder = checkpoint.component("text_encoder")
        assert len(encoder.model.layers) == text.LAYERS[-1]
        loaded = sum(each.nbytes for each in encoder.parameters())
        assert loaded == checkpoint.sizes()["text_encoder"]
        assert checkpoint.need().sizes["text_encoder"] == loaded

    @pytest.mark.parametrize("layers", [27, 36])
    def test_the_pattern_of_what_is_not_loaded(self, layers):
        pattern = COMPONENTS["text_encoder"].surplus.weights
        names = [f"model.layers.{index}.mlp.up_proj.weight" for index in range(layers)]
        assert [name for name in names if not pattern.search(name)] == names[:27]
        assert pattern.search("lm_head.weight")
        assert pattern.search("model.norm.weight")
        assert not pattern.search("model.embed_tokens.weight")

    def test_weights_that_share_the_embeddings_load_too(self, tmp_path):
        folder = tiny_checkpoints.klein(tmp_path / "klein")
        config = tiny_checkpoints.qwen3_text(width=16)
        config.config.tie_word_embeddings = True
        config.tie_weights()
        config.save_pretrained(folder / "text_encoder")
        checkpoint = open_checkpoint(folder, CPU)
        embeds, _ = text.encode(checkpoint, "red", 48, field="prompt")
        tokens = checkpoint.component("tokenizer")(
            text.BEFORE + "red" + text.AFTER, padding="max_length", max_length=48,
            return_tensors="pt",
        )  # fmt: skip
        output = config(**tokens, output_hidden_states=True)
        wanted = torch.cat([output.hidden_states[layer] for layer in text.LAYERS], dim=-1)
        assert torch.equal(embeds, wanted)

    def test_the_template_is_the_tokenizers_own(self):
        rendered = tiny_checkpoints.qwen_tokenizer().apply_chat_template(
            [{"role": "user", "content": "a {red} hat"}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,
        )
        assert rendered == text.BEFORE + "a {red} hat" + text.AFTER

    def test_a_class_that_is_not_known_is_never_made(self, checkpoint_folder, tmp_path):
        folder = shutil.copytree(checkpoint_folder("klein"), tmp_path / "klein")
        index = json.loads((folder / "model_index.json").read_text())
        index["text_encoder"] = ["transformers", "Mistral3ForConditionalGeneration"]
        (folder / "model_index.json").write_text(json.dumps(index))
        with pytest.raises(ModelLoadError, match="Mistral3"):
            open_checkpoint(folder, CPU)
