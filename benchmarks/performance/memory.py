"""How each family fits cards of several sizes: the memory plan that `overpaint doctor` shows.

    python -m benchmarks.performance.memory

Bytes are counted from the real models' configurations, in bfloat16 and with the backend
`torch-float8`, without memory for a weight.
Activations are the plan's own estimate. Of a card's memory 0.6 GiB is taken for the driver.
"""

from __future__ import annotations

import itertools
import re

import torch

from benchmarks import real_size, report
from overpaint.checkpoints.component import BLOCK_WEIGHTS
from overpaint.checkpoints.placement import DECODED, GIB, Need, preflight
from overpaint.core.errors import OutOfMemory
from overpaint.diffusion.autoencoder import AUTOENCODER_KL
from overpaint.families.flux1.modulation import MODULATED

CARDS = (8, 12, 16, 24, 80)
DRIVER = int(0.6 * GIB)
WIDTH = 2


def main() -> None:
    """Write the table."""
    lines = []
    for family, float8 in itertools.product(("sd2", "flex2", "kontext"), (False, True)):
        need = _need(real_size.layout(family), float8=float8)
        line = {"family": f"{family}, float8" if float8 else family}
        line["weights GB"] = f"{need.weights / 1e9:.1f}"
        line["modulation GB"] = f"{need.modulation / 1e9:.1f}" if need.modulation else "-"
        for card in CARDS:
            line[f"{card} GiB card"] = _fits(family, need, card * GIB - DRIVER)
        lines.append(line)
    report.write(
        "performance-memory",
        "Which plan fits which card, bfloat16 or float8, pictures of up to 1024x1024",
        "python -m benchmarks.performance.memory",
        lines,
    )


def _need(parts: dict[str, torch.nn.Module], *, float8: bool) -> Need:
    modulation = sum(
        weight.numel()
        for part in parts.values()
        for module in part.modules()
        if isinstance(module, MODULATED)
        for weight in module.linear.parameters()
    )
    sizes = {name: WIDTH * _count(part) for name, part in parts.items()}
    if float8:
        for name in sizes.keys() & {"unet", "transformer"}:
            sizes[name] -= (WIDTH - 1) * _count(parts[name], BLOCK_WEIGHTS)
    decoding = AUTOENCODER_KL.decoding
    assert decoding is not None
    return Need(
        sizes,
        text=frozenset(name for name in sizes if name.startswith("text_encoder")),
        ahead=WIDTH * modulation,
        decode=DECODED * decoding(parts["vae"].config, WIDTH),
    )


def _count(part: torch.nn.Module, named: re.Pattern[str] = re.compile("")) -> int:
    return sum(weight.numel() for name, weight in part.named_parameters() if named.search(name))


def _fits(family: str, need: Need, free: int) -> str:
    try:
        plan = preflight(family, need, free)
    except OutOfMemory:
        return "no"
    return f"{plan.tier}, {plan.peak / 1e9:.1f} GB"


if __name__ == "__main__":
    main()
