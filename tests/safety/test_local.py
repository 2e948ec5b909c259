"""Local checkers on tiny random checkpoints."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image
from transformers import CLIPConfig, ViTConfig, ViTForImageClassification

from overpaint.apps.wiring.models import build
from overpaint.core.errors import ContentBlocked, InvalidSettings, ModelLoadError
from overpaint.core.imaging.images import Picture
from overpaint.safety.local import FLAGGED, Classifier, StableDiffusionChecker
from overpaint.safety.policy import Policy
from tests.conftest import box_mask, picture

RED, BLUE = (Image.new("RGB", (50, 30), colour) for colour in ((255, 0, 0), (0, 0, 255)))
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 8}
SMALL |= {"intermediate_size": 16, "image_size": 16}


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A ViT whose head was set so that red pictures are 'bad' and blue ones 'fine'."""
    folder = tmp_path_factory.mktemp("classifier")
    torch.manual_seed(0)
    names = {0: "fine", 1: "bad"}
    labels = {"id2label": names, "label2id": {name: i for i, name in names.items()}}
    model = ViTForImageClassification(ViTConfig(**SMALL, **labels)).eval()

    def features(*colour: float) -> torch.Tensor:
        pixels = torch.tensor(colour).view(1, 3, 1, 1).expand(1, 3, 16, 16)
        return model.vit(pixels).last_hidden_state[0, 0]

    with torch.no_grad():
        red, blue = features(1.0, -1.0, -1.0), features(-1.0, -1.0, 1.0)
        towards = red - blue
        model.classifier.weight.copy_(torch.stack([-towards, towards]) * 50)
        middle = (red + blue) / 2 @ towards * 50
        model.classifier.bias.copy_(torch.stack([middle, -middle]))
    model.save_pretrained(folder)
    processor = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


@pytest.fixture(scope="module")
def checker(tmp_path_factory):
    """The checker of Stable Diffusion with random weights; (threshold) sets what is near."""
    torch.manual_seed(0)
    config = CLIPConfig(vision_config=SMALL, projection_dim=8)
    model = StableDiffusionSafetyChecker(config)

    def folder(threshold: float):
        where = tmp_path_factory.mktemp("checker")
        model.concept_embeds_weights.data.fill_(threshold)
        model.special_care_embeds_weights.data.fill_(2.0)
        model.save_pretrained(where)
        return where

    return folder


class TestClassifier:
    def test_labels_mean_categories(self, classifier):
        judge = Classifier(classifier, {"bad": "violence"}, 0.85)
        assert judge.check(RED) == {"violence": FLAGGED}
        assert judge.check(BLUE) == {"violence": 0}

    def test_the_score_decides(self, classifier):
        assert Classifier(classifier, {"bad": "hate"}, 0.0).check(BLUE) == {"hate": FLAGGED}

    def test_several_labels_at_once(self, classifier):
        judge = Classifier(classifier, {"bad": "hate", "fine": "sexual"}, 0.5)
        judge._model.config.problem_type = "multi_label_classification"
        judge._model.classifier.bias.data += 1000
        assert judge.check(RED) == {"hate": FLAGGED, "sexual": FLAGGED}

    def test_unknown_labels_are_named(self, classifier):
        with pytest.raises(InvalidSettings, match="no label 'nsfw'; it has bad, fine"):
            Classifier(classifier, {"nsfw": "sexual"}, 0.5)

    def test_not_a_model(self, tmp_path):
        with pytest.raises(ModelLoadError):
            Classifier(tmp_path, {"bad": "hate"}, 0.5)

    def test_weights_that_are_no_numbers_are_no_answer(self, classifier):
        judge = Classifier(classifier, {"bad": "hate"}, 0.5)
        judge._model.classifier.bias.data.fill_(float("nan"))
        with pytest.raises(ArithmeticError):
            judge.check(RED)


class TestStableDiffusionChecker:
    def test_near_and_far(self, checker):
        assert StableDiffusionChecker(checker(-2.0)).check(RED) == {"sexual": FLAGGED}
        assert StableDiffusionChecker(checker(2.0)).check(RED) == {"sexual": 0}

    def test_not_a_model(self, tmp_path):
        with pytest.raises(ModelLoadError):
            StableDiffusionChecker(tmp_path)


class TestOwnChecker:
    """The checker that a checkpoint brings, as its published pipeline uses it."""

    @pytest.fixture
    def edit(self, checker, checkpoint_folder, tmp_path, settings_file):
        def edited(safety: str, threshold: float, *, there: bool = True, field: str = "mode"):
            folder = shutil.copytree(checkpoint_folder("sd2"), tmp_path / "own")
            index = json.loads((folder / "model_index.json").read_text())
            index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
            (folder / "model_index.json").write_text(json.dumps(index))
            (folder / "safety_checker").mkdir()
            if there:
                shutil.rmtree(folder / "safety_checker")
                shutil.copytree(checker(threshold), folder / "safety_checker")
            settings_file(safety)
            engine = build.engine(str(folder), dtype="float32")
            few = {"num_inference_steps": 1, "seed": 1}
            return engine.edit(picture(64, 64), "x", mask=box_mask(64, 64), **few)

        return edited

    @pytest.mark.parametrize(("threshold", "flagged"), [(-2.0, True), (2.0, False)])
    def test_without_a_policy_it_says_what_it_sees(self, edit, threshold, flagged):
        result = edit("", threshold)
        assert result.flagged == (flagged,)
        assert result.warnings == ()

    def test_off_is_off(self, edit):
        assert edit('mode = "off"', -2.0).flagged == (None,)

    def test_a_policy_that_blocks_counts_it(self, edit, classifier):
        classifiers = f'classifiers = [{{ folder = "{classifier}", labels = {{ bad = "hate" }} }}]'
        with pytest.raises(ContentBlocked) as blocked:
            edit(f"{classifiers}\nthreshold = 6", -2.0)
        assert (blocked.value.stage, blocked.value.category) == ("output_image", "sexual")

    def test_one_that_is_not_here_is_missed(self, edit):
        result = edit("", 2.0, there=False)
        assert result.flagged == (None,)
        assert "names a checker of its own, 'safety_checker'" in result.warnings[0]

    def test_what_its_pictures_show_on_the_way_is_judged_too(self, edit, checker):
        policy = Policy.off().with_own_of([StableDiffusionChecker(checker(-2.0))])
        assert policy.mode == "annotate"
        assert policy.check_outputs([Picture(RED)])[0].flagged == ("sexual",)


class TestSettings:
    def test_a_classifier_from_the_settings_blocks(self, settings_file, classifier, computed):
        settings_file(f'classifiers = [{{ folder = "{classifier}", labels = {{ bad = "hate" }} }}]')
        engine = build.engine()
        with pytest.raises(ContentBlocked) as blocked:
            engine.edit(RED, "x", mask=box_mask(50, 30))
        assert (blocked.value.stage, blocked.value.category) == ("input_image", "hate")
        assert computed == []

    def test_the_stable_diffusion_checker_from_the_settings(self, settings_file, checker):
        settings_file(f'stable_diffusion_checker = "{checker(2.0)}"')
        few = {"num_inference_steps": 2}
        result = build.engine().edit(picture(64, 64), "x", mask=box_mask(64, 64), **few)
        assert result.flagged == (False,)
