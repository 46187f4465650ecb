"""Many scenes, each reconstructed in a process of its own; one table, one page of results."""
