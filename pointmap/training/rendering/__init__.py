"""Views of procedural scenes: where cameras go, what rays meet, how it is lit."""
