"""What a batcher reports while it runs, for metrics."""

from __future__ import annotations


class Observer:
    """Hears of what happens, for metrics; by default nothing is done with it. Must return at
    once."""

    def admitted(self, waited: float) -> None:
        """An edit left the queue after `waited` seconds."""

    def first_step(self, waited: float) -> None:
        """An edit made its first step, `waited` seconds after it was submitted."""

    def stepped(self, images: int, seconds: float) -> None:
        """A pass was made."""
