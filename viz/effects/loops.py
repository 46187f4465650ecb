"""Loops over pixels of the effects, compiled by numba when they are imported."""

from __future__ import annotations

import math

import numpy as np

from pointmap.compiled import compiled


@compiled()
def _apart(near, far, jump):  # type: ignore[no-untyped-def]
    """Return how far depths belong to two surfaces: 0 up to a relative ``jump``, 1 from three."""
    return min(1.0, max(0.0, (far / near - 1 - jump) / (2 * jump)))


@compiled("f4[:,:,:](f4[:,:,:,:], f4[:,:,:], f4[:,:,:], f4[:,:], f4[:,:], f4[:,:], f4)")
def discs(light, depth, radius, behind, base, base_radius, jump):  # type: ignore[no-untyped-def]
    """Return the light (h, w, 3) of two layers (2, h, w, 3) spread over discs of ``radius``.

    Layer 0 is the photo, layer 1 what is hidden behind it, by the share ``behind`` (h, w); ``base``
    and ``base_radius`` (h, w) are depth and radius of the farthest surface of a pixel. Nearer ones
    cover it by the share of their discs, of those that would be there if they went on all around.
    Farther ones spread no wider than it does, and what is hidden behind it does not show.
    """
    _, h, w = depth.shape
    out = np.zeros((h, w, 3), np.float32)
    reach = math.ceil(radius.max() + 0.5)
    for y in range(h):
        for x in range(w):
            limit, own = base[y, x], max(base_radius[y, x], 0.5)
            near, near_r, near_g, near_b, near_radius = 0.0, 0.0, 0.0, 0.0, 0.0
            far, far_r, far_g, far_b = 1e-6, 0.0, 0.0, 0.0
            for v in range(max(0, y - reach), min(h, y + reach + 1)):
                for u in range(max(0, x - reach), min(w, x + reach + 1)):
                    off = math.sqrt((v - y) ** 2 + (u - x) ** 2)
                    for layer in range(2):
                        r = max(radius[layer, v, u], 0.5)  # a pixel's own
                        if r + 0.5 <= off or (layer == 1 and behind[v, u] <= 0):
                            continue
                        there = depth[layer, v, u]
                        share = 1.0
                        if layer == 1:
                            share = behind[v, u] * min(1.0, 1 - (there / limit - 1) / jump)
                        elif r > own and there > limit:
                            r -= _apart(limit, there, jump) * (r - own)
                        edge = min(1.0, r + 0.5 - off)
                        if edge <= 0 or share <= 0:
                            continue
                        weight = share * edge / (math.pi * max(r, 0.5641896) ** 2)
                        covers = _apart(there, limit, jump)
                        if layer == 0 and behind[y, x] > 0 and behind[v, u] > 0:
                            covers = 1.0  # before the same background
                        covers *= weight
                        near += covers
                        near_r += covers * light[layer, v, u, 0]
                        near_g += covers * light[layer, v, u, 1]
                        near_b += covers * light[layer, v, u, 2]
                        near_radius += covers * r
                        rest = weight - covers
                        far += rest
                        far_r += rest * light[layer, v, u, 0]
                        far_g += rest * light[layer, v, u, 1]
                        far_b += rest * light[layer, v, u, 2]
            covered = 0.0
            if near > 0:
                # Radii differ, so that discs don't add up to 1 where all of them are there.
                r = near_radius / near
                around = math.ceil(r + 0.5)
                missing = 0.0
                for v in range(max(0, y - around), min(h, y + around + 1)):
                    for u in range(max(0, x - around), min(w, x + around + 1)):
                        edge = min(1.0, r + 0.5 - math.sqrt((v - y) ** 2 + (u - x) ** 2))
                        if edge <= 0 or (behind[y, x] > 0 and behind[v, u] > 0):
                            continue
                        rest = 1 - _apart(depth[0, v, u], limit, jump)
                        missing += rest * edge / (math.pi * max(r, 0.5641896) ** 2)
                covered = near / (near + missing)
            a, b = covered / max(near, 1e-6), (1 - covered) / far
            out[y, x, 0] = a * near_r + b * far_r
            out[y, x, 1] = a * near_g + b * far_g
            out[y, x, 2] = a * near_b + b * far_b
    return out


@compiled("void(u1[:,:,:], f4[:,:], f4[:,:], f4[:,:], f4, u1[:,:,:], f4[:,:])")
def warp(pixels, inverse, to_x, to_y, jump, out, nearest):  # type: ignore[no-untyped-def]
    """Draw ``pixels`` (h, w, 3) at the places ``to_x``, ``to_y`` (h, w), nearest on top.

    Each square of four neighbours is a patch, unless ``inverse`` depth (h, w) steps within it by
    more than a relative ``jump``. ``out`` (h, w, 3) and ``nearest`` (h, w), inverse depth, are
    changed.
    """
    h, w = inverse.shape
    for y in range(h - 1):
        for x in range(w - 1):
            i00, i01 = inverse[y, x], inverse[y, x + 1]
            i10, i11 = inverse[y + 1, x], inverse[y + 1, x + 1]
            least, most = min(i00, i01, i10, i11), max(i00, i01, i10, i11)
            if most > least * (1 + jump):
                continue
            x00, y00 = to_x[y, x], to_y[y, x]
            for half in range(2):
                if half == 0:
                    x1, y1, x2, y2 = (
                        to_x[y, x + 1],
                        to_y[y, x + 1],
                        to_x[y + 1, x + 1],
                        to_y[y + 1, x + 1],
                    )
                else:
                    x1, y1, x2, y2 = (
                        to_x[y + 1, x + 1],
                        to_y[y + 1, x + 1],
                        to_x[y + 1, x],
                        to_y[y + 1, x],
                    )
                area = (x1 - x00) * (y2 - y00) - (x2 - x00) * (y1 - y00)
                if area <= 1e-9:
                    continue  # seen from behind
                left = max(0, math.ceil(min(x00, x1, x2) - 1e-4))
                right = min(w - 1, math.floor(max(x00, x1, x2) + 1e-4))
                top = max(0, math.ceil(min(y00, y1, y2) - 1e-4))
                bottom = min(h - 1, math.floor(max(y00, y1, y2) + 1e-4))
                for v in range(top, bottom + 1):
                    for u in range(left, right + 1):
                        b = ((u - x00) * (y2 - y00) - (x2 - x00) * (v - y00)) / area
                        c = ((x1 - x00) * (v - y00) - (u - x00) * (y1 - y00)) / area
                        if b < -1e-4 or c < -1e-4 or b + c > 1.0001:
                            continue
                        # Shares across and down within the square.
                        s, t = (b + c, c) if half == 0 else (b, b + c)
                        depth = (1 - t) * ((1 - s) * i00 + s * i01) + t * ((1 - s) * i10 + s * i11)
                        if depth <= nearest[v, u]:
                            continue
                        nearest[v, u] = depth
                        for k in range(3):
                            above = (1 - s) * pixels[y, x, k] + s * pixels[y, x + 1, k]
                            below = (1 - s) * pixels[y + 1, x, k] + s * pixels[y + 1, x + 1, k]
                            out[v, u, k] = np.uint8((1 - t) * above + t * below + 0.5)
