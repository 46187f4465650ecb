"""Depth for other programs: npz, 16-bit PNG or EXR, as computed or at the photo's own size."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recon.export.depth_npz import lens_arrays
from recon.export.file_names import depth_stems
from recon.export.json_file import write_json
from recon.export.npz_file import write_npz
from recon.export.options import ExportOptions
from recon.fusion.full_photos import full_photo
from recon.scene import Scene, View
from recon.stage_results import DepthMap
from recon.work.threads import in_threads

# 65535 is left free: some programs use it for "no measurement".
_LARGEST = 65534


def write_depth_files(folder: Path, scene: Scene, options: ExportOptions) -> None:
    """Write what ``options`` ask for to ``depth_npz``, ``depth_png``, ``depth_exr`` in ``folder``.

    Depth is along z, 0 = unknown, K is for the file's size. In PNG a step is the same for all
    photos: ``depth_png/scale.json`` says how much. EXR holds the channels Z and confidence.
    """
    kinds = [name for name in ("npz", "png", "exr") if f"depth-{name}" in options.formats]
    if not kinds:
        return
    for kind in kinds:
        (folder / f"depth_{kind}").mkdir()
    step = _step(scene.views)
    stems = depth_stems([view.name for view in scene.views])

    def write(pair: tuple[View, str]) -> None:
        view, stem = pair
        depth = _depth(view, original=options.depth_resolution == "original")
        if "npz" in kinds:
            _write_npz(folder / f"depth_npz/{stem}.npz", depth, view)
        if "png" in kinds:
            _write_png(folder / f"depth_png/{stem}.png", depth.depth, step)
        if "exr" in kinds:
            _write_exr(folder / f"depth_exr/{stem}.exr", depth)

    for _ in in_threads(write, zip(scene.views, stems, strict=True)):
        pass
    if "png" in kinds:
        write_json(
            folder / "depth_png/scale.json",
            {"depth_per_step": step, "units": scene.units, "unknown": 0},
        )


def _depth(view: View, *, original: bool) -> DepthMap:
    """Return the view's depth, unknown as 0, at its own or the photo's size."""
    measured = view.depth
    known = np.isfinite(measured) & (measured > 0)
    depth = DepthMap(
        np.where(known, measured, 0).astype(np.float32),
        np.nan_to_num(view.confidence).astype(np.float32),
    )
    if not original:
        return depth
    from recon.depth.resampling import upsample_depth

    return upsample_depth(depth, full_photo(view, 1.0))


def _step(views: Sequence[View]) -> float:
    """Return the depth of one 16-bit step that reaches to the farthest depth of all views."""
    depths = (view.depth for view in views)
    largest = max((float(d[np.isfinite(d)].max(initial=0)) for d in depths), default=0)
    # Upsampling may lead a little beyond what was measured.
    return 1.1 * largest / _LARGEST if largest > 0 else 1.0


def _write_npz(path: Path, depth: DepthMap, view: View) -> None:
    height, width = depth.depth.shape
    write_npz(
        path,
        depth=depth.depth,
        confidence=depth.confidence,
        K=view.camera.intrinsics_at(width, height),
        **lens_arrays(view.camera.lens),
    )


def _write_png(path: Path, depth: NDArray[np.float32], step: float) -> None:
    from PIL import Image

    steps = np.round(depth.astype(np.float64) / step)
    # What is known but nearer than half a step must not read as unknown.
    steps = np.where(depth > 0, np.clip(steps, 1, _LARGEST), 0)
    Image.fromarray(steps.astype(np.uint16)).save(path, format="PNG")


def _write_exr(path: Path, depth: DepthMap) -> None:
    import OpenEXR

    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    channels = {
        "Z": np.ascontiguousarray(depth.depth),
        "confidence": np.ascontiguousarray(depth.confidence),
    }
    with OpenEXR.File(header, channels) as file:
        try:
            file.write(str(path))
        except RuntimeError as error:
            # Its way to say that the disk is full; the same as any other file's to us.
            raise OSError(errno.EIO, str(error).replace("\n", " ")) from error
