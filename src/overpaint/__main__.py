"""`python -m overpaint` is the command `overpaint`."""

from overpaint.apps.cli import main

main()
