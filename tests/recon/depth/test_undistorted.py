"""Photos of bent lenses are compared as pinholes; their depth comes back to their own pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from synthetic import Shot, render, shoot

from pointmap.camera import pinhole
from pointmap.lens import Lens
from recon.depth.undistorted import as_pinhole, in_photo
from recon.stage_results import DepthMap
from recon.stereo.refine import refine_depths
from recon.stereo.view import StereoView

LENSES = {
    "radial": Lens.radial(-0.2),
    "fisheye": Lens.solved(0.01, 0.0, True),
    "tangential": Lens("OPENCV", (-0.1, 0.02, 0.004, -0.003)),
}


def view_of(shot: Shot) -> StereoView:
    known = (shot.depth > 0).astype(np.float32)
    none = np.zeros((0, 3)), np.zeros(0, np.int64)
    return StereoView(
        shot.pixels, shot.intrinsics, shot.cam_to_world, DepthMap(shot.depth, known), *none
    )


@pytest.mark.parametrize("lens", LENSES.values(), ids=LENSES)
def test_depth_goes_to_the_pinhole_and_back(lens: Lens) -> None:
    straight = shoot(1, width=160, height=120)[0]
    shot = render(
        pinhole(110.0, 160, 120), straight.cam_to_world, 160, 120, wavelength=1.0, lens=lens
    )
    seen = as_pinhole(view_of(shot), lens)
    height, width = seen.prior.depth.shape
    ideal = render(seen.intrinsics, shot.cam_to_world, width, height, wavelength=1.0)
    known = (seen.prior.depth > 0) & (ideal.depth > 0)
    assert known.mean() > 0.6 and not (seen.prior.depth > 0)[~seen.usable].any()
    ratio = (seen.prior.depth / np.maximum(ideal.depth, 1e-9))[known]
    assert np.median(np.abs(ratio - 1)) < 1e-3 and (np.abs(ratio - 1) < 0.02).mean() > 0.97
    grey = seen.pixels[known].mean(-1) - ideal.pixels[known].mean(-1)
    assert np.median(np.abs(grey)) < 3
    back = in_photo(seen.prior, DepthMap(shot.depth, np.zeros_like(shot.depth)),
                    shot.intrinsics, lens)  # fmt: skip
    both = (back.depth > 0) & (shot.depth > 0)
    assert both.sum() > 0.97 * (shot.depth > 0).sum()
    assert (np.abs(back.depth / np.maximum(shot.depth, 1e-9) - 1)[both] < 0.02).mean() > 0.97


def test_stereo_is_exact_in_the_pixels_of_a_bent_photo() -> None:
    lens = LENSES["radial"]
    bent = shoot(3, width=144, height=108, span_deg=25, wavelength=0.5, lens=lens)
    views = [view_of(shot) for shot in bent]
    rough = [DepthMap(view.prior.depth * np.float32(1.05), view.prior.confidence) for view in views]
    straight = [
        as_pinhole(replace(view, prior=prior), lens)
        for view, prior in zip(views, rough, strict=True)
    ]
    for shot, prior, found in zip(bent, rough, refine_depths(straight), strict=True):
        depth = in_photo(found, prior, shot.intrinsics, lens)
        assert depth.depth.shape == shot.depth.shape
        sure = (depth.confidence > 0.35) & (shot.depth > 0)
        ratio = depth.depth / np.maximum(shot.depth, 1e-9)
        assert sure.mean() > 0.4 and abs(np.median(ratio[sure]) - 1) < 0.001
        # The corners, which a pinhole's geometry would miss by several pixels, are as good.
        corner = np.hypot(*np.indices(ratio.shape).T.T - [[[54]], [[72]]]) > 72
        assert (np.abs(ratio - 1)[sure & corner] < 0.02).mean() > 0.9
