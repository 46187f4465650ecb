from pathlib import Path

import numpy as np
import pytest

from recon.fusion.continued_planes import continued
from recon.fusion.options import FusionOptions
from recon.fusion.usable_depth import usable_depths
from recon.scene import Camera, LoadedMaps, View

WIDTH, HEIGHT, FOCAL = 200, 150, 180.0
# A card of half a metre hides a slanted wall; beside it four pixels say what the card does.
CARD, STRIP = 1.4, 4


def _wall(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Depth (h, w) of the wall z = 2 + 0.2 x along the rays (x, y, 1) from the origin."""
    return 2 / (1 - 0.2 * x) + 0 * y


def _rays() -> tuple[np.ndarray, np.ndarray]:
    x = ((np.arange(WIDTH) + 0.5 - WIDTH / 2) / FOCAL)[None]
    y = ((np.arange(HEIGHT) + 0.5 - HEIGHT / 2) / FOCAL)[:, None]
    return x, y


def _photo(shift: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return depth and confidence (h, w) from x = ``shift``, and the wall's depth behind it all."""
    x, y = _rays()
    wall = (2 + 0.2 * shift) / 2 * _wall(x, y)
    card = (np.abs(x * CARD + shift) < 0.25) & (np.abs(y * CARD) < 0.2)
    near = np.zeros_like(card)
    for dx in range(-STRIP, STRIP + 1):
        near |= np.roll(card, dx, axis=1)
    strip = near & ~card
    depth = np.where(near, CARD, wall).astype(np.float32)
    confidence = np.where(strip, 0.1, 1.0).astype(np.float32)
    return depth, confidence, np.where(strip, wall, 0).astype(np.float32)


def _views() -> list[View]:
    K = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])
    views = []
    for number, shift in enumerate((-0.6, 0.0, 0.6)):
        depth, confidence, _ = _photo(shift)
        pose = np.eye(4)
        pose[0, 3] = shift
        pixels = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
        camera = Camera(K, WIDTH, HEIGHT, pose)
        name = f"{number}.jpg"
        views.append(View(name, Path(name), camera, LoadedMaps(pixels, depth, confidence)))
    return views


def test_a_strip_beside_an_outline_gets_the_wall_that_goes_on_behind_it() -> None:
    """The strips of all photos agree with each other, as windows that straddle an outline do."""
    _, _, wall = _photo(0.0)
    strip, usable = wall > 0, usable_depths(_views(), FusionOptions(sky="keep"))[1]
    # Pixels at the outline itself are masked as edges.
    placed = strip & usable.known
    assert placed.sum() > 0.7 * strip.sum()
    for depth in (usable.depth, usable.frame().depth):
        np.testing.assert_allclose(depth[placed], wall[placed], rtol=2e-3)


@pytest.mark.parametrize("looked_past", [False, True])
@pytest.mark.parametrize("colour", [128, 250])
def test_unsure_depth_moves_near_an_outline_and_among_like_pixels_unless_photos_look_past(
    looked_past: bool, colour: int
) -> None:
    depth, confidence, wall = _photo(0.0)
    unsure = confidence < 0.5
    pixels = np.full((*depth.shape, 3), 128, np.uint8)
    # Far from the card, with depth of its own.
    behind = _wall(*_rays()).astype(np.float32)
    depth[:, :10], unsure[:, :10], pixels[:, :10] = 1.6, True, colour
    found = continued(
        depth,
        confidence,
        pixels,
        unsure,
        np.zeros_like(unsure),
        lambda where, at: np.full(len(at), looked_past),
    )
    assert not found[~unsure].any()
    moved = found > 0
    np.testing.assert_allclose(found[moved], behind[moved], rtol=2e-3)
    assert (moved.sum() > 0.9 * (wall > 0).sum()) != looked_past
    assert (moved[:, :10].mean() > 0.9) == (colour == 128 and not looked_past)


def test_supported_depth_stays_unless_it_is_as_near_as_the_outline() -> None:
    depth, confidence, wall = _photo(0.0)
    unsure = confidence < 0.5
    pixels = np.full((*depth.shape, 3), 128, np.uint8)
    for factor, moves in ((1.0, True), (1.15, False)):
        own = np.where(wall > 0, factor * CARD, depth).astype(np.float32)
        found = continued(
            own, confidence, pixels, unsure, unsure, lambda where, at: np.zeros(len(at), bool)
        )
        assert ((found > 0).sum() > 0.9 * (wall > 0).sum()) == moves
        assert moves or not found.any()
