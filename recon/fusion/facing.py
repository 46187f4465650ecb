"""How squarely each pixel's surface faces the photo."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array
from recon.fusion.frames import Frame

LEAST = 0.1
"""What faces a photo less, within 6 degrees, counts as this: its slope is noise."""
# Depth of at least this confidence is believed to slant: what is less sure may lead from one thing
# to the next, where nothing is.
_FIRM = 0.7

BEHIND = 0.65
"""What is behind a slanted surface is told by at least so many truncations along the normal: the
diagonal of a cell of marching cubes is 0.43 of the usual one.
"""


def facing(depth: NDArray[np.float32], intrinsics: Array) -> NDArray[np.float32]:
    """Return what share (h, w), up to 1, of a pixel's distance along z to the surface of a
    ``depth`` map (h, w) is distance along its normal, if the surface goes on as it slants there.
    """
    from recon.fusion.compiled_facing import facing_of

    K = intrinsics
    found: NDArray[np.float32] = facing_of(
        np.ascontiguousarray(depth), K[0, 0], K[1, 1], K[0, 2], K[1, 2], LEAST
    )
    return found


def faced_by(frame: Frame) -> NDArray[np.float32]:
    """Return :func:`facing` of a photo's pixels (h, w), at least :data:`BEHIND` where its depth is
    not sure.
    """
    found = facing(frame.depth, frame.intrinsics)
    sure = frame.confidence >= _FIRM
    return np.asarray(np.where(sure, found, np.maximum(found, np.float32(BEHIND))), np.float32)
