"""Pictures of how depth errs: curves over all pixels, and photo by photo."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pointmap.camera import Array
from recon.evaluation.depth import is_known
from recon.evaluation.depth_alignment import fit_depth
from recon.evaluation.depth_folder import DepthSet

# Rows of the sheet, and relative error at which its colours end.
_PHOTOS = 4
_MAX_ERROR = 0.3


def write_plots(folder: Path, name: str, sets: Sequence[DepthSet]) -> None:
    """Write NAME-curves.png and NAME-photos.png; depth is aligned by each photo's median."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_curves(folder / f"{name}-curves.png", name, sets)
    _write_photos(folder / f"{name}-photos.png", sets)


def _write_curves(path: Path, name: str, sets: Sequence[DepthSet]) -> None:
    """Write the share of pixels below each relative error, and the error by true depth."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    shares, by_depth = figure.subplots(1, 2)
    for depths in sets:
        maps = [_relative_error(p, t) for p, t in zip(depths.predicted, depths.truth, strict=True)]
        error = np.concatenate([np.zeros(0), *(e[np.isfinite(e)] for e in maps)])
        z = np.concatenate(
            [np.zeros(0), *(t[np.isfinite(e)] for e, t in zip(maps, depths.truth, strict=True))]
        )
        if not error.size:
            continue
        levels = np.linspace(0, 1, 201)
        below = np.searchsorted(np.sort(error), levels) / error.size
        shares.plot(levels, 100 * below, label=depths.method)
        edges = np.unique(np.quantile(z, np.linspace(0, 1, 11)))
        bins = np.clip(np.searchsorted(edges, z, side="right") - 1, 0, max(len(edges) - 2, 0))
        used = np.unique(bins)
        middles = [float(np.median(z[bins == b])) for b in used]
        by_depth.plot(middles, [100 * error[bins == b].mean() for b in used], "o-")
    shares.set(xlabel="relative error", ylabel="pixels below, %", xlim=(0, 1), ylim=(0, 100))
    by_depth.set(xlabel="true depth", ylabel="mean relative error, %", ylim=(0, None))
    shares.legend(loc="lower right")
    figure.suptitle(f"{name}: depth after one median scale per photo")
    figure.savefig(path, dpi=110)


def _write_photos(path: Path, sets: Sequence[DepthSet]) -> None:
    """Write a sheet: photo, true depth, and for each method its depth and its relative error."""
    from matplotlib.figure import Figure

    count = len(sets[0].names)
    chosen = np.unique(np.linspace(0, count - 1, min(count, _PHOTOS)).astype(int))
    columns = 2 + 2 * len(sets)
    figure = Figure(figsize=(2.6 * columns, 2.1 * len(chosen)), layout="constrained")
    axes = figure.subplots(len(chosen), columns, squeeze=False)
    for row, k in zip(axes, chosen, strict=True):
        truth, photo = sets[0].truth[k], sets[0].photos[k]
        known = truth[is_known(truth)]
        low, high = np.percentile(1 / known, [2, 98]) if known.size else (0, 1)
        if photo is not None:
            row[0].imshow(photo)
        row[0].set_title(sets[0].names[k], fontsize=8)
        row[1].imshow(_inverse(truth), cmap="inferno", vmin=low, vmax=high)
        row[1].set_title("truth", fontsize=8)
        for number, depths in enumerate(sets):
            aligned = _aligned(depths.predicted[k], truth)
            shown, off = row[2 + 2 * number : 4 + 2 * number]
            shown.imshow(_inverse(aligned), cmap="inferno", vmin=low, vmax=high)
            shown.set_title(depths.method, fontsize=8)
            error = off.imshow(
                _relative_error(depths.predicted[k], truth), cmap="viridis", vmin=0, vmax=_MAX_ERROR
            )
            off.set_title("relative error", fontsize=8)
    for axis in axes.ravel():
        axis.set_axis_off()
    figure.colorbar(error, ax=axes, shrink=0.5, label="relative error")
    figure.savefig(path, dpi=90)


def _aligned(predicted: Array, truth: Array) -> Array:
    """Return the prediction times its median scale, NaN where unknown."""
    p = np.where(is_known(predicted), predicted, np.nan)
    both = np.isfinite(p) & is_known(truth)
    fit = fit_depth(p[both], truth[both], "median")
    return p if fit is None else fit.scale * p


def _relative_error(predicted: Array, truth: Array) -> Array:
    """Return |p - t| / t (h, w), NaN where either is unknown."""
    known = np.where(is_known(truth), truth, np.nan)
    return np.abs(_aligned(predicted, truth) - known) / known


def _inverse(depth: Array) -> Array:
    return 1 / np.where(is_known(depth), depth, np.nan)
