"""Loops over pixels of the effects, compiled by numba when they are imported."""

from __future__ import annotations

import math

import numpy as np

from pointmap.compiled import compiled


@compiled("f4[:,:,:](f4[:,:,:,:], f4[:,:,:], f4[:,:,:], b1[:,:,:], f4[:,:], f4)")
def discs(light, depth, radius, there, base_radius, jump):  # type: ignore[no-untyped-def]
    """Return the light (h, w, 3) of layers (L, h, w, 3) spread over discs of ``radius`` (L, h, w).

    Layer 0 is the photo, layer 1 what is hidden behind it, where ``there``; ``base_radius`` (h, w)
    is that of the farthest surface of a pixel. Surfaces nearer than that, by more than a relative
    ``jump``, cover it by the share of their discs; farther ones spread no wider than it does.
    """
    layers, h, w = depth.shape
    out = np.zeros((h, w, 3), np.float32)
    largest = 0.0
    for layer in range(layers):
        for y in range(h):
            for x in range(w):
                if there[layer, y, x]:
                    largest = max(largest, radius[layer, y, x])
    reach = math.ceil(largest + 0.5)
    for y in range(h):
        for x in range(w):
            behind = 1 if there[1, y, x] else 0
            limit = depth[behind, y, x]
            own = base_radius[y, x]
            near, near_r, near_g, near_b = 0.0, 0.0, 0.0, 0.0
            far, far_r, far_g, far_b = 1e-6, 0.0, 0.0, 0.0
            for dy in range(-min(reach, y), min(reach, h - 1 - y) + 1):
                for dx in range(-min(reach, x), min(reach, w - 1 - x) + 1):
                    off = math.sqrt(dx * dx + dy * dy)
                    if off > reach:
                        continue
                    for layer in range(layers):
                        v, u = y + dy, x + dx
                        r = max(radius[layer, v, u], 0.5)  # a pixel's own
                        if r + 0.5 < off or not there[layer, v, u]:
                            continue
                        covers = depth[layer, v, u] * (1 + jump) < limit
                        if not covers and depth[layer, v, u] > limit * (1 + jump):
                            r = min(r, max(own, 0.5))
                        edge = min(1.0, r + 0.5 - off)
                        if edge <= 0:
                            continue
                        weight = edge / (math.pi * max(r, 0.5641896) ** 2)
                        if covers:
                            near += weight
                            near_r += weight * light[layer, v, u, 0]
                            near_g += weight * light[layer, v, u, 1]
                            near_b += weight * light[layer, v, u, 2]
                        else:
                            far += weight
                            far_r += weight * light[layer, v, u, 0]
                            far_g += weight * light[layer, v, u, 1]
                            far_b += weight * light[layer, v, u, 2]
            share = min(1.0, near)
            a, b = share / max(near, 1e-6), (1 - share) / far
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
