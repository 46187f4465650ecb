"""Pieces of work as tasks of a Ray cluster; ray is imported when one is asked for."""
