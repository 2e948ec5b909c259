"""Training: layouts equal diffusers' own, runs resume, twins export and load."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxKontextPipeline,
    FluxTransformer2DModel,
    StableDiffusionInpaintPipeline,
)
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline, calculate_shift
from torch import nn
from transformers import CLIPTokenizer, T5TokenizerFast

from training.train import autoencoder, flex2, flux, kontext, sd2, text
from training.train.attention import PlainFluxAttention
from training.train.export import TWINS, export, flux_scheduler
from training.train.loop import Budget, Run
from training.train.optim import Muon, build_optimizers, orthogonalise
from training.train.pool import Pool
from training.train.priming import HEAD_WIDTH, SAME_PLACE_IN_REFERENCE, prime
from training.train.setup import Setup
from training.train.tokenizers import MAX_TOKENS
from training.world.edits import sample_instruction_task
from training.world.inpaint import sample_inpaint_task


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    """A work folder in which every run has been started and not trained."""
    setup = Setup(tmp_path_factory.mktemp("work"))
    torch.manual_seed(0)
    text.CORPUS_TEXTS, kept = 400, text.CORPUS_TEXTS
    tokenizers = text.load_tokenizers(setup)
    text.CORPUS_TEXTS = kept
    models: dict[str, nn.Module] = {
        "autoencoder-flux": autoencoder.build_autoencoder("flux"),
        "autoencoder-sd2": autoencoder.build_autoencoder("sd2"),
        "text": text.build_reader(*tokenizers),
        "flex2": flux.build_transformer(flex2.IN_CHANNELS),
        "kontext": flux.build_transformer(kontext.IN_CHANNELS),
        "sd2": sd2.build_unet(),
    }
    for name, model in models.items():
        Run(setup.folder(name), model, []).save()
    return setup


@pytest.fixture(scope="module")
def twins(setup: Setup, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The twins, exported untrained."""
    out = tmp_path_factory.mktemp("twins")
    for twin in TWINS:
        export(setup, twin, out)
    return out


def test_packing_is_that_of_diffusers():
    latents = torch.randn(2, 16, 8, 12)
    packed = flux.pack(latents)
    torch.testing.assert_close(packed, FluxPipeline._pack_latents(latents, 2, 16, 8, 12))
    torch.testing.assert_close(flux.unpack(packed, 8, 12), latents)


def test_positions_are_those_of_diffusers():
    theirs = FluxPipeline._prepare_latent_image_ids(1, 4, 6, "cpu", torch.float32)
    torch.testing.assert_close(flux.position_ids(8, 12), theirs)
    assert (flux.position_ids(8, 12, 1)[:, 0] == 1).all()


def test_plain_attention_is_the_fused_one():
    torch.manual_seed(1)
    model = flux.build_transformer(64).eval()
    nn.init.normal_(model.proj_out.weight)
    for block in (*model.transformer_blocks, *model.single_transformer_blocks):
        nn.init.normal_(getattr(block, "norm1", getattr(block, "norm", None)).linear.weight)
    inputs = {
        "hidden_states": torch.randn(2, 64, 64),
        "encoder_hidden_states": torch.randn(2, 8, text.WIDTH),
        "pooled_projections": torch.randn(2, text.WIDTH),
        "timestep": torch.rand(2),
        "guidance": torch.ones(2),
        "img_ids": flux.position_ids(16, 16),
        "txt_ids": torch.zeros(8, 3),
        "return_dict": False,
    }
    with torch.no_grad():
        fused = model(**inputs)[0]
        model.set_attn_processor(PlainFluxAttention())
        torch.testing.assert_close(model(**inputs)[0], fused, atol=1e-4, rtol=1e-4)


def test_guidance_can_be_bypassed_sample_by_sample():
    model = flux.build_transformer(64).eval()
    embed, pooled = model.time_text_embed, torch.randn(2, text.WIDTH)
    times = torch.tensor([500.0, 500.0])
    mixed = embed(times, torch.tensor([3500.0, 0.0]), pooled)
    stock = super(flux.SwitchableGuidance, embed).forward(times, torch.full((2,), 3500.0), pooled)
    torch.testing.assert_close(mixed[0], stock[0])
    alone = embed.timestep_embedder(embed.time_proj(times)) + embed.text_embedder(pooled)
    torch.testing.assert_close(mixed[1], alone[1])


@pytest.mark.parametrize("offset", [SAME_PLACE_IN_REFERENCE, (0, 0, -1), (0, 1, 1)])
def test_primed_heads_look_at_their_offset(offset):
    model = flux.build_transformer(64).eval()
    prime(model, [[offset]], sharpness=1.7)
    ids = torch.cat([flux.position_ids(16, 16, 0), flux.position_ids(16, 16, 1)])
    cos, sin = model.pos_embed(ids)
    attention = model.transformer_blocks[0].attn

    def turned(bias: torch.Tensor, norm: nn.Module) -> torch.Tensor:
        x = norm(bias[:HEAD_WIDTH]).expand(len(ids), HEAD_WIDTH)
        pairs = x.reshape(-1, HEAD_WIDTH // 2, 2)
        crossed = torch.stack([-pairs[..., 1], pairs[..., 0]], dim=-1).reshape(-1, HEAD_WIDTH)
        return x * cos + crossed * sin

    query = turned(attention.to_q.bias, attention.norm_q)
    key = turned(attention.to_k.bias, attention.norm_k)
    best = ids[(query @ key.T).argmax(dim=1)[:64]]
    wanted = ids[:64] + torch.tensor(offset, dtype=torch.float32)
    inside = ((wanted >= 0) & (wanted <= 7)).all(dim=1)
    assert (best == wanted)[inside].all()


def test_sampler_uses_the_schedulers_sigmas():
    scheduler = flux_scheduler()
    config = scheduler.config
    mu = calculate_shift(
        64,
        config.base_image_seq_len,
        config.max_image_seq_len,
        config.base_shift,
        config.max_shift,
    )
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / 20, 20), mu=mu)
    torch.testing.assert_close(scheduler.sigmas, flux.shifted_sigmas(20), atol=1e-5, rtol=0)
    assert math.exp(mu) == pytest.approx(flux.SHIFT, rel=1e-5)


def test_muon_orthogonalises():
    stack = orthogonalise(torch.randn(3, 32, 64))
    singular = torch.linalg.svdvals(stack)
    assert singular.min() > 0.5
    assert singular.max() < 1.4


def test_all_trainable_parameters_have_an_optimizer():
    model = flux.build_transformer(64)
    optimizers = build_optimizers(model, lr=1e-3, never_muon=("x_embedder",))
    assert isinstance(optimizers[0], Muon)
    held = sum(len(g["params"]) for o in optimizers for g in o.param_groups)
    assert held == len(list(model.parameters()))


def test_a_run_resumes_where_it_stopped(tmp_path: Path):
    def run() -> Run:
        torch.manual_seed(0)
        model = nn.Linear(4, 4)
        return Run(tmp_path, model, build_optimizers(model, lr=1e-2))

    def loss(step: int) -> tuple[torch.Tensor, dict[str, float]]:
        return first.model(torch.ones(1, 4)).square().mean(), {}

    first = run()
    first.train(Budget(minutes=0.005, log_steps=1), loss)
    again = run()
    assert again.step == first.step > 0
    torch.testing.assert_close(again.model.weight, first.model.weight)
    torch.testing.assert_close(again.ema.weight, first.ema.weight)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_the_pool_renews_itself_and_keeps_its_size():
    made: list[int] = []

    def make(numbers: range) -> dict[str, torch.Tensor]:
        made.extend(numbers)
        return {"number": torch.tensor(list(numbers))}

    pool = Pool(make, seed=0, step=0, capacity=128, initial=64, fresh=8)
    for step in range(40):
        batch = pool.batch(step, 16)
    assert len(made) == len(set(made)) == 64 + 40 * 8
    assert batch["number"].min() >= max(made) - 127


def test_conditions_have_the_layout_of_flex2(setup: Setup):
    parts = flex2.load_parts(setup)
    tasks = [sample_inpaint_task(np.random.default_rng(1), "train", "draw", True)]
    sample = flex2.encode_tasks(tasks, ["a red circle"], parts, setup.device)
    assert [sample[k].shape[2] for k in ("before", "mask", "control")] == [64, 4, 64]
    repaint = sample["mask"][0].min(dim=1).values == 1
    assert repaint.any()
    assert (sample["before"][0][repaint] == 0).all()
    without = [sample_inpaint_task(np.random.default_rng(1), "train", "draw", False)]
    assert not flex2.encode_tasks(without, ["x"], parts, setup.device)["control"].any()


def test_tokenizers_load_from_disk_and_survive_any_text(twins: Path):
    clip = CLIPTokenizer.from_pretrained(twins / "tiny-flex2" / "tokenizer")
    t5 = T5TokenizerFast.from_pretrained(twins / "tiny-flex2" / "tokenizer_2")
    assert clip.model_max_length == t5.model_max_length == MAX_TOKENS
    assert len(clip("remove the red circle").input_ids) == 6
    assert len(t5("remove the red circle").input_ids) == 5
    for words in ("", "A zébra, 日本!", "x" * 500):
        for tokenizer in (clip, t5):
            ids = tokenizer(words, padding="max_length", truncation=True).input_ids
            assert len(ids) == MAX_TOKENS
            assert max(ids) < len(tokenizer)


@pytest.mark.parametrize("twin", TWINS)
def test_exported_folders_are_checked_and_small(twins: Path, twin: str):
    folder = twins / twin
    files = [p for p in folder.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) < 14e6
    listed = {line.split("  ")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()}
    assert listed == {p.relative_to(folder).as_posix() for p in files if p.name != "SHA256SUMS"}
    assert "Apache-2.0" in (folder / "README.md").read_text()


@pytest.mark.filterwarnings("ignore:.*torch_dtype:FutureWarning")  # diffusers 0.42's own
def test_sd2_twin_runs_in_its_own_pipeline(twins: Path):
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(
        twins / "tiny-sd2", torch_dtype=torch.float32
    )
    pipeline.set_progress_bar_config(disable=True)
    picture = torch.zeros(1, 3, 64, 64)
    result = pipeline(
        "a red circle",
        image=picture,
        mask_image=torch.ones(1, 1, 64, 64),
        height=64,
        width=64,
        num_inference_steps=1,
        output_type="np",
    )
    assert result.images.shape == (1, 64, 64, 3)


@pytest.mark.filterwarnings("ignore:.*torch_dtype:FutureWarning")
def test_kontext_twin_runs_in_its_own_pipeline(twins: Path):
    pipeline = FluxKontextPipeline.from_pretrained(twins / "tiny-kontext").to(torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    picture = torch.zeros(1, 3, 64, 64)
    result = pipeline(
        image=picture,
        prompt="make it brighter",
        height=64,
        width=64,
        max_area=64 * 64,
        _auto_resize=False,
        num_inference_steps=1,
        max_sequence_length=MAX_TOKENS,
        output_type="np",
    )
    assert result.images.shape == (1, 64, 64, 3)


def test_flex2_twin_has_the_real_layout(twins: Path):
    folder = twins / "tiny-flex2"
    index = json.loads((folder / "model_index.json").read_text())
    assert index["_class_name"] == "Flex2Pipeline"
    transformer = FluxTransformer2DModel.from_pretrained(folder / "transformer")
    assert (transformer.config.in_channels, transformer.config.out_channels) == (196, 64)
    assert transformer.config.guidance_embeds
    vae = AutoencoderKL.from_pretrained(folder / "vae")
    assert vae.config.latent_channels == 16
    assert vae.config.shift_factor is not None
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler")
    assert scheduler.config.use_dynamic_shifting


def test_instruction_samples_weigh_the_edited_region(setup: Setup):
    parts = kontext.load_parts(setup)
    tasks = [sample_instruction_task(np.random.default_rng(2), "train", "recolour", 1)]
    sample = kontext.encode_tasks(tasks, ["x"], parts, setup.device)
    share = float(sample["touched"].float().mean())
    assert 0.02 < share < 0.6


def test_distilled_guidance_replaces_the_target_only_where_guidance_is_embedded():
    target, wanted, unwanted = (torch.randn(2, 3, 4) for _ in range(3))
    result = flux.distilled(target, torch.tensor([0.0, 3.0]), lambda: wanted, lambda: unwanted)
    torch.testing.assert_close(result[0], target[0])
    torch.testing.assert_close(result[1], (unwanted + 3 * (wanted - unwanted))[1])
