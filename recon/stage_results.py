"""What each stage hands to the next, in the order of the stages: frozen dataclasses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array
from pointmap.images import Photo, ResizedPhoto
from pointmap.lens import Lens
from recon.scene import Camera, Tracks
from recon.work.on_demand import Chosen

if TYPE_CHECKING:
    from scipy.sparse import csr_array

SIFT_SIGMA_PX = 0.5
"""Localisation error of a SIFT key point, in pixels of the picture it was found in."""
POINTMAP_SIGMA = 0.75
"""Error of a pointmap match, in network pixels: neighbours are found on a pixel grid (0.5 px off at
most in each axis) between two predictions that are themselves about half a pixel off."""
CONFIRMED = 0.35
"""Confidence above which depth was confirmed by another photo. Stereo gives confirmed depth more
than 0.45, small gaps between such depth 0.8 of that, and the prior elsewhere at most 0.3."""
REFERENCE_LONG_SIDE = 640
"""Pixel thresholds are stated for photos of this long side and grow with the photo: what a lens
does to a pinhole does, too."""


def unit_px(photo: Photo | Camera) -> float:
    """Return how many pixels of a photo one pixel of its version of the reference size is."""
    return max(photo.width, photo.height) / REFERENCE_LONG_SIDE


@dataclass(frozen=True)
class PhotoPrior:
    """What the network says of one photo alone.

    ``points`` (h, w, 3) float32 in the photo's own camera frame, scale arbitrary per photo;
    ``confidence`` (h, w) float32, >= 1 where something was predicted and 0 (with a point of zeros)
    where nothing usable was; ``focal_px`` in original pixels (Weiszfeld), 1.2 x the long side where
    the points don't tell. A photo that no pair predicted has one single pixel of confidence 0.
    ``unit`` is the network's own length of one unit of ``points``: metres if it predicts metres.
    """

    points: NDArray[np.float32]
    confidence: NDArray[np.float32]
    focal_px: float
    unit: float = 1.0


@dataclass(frozen=True)
class PairSketch:
    """What remains of a prediction (i, j): S pixels of either photo, a grid (see
    :data:`recon.prediction.pair_sketch.SAMPLES`).

    ``points_i``, ``points_j`` (S, 3) float32, both in camera i's frame, with their confidences
    (S,) float32, 0 where the prediction is unusable; ``focal_px``: the focal length of photo i that
    the prediction implies, in original pixels.
    """

    i: int
    j: int
    points_i: NDArray[np.float32]
    confidence_i: NDArray[np.float32]
    points_j: NDArray[np.float32]
    confidence_j: NDArray[np.float32]
    focal_px: float


@dataclass(frozen=True)
class PhotoPrediction:
    """What the network says of a photo k beside its partners: its ``prior``, the ``sketches`` of
    predictions (k, j) in its frame, and the ``local`` matches of pairs (k, j), k < j.
    """

    prior: PhotoPrior
    sketches: tuple[PairSketch, ...]
    local: tuple[PairMatches, ...]


@dataclass(frozen=True)
class NetworkResult:
    """What the network says: the ``pairs`` (i < j, or i = j of a photo without partner) it looked
    at, one prior per photo, and what is kept of the predictions of pairs, in both orders.
    ``local``: the pairs' matches of local features, of a network that has them.
    """

    pairs: tuple[tuple[int, int], ...]
    priors: Sequence[PhotoPrior]
    sketches: list[PairSketch]
    local: dict[tuple[int, int], PairMatches]

    def of_photos(self, numbers: Sequence[int]) -> NetworkResult:
        """Return what it says of some photos, which are then counted in that order."""
        place = {number: k for k, number in enumerate(numbers)}
        return NetworkResult(
            tuple((place[i], place[j]) for i, j in self.pairs if i in place and j in place),
            Chosen(self.priors, numbers),
            [
                replace(s, i=place[s.i], j=place[s.j])
                for s in self.sketches
                if s.i in place and s.j in place
            ],
            {
                (place[i], place[j]): replace(m, i=place[m.i], j=place[m.j])
                for (i, j), m in self.local.items()
                if i in place and j in place
            },
        )


@dataclass(frozen=True)
class PhotoFeatures:
    """Key points of one photo.

    ``xy`` (K, 2) float64 original pixels; ``descriptors`` (K, 128) float32, unit length (RootSIFT);
    ``colours`` (K, 3) uint8 RGB; ``sigma_px``: how accurate ``xy`` is, in original pixels.
    """

    xy: Array
    descriptors: NDArray[np.float32]
    colours: NDArray[np.uint8]
    sigma_px: float = SIFT_SIGMA_PX


@dataclass(frozen=True)
class PairMatches:
    """Matches of photos ``i`` < ``j``.

    ``xy_i``, ``xy_j`` (M, 2) float64 original pixels; ``index_i``, ``index_j`` (M,) int64 key point
    numbers, -1 where the match comes from pointmaps; ``sigma_px``: how accurate these matches are,
    in original pixels.
    """

    i: int
    j: int
    xy_i: Array
    xy_j: Array
    index_i: NDArray[np.int64]
    index_j: NDArray[np.int64]
    sigma_px: float

    @staticmethod
    def of_key_points(
        i: int,
        j: int,
        features_i: PhotoFeatures,
        features_j: PhotoFeatures,
        index_i: NDArray[np.int64],
        index_j: NDArray[np.int64],
    ) -> PairMatches:
        """Return the matches of key points ``index_i``, ``index_j`` (M,) of two photos."""
        sigma_px = float(np.hypot(features_i.sigma_px, features_j.sigma_px) / np.sqrt(2))
        xy_i, xy_j = features_i.xy[index_i], features_j.xy[index_j]
        return PairMatches(i, j, xy_i, xy_j, index_i, index_j, sigma_px)

    def __len__(self) -> int:
        return len(self.xy_i)

    def select(self, keep: NDArray[np.bool_]) -> PairMatches:
        """Return the matches for which ``keep`` (M,) is true."""
        return replace(
            self,
            xy_i=self.xy_i[keep],
            xy_j=self.xy_j[keep],
            index_i=self.index_i[keep],
            index_j=self.index_j[keep],
        )


@dataclass(frozen=True)
class FocalEstimate:
    """``focal_px`` in original pixels, ``log_sigma`` of its logarithm, ``source``: "given", "exif",
    "epipolar", "network" or "default".
    """

    focal_px: float
    log_sigma: float
    source: str


@dataclass(frozen=True)
class Focals:
    """Focal lengths of N photos.

    ``focals_px`` (N,) original pixels; ``log_sigma`` (N,), 0 where the focal length was given;
    ``sources`` (see :class:`FocalEstimate`); ``groups`` (N,) int: photos of equal number share one
    focal length.
    """

    focals_px: Array
    log_sigma: Array
    sources: tuple[str, ...]
    groups: NDArray[np.int64]

    def of_photos(self, numbers: Sequence[int]) -> Focals:
        """Return those of some photos alone."""
        index = np.array(numbers, np.int64)
        return Focals(
            self.focals_px[index],
            self.log_sigma[index],
            tuple(self.sources[k] for k in numbers),
            self.groups[index],
        )


@dataclass(frozen=True)
class RelativePose:
    """Pose of photo j (camera 2) relative to photo i (camera 1).

    ``cam2_to_cam1`` (4, 4) float64. The translation has unit length unless ``metric_scale``: then
    it is in the units of the points of camera 1's frame. ``method``: "essential", "procrustes" or
    "pnp". ``inliers`` (M,) bool over the matches that were given. ``score`` in [0, 1]: inlier ratio
    x saturating inlier count x parallax. ``flags``, any of:

    - "few_matches": fewer than 15 inliers;
    - "no_parallax": median triangulation angle under 1 degree, the translation is a guess;
    - "pure_rotation": a rotation alone explains the matches, the translation means nothing;
    - "planar": one plane explains the matches.

    ``alternative`` (4, 4): a different pose that explains the matches nearly as well (a plane seen
    twice has two), or None. It halves the score.
    """

    cam2_to_cam1: Array
    method: str
    inliers: NDArray[np.bool_]
    score: float
    flags: frozenset[str] = frozenset()
    metric_scale: bool = False
    alternative: Array | None = None


@dataclass(frozen=True)
class PairEdge:
    """An edge of the pose graph. Later stages use ``matches`` restricted to ``pose.inliers``."""

    matches: PairMatches
    pose: RelativePose

    @staticmethod
    def unverified(matches: PairMatches) -> PairEdge:
        """Return all matches of a pair as an edge of no pose."""
        every = np.ones(len(matches), bool)
        return PairEdge(matches, RelativePose(np.eye(4), "essential", every, 0.0, frozenset()))


@dataclass(frozen=True)
class PairEvidence:
    """What the photos say of each other, pair by pair: feature ``matches`` of every pair looked at,
    the verified ``edges`` among them, the focal lengths with which they were verified, and the
    ``sketches`` of the pointmaps that the features don't contradict. ``priors``: the network's, or
    of given maps, beside which the ``network_priors`` are kept; ``predicted``: the pairs that the
    network looked at, see :class:`NetworkResult`.
    """

    matches: list[PairMatches]
    edges: list[PairEdge]
    focals: Focals
    sketches: list[PairSketch]
    priors: Sequence[PhotoPrior]
    predicted: tuple[tuple[int, int], ...] = ()
    network_priors: Sequence[PhotoPrior] | None = None

    def of_photos(self, numbers: Sequence[int]) -> PairEvidence:
        """Return what some photos say of each other, which are then counted in that order."""
        place = {number: k for k, number in enumerate(numbers)}

        def inside(pair: PairMatches | PairSketch) -> bool:
            return pair.i in place and pair.j in place

        def moved(matches: PairMatches) -> PairMatches:
            return replace(matches, i=place[matches.i], j=place[matches.j])

        predicted = {(place[i], place[j]) for i, j in self.predicted if i in place and j in place}
        predicted |= {(k, k) for k in range(len(numbers))} - {(k, k) for p in predicted for k in p}
        return PairEvidence(
            [moved(m) for m in self.matches if inside(m)],
            [replace(e, matches=moved(e.matches)) for e in self.edges if inside(e.matches)],
            self.focals.of_photos(numbers),
            [replace(s, i=place[s.i], j=place[s.j]) for s in self.sketches if inside(s)],
            Chosen(self.priors, numbers),
            tuple(sorted(predicted)),
            None if self.network_priors is None else Chosen(self.network_priors, numbers),
        )

    def apart(self, group: NDArray[np.bool_]) -> PairEvidence:
        """Return it without what relates the photos of ``group`` (N,) to the others."""

        def within(pair: PairMatches | PairSketch) -> bool:
            return bool(group[pair.i] == group[pair.j])

        return replace(
            self,
            matches=[m for m in self.matches if within(m)],
            edges=[e for e in self.edges if within(e.matches)],
            sketches=[s for s in self.sketches if within(s)],
        )


@dataclass(frozen=True)
class Alignment:
    """Cameras of all photos, in the order of the photos.

    ``intrinsics`` (N, 3, 3) in original pixels; the ``lenses``; ``cam_to_world``: (4, 4) each, None
    for a photo that could not be placed, with the ``reasons`` in words (None where placed);
    ``tracks`` with ``view_index`` into the photos; ``edges`` E, of the pairs that it was made of,
    ``used_edges`` (E,) bool, those that agree with the result; ``pointmap_pairs`` (T, 2), i < j,
    pairs whose pointmaps do; ``depth_scale`` (N,): what takes the photo's prior to scene units by
    its pointmaps, NaN where they don't tell; ``cut_out``: whether principal points were solved for
    photo by photo (:mod:`recon.alignment.cut_out`).
    """

    intrinsics: Array
    lenses: tuple[Lens, ...]
    cam_to_world: tuple[Array | None, ...]
    reasons: tuple[str | None, ...]
    tracks: Tracks
    edges: tuple[PairEdge, ...]
    used_edges: NDArray[np.bool_]
    pointmap_pairs: NDArray[np.int64]
    depth_scale: Array
    cut_out: bool = False

    @property
    def placed(self) -> NDArray[np.bool_]:
        """Which photos (N,) have a place."""
        return np.array([pose is not None for pose in self.cam_to_world], bool)

    @property
    def sees(self) -> csr_array:
        """A matrix (N, P), 1 where a photo sees a point."""
        from scipy.sparse import csr_array

        ends = self.tracks.view_index, self.tracks.point_index
        shape = len(self.cam_to_world), len(self.tracks.points)
        sees = csr_array((np.ones(len(ends[0]), np.int32), ends), shape=shape)
        sees.data[:] = 1
        return sees


@dataclass(frozen=True)
class DepthMap:
    """A photo's ``depth`` (h, w) float32 along z, 0 = unknown, and ``confidence`` (h, w) float32
    in [0, 1].
    """

    depth: NDArray[np.float32]
    confidence: NDArray[np.float32]


@dataclass(frozen=True)
class DenseDepths:
    """Depth of all photos: each one's ``frame``, the ``priors`` that it was tied to the scene from,
    and its depth map at the frame's size, None for a photo that was not placed. Each may be read
    from a file when it is asked for.
    """

    frames: Sequence[ResizedPhoto]
    priors: Sequence[PhotoPrior]
    depths: Sequence[DepthMap | None]
