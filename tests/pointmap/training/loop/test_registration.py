"""Batched registration of frames: the poses that recon finds one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from two_views import camera_at

from pointmap.camera import invert_rigid, transform_points
from pointmap.training.loop.registration import register_frames
from recon.two_view.pose_from_pointmaps import procrustes


def test_poses_are_those_of_the_pipeline_and_resist_outliers() -> None:
    rng = np.random.default_rng(0)
    poses = [camera_at([0.5, -0.2, 0.3], (10, -25, 5)), camera_at([-1, 0, 0.1], (0, 40, 170))]
    first = rng.uniform([-2, -2, 2], [2, 2, 6], (2, 400, 3))
    second = np.stack(
        [transform_points(invert_rigid(p), x) / 3 for p, x in zip(poses, first, strict=True)]
    )
    second *= rng.normal(1, 0.01, (2, 400, 1))
    second[:, :120] = rng.uniform(-2, 2, (2, 120, 3))  # 30 % wrong
    weights = rng.uniform(1, 4, (2, 400))
    found = register_frames(*(torch.from_numpy(a) for a in (first, second, weights))).numpy()
    for k in range(2):
        one = procrustes(first[k], second[k], weights[k])
        assert one is not None
        assert found[k] == pytest.approx(one.cam2_to_cam1, abs=1e-4)
        assert found[k] == pytest.approx(poses[k], abs=0.02)


def test_points_of_nothing_give_no_nan() -> None:
    zeros, ones = torch.zeros(1, 20, 3).double(), torch.ones(1, 20).double()
    assert torch.isfinite(register_frames(zeros, zeros, ones)).all()
