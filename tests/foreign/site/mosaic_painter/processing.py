"""Words to numbers, by a vocabulary and a template that lie in files."""

from __future__ import annotations

import json
from pathlib import Path

import torch

TEMPLATE = "chat_template.jinja"
VOCABULARY = "vocabulary.json"


class MosaicProcessor:
    """Turns a prompt into letters' numbers.

    Args:
        letters: in order of their numbers; 0 stands for all others.
        template: text with `{{ prompt }}` in it.
        length: numbers of a prompt; longer ones are cut, shorter ones padded with 0.
    """

    def __init__(self, letters: str, template: str, length: int) -> None:
        self.letters, self.template, self.length = letters, template, length

    @classmethod
    def from_pretrained(cls, folder: str | Path, **_: object) -> MosaicProcessor:
        """Read from a folder."""
        known = json.loads((Path(folder) / VOCABULARY).read_text(encoding="utf-8"))
        template = (Path(folder) / TEMPLATE).read_text(encoding="utf-8")
        return cls(known["letters"], template, known["length"])

    def save_pretrained(self, folder: str | Path) -> None:
        """Write to a folder."""
        where = Path(folder)
        where.mkdir(parents=True, exist_ok=True)
        known = {"letters": self.letters, "length": self.length}
        (where / VOCABULARY).write_text(json.dumps(known), encoding="utf-8")
        (where / TEMPLATE).write_text(self.template, encoding="utf-8")

    def __call__(self, prompt: str) -> torch.Tensor:
        """(1, length) numbers."""
        text = self.template.replace("{{ prompt }}", prompt)[: self.length]
        numbers = [self.letters.find(letter) + 1 for letter in text]
        return torch.tensor([numbers + [0] * (self.length - len(numbers))])
