"""Loops over observations and points, compiled by numba, or read from what an earlier run compiled,
when they are first asked for: a command's ``--help`` needs none.
"""

from pointmap.lazy import lazy_names

_HOMES = {
    "elimination": (
        "add_products",
        "eliminate",
        "solve_transposed",
        "subtract_from_points",
        "subtract_from_rows",
        "subtract_shares",
    ),
    "observations": ("depths", "jacobians", "shown"),
    "reprojection": ("agreement", "errors_px", "ray_midpoints", "refined_points", "widest_chords"),
}
_MODULES = {name: f"{__name__}.{home}" for home, names in _HOMES.items() for name in names}

__all__ = list(_MODULES)

__getattr__ = lazy_names(__name__, _MODULES)
