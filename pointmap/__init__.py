"""Photos to pairwise pointmaps: the network, its checkpoints, photo loading and inference."""

__version__ = "0.1.1"
