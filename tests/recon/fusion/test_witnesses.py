import numpy as np
import pytest
from synthetic import Shot, view_of

from pointmap.camera import invert_rigid, pinhole, rigid, transform_points
from pointmap.lens import Lens
from recon.fusion.frames import UsableDepth
from recon.fusion.witnesses import LOOKS_PAST, count_votes

WIDTH, HEIGHT = 60, 40
LENSES = [
    Lens(),
    Lens.radial(-0.15, 0.02),
    # Folds at the radius 0.91: what lies beyond isn't seen.
    Lens.radial(-0.4),
    Lens("RADIAL_FISHEYE", (0.05, -0.01)),
    Lens("OPENCV", (-0.05, 0.01, 0.003, -0.002)),
]


@pytest.mark.parametrize("lens", LENSES, ids=lambda lens: lens.model)
def test_a_photo_is_asked_where_its_lens_shows_the_points(shots: list[Shot], lens: Lens) -> None:
    """Of a plane 2 away another photo knows 2 at some pixels; where it does, it votes."""
    rng = np.random.default_rng(0)
    turned, _ = np.linalg.qr(np.eye(3) + 0.1 * rng.normal(size=(3, 3)))
    move = rigid(turned * np.sign(np.diag(turned)), 0.2 * rng.normal(size=3))
    there = np.stack([*rng.uniform(-2, 2, (2, 4000)), rng.choice([2, 1.2, 2.5, -1], 4000)], -1)
    points = transform_points(invert_rigid(move), there).T.astype(np.float32)
    K = pinhole(40, WIDTH, HEIGHT)
    known = rng.random((HEIGHT, WIDTH)) < 0.5
    z = there[:, 2]
    ahead = z > 0
    u, v = np.full((2, len(z)), -1.0)
    shown = lens.distort(there[ahead, :2] / z[ahead, None]) @ K[:2, :2].T + K[:2, 2]
    u[ahead], v[ahead] = np.nan_to_num(shown, nan=-1).T
    inside = (u >= 0) & (u < WIDTH) & (v >= 0) & (v < HEIGHT)
    expected = np.zeros(len(z), int)
    seen = known[v[inside].astype(int), u[inside].astype(int)]
    expected[inside] = np.select(
        [seen & (2 > 1.03 * z[inside]), seen & (2 > 0.97 * z[inside])], [-1, 1], 0
    )
    own, other = (
        UsableDepth(view_of(shots[0]), np.pad(depth, 1).astype(np.float16), 1.0, K, matrix, lens)
        for depth, matrix in ((known, move), (2 * known, np.eye(4)))
    )
    found = count_votes([other], own, points)
    assert (found == 1).sum() > 60 < (found == -1).sum()
    # Single precision puts a few at a border elsewhere.
    assert (found != expected).mean() < 2e-3


def test_a_photo_that_sees_sky_looks_past_everything(shots: list[Shot]) -> None:
    K = pinhole(40, WIDTH, HEIGHT)
    padded = np.pad(np.full((HEIGHT, WIDTH), LOOKS_PAST, np.float16), 1)
    sky = UsableDepth(view_of(shots[0]), padded, 1.0, K, np.eye(4), Lens())
    points = np.array([[0.0, 0, 2], [0, 0, 50], [0, 0, -1], [9, 0, 1]], np.float32).T
    assert count_votes([sky], sky, np.ascontiguousarray(points)).tolist() == [-1, -1, 0, 0]
