"""Does the picture show what was asked? Measured on held-out scenes of the procedural world."""
