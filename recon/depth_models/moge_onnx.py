"""MoGe-2 through its ONNX files and onnxruntime: points, mask, metres and focal length.

The files hold the network alone (microsoft/MoGe, docs/onnx.md). Its points are right up to a shift
along the optical axis; that and the focal length are solved here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array, pixel_centres
from pointmap.errors import InputError
from recon.depth_models.protocol import DepthPrediction
from recon.prediction.affine_fit import MapKind
from recon.pretrained.folder import folder_key, library_errors
from recon.pretrained.package import check_package

if TYPE_CHECKING:
    import torch

MODEL_FILE = "model.onnx"
"""What its publisher calls the file in every repository."""
_LEAST_VERSION = (1, 17)
_INPUTS = ("image", "num_tokens")
# docs/onnx.md calls the scale metric_scale; the files that were published have the shorter name.
_OUTPUTS, _SCALES = ("points", "mask"), ("metric_scale", "scale")
# Of the 1200 to 3600 it was trained with, what its publisher exports it with.
_TOKENS = 1800
# Sides of the grid of points that shift and focal length are solved from, as its publisher does.
_GRID = 64


@dataclass(frozen=True)
class MogeOnnx:
    """A :class:`recon.depth_models.protocol.DepthModel` in a session of onnxruntime."""

    name: str
    licence: str
    content_key: str
    session: Any
    scale_name: str

    @property
    def kind(self) -> MapKind:
        """Depth in metres."""
        return "metres"

    def predict(self, pixels: NDArray[np.uint8]) -> DepthPrediction:
        """Return depth and focal length; depth 0 where the model sees no surface, such as sky."""
        points, mask, scale = self.run(pixels, tokens=_TOKENS)
        surface = (mask > 0.5) & np.isfinite(points).all(axis=-1)
        solved = focal_and_shift(points, surface)
        if solved is None:
            return DepthPrediction(np.zeros(surface.shape, np.float32))
        focal_px, shift = solved
        z = points[..., 2] + shift
        depth = np.where(surface & (z > 0), z * scale, 0)
        return DepthPrediction(depth.astype(np.float32), focal_px=focal_px)

    def run(
        self, pixels: NDArray[np.uint8], *, tokens: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
        """Return the network's own points (h, w, 3), camera axes but for a shift along z, its mask
        (h, w) in [0, 1], 1 where there is a surface, and how many metres the points' unit is.
        """
        planes = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32) / 255
        points, mask, scale = self.session.run(
            [*_OUTPUTS, self.scale_name],
            {"image": planes, "num_tokens": np.array(tokens, np.int64)},
        )
        return points[0], mask[0], float(np.ravel(scale)[0])


def focal_and_shift(
    points: NDArray[np.float32], surface: NDArray[np.bool_]
) -> tuple[float, float] | None:
    """Return the focal length, in pixels, and the shift along z that project ``points`` (h, w, 3)
    to their own pixels best, by least squares; of those on a ``surface`` (h, w), a grid of them.

    Assumes a principal point in the middle, square pixels and no distortion (MoGe, arXiv
    2410.19115, section 3.1). None where fewer than three points are left or they tell no focal
    length.
    """
    from scipy.optimize import least_squares

    height, width = surface.shape
    rows, columns = (np.arange(_GRID) * side // _GRID for side in (height, width))
    grid = np.ix_(rows, columns)
    use = surface[grid]
    if use.sum() < 3:
        return None
    half_diagonal = float(np.hypot(width, height)) / 2
    middle = np.array([width, height]) / 2
    place = (pixel_centres(width, height)[grid][use] - middle) / half_diagonal
    xyz = points[grid][use].astype(np.float64)
    xy, z = xyz[:, :2], xyz[:, 2]

    def best_focal(shift: float) -> tuple[float, Array]:
        slope = xy / (z + shift)[:, None]
        return float((slope * place).sum() / max((slope**2).sum(), 1e-12)), slope

    def off(unknown: Array) -> Array:
        focal, slope = best_focal(unknown[0])
        return (focal * slope - place).ravel()

    # All points stay in front of the camera.
    nearest = -float(z.min()) + 1e-3 * float(np.ptp(z) + np.abs(z).mean())
    start = max(0.0, nearest + 1e-3 * (1 + abs(nearest)))
    found = least_squares(off, [start], bounds=([nearest], [np.inf]), x_scale="jac", xtol=1e-9)
    shift = float(found.x[0])
    focal = best_focal(shift)[0]
    return (focal * half_diagonal, shift) if focal > 0 else None


def load_moge(folder: Path, *, name: str, licence: str, device: torch.device) -> MogeOnnx:
    """Return the model in ``folder``, an export for pictures of any size.

    Raises ``InputError`` for another model, unfit files or weights, and without a fitting version
    of onnxruntime.
    """
    import torch

    check_package("onnxruntime", "onnxruntime-gpu", least=_LEAST_VERSION, needed_by="MoGe-2")
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    # No warnings about the graph; errors are raised, too.
    settings.log_severity_level = 4
    providers = ["CPUExecutionProvider"]
    if device.type == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        providers.insert(0, "CUDAExecutionProvider")
    # The library's errors have no class in common but this one.
    with library_errors(folder):
        session = onnxruntime.InferenceSession(
            str(folder / MODEL_FILE), settings, providers=providers
        )
    sizes = {given.name: given.shape for given in session.get_inputs()}
    outputs = [found.name for found in session.get_outputs()]
    scale_name = next((name for name in _SCALES if name in outputs), None)
    any_size = set(sizes) == set(_INPUTS) and not any(
        isinstance(side, int) for side in sizes["image"][2:]
    )
    if scale_name is None or not any_size or not set(_OUTPUTS) <= set(outputs):
        given = ", ".join(f"{name} {shape}" for name, shape in sizes.items())
        raise InputError(
            f"{folder}: {MODEL_FILE} is no MoGe-2 for pictures of any size but makes "
            f"{', '.join(outputs)} of {given}; give a published one, such as "
            "Ruicheng/moge-2-vits-normal-onnx"
        )
    model = MogeOnnx(name, licence, folder_key(folder), session, scale_name)
    with library_errors(folder):
        points, _, scale = model.run(_first_picture(), tokens=6)
    if not (np.isfinite(points).all() and np.isfinite(scale)):
        raise InputError(f"{folder}: weights are not finite; download it again")
    return model


def _first_picture() -> NDArray[np.uint8]:
    """Return a small picture (28, 42, 3) that a model is tried with: noise."""
    return np.random.default_rng(0).integers(0, 256, (28, 42, 3), np.uint8)
