"""Where cameras see points, and points from where cameras see them.

``rotation`` (N, 3, 3) from the world to the camera and ``centre`` (N, 3) of each photo, ``view``
(M,): which of them an observation is of.
"""

from __future__ import annotations

import math

import numpy as np

from pointmap.compiled import compiled
from pointmap.lens_loops import lens_scale
from recon.alignment.loops.small import cholesky, in_camera, solved


@compiled()
def _error_px(R, centre, focal, principal, k1, k2, fold, fisheye, xy, point):  # type: ignore[no-untyped-def]
    x, y, z = in_camera(R, centre, point)
    if not z > 0:
        return np.inf
    x, y = x / z, y / z
    square = x * x + y * y
    along = math.atan(math.sqrt(square)) ** 2 if fisheye else square
    if not along < fold * fold:
        return np.inf
    scale = focal * lens_scale(square, k1, k2, fisheye)[0]
    off_x, off_y = scale * x + principal[0] - xy[0], scale * y + principal[1] - xy[1]
    error = math.sqrt(off_x * off_x + off_y * off_y)
    return error if math.isfinite(error) else np.inf


@compiled(
    "f8[::1](f8[:,:,::1],f8[:,::1],f8[::1],f8[:,::1],f8[::1],f8[::1],f8[::1],b1[::1],"
    "i8[::1],f8[:,::1],f8[:,::1])"
)
def errors_px(rotation, centre, focals, principal, k1, k2, fold, fisheye, view, xy, points):  # type: ignore[no-untyped-def]
    """Return reprojection errors (M,); inf behind the camera and beyond a lens's ``fold``."""
    errors = np.empty(len(view))
    for m in range(len(view)):
        v = view[m]
        errors[m] = _error_px(
            rotation[v], centre[v], focals[v], principal[v], k1[v], k2[v], fold[v], fisheye[v],
            xy[m], points[m],
        )  # fmt: skip
    return errors


@compiled(
    "f8[::1](f8[:,:,::1],f8[:,::1],f8[::1],f8[:,::1],f8[::1],f8[::1],f8[::1],b1[::1],"
    "i8[::1],f8[:,::1],f8[::1],i8[::1],i8[::1],f8[:,::1])"
)
def agreement(  # type: ignore[no-untyped-def]
    rotation, centre, focals, principal, k1, k2, fold, fisheye, view, xy, limit, chain, ends, points
):
    """Return how well each point (T, 3) fits the nodes of its ``chain`` (T,).

    Those of chain c are ``ends[c]`` to ``ends[c + 1]`` of ``view``, ``xy`` and ``limit`` (N,).
    MSAC's score: how far inside the limit they are.
    """
    scores = np.zeros(len(points))
    for t in range(len(points)):
        for n in range(ends[chain[t]], ends[chain[t] + 1]):
            v = view[n]
            error = _error_px(
                rotation[v], centre[v], focals[v], principal[v], k1[v], k2[v], fold[v], fisheye[v],
                xy[n], points[t],
            )  # fmt: skip
            scores[t] += max(1 - (error / limit[n]) ** 2, 0.0)
    return scores


@compiled("Tuple((f8[:,::1],f8[::1]))(f8[:,::1],f8[:,::1],f8[:,::1],f8[:,::1])")
def ray_midpoints(centres_1, rays_1, centres_2, rays_2):  # type: ignore[no-untyped-def]
    """Return the points (M, 3) midway where rays come closest, and the angles (M,) between them."""
    points, angles = np.empty(rays_1.shape), np.empty(len(rays_1))
    for m in range(len(rays_1)):
        a, b, p, q = rays_1[m], rays_2[m], centres_1[m], centres_2[m]
        cosine = a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
        x, y, z = a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]
        angles[m] = math.atan2(math.sqrt(x * x + y * y + z * z), cosine)
        sine2 = 1 - cosine * cosine
        if not sine2 > 1e-12:
            points[m] = np.nan
            continue
        along_a = along_b = 0.0
        for k in range(3):
            along_a += (q[k] - p[k]) * a[k]
            along_b += (q[k] - p[k]) * b[k]
        to_a, to_b = (along_a - cosine * along_b) / sine2, (cosine * along_a - along_b) / sine2
        for k in range(3):
            points[m, k] = 0.5 * (p[k] + to_a * a[k] + q[k] + to_b * b[k])
    return points, angles


@compiled("f8[:,::1](f8[:,:,::1],f8[:,::1],f8[::1],i8[::1],i8[::1],f8[:,::1],f8[::1],f8[:,::1],i8)")
def refined_points(rotation, centre, focals, ends, view, seen, sigma_px, points, iterations):  # type: ignore[no-untyped-def]
    """Return points (P, 3) after Gauss-Newton, each on its own observations.

    Those of point p are ``ends[p]`` to ``ends[p + 1]`` of ``view`` (M,), ``seen`` (M, 2) on the
    plane z = 1 and ``sigma_px`` (M,). A point that a step would make worse keeps its place.
    """
    found = points.copy()
    normal, root = np.empty((3, 3)), np.empty((3, 3))
    gradient, J, here = np.empty(3), np.empty((2, 3)), np.empty(3)
    for p in range(len(points)):
        best = np.inf
        here[:] = points[p]
        for step in range(iterations + 1):
            cost = 0.0
            normal[:] = 0.0
            gradient[:] = 0.0
            for m in range(ends[p], ends[p + 1]):
                R, focal = rotation[view[m]], focals[view[m]]
                x, y, z = in_camera(R, centre[view[m]], here)
                if not z > 1e-9:
                    # Behind a camera: 10,000 px off, so that no point moves there.
                    cost += 2 * (1e4 / sigma_px[m]) ** 2
                    continue
                x, y = x / z, y / z
                weight = focal / sigma_px[m]
                off_x, off_y = weight * (x - seen[m, 0]), weight * (y - seen[m, 1])
                cost += off_x * off_x + off_y * off_y
                for k in range(3):
                    J[0, k] = weight / z * (R[0, k] - x * R[2, k])
                    J[1, k] = weight / z * (R[1, k] - y * R[2, k])
                for a in range(3):
                    gradient[a] += J[0, a] * off_x + J[1, a] * off_y
                    for b in range(a + 1):
                        normal[a, b] += J[0, a] * J[0, b] + J[1, a] * J[1, b]
            if not cost < best:
                break
            best = cost
            found[p] = here
            if step == iterations:
                break
            ridge = 1e-6 * (normal[0, 0] + normal[1, 1] + normal[2, 2]) + 1e-30
            for a in range(3):
                normal[a, a] += ridge
            if not cholesky(normal, root):
                break
            solved(root, gradient)
            for a in range(3):
                here[a] = found[p, a] - gradient[a]
    return found


@compiled("f8[::1](f8[:,::1],i8[::1],i8[::1],f8[:,::1])")
def widest_chords(centre, ends, view, points):  # type: ignore[no-untyped-def]
    """Return the widest squared chord (P,) between the unit rays of any two photos of a point,
    whose observations are ``ends[p]`` to ``ends[p + 1]`` of ``view`` (M,).
    """
    widest = np.zeros(len(points))
    rays = np.empty((len(view), 3))
    for p in range(len(points)):
        for m in range(ends[p], ends[p + 1]):
            length = 0.0
            for k in range(3):
                rays[m, k] = points[p, k] - centre[view[m], k]
                length += rays[m, k] ** 2
            length = max(math.sqrt(length), 1e-30)
            for k in range(3):
                rays[m, k] /= length
            for other in range(ends[p], m):
                chord = 0.0
                for k in range(3):
                    chord += (rays[m, k] - rays[other, k]) ** 2
                widest[p] = max(widest[p], chord)
    return widest
