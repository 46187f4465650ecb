"""Depth maps: ``depth/STEM.npz`` for programs, ``depth/STEM.png`` for eyes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array
from pointmap.errors import InputError
from pointmap.lens import MODELS, Lens
from pointmap.outside.arrays import read_npz
from pointmap.outside.values import (
    FOCAL_RANGE_PX,
    MAX_LENGTH,
    checked_lens,
    matrix,
    whole,
)
from recon.export.npz_file import write_npz
from recon.scene import View

# Bits of the mantissa that depth keeps of 23, so that files are small: off by 0.025 % at most, a
# tenth of what the best of it is accurate to.
_MANTISSA_BITS = 11
# Steps of confidence in [0, 1].
_CONFIDENCE_STEPS = 256


@dataclass(frozen=True)
class StoredDepth:
    """What a depth file holds, all at one resolution that covers the whole photo.

    ``depth`` (h, w) float32 along z in scene units, 0 = unknown; ``confidence`` (h, w) float32 in
    [0, 1]; ``image`` (h, w, 3) uint8 RGB; ``intrinsics`` (3, 3) at this resolution and the
    ``lens``; ``usable`` (h, w): which pixels are neither masked nor transparent, None:
    all.
    """

    depth: NDArray[np.float32]
    confidence: NDArray[np.float32]
    image: NDArray[np.uint8]
    intrinsics: Array
    lens: Lens
    usable: NDArray[np.bool_] | None = None


def write_depth_npz(path: Path, view: View) -> None:
    """Write ``depth``, ``confidence``, ``K``, the lens (:func:`lens_arrays`) and ``image`` (the
    photo at this resolution), and ``usable`` where some of it is masked or transparent.

    What is no finite positive depth is written as 0, the one mark for unknown. Depth is rounded to
    within 0.025 % of itself and confidence to 1/256, which compress well.
    """
    depth = view.depth
    height, width = depth.shape
    known = np.isfinite(depth) & (depth > 0)
    usable: dict[str, Any] = {} if view.usable is None else {"usable": view.usable}
    confidence = np.nan_to_num(view.confidence) * np.float32(_CONFIDENCE_STEPS)
    # Little is not nothing, which marks depth that nothing is known of.
    steps = np.maximum(np.round(confidence), confidence > 0).astype(np.float32)
    write_npz(
        path,
        depth=rounded(np.where(known, depth, 0).astype(np.float32)),
        confidence=steps / np.float32(_CONFIDENCE_STEPS),
        K=view.camera.intrinsics_at(width, height),
        **lens_arrays(view.camera.lens),
        image=view.pixels,
        **usable,
    )


def lens_arrays(lens: Lens) -> dict[str, Any]:
    """Return what a file of depth says of its lens: ``k1``, the radial coefficient, or COLMAP's
    number of the ``camera_model`` and its ``coefficients``.
    """
    if lens.model == "SIMPLE_RADIAL":
        return {"k1": np.asarray(lens.coefficients[0], np.float64)}
    return {
        "camera_model": np.asarray(list(MODELS).index(lens.model)),
        "coefficients": np.array(lens.coefficients, np.float64),
    }


def _lens(arrays: Mapping[str, NDArray[Any]]) -> Lens:
    if "camera_model" in arrays:
        names = list(MODELS)
        number_of_it = whole(arrays["camera_model"].item(), "camera_model", 0, len(names) - 1)
        values = arrays.get("coefficients", np.zeros(0)).ravel().tolist()
        return checked_lens(names[number_of_it], values)
    # Files written before lenses were estimated are of pinholes.
    return checked_lens("SIMPLE_RADIAL", [arrays.get("k1", np.float64(0)).item()])


def rounded(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return depth (h, w) at 11 bits of mantissa, the last ones 0: within 2^-12 of itself."""
    dropped = 23 - _MANTISSA_BITS
    bits = depth.view(np.uint32) + np.uint32(1 << (dropped - 1))
    return (bits & ~np.uint32((1 << dropped) - 1)).view(np.float32)


def write_depth_png(path: Path, view: View) -> None:
    """Write the colour-mapped depth as an 8-bit RGB picture."""
    from PIL import Image

    from recon.export.colour import depth_to_rgb

    Image.fromarray(depth_to_rgb(view.depth)).save(path, format="PNG")


def read_depth_npz(path: Path) -> StoredDepth:
    """Read what :func:`write_depth_npz` wrote; ``InputError`` when it is missing or broken."""
    try:
        arrays = read_npz(
            path,
            ("depth", "confidence", "K", "k1", "camera_model", "coefficients", "image", "usable"),
        )
        return _checked(arrays)
    except FileNotFoundError:
        raise InputError(f"{path} is missing: reconstruct the scene again") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(
            f"{path} cannot be read ({reason}): reconstruct the scene again"
        ) from error


def _checked(arrays: Mapping[str, NDArray[Any]]) -> StoredDepth:
    """Return the file's arrays; ``ValueError`` when they are not of one photo's depth."""
    missing = {"depth", "confidence", "K", "image"} - arrays.keys()
    if missing:
        raise ValueError(f"no {' and no '.join(sorted(missing))}")
    stored = StoredDepth(
        depth=arrays["depth"].astype(np.float32),
        confidence=arrays["confidence"].astype(np.float32),
        image=arrays["image"].astype(np.uint8),
        intrinsics=arrays["K"].astype(np.float64),
        lens=_lens(arrays),
        usable=arrays["usable"].astype(bool) if "usable" in arrays else None,
    )
    size = stored.depth.shape
    if stored.depth.ndim != 2 or not stored.depth.size:
        raise ValueError(f"depth has shape {size}")
    if stored.confidence.shape != size or stored.image.shape != (*size, 3):
        raise ValueError("depth, confidence and image are of different sizes")
    if stored.usable is not None and stored.usable.shape != size:
        raise ValueError("depth and usable are of different sizes")
    if not (np.abs(stored.depth).max() <= MAX_LENGTH and np.isfinite(stored.confidence).all()):
        raise ValueError("depth or confidence is not finite")
    K = matrix(stored.intrinsics.tolist(), "K", 3, 3, FOCAL_RANGE_PX[1])
    if not min(K[0, 0], K[1, 1]) > 0:
        raise ValueError("K has no focal length")
    return stored
