"""Entry script of the deployments in this folder: `init` and `run`, online and batch."""

from overpaint.apps.azure.entry_script import init, run

__all__ = ["init", "run"]
