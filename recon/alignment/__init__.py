"""Pairwise poses and matches to one scene: synchronise, triangulate, adjust."""
