import numpy as np
from fused_room import VOXEL
from synthetic import Shot, view_of

from recon.fusion import FusionOptions, fuse_mesh
from recon.fusion.exposure import levelled
from recon.scene import View


def test_exposure_leaves_no_step_in_the_colours(shots: list[Shot]) -> None:
    """One photo in three was exposed a quarter longer: means of those that see a place differ."""
    darker = [0.7 * shot.pixels.astype(np.float32) for shot in shots]

    def exposed(longer: float) -> list[View]:
        factors = [longer if k % 3 == 0 else 1.0 for k in range(len(shots))]
        return [
            view_of(s, pixels=(d * f).round().astype(np.uint8))
            for s, d, f in zip(shots, darker, factors, strict=True)
        ]

    options = FusionOptions(voxel_size=VOXEL)
    uneven, even = (fuse_mesh(given, options=options) for given in (exposed(1.25), exposed(1.0)))
    ratio = uneven.colours.astype(np.float64) / np.maximum(even.colours, 1.0)
    ratio = ratio[(even.colours > 30).all(axis=1)]
    # One factor for all of the mesh; without gains its deviation is 0.05 and more.
    assert ratio.std() < 0.02


def test_a_gain_keeps_white_white_and_the_order_of_levels() -> None:
    levels = np.arange(256, dtype=np.uint8)[:, None].repeat(3, axis=1)
    for gain in (0.7, 1.0, 1.4):
        out = levelled(levels, np.full(3, gain))
        np.testing.assert_allclose(out[:150], gain * levels[:150], rtol=1e-5)
        assert (out[255] == 255).all() and (np.diff(out, axis=0) >= 0).all()
