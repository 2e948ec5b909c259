"""Entry script of the deployments in this folder: `init` and `run`, online and batch."""

from overpaint.apps.azureml import init, run

__all__ = ["init", "run"]
