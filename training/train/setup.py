"""What all training commands share: where they work, on what, how big, from which seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch

DEFAULT_WORK = Path("~/.cache/overpaint/training").expanduser()


@dataclass(frozen=True)
class Setup:
    """Work folder, device, size preset ('cpu' or 'gpu'), seed, whether guidance is distilled."""

    work: Path = DEFAULT_WORK
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    preset: str = "cpu"
    seed: int = 0
    distil: bool = False

    @property
    def batch_size(self) -> int:
        """Samples of one training step of a denoiser."""
        return 32 if self.preset == "cpu" else 256

    @property
    def pool_sizes(self) -> dict[str, int]:
        """Sizes of the pool of encoded samples."""
        if self.preset == "cpu":
            return {"capacity": 4096, "initial": 512, "fresh": 6}
        return {"capacity": 65536, "initial": 16384, "fresh": 64}

    def folder(self, run: str) -> Path:
        """The folder of one run; each preset has its own."""
        return self.work / self.preset / run
