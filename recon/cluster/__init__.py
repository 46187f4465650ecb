"""Pieces of work as tasks of a Ray cluster: nothing here is imported unless one is asked for."""
