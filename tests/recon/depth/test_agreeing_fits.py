"""Scales and shifts of maps that few points in one corner tell, from what other maps show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from synthetic import Shot, shoot

from pointmap.images import Photo
from recon.depth.agreeing_fits import PlacedMap, agreeing_fits
from recon.prediction.affine_fit import AffineFit, Kind, fit_affine
from recon.prediction.given_maps import PriorMap

WIDTH, HEIGHT = 160, 120
NOISE = 0.03


@pytest.fixture(scope="module")
def shots() -> list[Shot]:
    return shoot(5, width=WIDTH, height=HEIGHT, span_deg=50)


def smooth_noise(seed: int) -> NDArray[np.float64]:
    coarse = np.random.default_rng(seed).normal(size=(5, 7))
    field = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return np.asarray(NOISE * (field - field.mean()) / field.std())


def placed_map(
    shot: Shot, n: int, kind: Kind, depth: NDArray[np.float64], *, clustered: bool = True
) -> PlacedMap:
    """A map of ``depth`` with scale and shift of its own; true points, unless not ``clustered``, in
    a corner of the photo alone, to which it is fitted.
    """
    exact = 1 / depth if kind == "disparity" else depth
    values = (3 + n) * (exact + (0.3, -0.15, 0.2, 0.0, -0.1)[n] * np.median(exact))
    map_ = PriorMap(values.astype(np.float32), kind)
    rng = np.random.default_rng(n)
    corner = [WIDTH // 4, HEIGHT // 4] if clustered else [WIDTH, HEIGHT]
    column, row = (rng.integers(0, side, 60) for side in corner)
    photo = Photo(Path(f"{n}.jpg"), f"{n}.jpg", WIDTH, HEIGHT, exif_focal_px=None, camera_key="c")
    z = shot.depth[row, column].astype(np.float64)
    fit = fit_affine(map_.values[row, column], z, kind=kind)
    # A corner that shows one plane may tell nothing at all.
    fit = fit or AffineFit(kind, float(np.median(exact) / np.median(values)), 0.0, 0.1)
    xy = np.stack([column, row], axis=1) + 0.5
    return PlacedMap(map_, photo, fit, shot.cam_to_world, shot.intrinsics, shot.lens, xy, z)


def errors(placed: list[PlacedMap], fits: list[AffineFit], shots: list[Shot]) -> list[float]:
    return [
        float(np.abs(fit.depth(one.map_.values) / shot.depth - 1).mean())
        for one, fit, shot in zip(placed, fits, shots, strict=True)
    ]


@pytest.mark.parametrize("kind", ["disparity", "depth"])
def test_points_in_a_corner_and_the_other_maps_tell_the_whole_map(
    shots: list[Shot], kind: Kind
) -> None:
    depths = [shot.depth * np.exp(smooth_noise(n)) for n, shot in enumerate(shots)]
    placed = [placed_map(shots[n], n, kind, depth) for n, depth in enumerate(depths)]
    alone = errors(placed, [one.fit for one in placed], shots)
    found = errors(placed, agreeing_fits(placed), shots)
    noise = np.mean([np.abs(d / s.depth - 1).mean() for d, s in zip(depths, shots, strict=True)])
    assert np.mean(found) < 1.5 * noise < 0.5 * np.mean(alone)


def test_exact_maps_are_met_exactly_and_a_wrong_one_spoils_none(shots: list[Shot]) -> None:
    depths = [shot.depth.astype(np.float64) for shot in shots]
    placed = [placed_map(shots[n], n, "depth", depth) for n, depth in enumerate(depths)]
    assert max(errors(placed, agreeing_fits(placed), shots)) < 0.005
    turned = placed_map(shots[2], 2, "depth", 1 / depths[0][:, ::-1], clustered=False)
    wrong = [*placed[:2], replace(turned, z=placed[2].z, xy=placed[2].xy), *placed[3:]]
    found = errors(wrong, agreeing_fits(wrong), shots)
    assert max(found[:2] + found[3:]) < 0.02


def test_a_photo_that_shares_nothing_keeps_what_its_points_tell(shots: list[Shot]) -> None:
    depth = shots[0].depth.astype(np.float64)
    one = placed_map(shots[0], 0, "disparity", depth, clustered=False)
    away = shots[0].cam_to_world.copy()
    away[:3, 3] += 100
    far = replace(one, cam_to_world=away)
    for fits in (agreeing_fits([one]), agreeing_fits([one, far])):
        assert errors([one], fits[:1], shots[:1])[0] < 1e-3
    assert agreeing_fits([]) == []
