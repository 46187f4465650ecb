"""How many known pixels are on each of many planes."""

from __future__ import annotations

import numpy as np

from pointmap.compiled import compiled


@compiled("b1[:,::1](f8[:,::1],f8[::1],f8[::1],f8[::1],f8)")
def pixels_on_planes(planes, x, y, inverse, share):  # type: ignore[no-untyped-def]
    """Return which pixels (N,) at ``x``, ``y`` are on which ``planes`` (3, T) of inverse depth
    a + b x + c y: (N, T), those whose own is off by less than a ``share``.
    """
    a, b, c = planes[0], planes[1], planes[2]
    on = np.empty((len(x), planes.shape[1]), np.bool_)
    for n in range(len(x)):
        limit = share * inverse[n]
        for t in range(len(a)):
            on[n, t] = abs(a[t] + b[t] * x[n] + c[t] * y[n] - inverse[n]) < limit
    return on


@compiled("void(f8[::1],b1[:,::1],f8[::1])")
def add_votes(votes, on, weight):  # type: ignore[no-untyped-def]
    """Add the ``weight`` (N,) of the pixels that are ``on`` (N, T) each plane to its ``votes``."""
    for n in range(len(weight)):
        if weight[n] != 0:
            for t in range(len(votes)):
                votes[t] += weight[n] * on[n, t]
