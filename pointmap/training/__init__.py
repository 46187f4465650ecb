"""Training on procedural scenes: generator, losses, trainer. Needs torch and numpy alone."""
