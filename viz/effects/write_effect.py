"""``pointmap view SCENE --effect ...``: a photo of a scene with its depth put to use, as a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from pointmap.errors import InputError
from recon.scene import Scene

if TYPE_CHECKING:
    from viz.effects.photo_depth import PhotoDepth

Effect = Literal["bokeh", "parallax", "place", "anaglyph", "stereo"]
"""What can be made of a photo and its depth."""

_PICTURES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class EffectOptions:
    """An effect of one photo's depth, written to the file that --save names."""

    effect: Effect | None = None
    """Write a photo with its depth put to use: bokeh (sharp at --at, blurred elsewhere), parallax
    (a film from a moving eye), place (--model standing at --at), anaglyph (red and cyan), stereo
    (both eyes side by side)."""
    photo: str | None = None
    """The photo's name in the scene; the first one's by default."""
    at: tuple[float, float] = (0.5, 0.5)
    """Where in the photo: across and down, in shares from 0 to 1."""
    blur: float = 1.5
    """Of bokeh: radius of the discs far away, in hundredths of the photo's long side."""
    parallax: float = 0.02
    """Of parallax, anaglyph, stereo: how far near and far move, in shares of the long side."""
    model: Path | None = None
    """To place: a GLB, OBJ, PLY or STL file, y up."""
    size: float | None = None
    """Its height, in the scene's units; a quarter of the photo by default."""


def write_effect(scene: Scene, options: EffectOptions, path: Path) -> Path:
    """Write the effect to ``path`` and return it.

    Raises ``InputError`` for a photo, place or model that there is not, for an ending that does
    not fit, and where the file cannot be written.
    """
    from viz.effects.photo_depth import photo_depth

    wanted = (".mp4", ".webm") if options.effect == "parallax" else _PICTURES
    if path.suffix.lower() not in wanted:
        raise InputError(f"--effect {options.effect} writes a file that ends in {wanted[0]}")
    if options.effect == "place" and options.model is None:
        raise InputError("--effect place needs --model FILE.glb")
    if not (0 <= options.blur <= 10 and 0 < options.parallax <= 0.1):
        raise InputError("--blur is between 0 and 10, --parallax between 0 and 0.1")
    photo = photo_depth(scene, options.photo)
    if options.effect == "parallax":
        from viz.effects.moved_eye import FRAMES_PER_SECOND, parallax_film
        from viz.video import write_frames

        frames = list(parallax_film(photo, parallax=options.parallax))
        return write_frames(path, frames, FRAMES_PER_SECOND)
    return _save(_picture(photo, options), path)


def _picture(photo: PhotoDepth, options: EffectOptions) -> NDArray[np.uint8]:
    from viz.effects.bokeh import bokeh
    from viz.effects.moved_eye import anaglyph, side_by_side
    from viz.effects.placed_model import load_model, place_model

    if options.effect == "bokeh":
        return bokeh(photo, focus=options.at, blur=options.blur)
    if options.effect == "place":
        assert options.model is not None
        return place_model(photo, load_model(options.model), at=options.at, size=options.size)
    if options.effect == "anaglyph":
        return anaglyph(photo, parallax=options.parallax)
    return side_by_side(photo, parallax=options.parallax)


def _save(picture: NDArray[np.uint8], path: Path) -> Path:
    from PIL import Image

    try:
        Image.fromarray(picture).save(path, quality=95)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    return path
