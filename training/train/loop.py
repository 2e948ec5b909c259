"""The training loop: time budget, learning-rate schedule, EMA, checkpoints, log, progress.

A run lives in one folder: `state.pt` (model, EMA, optimizers, step, seconds), written whole and
then renamed, and `log.jsonl` (one object per line). Starting it again goes on where it stopped.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from torch import Tensor, nn

Figures = Mapping[str, float]


@dataclass(frozen=True)
class Budget:
    """How long to train and how often to stop for what."""

    minutes: float
    decay: float = 0.3
    warmup_steps: int = 60
    checkpoint_seconds: float = 180.0
    evaluate_seconds: float = 1200.0
    log_steps: int = 20


class Run:
    """One resumable training run."""

    def __init__(
        self,
        folder: Path,
        model: nn.Module,
        optimizers: list[torch.optim.Optimizer],
        ema_decay: float = 0.998,
    ) -> None:
        self.folder = folder
        self.model = model
        self.ema = copy.deepcopy(model).requires_grad_(False).eval()
        self.optimizers = optimizers
        self.ema_decay = ema_decay
        self.step = 0
        self.seconds = 0.0
        self._rates = [[g["lr"] for g in o.param_groups] for o in optimizers]
        folder.mkdir(parents=True, exist_ok=True)
        if self.state_path.exists():
            self._load()

    @property
    def state_path(self) -> Path:
        """Where the checkpoint lies."""
        return self.folder / "state.pt"

    def train(
        self,
        budget: Budget,
        loss_of_step: Callable[[int], tuple[Tensor, Figures]],
        evaluate: Callable[[nn.Module], Figures] | None = None,
    ) -> None:
        """Trains for the budget; evaluates the EMA now and then and at the end.

        Args:
            budget: minutes of wall-clock and intervals.
            loss_of_step: maps the step's number to (loss, figures to log).
            evaluate: maps the EMA model to figures to log.
        """
        started = last_saved = last_evaluated = time.monotonic()
        before, total = self.seconds, budget.minutes * 60
        with Progress() as progress:
            bar = progress.add_task(self.folder.name, total=total)
            while (elapsed := time.monotonic() - started) < total:
                self._set_rates(self._rate_factor(elapsed / total, budget))
                loss, figures = loss_of_step(self.step)
                self._descend(loss)
                self.seconds = before + time.monotonic() - started
                if self.step % budget.log_steps == 0:
                    self.log({"loss": loss.item(), **figures})
                    words = f"{self.folder.name} step {self.step} loss {loss.item():.4f}"
                    progress.update(bar, completed=elapsed, description=words)
                if time.monotonic() - last_saved > budget.checkpoint_seconds:
                    self.save()
                    last_saved = time.monotonic()
                if evaluate and time.monotonic() - last_evaluated > budget.evaluate_seconds:
                    self.log(evaluate(self.ema))
                    last_evaluated = time.monotonic()
        self.save()
        if evaluate:
            self.log(evaluate(self.ema))

    def log(self, figures: Figures) -> None:
        """Appends one line of figures to the log."""
        line = {"step": self.step, "minutes": round(self.seconds / 60, 3)}
        line |= {name: float(f"{value:.5g}") for name, value in figures.items()}
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")

    def save(self) -> None:
        """Writes the checkpoint beside the old one and renames it over it."""
        state = {
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
            "step": self.step,
            "seconds": self.seconds,
        }
        partial = self.state_path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.state_path)

    def _load(self) -> None:
        state = torch.load(self.state_path, map_location="cpu", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.seconds = state["step"], state["seconds"]

    def _rate_factor(self, progress: float, budget: Budget) -> float:
        """Warm-up, then constant, then linear to 2 % over the last part of the budget."""
        warm = min(1.0, (self.step + 1) / budget.warmup_steps)
        left = (1 - progress) / budget.decay if budget.decay else 1.0
        return warm * min(1.0, max(0.02, left))

    def _set_rates(self, factor: float) -> None:
        for optimizer, rates in zip(self.optimizers, self._rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor

    def _descend(self, loss: Tensor) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        decay = min(self.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            averaged: list[Tensor] = list(self.ema.parameters())
            fresh: list[Tensor] = list(self.model.parameters())
            torch._foreach_lerp_(averaged, fresh, 1 - decay)


def load_ema(folder: Path, model: nn.Module) -> dict[str, Any]:
    """Loads a run's EMA weights into a model; returns {'step', 'seconds'}."""
    state = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
    model.load_state_dict(state["ema"])
    return {"step": state["step"], "seconds": state["seconds"]}
