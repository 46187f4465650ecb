"""Linear systems that are symmetric and positive definite, sparse where they are large."""

from __future__ import annotations

import numpy as np
from scipy import linalg, sparse
from scipy.sparse.linalg import splu

from pointmap.camera import Array

# Up to so many unknowns a dense factorisation is as fast as any.
_DENSE = 400


def solve_positive(S: sparse.csc_array, b: Array) -> Array | None:
    """Return x with ``S x = b`` for a symmetric positive definite S (D, D); None if it is not.

    ``b``, x: (D,), or (D, K) for K systems at once.

    Dense Cholesky for small systems; sparse LU without pivoting for large ones, its columns ordered
    for least fill of a symmetric pattern.
    """
    if len(b) <= _DENSE:
        try:
            return np.asarray(linalg.cho_solve(linalg.cho_factor(S.toarray()), b))
        except (np.linalg.LinAlgError, ValueError):
            return None
    try:
        factor = splu(
            S,
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )
    except RuntimeError:
        return None
    x = factor.solve(b)
    return x if np.isfinite(x).all() else None
