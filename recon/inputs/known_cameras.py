"""Cameras that the user knows, used as they are and written back bit-equal.

The alignment knows photos of centred pinholes with square pixels only. A photo whose intrinsics are
known is therefore handed to it as the *ideal* pinhole that stands in the same place would have seen
it: key points move along their rays to where that pinhole shows them, and back in the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pointmap.camera import Array, pixel_rays, project
from pointmap.errors import InputError
from pointmap.lens import Lens
from recon.scene import World
from recon.stage_results import Alignment, PairMatches, PhotoFeatures

if TYPE_CHECKING:
    from pointmap.images import Photo

FOCALS = (0.1, 200.0)
"""Focal lengths over the long side: from 157 degrees of view to a third of a degree."""


@dataclass(frozen=True)
class KnownLens:
    """A known lens and the ideal pinhole in its place: K (3, 3), ``lens``, ``ideal`` K (3, 3)."""

    intrinsics: Array
    lens: Lens
    ideal: Array

    @property
    def focal_px(self) -> float:
        """The ideal pinhole's focal length."""
        return float(self.ideal[0, 0])

    def to_ideal(self, xy: Array) -> Array:
        """Return original pixels (M, 2) as the ideal pinhole shows them."""
        return project(pixel_rays(xy, self.intrinsics, self.lens), self.ideal)

    def to_original(self, xy: Array) -> Array:
        """Return pixels (M, 2) of the ideal pinhole as the photo shows them."""
        return project(pixel_rays(xy, self.ideal), self.intrinsics, self.lens)


@dataclass(frozen=True)
class KnownCameras:
    """What is known of all photos, in their order: a lens and a pose each, None where not known.

    ``units``: "metres" if the known poses are in metres, and so hold the scene to them; ``world``:
    the frame of the known poses, None where there is none; ``masks``: the photos' mask files that
    came with the cameras, empty without any.
    """

    lenses: tuple[KnownLens | None, ...]
    cam_to_world: tuple[Array | None, ...]
    units: str = "scene"
    world: World | None = None
    masks: tuple[Path | None, ...] = ()

    @property
    def focals_px(self) -> list[float | None]:
        """Focal lengths of the ideal pinholes."""
        return [None if lens is None else lens.focal_px for lens in self.lenses]

    @property
    def bent(self) -> bool:
        """Whether any of the photos isn't what its ideal pinhole would have taken."""
        return any(
            lens is not None
            and (bool(lens.lens) or not np.array_equal(lens.intrinsics, lens.ideal))
            for lens in self.lenses
        )

    def ideal(self, photo: int, found: PhotoFeatures) -> PhotoFeatures:
        """Return one photo's key points as its ideal pinhole shows them."""
        lens = self.lenses[photo]
        return found if lens is None else replace(found, xy=lens.to_ideal(found.xy))

    def restored(self, alignment: Alignment) -> Alignment:
        """Return the alignment of the ideal pinholes with the known lenses in their place."""
        intrinsics, lenses = alignment.intrinsics.copy(), list(alignment.lenses)
        xy = alignment.tracks.xy.copy()
        for k, lens in enumerate(self.lenses):
            if lens is not None:
                intrinsics[k], lenses[k] = lens.intrinsics, lens.lens
                mine = alignment.tracks.seen_by(k)
                xy[mine] = lens.to_original(xy[mine])
        return replace(
            alignment,
            intrinsics=intrinsics,
            lenses=tuple(lenses),
            tracks=replace(alignment.tracks, xy=xy),
            edges=tuple(
                replace(edge, matches=self._as_photographed(edge.matches))
                for edge in alignment.edges
            ),
        )

    def _as_photographed(self, pair: PairMatches) -> PairMatches:
        """Return matches of ideal pinholes where the photos show them."""
        of_i, of_j = self.lenses[pair.i], self.lenses[pair.j]
        return replace(
            pair,
            xy_i=pair.xy_i if of_i is None else of_i.to_original(pair.xy_i),
            xy_j=pair.xy_j if of_j is None else of_j.to_original(pair.xy_j),
        )


def check_focal(focal_px: float | None, photos: Sequence[Photo]) -> None:
    """Raise ``InputError`` for a focal length that some photo cannot have been taken with."""
    if focal_px is None:
        return
    low, high = FOCALS
    for photo in photos:
        if not low <= focal_px / max(photo.width, photo.height) <= high:
            raise InputError(
                f"--focal.focal-px {focal_px:g}: no lens takes {photo.name} "
                f"({photo.width}x{photo.height}) with it; give the focal length in its pixels"
            )


def check_lenses_open(known: KnownCameras, focal_px: float | None, kind: str) -> None:
    """Raise ``InputError`` where a focal length or a kind of lens is given of lenses that are all
    known.
    """
    if (focal_px is not None or kind != "auto") and None not in known.lenses:
        option = "--focal.focal-px" if focal_px is not None else "--lens"
        raise InputError(
            f"{option} and --known-cameras both tell the lenses of all photos: leave out one of "
            "the two"
        )
