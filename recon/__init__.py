"""Pointmaps to cameras and geometry: the reconstruction pipeline and its files."""
