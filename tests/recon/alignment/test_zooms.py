"""Photos that files take for one camera, though some were zoomed."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from alignment_scenes import HEIGHT, WIDTH, arc_scene

from pointmap.images import Photo
from recon.alignment.align import align
from recon.alignment.refinement import AlignOptions
from recon.alignment.zooms import cameras_by_zoom
from recon.stage_results import Focals, PairEvidence, PairMatches
from recon.two_view.focal_lengths import solve_focals
from recon.two_view.relative_pose import verify_pair

COUNT = 8
PHOTOS = [Photo(Path(f"{k}.jpg"), f"{k}.jpg", WIDTH, HEIGHT, None, "phone") for k in range(COUNT)]


def _evidence(zoomed: set[int], focals: Focals | None = None) -> PairEvidence:
    """Return what feature matches say of photos, some of them cut out and enlarged 1.5 times."""
    scene = arc_scene(COUNT, 600, noise_px=0.2, span_deg=70, seed=1)
    xy = scene.xy.copy()
    middle = np.array([WIDTH, HEIGHT]) / 2
    for k in zoomed:
        xy[k] = middle + 1.5 * (xy[k] - middle)
        xy[k][((xy[k] < 0) | (xy[k] > 2 * middle)).any(axis=1)] = np.nan
    matches = []
    for i, j in combinations(range(COUNT), 2):
        seen = np.flatnonzero(np.isfinite(xy[[i, j]]).all(axis=(0, 2)))
        matches.append(PairMatches(i, j, xy[i][seen], xy[j][seen], seen, seen, 0.5))
    focals = focals or solve_focals(PHOTOS, matches)
    found = [verify_pair(PHOTOS, pair, None, focals.focals_px) for pair in matches]
    return PairEvidence(matches, [edge for edge in found if edge is not None], focals, [], [])


@pytest.mark.parametrize("zoomed", [{1, 3, 5, 7}, {2, 3}])
def test_zoomed_photos_become_a_camera_of_their_own(
    zoomed: set[int], caplog: pytest.LogCaptureFixture
) -> None:
    evidence = _evidence(zoomed)
    keys = cameras_by_zoom(PHOTOS, evidence, align(PHOTOS, evidence), AlignOptions())
    assert keys is not None
    different = {k for k in range(COUNT) if keys[k][0] != keys[min(set(range(COUNT)) - zoomed)][0]}
    assert different == zoomed
    assert "zooms" in caplog.text


def test_exif_is_not_believed_of_photos_that_were_enlarged_since() -> None:
    told = Focals(np.full(COUNT, 600.0), np.full(COUNT, 0.05), ("exif",) * COUNT,
                  np.zeros(COUNT, np.int64))  # fmt: skip
    evidence = _evidence({1, 4, 6}, told)
    photos = [replace(photo, exif_focal_px=600.0) for photo in PHOTOS]
    cameras = cameras_by_zoom(photos, evidence, align(photos, evidence), AlignOptions())
    assert cameras is not None
    assert [focal for _, focal in cameras] == [None if k in (1, 4, 6) else 600.0 for k in range(8)]


def test_photos_of_one_camera_stay_one(caplog: pytest.LogCaptureFixture) -> None:
    evidence = _evidence(set())
    alignment = align(PHOTOS, evidence)
    assert cameras_by_zoom(PHOTOS, evidence, alignment, AlignOptions()) is None
    # Nor does a focal length 15 % off make several of it, though matches don't all fit then.
    focals = Focals(np.full(COUNT, 640.0), np.full(COUNT, 0.01), ("default",) * COUNT,
                    np.zeros(COUNT, np.int64))  # fmt: skip
    evidence = _evidence(set(), focals)
    alignment = align(PHOTOS, evidence)
    assert cameras_by_zoom(PHOTOS, evidence, alignment, AlignOptions()) is None
    assert not caplog.records


def test_a_focal_length_that_was_given_is_believed() -> None:
    given = Focals(np.full(COUNT, 600.0), np.zeros(COUNT), ("given",) * COUNT, np.arange(COUNT))
    evidence = _evidence({1, 3}, given)
    alignment = align(PHOTOS, evidence)
    assert cameras_by_zoom(PHOTOS, evidence, alignment, AlignOptions()) is None
