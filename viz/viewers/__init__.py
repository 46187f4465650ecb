"""Viewers that a person drives: a window with a panel, and a page served to a browser."""
