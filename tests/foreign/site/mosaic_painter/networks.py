"""Networks of which neither diffusers nor transformers knows anything but the base class."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.nn import functional
from transformers import PretrainedConfig, PreTrainedModel


class MosaicWordsConfig(PretrainedConfig):
    """Configuration of `MosaicWords`."""

    model_type = "mosaic_words"

    def __init__(self, letters: int = 64, width: int = 16, length: int = 24, **more: Any) -> None:
        self.letters, self.width, self.length = letters, width, length
        super().__init__(**more)


class MosaicWords(PreTrainedModel):
    """Letters to vectors, with places in a buffer that no file holds."""

    config_class = MosaicWordsConfig
    _keep_in_fp32_modules = ("norm",)
    _no_split_modules: tuple[str, ...] = ()

    def __init__(self, config: MosaicWordsConfig) -> None:
        super().__init__(config)
        self.letter = nn.Embedding(config.letters, config.width)
        self.place = nn.Embedding(config.length, config.width)
        self.norm = nn.LayerNorm(config.width)
        self.register_buffer("places", torch.arange(config.length)[None], persistent=False)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Embedding):
            module.weight.data.normal_()

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """(B, T) → (B, T, width)."""
        vectors = self.letter(numbers) + self.place(self.places[:, : numbers.shape[1]])
        return self.norm(vectors.to(self.norm.weight.dtype)).to(vectors.dtype)


class _Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attend = nn.Linear(width, 3 * width)
        self.grow = nn.Linear(width, 2 * width)
        self.shrink = nn.Linear(2 * width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        query, key, value = self.attend(tokens)[:, None].chunk(3, dim=-1)
        tokens = tokens + functional.scaled_dot_product_attention(query, key, value)[:, 0]
        return tokens + self.shrink(functional.gelu(self.grow(tokens)))


class MosaicPainter(ModelMixin, ConfigMixin):
    """Attention over the tiles of a picture and the vectors of its words."""

    _repeated_blocks = ("_Layer",)

    @register_to_config
    def __init__(self, channels: int = 12, width: int = 32, depth: int = 2, words: int = 16):
        super().__init__()
        self.enter = nn.Linear(2 * channels + 1, width)
        self.read = nn.Linear(words, width)
        self.layers = nn.ModuleList(_Layer(width) for _ in range(depth))
        self.leave = nn.Linear(width, channels)
        frequencies = torch.exp(-torch.arange(width // 2) / 4.0)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(
        self, tiles: torch.Tensor, times: torch.Tensor, words: torch.Tensor
    ) -> torch.Tensor:
        """(B, 2C + 1, h, w), (B,) in [0, 1], (B, T, words) → (B, C, h, w)."""
        angles = times[:, None] * 100 * self.frequencies
        clock = torch.cat([angles.sin(), angles.cos()], dim=-1).to(tiles.dtype)[:, None]
        tokens = self.enter(tiles.flatten(2).mT) + clock
        count = tokens.shape[1]
        tokens = torch.cat([tokens, self.read(words)], dim=1)
        for layer in self.layers:
            tokens = layer(tokens)
        return self.leave(tokens[:, :count]).mT.unflatten(2, tiles.shape[-2:])


class MosaicTiles(ModelMixin, ConfigMixin):
    """Pictures to tiles and back: one product per tile, so that tiling is exact."""

    @register_to_config
    def __init__(self, patch: int = 4, channels: int = 12) -> None:
        super().__init__()
        self.fold = nn.Conv2d(3, channels, patch, stride=patch)
        self.unfold = nn.ConvTranspose2d(channels, 3, patch, stride=patch)
        self.tile: int | None = None

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """(1, 3, H, W) → (1, C, H / patch, W / patch)."""
        return self.fold(pixels)

    def decode(self, tiles: torch.Tensor) -> torch.Tensor:
        """The way back; in bands where it was told to tile."""
        if self.tile is None:
            return self.unfold(tiles)
        bands = tiles.split(max(1, self.tile // self.config.patch), dim=2)
        return torch.cat([self.unfold(band) for band in bands], dim=2)
