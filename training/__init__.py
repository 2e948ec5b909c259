"""The procedural world and the training of the twins (not part of the installed package)."""
