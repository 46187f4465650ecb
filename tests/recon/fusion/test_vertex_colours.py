"""Colours of vertices, shown in a photo or not."""

from __future__ import annotations

import numpy as np
from synthetic import Shot, view_of

from pointmap.camera import pinhole
from recon.fusion.options import FusionOptions
from recon.fusion.usable_depth import usable_depths
from recon.fusion.vertex_colours import vertex_colours

FAR, VOXEL = 2.0, 0.01
RED, BLUE = (200, 40, 40), (40, 40, 200)


def test_what_no_photo_shows_takes_after_the_nearest_surface_that_faces_as_it_does() -> None:
    # A photo of something flat, red on the left and blue on the right.
    pixels = np.full((60, 80, 3), RED, np.uint8)
    pixels[:, 40:] = BLUE
    shot = Shot(pixels, np.full((60, 80), FAR, np.float32), pinhole(80, 80, 60), np.eye(4))
    y, x = np.mgrid[-0.5:0.5:0.04, -0.7:0.7:0.04].reshape(2, -1)
    shown = np.column_stack([x, y, np.full(len(x), FAR)])
    hidden = np.array([[-0.06, 0, FAR + 0.1], [-0.06, 0, FAR + 0.1]])
    # Half of them face to the camera, half up; so does one of those behind.
    towards, up = (0, 0, -1), (0, -1, 0)
    normals = np.where(x[:, None] < 0, towards, up)
    colours = vertex_colours(
        np.concatenate([shown, hidden]).astype(np.float32),
        np.concatenate([normals, [towards, up]]).astype(np.float32),
        usable_depths([view_of(shot)], FusionOptions()),
        voxel=VOXEL,
        truncation=4 * VOXEL,
        max_depth_jump=0.03,
    )
    middle = np.abs(x) < 0.03
    np.testing.assert_array_equal(colours[: len(x)][(x < 0) & ~middle][0], RED)
    np.testing.assert_allclose(colours[-2:], [RED, BLUE], atol=8)
