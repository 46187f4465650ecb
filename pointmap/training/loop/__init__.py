"""The training loops: with labels and without, on one process or several, and their checks."""
