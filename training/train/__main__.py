"""Command line of the training: `python -m training.train <what> --minutes N [--work DIR]`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch

from training.train import autoencoder, flex2, kontext, sd2, text
from training.train.loop import Budget
from training.train.setup import DEFAULT_WORK, Setup

TRAININGS: dict[str, Callable[[Setup, Budget], None]] = {
    "autoencoder-flux": lambda setup, budget: autoencoder.train(setup, "flux", budget),
    "autoencoder-sd2": lambda setup, budget: autoencoder.train(setup, "sd2", budget),
    "text": text.train,
    "flex2": flex2.train,
    "sd2": sd2.train,
    "kontext": kontext.train,
}


def main() -> None:
    """Runs one training command."""
    parser = argparse.ArgumentParser(prog="python -m training.train", description=__doc__)
    parser.add_argument("what", choices=list(TRAININGS))
    parser.add_argument("--minutes", type=float, default=10.0, help="wall-clock of this call")
    parser.add_argument("--decay", type=float, default=0.3, help="share of it with falling rate")
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--preset", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--distil",
        action="store_true",
        help="teach the guidance embedding what true CFG does (a last phase of the FLUX twins)",
    )
    parser.add_argument("--threads", type=int, default=0, help="of the CPU; 0: torch's choice")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    setup = Setup(args.work, torch.device(args.device), args.preset, args.seed, args.distil)
    budget = Budget(minutes=args.minutes, decay=args.decay)
    TRAININGS[args.what](setup, budget)


if __name__ == "__main__":
    main()
