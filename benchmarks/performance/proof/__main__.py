"""What a card does with every model: one run of at most nine minutes, nothing to download.

    python -m benchmarks.performance.proof                      # on a CUDA card
    python -m benchmarks.performance.proof --device cpu --tiny  # walks the same way in a minute

Models have their real size and random weights, which are made in the card's memory; no file holds
them. Each section has its own seconds; what fails or runs out of time is a row, and the next
section begins. Rows are appended to `proof.jsonl` at once; the table comes last, as `proof.md`.
Goals are those for an H200, in seconds; gates stand beside figures.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch

from benchmarks.performance.proof import flux, kernels, memory, stable_diffusion
from benchmarks.performance.proof.bench import Bench
from benchmarks.performance.proof.journal import Journal

SECTIONS: dict[str, tuple[float, Callable[[Bench], None]]] = {
    "environment": (10, kernels.environment),
    "attention": (20, kernels.attention),
    "products": (20, kernels.products),
    "sd2": (60, stable_diffusion.section),
    "flex2": (115, flux.flex2),
    "new sizes": (25, flux.new_sizes),
    "autoencoder": (25, flux.autoencoder),
    "memory": (30, memory.section),
    "kontext": (135, flux.kontext),
    "float8": (90, flux.float8),
    "equal edits": (10, flux.equal_edits),
}
"""Seconds and work of each section, in order; what one leaves, the next ones have."""

SECONDS = 540.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the sections and write the rows and the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny models, nothing compiled")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for everything together")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "out/proof")))
    given = parser.parse_args(arguments)
    device = _device(given.device)
    common = {"device": _name(device), "tiny": given.tiny, "torch": torch.__version__}
    journal = Journal(given.out / "proof.jsonl", given.seconds, common)
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="overpaint-proof-")))
        if given.tiny:
            stack.enter_context(_uncompiled())
        bench = Bench(journal=journal, device=device, root=root, tiny=given.tiny)
        for name in given.sections:
            seconds, section = SECTIONS[name]
            journal.run(name, seconds, partial(section, bench))
    table = f"{common}\n\n{journal.table()}\n"
    (given.out / "proof.md").write_text(table, encoding="utf-8")
    print(table)


def _device(name: str) -> torch.device:
    """The device with its number, which torch's clocks ask for."""
    device = torch.device(name)
    return device if device.type == "cpu" or device.index is not None else torch.device(name, 0)


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


class _uncompiled:  # noqa: N801 - used as a context manager
    """`torch.compile` leaves everything as it is: compiling takes minutes on a processor."""

    def __enter__(self) -> None:
        from torch import _dynamo

        self._before = _dynamo.config.disable
        _dynamo.config.disable = True

    def __exit__(self, *_: object) -> None:
        from torch import _dynamo

        _dynamo.config.disable = self._before


if __name__ == "__main__":
    main()
