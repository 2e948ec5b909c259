"""Trains the text encoders alone, before any denoiser, to say what a text means.

Each facet of the meaning (intent, colour, shape, place, …) is predicted by a linear head from
CLIP's pooled output and from T5's token states (by one learned query). Frozen afterwards, the
encoders hand the denoisers conditions in which colours and shapes lie apart, so that these learn
to paint and not to read. Both FLUX twins share them; SD2's cross-attention reads the CLIP one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from training.train.loop import Budget, Figures, Run, load_ema
from training.train.optim import build_optimizers
from training.train.setup import Setup
from training.train.tokenizers import (
    MAX_TOKENS,
    build_clip_tokenizer,
    build_t5_tokenizer,
    corpus,
    sample_text,
)
from training.world.captions import FACETS, meaning_indices

WIDTH = 128
TEXTS = 6000
CORPUS_TEXTS = 3000


def build_clip_encoder(vocabulary: int, end_token: int, start_token: int) -> CLIPTextModel:
    """An untrained CLIP text encoder."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            bos_token_id=start_token,
            eos_token_id=end_token,
            pad_token_id=end_token,
        )
    )


def build_t5_encoder(vocabulary: int) -> T5EncoderModel:
    """An untrained T5 encoder."""
    return T5EncoderModel(
        T5Config(
            vocab_size=vocabulary,
            d_model=WIDTH,
            d_kv=WIDTH // 4,
            d_ff=4 * WIDTH,
            num_layers=2,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
            is_encoder_decoder=False,
            use_cache=False,
        )
    )


class TextReader(nn.Module):
    """Both encoders with the heads that teach them."""

    def __init__(self, clip: CLIPTextModel, t5: T5EncoderModel) -> None:
        super().__init__()
        self.clip, self.t5 = clip, t5
        classes = sum(len(options) for options in FACETS.values())
        self.clip_head = nn.Linear(WIDTH, classes)
        self.t5_query = nn.Parameter(torch.randn(WIDTH) / WIDTH**0.5)
        self.t5_head = nn.Linear(WIDTH, classes)

    def forward(self, clip_ids: Tensor, t5_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Logits over all facets' classes, from CLIP and from T5: two of (batch, classes)."""
        pooled = self.clip(input_ids=clip_ids).pooler_output
        states = self.t5(input_ids=t5_ids).last_hidden_state
        weights = (states @ self.t5_query).softmax(dim=1)
        return self.clip_head(pooled), self.t5_head((weights[..., None] * states).sum(1))


@dataclass(frozen=True)
class TextEncoders:
    """The trained encoders and their tokenizers."""

    clip: CLIPTextModel
    clip_tokenizer: CLIPTokenizer
    t5: T5EncoderModel
    t5_tokenizer: T5TokenizerFast

    def tokens(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """CLIP's and T5's token ids, each (batch, MAX_TOKENS)."""
        return clip_ids(self.clip_tokenizer, texts), t5_ids(self.t5_tokenizer, texts)


def clip_ids(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Token ids padded to the model's length, (batch, MAX_TOKENS)."""
    return _ids(tokenizer, texts)


def t5_ids(tokenizer: T5TokenizerFast, texts: list[str]) -> Tensor:
    """Token ids padded to the model's length, (batch, MAX_TOKENS)."""
    return _ids(tokenizer, texts)


def _ids(tokenizer: CLIPTokenizer | T5TokenizerFast, texts: list[str]) -> Tensor:
    ids: Tensor = tokenizer(
        texts, padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
    ).input_ids
    return ids


def load_tokenizers(setup: Setup) -> tuple[CLIPTokenizer, T5TokenizerFast]:
    """The tokenizers of this work folder, built on the first call."""
    folder: Path = setup.folder("tokenizers")
    if not (folder / "t5").exists():
        texts = corpus(setup.seed, CORPUS_TEXTS)
        build_clip_tokenizer(texts).save_pretrained(folder / "clip")
        build_t5_tokenizer(texts).save_pretrained(folder / "t5")
    return (
        CLIPTokenizer.from_pretrained(folder / "clip"),
        T5TokenizerFast.from_pretrained(folder / "t5"),
    )


def build_reader(clip_tokenizer: CLIPTokenizer, t5_tokenizer: T5TokenizerFast) -> TextReader:
    """Untrained encoders for these vocabularies, with their heads."""
    clip = build_clip_encoder(
        len(clip_tokenizer), clip_tokenizer.eos_token_id, clip_tokenizer.bos_token_id
    )
    return TextReader(clip, build_t5_encoder(len(t5_tokenizer)))


def facet_loss(logits: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """(mean cross-entropy over facets, share of texts with every facet right)."""
    parts = torch.split(logits, [len(options) for options in FACETS.values()], dim=1)
    losses = [nn.functional.cross_entropy(p, c) for p, c in zip(parts, classes.T, strict=True)]
    right = torch.stack([p.argmax(1) == c for p, c in zip(parts, classes.T, strict=True)])
    return torch.stack(losses).mean(), right.all(dim=0).float().mean()


def train(setup: Setup, budget: Budget) -> None:
    """Trains (or goes on training) both encoders in `setup.folder('text')`."""
    clip_tokenizer, t5_tokenizer = load_tokenizers(setup)
    torch.manual_seed(setup.seed)
    reader = build_reader(clip_tokenizer, t5_tokenizer).to(setup.device)
    optimizers = build_optimizers(reader, lr=2e-3, never_muon=("embed", "shared", "head"))
    run = Run(setup.folder("text"), reader, optimizers, ema_decay=0.99)

    def encoded(stream: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
        texts = [
            sample_text(np.random.default_rng([setup.seed, 3, stream, i])) for i in range(count)
        ]
        words = [text.words for text in texts]
        classes = torch.tensor([meaning_indices(text.meaning) for text in texts])
        ids = clip_ids(clip_tokenizer, words), t5_ids(t5_tokenizer, words)
        return ids[0].to(setup.device), ids[1].to(setup.device), classes.to(setup.device)

    known, held = encoded(0, TEXTS), encoded(1, 400)

    def loss_of_step(step: int) -> tuple[Tensor, Figures]:
        rows = torch.from_numpy(
            np.random.default_rng([setup.seed, 4, step]).integers(TEXTS, size=64)
        )
        clip, t5, classes = (part[rows] for part in known)
        by_clip, by_t5 = (facet_loss(logits, classes) for logits in reader(clip, t5))
        return by_clip[0] + by_t5[0], {"clip": float(by_clip[1]), "t5": float(by_t5[1])}

    @torch.no_grad()
    def evaluate(ema: nn.Module) -> Figures:
        by_clip, by_t5 = (facet_loss(logits, held[2]) for logits in ema(held[0], held[1]))
        return {"clip_all_right": float(by_clip[1]), "t5_all_right": float(by_t5[1])}

    run.train(budget, loss_of_step, evaluate)


def load_text_encoders(setup: Setup) -> TextEncoders:
    """The trained encoders, frozen, and their tokenizers."""
    clip_tokenizer, t5_tokenizer = load_tokenizers(setup)
    reader = build_reader(clip_tokenizer, t5_tokenizer)
    load_ema(setup.folder("text"), reader)
    reader.requires_grad_(False).eval().to(setup.device)
    return TextEncoders(reader.clip, clip_tokenizer, reader.t5, t5_tokenizer)
