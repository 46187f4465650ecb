from dataclasses import replace

import numpy as np
from alignment_scenes import FOCAL, HEIGHT, WIDTH, Scene, phone_photos, scene_edges

from pointmap.camera import invert_rigid, pinhole, project, rigid
from pointmap.camera import transform_points as moved
from recon.alignment import AlignOptions
from recon.alignment.align import _setup, _unmatched
from recon.alignment.refinement import LensModel, refine
from recon.stage_results import Focals


def _turned_at_the_end() -> Scene:
    """Six photos of a walk, and three from nearly one spot, which alone see what is near them."""
    rng = np.random.default_rng(0)
    far = rng.uniform([-6, -2, 6], [6, 2, 10], (400, 3))
    near = np.array([0.03, 0, 0]) + rng.uniform([-0.4, -0.3, 0.8], [0.4, 0.3, 1.2], (200, 3))
    turned = np.radians([-6.0, 0.0, 6.0])
    poses = [
        rigid(np.eye(3), [x, 0.1 * (k % 2), 0]) for k, x in enumerate(np.linspace(-2, -0.3, 6))
    ]
    for x, angle in zip((0.0, 0.03, 0.06), turned, strict=True):
        s, c = np.sin(angle), np.cos(angle)
        poses.append(rigid(np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]), [x, 0, 0]))
    points, K = np.concatenate([far, near]), pinhole(FOCAL, WIDTH, HEIGHT)
    xy = np.stack([project(moved(invert_rigid(pose), points), K) for pose in poses])
    xy += rng.normal(0, 0.2, xy.shape)
    seen = (xy >= 0).all(axis=2) & (xy < [WIDTH, HEIGHT]).all(axis=2)
    seen[:6, len(far) :] = False
    return Scene(np.stack(poses), points, np.where(seen[..., None], xy, np.nan))


def test_cameras_that_shrank_into_one_spot_come_apart_again():
    """Their own points fit as well when all shrinks: what others see, too, tells how far apart."""
    scene = _turned_at_the_end()
    edges, _ = scene_edges(scene)
    known = Focals(np.full(9, FOCAL), np.zeros(9), ("given",) * 9, np.zeros(9, np.int64))
    middle = np.tile([WIDTH / 2, HEIGHT / 2], (9, 1))
    setup = _setup(known, edges, middle, AlignOptions(), LensModel())
    shrunk = scene.cam_to_world.copy()
    shrunk[6:, :3, 3] = shrunk[7, :3, 3] + 1e-5 * (shrunk[6:, :3, 3] - shrunk[7, :3, 3])
    cameras = replace(_unmatched(phone_photos(9), setup).cameras, registered=np.ones(9, bool))
    found = refine(setup, replace(cameras, cam_to_world=shrunk)).cameras.cam_to_world
    apart = np.linalg.norm(found[[6, 8], :3, 3] - found[7, :3, 3], axis=1)
    unit = np.linalg.norm(found[5, :3, 3] - found[0, :3, 3]) / 1.7029
    assert np.abs(apart / unit - 0.03).max() < 0.005
