"""Parts of the pictures that stand still while the camera moves: they have no depth.

A bonnet, a logo, the wall behind a turntable, the paper under it: what keeps its pixels while the
points of the scene move far is not where the cameras would have it. Textured parts are told by
their pattern, plain ones by one and the same colour up to the picture's border.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array, Mask, invert_rigid, project, transform_points
from pointmap.images import ResizedPhoto, without_part
from recon.stage_results import Alignment
from recon.work.content_key import content_key, item_key
from recon.work.on_demand import OnDemand

if TYPE_CHECKING:
    from recon.inputs import Inputs

# Photos are compared at this size, over squares of so many pixels.
_LONG_SIDE, _SQUARE = 320, 9
# A photo is compared with so many others, those whose points moved furthest, by this many pixels
# and more; with fewer nothing is told. Of many photos some are asked whether anything stands still,
# and some are those that others may be compared with.
_OTHERS, _FEWEST, _FAR_PX, _SAMPLE, _COMPARED = 6, 3, 16.0, 8, 60
# A pattern: grey levels (of 255) spread by more, and correlate by more with most of the others: a
# thing on a turntable hides some of what is behind it.
_TEXTURE, _ALIKE, _MOST = 6.0, 0.9, 0.6
# Plain: they spread by less, and differ by less from most of the others.
_PLAIN, _SAME = 3.0, 2.5
# Gaps in it up to so many pixels belong to it, fewer once its pixels are looked at one by one, and
# differ by less than so many levels; what fills less of the picture is no such part.
_GAP, _FINE, _NEAR, _LEAST = 9, 3, 12.0, 0.02
# What is plain stands still only beside a pattern that does, or around the whole picture: so much
# of its border. Walls and ceilings of one colour look the same from anywhere; they take up to 0.3.
_AROUND = 0.6


def without_still_regions(
    inputs: Inputs, frames: Sequence[ResizedPhoto], alignment: Alignment
) -> Sequence[ResizedPhoto]:
    """Return the photos without what stands still in them: it is not usable; as they are where
    nothing does.
    """
    still = inputs.work.once(
        content_key("still regions", 2, frames, alignment), lambda: _all_still(inputs, alignment)
    )
    return frames if still is None else _Masked(frames, still)


def _all_still(inputs: Inputs, alignment: Alignment) -> list[Mask | None] | None:
    """Return what stands still (h, w) in each photo, or None; None where nothing does."""
    small = inputs.frames(_LONG_SIDE)
    placed = np.flatnonzero(alignment.placed).tolist()
    step = max(len(placed) // _SAMPLE, 1)
    if not any(_still(small, alignment, k) is not None for k in placed[::step]):
        return None
    return [
        None if pose is None else _still(small, alignment, k)
        for k, pose in enumerate(alignment.cam_to_world)
    ]


class _Masked(OnDemand[ResizedPhoto]):
    """Photos of which some have parts that stand ``still`` (h, w), at any size."""

    def __init__(self, frames: Sequence[ResizedPhoto], still: Sequence[Mask | None]) -> None:
        self._frames, self._still = frames, still

    def __len__(self) -> int:
        return len(self._frames)

    def item_key(self, index: int) -> str:
        """Return the name of one photo."""
        return content_key("moving", 1, item_key(self._frames, index), self._still[index])

    def item(self, index: int) -> ResizedPhoto:
        """Return one photo."""
        return without_part(self._frames[index], self._still[index])


def _still(small: Sequence[ResizedPhoto], alignment: Alignment, k: int) -> Mask | None:
    """Return what stands still (h, w) in a photo; None where nothing does, or nothing tells."""
    import cv2

    here = _Squares(small[k])
    others = [j for j in _far_away(small[k], alignment, k) if small[j].pixels.shape == here.shape]
    if len(others) < _FEWEST:
        return None
    alike, same, near = np.zeros((3, *here.grey.shape))
    for j in others:
        there = _Squares(small[j])
        alike += here.correlation(there) > _ALIKE
        near += np.abs(here.grey - there.grey) < _NEAR
        same += (np.abs(here.grey - there.grey) < _SAME) & (there.spread < _PLAIN)
    still = (here.spread > _TEXTURE) & (alike >= _MOST * len(others))
    plain = (here.spread < _PLAIN) & (same >= _MOST * len(others))
    parts = cv2.connectedComponents(plain.astype(np.uint8))[1]
    border = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    if still.mean() > _LEAST or (border > 0).mean() > _AROUND:
        still |= plain & np.isin(parts, border)
    whole = _filled(still, _GAP)
    # Squares at its edge hold something else as well, whose pixels are not those of the others.
    whole = _filled(whole & (near >= _MOST * len(others)), _FINE)
    return whole if whole.mean() > _LEAST else None


def _filled(region: Mask, gap: int) -> Mask:
    """Return a region without gaps, and without specks, of so many pixels."""
    import cv2

    kernel = np.ones((gap, gap), np.uint8)
    closed = cv2.morphologyEx(region.astype(np.uint8), cv2.MORPH_CLOSE, kernel)
    return cv2.morphologyEx(closed, cv2.MORPH_OPEN, kernel).astype(bool)


def _far_away(photo: ResizedPhoto, alignment: Alignment, k: int) -> list[int]:
    """Return the photos in which the points that photo ``k`` sees are far from where it has them,
    the furthest first.
    """
    tracks, own = alignment.tracks, alignment.cam_to_world[k]
    rows = tracks.seen_by(k)
    if own is None or len(rows) == 0:
        return []
    points, xy = tracks.points[tracks.point_index[rows]], tracks.xy[rows]
    moved = np.zeros(len(alignment.cam_to_world))
    placed = np.flatnonzero(alignment.placed).tolist()
    for j in placed[:: max(len(placed) // _COMPARED, 1)]:
        pose = alignment.cam_to_world[j]
        if j == k or pose is None:
            continue
        there = transform_points(invert_rigid(pose), points)
        ahead = there[:, 2] > 0
        if ahead.any():
            at = project(there[ahead], alignment.intrinsics[j], alignment.lenses[j])
            moved[j] = np.median(np.linalg.norm(at - xy[ahead], axis=1)) * photo.scale_x
    order = np.argsort(-moved, kind="stable")[:_OTHERS]
    return [int(j) for j in order if moved[j] > _FAR_PX]


class _Squares:
    """A photo's ``grey`` levels (h, w), their ``mean`` and ``spread`` over the square around each
    pixel; its ``shape``.
    """

    def __init__(self, photo: ResizedPhoto) -> None:
        import cv2

        self.shape = photo.pixels.shape
        self.grey: NDArray[np.float32] = cv2.cvtColor(photo.pixels, cv2.COLOR_RGB2GRAY).astype(
            np.float32
        )
        self.mean = _mean(self.grey)
        self.spread = np.sqrt(np.maximum(_mean(self.grey**2) - self.mean**2, 0.0))

    def correlation(self, other: _Squares) -> Array:
        """Return how the squares at the same pixels correlate (h, w)."""
        product = _mean(self.grey * other.grey) - self.mean * other.mean
        return np.asarray(product / np.maximum(self.spread * other.spread, 1e-3))


def _mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
    import cv2

    return np.asarray(cv2.blur(values, (_SQUARE, _SQUARE)))
