"""Linear systems that are symmetric and positive definite, sparse where they are large."""

from __future__ import annotations

import numpy as np
from scipy import linalg, sparse
from scipy.sparse.linalg import SuperLU, splu

from pointmap.camera import Array, Index

# Up to so many unknowns a dense factorisation is as fast as any.
_DENSE = 400


class PositiveSolver:
    """Solves systems of one pattern, one after the other.

    Dense Cholesky for small systems; sparse LU without pivoting for large ones, its unknowns
    ordered for least fill of a symmetric pattern. The order is found once: that takes as long as
    a factorisation.
    """

    def __init__(self) -> None:
        self._order: Index | None = None

    def solve(self, S: sparse.csc_array, b: Array) -> Array | None:
        """Return x with ``S x = b`` for a symmetric positive definite S (D, D); None if it is not.

        ``b``, x: (D,), or (D, K) for K systems at once. Every S has the same pattern, explicit
        zeros included.
        """
        if len(b) <= _DENSE:
            try:
                return np.asarray(linalg.cho_solve(linalg.cho_factor(S.toarray()), b))
            except (np.linalg.LinAlgError, ValueError):
                return None
        try:
            if self._order is None:
                factor = _factor(S, "MMD_AT_PLUS_A")
                self._remember(S, np.argsort(factor.perm_c))
                x = factor.solve(b)
            else:
                ordered = sparse.csc_array((S.data[self._entry], *self._pattern), shape=S.shape)
                x = np.empty_like(b)
                x[self._order] = _factor(ordered, "NATURAL").solve(b[self._order])
        except RuntimeError:
            return None
        return x if np.isfinite(x).all() else None

    def _remember(self, S: sparse.csc_array, order: Index) -> None:
        numbers = np.arange(len(S.data))
        numbered = sparse.csc_array((numbers, S.indices, S.indptr), shape=S.shape)
        numbered = sparse.csc_array(numbered[order][:, order])
        numbered.sort_indices()
        self._order, self._entry = order, numbered.data
        self._pattern = numbered.indices, numbered.indptr


def solve_positive(S: sparse.csc_array, b: Array) -> Array | None:
    """Return x with ``S x = b`` (:meth:`PositiveSolver.solve`) for a single S."""
    return PositiveSolver().solve(S, b)


def _factor(S: sparse.csc_array, order: str) -> SuperLU:
    return splu(S, permc_spec=order, diag_pivot_thresh=0.0, options={"SymmetricMode": True})
