"""What the ways in over a wire share, whichever server speaks: intake, errors, example pictures."""
