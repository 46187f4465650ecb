"""How lenses bend what a pinhole would show: radial polynomials, fisheyes, and COLMAP's others.

What a pinhole shows at ``(x, y)`` on the plane z = 1 appears at ``g (x, y)``, where ``g`` depends
on ``r = |(x, y)|`` alone. With ``a(t) = t (1 + k1 t^2 + k2 t^4)``:

- radial (COLMAP's SIMPLE_RADIAL and RADIAL): ``g = a(r) / r``;
- fisheye (COLMAP's OPENCV_FISHEYE with k3 = k4 = 0; Kannala and Brandt, PAMI 2006, eq. 6):
  ``g = a(atan r) / r``, equidistant without coefficients.

These two can be solved for. Of all other models the formulas are COLMAP's, for lenses that are
known. Nothing here depends on the photo's size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

# A plane z = 1 has no place for what lies 90 degrees off the axis; a pixel this near to it has.
_WIDEST = np.radians(89.0)

MODELS: Mapping[str, tuple[str, ...]] = {
    "SIMPLE_PINHOLE": (),
    "PINHOLE": (),
    "SIMPLE_RADIAL": ("k1",),
    "RADIAL": ("k1", "k2"),
    "OPENCV": ("k1", "k2", "p1", "p2"),
    "OPENCV_FISHEYE": ("k1", "k2", "k3", "k4"),
    "FULL_OPENCV": ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"),
    "FOV": ("omega",),
    "SIMPLE_RADIAL_FISHEYE": ("k1",),
    "RADIAL_FISHEYE": ("k1", "k2"),
    "THIN_PRISM_FISHEYE": ("k1", "k2", "p1", "p2", "k3", "k4", "sx1", "sy1"),
    "RAD_TAN_THIN_PRISM_FISHEYE": (
        *("k0", "k1", "k2", "k3", "k4", "k5"),
        *("p0", "p1", "s0", "s1", "s2", "s3"),
    ),
    "SIMPLE_DIVISION": ("k",),
    "DIVISION": ("k",),
    "SIMPLE_FISHEYE": (),
    "FISHEYE": (),
    "EUCM": ("alpha", "beta"),
}
"""COLMAP's models of cameras with one centre and the names of what they have beyond focal lengths
and principal point, in COLMAP's order."""
ONE_FOCAL = frozenset(
    {
        *("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "SIMPLE_RADIAL_FISHEYE"),
        *("RADIAL_FISHEYE", "SIMPLE_DIVISION", "SIMPLE_FISHEYE"),
    }
)
"""The models that have one focal length for both axes."""


@dataclass(frozen=True)
class Lens:
    """A lens: ``model`` is one of COLMAP's (:data:`MODELS`), ``coefficients`` in its order.

    A lens with ``bool(lens)`` False is a pinhole.
    """

    model: str = "SIMPLE_RADIAL"
    coefficients: tuple[float, ...] = (0.0,)

    def __bool__(self) -> bool:
        return not self.is_radial or any(self.coefficients)

    @staticmethod
    def radial(k1: float, k2: float = 0.0) -> Lens:
        """Return the lens of one or two radial coefficients."""
        if k2:
            return Lens("RADIAL", (float(k1), float(k2)))
        return Lens("SIMPLE_RADIAL", (float(k1),))

    @staticmethod
    def solved(k1: float, k2: float, fisheye: bool) -> Lens:
        """Return the lens that a bundle adjustment has found."""
        if fisheye:
            return Lens("OPENCV_FISHEYE", (float(k1), float(k2), 0.0, 0.0))
        return Lens.radial(k1, k2)

    @property
    def is_radial(self) -> bool:
        """Whether it is a pinhole or a radial polynomial of up to two coefficients."""
        if self.model == "OPENCV":
            return not any(self.coefficients[2:])
        return self.model in ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL")

    @property
    def is_fisheye(self) -> bool:
        """Whether it is a fisheye of up to two coefficients."""
        if self.model == "OPENCV_FISHEYE":
            return not any(self.coefficients[2:])
        fisheyes = "SIMPLE_FISHEYE", "FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE"
        return self.model in fisheyes

    @property
    def k1_k2(self) -> tuple[float, float]:
        """The first two coefficients of a radial lens or a fisheye."""
        k1, k2, *_ = (*self.coefficients, 0.0, 0.0)
        return k1, k2

    @property
    def parameters(self) -> dict[str, float]:
        """The coefficients by their names."""
        return dict(zip(MODELS[self.model], self.coefficients, strict=True))

    def distort(self, flat: ArrayLike) -> Array:
        """Return where the lens shows points (..., 2) of the plane z = 1; NaN for what it doesn't.

        Polynomials fold back somewhere: what lies beyond has no image.
        """
        flat = np.asarray(flat, np.float64)
        if self.is_radial or self.is_fisheye:
            k1, k2 = self.k1_k2
            return distort(flat, k1, k2, self.is_fisheye) if self else flat
        points = np.concatenate([flat, np.ones_like(flat[..., :1])], axis=-1).reshape(-1, 3)
        finite = np.isfinite(points).all(axis=1)
        shown = np.full((len(points), 2), np.nan)
        shown[finite] = self._colmap().img_from_cam(points[finite])
        # Beyond its fold a polynomial shows what lies elsewhere.
        back = self._colmap().cam_from_img(shown[finite])
        off = np.abs(back - points[finite, :2]).max(axis=1)
        fits = off <= 1e-4 * (1 + np.abs(points[finite, :2]).max(axis=1))
        shown[np.flatnonzero(finite)[~fits]] = np.nan
        return shown.reshape(flat.shape)

    def undistort(self, flat: ArrayLike) -> Array:
        """Return the points (..., 2) of the plane z = 1 that :meth:`distort` takes to ``flat``.

        What lies farther out than the lens can show comes out at the edge of what it can.
        """
        flat = np.asarray(flat, np.float64)
        if self.is_radial or self.is_fisheye:
            k1, k2 = self.k1_k2
            return undistort(flat, k1, k2, self.is_fisheye) if self else flat
        rays = self._colmap().cam_from_img(flat.reshape(-1, 2))
        # COLMAP gives NaN for what no ray shows.
        return np.nan_to_num(rays, nan=float(np.tan(_WIDEST))).reshape(flat.shape)

    def _colmap(self):  # type: ignore[no-untyped-def]
        """Return COLMAP's camera of this lens with focal length 1 and its centre at 0."""
        import pycolmap

        focals = [1.0] if self.model in ONE_FOCAL else [1.0, 1.0]
        parameters = [*focals, 0.0, 0.0, *self.coefficients]
        return pycolmap.Camera(model=self.model, width=1, height=1, params=parameters)


PINHOLE = Lens()
"""A lens that bends nothing."""


def distort(flat: Array, k1: ArrayLike, k2: ArrayLike, fisheye: ArrayLike) -> Array:
    """Return where lenses show points (..., 2); ``k1``, ``k2``, ``fisheye`` broadcast to (...).

    What lies beyond the fold of a polynomial has no image and is NaN.
    """
    square = (flat**2).sum(axis=-1)
    along = np.where(fisheye, np.arctan(np.sqrt(square)) ** 2, square)
    fold = fold_radius(np.asarray(k1, np.float64), np.asarray(k2, np.float64))
    scale = radial_scale(square, k1, k2, fisheye).scale
    return np.asarray(flat * np.where(along < fold**2, scale, np.nan)[..., None])


def undistort(flat: Array, k1: ArrayLike, k2: ArrayLike, fisheye: ArrayLike) -> Array:
    """Return the points (..., 2) that :func:`distort` takes to ``flat``.

    What lies farther out than the lens can show comes out at the edge of what it can. Newton's
    iterations on the radius, or on a fisheye's angle.
    """
    k1, k2, fisheye = np.asarray(k1, np.float64), np.asarray(k2, np.float64), np.asarray(fisheye)
    if not (k1.any() or k2.any() or fisheye.any()):
        return flat
    seen = np.sqrt((flat**2).sum(axis=-1))
    fold = np.minimum(fold_radius(k1, k2), np.where(fisheye, _WIDEST, np.inf))
    square = np.where(np.isfinite(fold), fold, 0.0) ** 2
    farthest = np.where(np.isfinite(fold), fold * (1 + square * (k1 + square * k2)), np.inf)
    radius = _radius(np.minimum(seen, farthest), k1, k2, fold)
    radius = np.where(fisheye, np.tan(np.where(fisheye, radius, 0.0)), radius)
    return np.asarray(flat * np.where(seen > 0, radius / np.where(seen > 0, seen, 1), 1)[..., None])


@dataclass(frozen=True)
class RadialScale:
    """By how much lenses scale a point's place, ``scale``, and how that changes with the point's
    squared radius, with k1 and with k2; all (...).
    """

    scale: Array
    by_square: Array
    by_k1: Array
    by_k2: Array


def radial_scale(square: Array, k1: ArrayLike, k2: ArrayLike, fisheye: ArrayLike) -> RadialScale:
    """Return the scale of points at the squared radius ``square`` (...) of the plane z = 1."""
    # Here, not above: who only needs pinholes need not wait for numba.
    from pointmap.lens_loops import lens_scales

    given = np.broadcast_arrays(square, k1, k2, np.asarray(fisheye, bool))
    numbers = [np.ascontiguousarray(value, np.float64).ravel() for value in given[:3]]
    found = lens_scales(*numbers, np.ascontiguousarray(given[3]).ravel())
    return RadialScale(*found.reshape(4, *given[0].shape))


def _radius(shown: Array, k1: Array, k2: Array, fold: Array) -> Array:
    """Return the least t with t (1 + k1 t^2 + k2 t^4) = ``shown``, below the fold."""
    # As in radial_scale.
    from pointmap.lens_loops import least_radii

    given = np.broadcast_arrays(shown, k1, k2, fold)
    found = least_radii(*(np.ascontiguousarray(value, np.float64).ravel() for value in given))
    return np.asarray(found).reshape(given[0].shape)


def fold_radius(k1: Array, k2: Array) -> Array:
    """Return the least t > 0 at which t (1 + k1 t^2 + k2 t^4) stops growing; inf without any."""
    # 1 + 3 k1 s + 5 k2 s^2 = 0 for s = t^2, by the form that is stable for small k2.
    under = np.square(3 * k1) - 20 * k2
    root = np.sqrt(np.maximum(under, 0.0))
    low = -3 * k1 + root
    with np.errstate(divide="ignore", invalid="ignore"):
        first = np.where(low > 0, 2 / np.where(low > 0, low, 1.0), np.inf)
        return np.sqrt(np.where(under < 0, np.inf, first))
