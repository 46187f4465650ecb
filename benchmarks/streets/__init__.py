"""Generated streets with exact truth, to measure how reconstruction grows with photos."""
