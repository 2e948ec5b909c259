"""Writes the trained twins as checkpoints in diffusers layout, float16, with card and checksums.

python -m training.train.export --work DIR --out src/overpaint/twins
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import shutil
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler

from training.train import flex2, kontext, sd2
from training.train.card import model_card
from training.train.flux import SHIFT
from training.train.setup import DEFAULT_WORK, Setup
from training.train.text import TextEncoders

TWINS = ("tiny-flex2", "tiny-sd2", "tiny-kontext")


def flux_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """Dynamic shifting that gives the shift of training at 64 tokens (a 128-pixel picture)."""
    return FlowMatchEulerDiscreteScheduler(
        num_train_timesteps=1000,
        use_dynamic_shifting=True,
        shift=3.0,
        base_image_seq_len=64,
        base_shift=round(math.log(SHIFT), 6),
        max_image_seq_len=256,
        max_shift=round(math.log(1.6 * SHIFT), 6),
    )


def save_model(model: Any, folder: Path) -> None:
    """Saves one model in float16 safetensors."""
    model.half().save_pretrained(folder, safe_serialization=True)


def save_texts(encoders: TextEncoders, folder: Path, with_t5: bool) -> dict[str, list[str]]:
    """Saves encoders and tokenizers; returns their entries of the model index."""
    save_model(encoders.clip, folder / "text_encoder")
    encoders.clip_tokenizer.save_pretrained(folder / "tokenizer")
    index = {
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
    }
    if with_t5:
        save_model(encoders.t5, folder / "text_encoder_2")
        encoders.t5_tokenizer.save_pretrained(folder / "tokenizer_2")
        index["text_encoder_2"] = ["transformers", "T5EncoderModel"]
        index["tokenizer_2"] = ["transformers", "T5TokenizerFast"]
    return index


def save_autoencoder(autoencoder: AutoencoderKL, folder: Path) -> dict[str, list[str]]:
    """Saves the autoencoder; returns its entry of the model index."""
    save_model(autoencoder, folder / "vae")
    return {"vae": ["diffusers", "AutoencoderKL"]}


def save_flux(parts: flex2.Parts | kontext.Parts, folder: Path, pipeline: str) -> dict[str, Any]:
    """Saves a FLUX twin; returns its model index."""
    save_model(parts.transformer, folder / "transformer")
    flux_scheduler().save_pretrained(folder / "scheduler")
    return {
        "_class_name": pipeline,
        "_diffusers_version": diffusers.__version__,
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "transformer": ["diffusers", "FluxTransformer2DModel"],
        **save_autoencoder(parts.autoencoder, folder),
        **save_texts(parts.encoders, folder, with_t5=True),
    }


def save_sd2(parts: sd2.Parts, folder: Path) -> dict[str, Any]:
    """Saves the SD2 twin; returns its model index."""
    save_model(parts.unet, folder / "unet")
    sd2.build_scheduler().save_pretrained(folder / "scheduler")
    return {
        "_class_name": "StableDiffusionInpaintPipeline",
        "_diffusers_version": diffusers.__version__,
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        **save_autoencoder(parts.autoencoder, folder),
        **save_texts(parts.encoders, folder, with_t5=False),
    }


def export(setup: Setup, twin: str, out: Path) -> Path:
    """Writes one twin to `out / twin`, replacing what is there; returns the folder."""
    partial, folder = out / f".{twin}.partial", out / twin
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    if twin == "tiny-flex2":
        index = save_flux(flex2.load_parts(setup), partial, "Flex2Pipeline")
    elif twin == "tiny-kontext":
        index = save_flux(kontext.load_parts(setup), partial, "FluxKontextPipeline")
        index |= {"feature_extractor": [None, None], "image_encoder": [None, None]}
    else:
        index = save_sd2(sd2.load_parts(setup), partial)
    text = json.dumps(index, indent=2, sort_keys=True) + "\n"
    (partial / "model_index.json").write_text(text, encoding="utf-8")
    (partial / "README.md").write_text(model_card(setup, twin), encoding="utf-8")
    write_checksums(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return folder


def write_checksums(folder: Path) -> None:
    """Writes SHA256SUMS over all files of a folder, in the format of `sha256sum`."""
    lines = [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(folder).as_posix()}"
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != "SHA256SUMS"
    ]
    (folder / "SHA256SUMS").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Exports the twins that have been trained."""
    parser = argparse.ArgumentParser(prog="python -m training.train.export", description=__doc__)
    parser.add_argument("twins", nargs="*", default=list(TWINS), help="default: all")
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK)
    parser.add_argument("--preset", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("src/overpaint/twins"))
    args = parser.parse_args()
    setup = Setup(args.work, torch.device("cpu"), args.preset, args.seed)
    for twin in args.twins:
        folder = export(setup, twin, args.out)
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        print(f"{folder}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
