"""What cameras show of points, and how that changes with cameras and points.

``camera`` (M,), ``point`` (M,): whose observations these are; ``rotation`` (C, 3, 3) from the world
to the camera, ``centre`` (C, 3); ``focal``, ``k1``, ``k2``, ``fisheye`` (G,) of lenses, and
``lens`` (C,), which a camera has.
"""

from __future__ import annotations

import numpy as np

from pointmap.compiled import compiled
from pointmap.lens_loops import lens_scale
from recon.alignment.loops.small import in_camera


@compiled("f8[::1](i8[::1],i8[::1],f8[:,:,::1],f8[:,::1],f8[:,::1])")
def depths(camera, point, rotation, centre, points):  # type: ignore[no-untyped-def]
    """Return how far along z each point is from its camera (M,)."""
    found = np.empty(len(camera))
    for m in range(len(camera)):
        c = camera[m]
        found[m] = in_camera(rotation[c], centre[c], points[point[m]])[2]
    return found


@compiled(
    "f8[:,::1](i8[::1],i8[::1],f8[:,:,::1],f8[:,::1],f8[:,::1],"
    "i8[::1],f8[::1],f8[::1],f8[::1],b1[::1])"
)
def shown(camera, point, rotation, centre, points, lens, focal, k1, k2, fisheye):  # type: ignore[no-untyped-def]
    """Return where cameras show points (M, 2), in pixels from the principal point; NaN of points
    behind them.
    """
    found = np.full((len(camera), 2), np.nan)
    for m in range(len(camera)):
        c = camera[m]
        g = lens[c]
        x, y, z = in_camera(rotation[c], centre[c], points[point[m]])
        if z > 1e-9:
            x, y = x / z, y / z
            scale = focal[g] * lens_scale(x * x + y * y, k1[g], k2[g], fisheye[g])[0]
            found[m, 0], found[m, 1] = scale * x, scale * y
    return found


@compiled(
    "void(i8[::1],i8[::1],f8[:,:,::1],f8[:,::1],f8[:,::1],i8[::1],f8[::1],f8[::1],f8[::1],b1[::1],"
    "f8[::1],f8[::1],i8,f8[:,:,::1])"
)
def jacobians(  # type: ignore[no-untyped-def]
    camera, point, rotation, centre, points, lens, focal, k1, k2, fisheye, weight, along_z, own, out
):
    """Write how what is shown changes, into ``out`` (M, R, 3 + C + 1) as far as its last column.

    Columns: with the point (3), with the camera's turn and shift (``own`` in all), the logarithm
    of the focal length, k1, and if there are columns for them k2 and the principal point. Rows: x
    and y, multiplied by ``weight`` (M,), and if there is one for it z, by ``along_z`` (M,). Zeros
    of a point behind its camera.
    """
    rows, first_of_lens = out.shape[1], 3 + own
    rich = out.shape[2] - first_of_lens - 1 > 2
    frame = np.zeros((rows, 3))
    p = np.empty(3)
    out[:, :, :-1] = 0.0
    for m in range(len(camera)):
        c = camera[m]
        g, R, row = lens[c], rotation[c], out[m]
        p[0], p[1], p[2] = in_camera(R, centre[c], points[point[m]])
        if not p[2] > 1e-9:
            continue
        x, y = p[0] / p[2], p[1] / p[2]
        scale, by_square, by_k1, by_k2 = lens_scale(x * x + y * y, k1[g], k2[g], fisheye[g])
        slope = weight[m] * focal[g]
        # d g q / dq = g I + 2 dg/d|q|^2 q q^T, and q = p[:2] / p[2].
        twice = 2 * by_square
        frame[0, 0] = slope * (scale + twice * x * x) / p[2]
        frame[0, 1] = frame[1, 0] = slope * twice * x * y / p[2]
        frame[1, 1] = slope * (scale + twice * y * y) / p[2]
        frame[0, 2] = -(frame[0, 0] * x + frame[0, 1] * y)
        frame[1, 2] = -(frame[1, 0] * x + frame[1, 1] * y)
        if rows > 2:
            frame[2, 2] = along_z[m]
        for r in range(rows):
            f0, f1, f2 = frame[r, 0], frame[r, 1], frame[r, 2]
            for k in range(3):
                row[r, k] = f0 * R[0, k] + f1 * R[1, k] + f2 * R[2, k]
                row[r, 6 + k] = -row[r, k]
            # g . (w x p) = w . (p x g), with g a row of the frame.
            row[r, 3] = p[1] * f2 - p[2] * f1
            row[r, 4] = p[2] * f0 - p[0] * f2
            row[r, 5] = p[0] * f1 - p[1] * f0
        for r in range(2):
            q = slope * (x if r == 0 else y)
            row[r, first_of_lens] = q * scale
            row[r, first_of_lens + 1] = q * by_k1
            if rich:
                row[r, first_of_lens + 2] = q * by_k2
                row[r, first_of_lens + 3 + r] = weight[m]
