"""About the scene at a constant distance: all the way round, or to and fro."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array
from recon.scene import Scene
from viz.drawing.viewpoint import (
    Viewpoint,
    automatic_viewpoint,
    registered_cameras,
    scene_frame,
)

_SWING_DEG = 35.0  # to either side of what few photos saw: farther, the backs of surfaces show
_FILL = 0.85  # of the distance that holds a ball of the scene's radius: few scenes are one
_ROUND_DEG = 250.0  # photos that look from more sides than this show the scene from all


def turntable(scene: Scene, *, aspect: float, count: int) -> list[Viewpoint]:
    """Return ``count`` views of a scene that turns before the eye, so that the film can be looped.

    Once round where the photos look from (nearly) all sides, or out to all sides. Otherwise to and
    fro as far as they did: the rest has no surface that faces that way.
    """
    middle, width = looked_from(scene)
    if width > _ROUND_DEG:
        return _about(scene, aspect, 360 * np.arange(count) / count)
    reach = max(_SWING_DEG, width / 2)
    return _about(scene, aspect, middle + reach * np.sin(2 * np.pi * np.arange(count) / count))


def swing(scene: Scene, *, aspect: float, count: int) -> list[Viewpoint]:
    """Return ``count`` views that go to one side, to the other and back."""
    return _about(scene, aspect, _SWING_DEG * np.sin(2 * np.pi * np.arange(count) / count))


def looked_from(scene: Scene) -> tuple[float, float]:
    """Return the middle and the width, in degrees about the vertical, of the sector of directions
    in which the placed photos look; the middle relative to their mean.
    """
    axes = scene_frame(scene).axes
    forwards = np.array([pose[:3, 2] for _, _, pose in registered_cameras(scene)]).reshape(-1, 3)
    level = forwards @ axes[:, [0, 2]]
    level = level[np.linalg.norm(level, axis=1) > 0.1]
    if len(level) == 0:
        return 0.0, 0.0
    angles = np.sort(np.degrees(np.arctan2(level[:, 0], level[:, 1])))
    gaps = np.diff(angles, append=angles[0] + 360)
    widest = int(np.argmax(gaps))
    width = 360 - float(gaps[widest])
    # The sector goes from the angle after the widest gap on.
    start = float(angles[(widest + 1) % len(angles)])
    return (start + width / 2 + 180) % 360 - 180, width


def _about(scene: Scene, aspect: float, angles_deg: NDArray[np.floating]) -> list[Viewpoint]:
    """Return views of the scene's middle, from as high as the automatic one and far enough to hold
    the scene, turned about the vertical by each of ``angles_deg``.
    """
    still, frame = automatic_viewpoint(scene, aspect=aspect, yaw_deg=0.0), scene_frame(scene)
    forward = still.target - still.eye
    half = np.radians(still.field_of_view_deg) / 2
    narrower = min(half, float(np.arctan(aspect * np.tan(half))))
    back = -_FILL * frame.radius / np.sin(narrower) * forward / np.linalg.norm(forward)
    down = frame.axes[:, 1]
    return [
        Viewpoint(
            frame.centre + _turned(back, down, float(np.radians(angle))),
            frame.centre,
            still.up,
            still.field_of_view_deg,
        )
        for angle in angles_deg
    ]


def _turned(vector: Array, axis: Array, angle: float) -> Array:
    """Return ``vector`` (3,) turned about the unit ``axis`` (3,) by ``angle`` in radians."""
    from scipy.spatial.transform import Rotation

    turned: Array = Rotation.from_rotvec(angle * axis).apply(vector)
    return turned
