"""The stored predictions and results of the reference implementation, against ours and the truth.

The fixture's folder is described by its own README.md: inputs, conventions and the reference's
figures, which are repeated here as the bar.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.pointmap_matches import reciprocal_neighbours
from benchmarks.pointmap_runs import Figures, Run, Truth, run_alignment, score
from pointmap.camera import Array, fit_similarity, invert_rigid, pinhole, rotation_angle_deg
from pointmap.images import Photo
from pointmap.inference import PairPrediction
from recon.prediction.pointmap_focal import weiszfeld_focal
from recon.two_view.pose_from_pointmaps import pnp

Golden = Mapping[str, NDArray[Any]]

REFERENCE = {
    8: (0.356, 0.89, 0.20, 0.51, 22.8),
    5: (0.501, 1.02, 0.31, 0.65, 8.9),
}
"""Rotation deg, translation %, focal %, depth AbsRel %, CPU seconds, by number of views."""
REFERENCE_KNOWN_DEPTH = 0.96
"""Depth AbsRel % without rescaling, five views with known cameras."""


@dataclass(frozen=True)
class Stored:
    """The stored scene: ``edges`` (E, 2), points (E, h, w, 3), confidences (E, h, w), truth."""

    edges: NDArray[np.int32]
    points_1: NDArray[np.float32]
    points_2: NDArray[np.float32]
    confidence_1: NDArray[np.float32]
    confidence_2: NDArray[np.float32]
    truth: Truth

    def predictions(self, views: int) -> list[PairPrediction]:
        """Return the predictions among the first ``views`` photos.

        The fixture counts pixels from 0 with its principal point at (W / 2, H / 2). In our
        convention that is half a pixel off the centre, so a column and a row of unknown pixels are
        added: then it is the centre.
        """

        def padded(map_: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.pad(map_, ((0, 1), (0, 1)) + ((0, 0),) * (map_.ndim - 2))

        return [
            PairPrediction(
                int(i),
                int(j),
                padded(self.points_1[e]),
                padded(self.confidence_1[e]),
                padded(self.points_2[e]),
                padded(self.confidence_2[e]),
            )
            for e, (i, j) in enumerate(self.edges)
            if max(i, j) < views
        ]

    def photos(self, views: int) -> list[Photo]:
        """Return the padded photos, on paper."""
        height, width = self.truth.depth.shape[1:]
        names = [f"{k}.jpg" for k in range(views)]
        return [Photo(Path(name), name, width + 1, height + 1, None, "one") for name in names]

    def truth_of(self, views: int) -> Truth:
        """Return the truth of the first ``views`` photos."""
        truth = self.truth
        return Truth(truth.cam_to_world[:views], truth.focal_px, truth.depth[:views])

    def edge(self, i: int, j: int) -> int:
        """Return the number of the edge (i, j)."""
        return int(np.flatnonzero((self.edges == [i, j]).all(axis=1))[0])


def load_stored(folder: Path) -> Stored:
    """Read the stored predictions from the fixtures' ``folder``."""
    data = np.load(folder / "ga_n8_inputs.npz")

    def points(name: str) -> NDArray[np.float32]:
        high, low = data[f"{name}_hi"].astype(np.uint16), data[f"{name}_lo"]
        return ((high << 8) | low).view(np.float16).astype(np.float32)

    confidence_1, confidence_2 = (1 + data[f"conf{k}_q"].astype(np.float32) / 16 for k in (1, 2))
    focal = float(np.ravel(data["truth_focal"])[0])
    truth = Truth(data["truth_poses"].astype(np.float64), focal, data["truth_depth"])
    return Stored(data["edges"], points("pts1"), points("pts2"), confidence_1, confidence_2, truth)


def stored_scenes(stored: Stored) -> dict[str, tuple[Run, Figures]]:
    """Return the runs of the stored scenes by name, of which "5 known" has all cameras given."""
    results = {}
    for views in (8, 5):
        truth = stored.truth_of(views)
        run = run_alignment(stored.photos(views), stored.predictions(views))
        results[f"{views} views"] = run, score(run, truth)
    run = run_alignment(
        stored.photos(5),
        stored.predictions(5),
        known_focal_px=truth.focal_px,
        known_cam_to_world=list(truth.cam_to_world),
    )
    results["5 known"] = run, score(run, truth)
    return results


def kept_bit_equal(run: Run, truth: Truth) -> bool:
    """Return whether the known cameras came out as they went in, to the last bit."""
    poses = [pose for pose in run.alignment.cam_to_world if pose is not None]
    return (
        len(poses) == len(truth.cam_to_world)
        and np.array_equal(np.stack(poses), truth.cam_to_world)
        and bool((run.alignment.intrinsics[:, 0, 0] == truth.focal_px).all())
    )


def stored_functions(folder: Path, stored: Stored) -> list[tuple[str, str, str]]:
    """Return rows (what, ours, the reference's) of the stored geometry functions."""
    golden = np.load(folder / "geometry_goldens.npz")
    return [
        _focals(golden, stored),
        _reciprocal(golden, stored),
        _registration(golden, stored),
        _pnp(golden, stored),
    ]


def _grid(stored: Stored) -> Array:
    height, width = stored.truth.depth.shape[1:]
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return np.stack([x, y], axis=-1).astype(np.float64)


def _focals(golden: Golden, stored: Stored) -> tuple[str, str, str]:
    height, width = stored.truth.depth.shape[1:]
    pixels = _grid(stored) - [width / 2, height / 2]
    fits = [weiszfeld_focal(points, pixels, fallback_px=100) for points in stored.points_1]
    found, theirs = np.array([fit.focal_px for fit in fits]), golden["focal/weiszfeld"]
    errors = [100 * np.abs(f / stored.truth.focal_px - 1).mean() for f in (found, theirs)]
    off = np.abs(found / theirs - 1).max()
    return (
        "focal of each of 56 pointmaps, mean error %",
        f"{errors[0]:.3f} (differs by {100 * off:.4f} % at most)",
        f"{errors[1]:.3f}",
    )


def _reciprocal(golden: Golden, stored: Stored) -> tuple[str, str, str]:
    e = stored.edge(0, 1)
    first, second = stored.points_1[e].reshape(-1, 3), stored.points_2[e].reshape(-1, 3)
    # The reference starts from the second set and names its mutual members.
    index_2, index_1 = reciprocal_neighbours(second.astype(float), first.astype(float))
    named = np.flatnonzero(np.unpackbits(golden["recip/in_P2"])[: len(second)])
    theirs = set(zip(named.tolist(), golden["recip/nn2_in_P1"][named].tolist(), strict=True))
    ours = set(zip(index_2.tolist(), index_1.tolist(), strict=True))
    return (
        "reciprocal matches of edge (0, 1)",
        f"{len(ours)}, of them {len(ours & theirs)} the same",
        str(int(golden["recip/count"])),
    )


def _registration(golden: Golden, stored: Stored) -> tuple[str, str, str]:
    a, b = stored.edge(0, 1), stored.edge(0, 2)
    scale, R, t = fit_similarity(
        stored.points_1[a].reshape(-1, 3),
        stored.points_1[b].reshape(-1, 3),
        stored.confidence_1[a].ravel(),
    )
    turned = float(rotation_angle_deg(R.T @ golden["reg/R"].astype(float)))
    shift = float(np.linalg.norm(t - golden["reg/T"]))
    return (
        "weighted similarity of two pointmaps: scale",
        f"{scale:.6f} (rotation differs by {turned:.4f} deg, shift by {shift:.1e})",
        f"{float(golden['reg/s']):.6f}",
    )


def _pnp(golden: Golden, stored: Stored) -> tuple[str, str, str]:
    e, (height, width) = stored.edge(0, 1), stored.truth.depth.shape[1:]
    sure = stored.confidence_2[e] > 3
    K = pinhole(stored.truth.focal_px, width, height)
    found = pnp(stored.points_2[e][sure].astype(float), _grid(stored)[sure], K)
    truth = invert_rigid(stored.truth.cam_to_world[0]) @ stored.truth.cam_to_world[1]
    assert found is not None
    theirs = golden["pnp/known_focal_pose"].astype(float)
    off = [
        float(rotation_angle_deg(pose[:3, :3].T @ truth[:3, :3]))
        for pose in (found.cam2_to_cam1, theirs)
    ]
    apart = float(rotation_angle_deg(found.cam2_to_cam1[:3, :3].T @ theirs[:3, :3]))
    return (
        "PnP of edge (0, 1), degrees to the truth",
        f"{off[0]:.3f} ({apart:.3f} from the reference's)",
        f"{off[1]:.3f}",
    )
