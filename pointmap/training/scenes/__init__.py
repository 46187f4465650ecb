"""Procedural scenes: solids with textures, laid out at random or as the courtyard."""

from pointmap.training.scenes.random_scene import Lights, Sky, SyntheticScene, make_scene

__all__ = ["Lights", "Sky", "SyntheticScene", "make_scene"]
