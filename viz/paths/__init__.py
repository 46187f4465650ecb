"""Where a film's eye goes: view points, one per frame."""

from typing import Literal

Film = Literal["flight", "turntable", "photos"]
"""Which way a film goes: past the photos' places, about the scene, or from photo to photo."""
