"""Depth maps of a folder of photos against their truth: given ones, or our own of those photos."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array, sample_at
from pointmap.decoding import open_picture
from pointmap.errors import InputError, UnusablePicture
from recon.evaluation.boundaries import boundary_f1
from recon.evaluation.depth import DepthScores, score_depths
from recon.evaluation.depth_alignment import ALIGNMENTS, ROBUST, DepthAlignment
from recon.evaluation.depth_files import DEPTH_SUFFIXES, read_depth_file
from recon.evaluation.scene import read_truth
from recon.export.cameras_json import read_cameras

# Rounding of a network's sizes to multiples of 16 changes the aspect of a small map this much.
_MAX_ASPECT_CHANGE = 0.1


@dataclass(frozen=True)
class DepthSet:
    """Depth of one folder by one ``method``, ``predicted`` at the pixels of ``truth``, per name.

    ``photos`` are the pictures (h, w, 3) uint8 of any size, None where there is only depth.
    """

    method: str
    names: tuple[str, ...]
    predicted: tuple[Array, ...]
    truth: tuple[Array, ...]
    photos: tuple[NDArray[np.uint8] | None, ...]


@dataclass(frozen=True)
class AlignedScores:
    """``scores`` after one ``alignment``, per photo or one for the whole sequence."""

    alignment: DepthAlignment
    robust: bool
    per_sequence: bool
    scores: DepthScores


def score_all(depths: DepthSet) -> list[AlignedScores]:
    """Score by every alignment there is."""
    rows = []
    for per_sequence in (False, True):
        for robust, alignments in ((False, ALIGNMENTS), (True, ROBUST)):
            for alignment in alignments:
                if alignment == "none" and per_sequence:
                    continue
                scores = score_depths(
                    depths.predicted,
                    depths.truth,
                    alignment=alignment,
                    robust=robust,
                    per_sequence=per_sequence,
                )
                rows.append(AlignedScores(alignment, robust, per_sequence, scores))
    return rows


def mean_boundary_f1(depths: DepthSet) -> float | None:
    """Return the mean boundary F1 over photos whose truth has edges."""
    found = [boundary_f1(p, t) for p, t in zip(depths.predicted, depths.truth, strict=True)]
    known = [value for value in found if value is not None]
    return float(np.mean(known)) if known else None


def given_depths(folder: Path, predicted: Path, *, unit: float) -> DepthSet:
    """Return the depth maps in ``predicted`` against the truth in ``folder``.

    ``folder`` has cameras.json and depth/ (:mod:`recon.evaluation.scene`), or holds depth files;
    ``predicted`` was written by run_recon.py, or holds depth files of the same stems. ``unit`` is a
    16-bit step. Photos without a prediction count as unknown; raises ``InputError`` when there is
    nothing to compare, a file cannot be read or shapes of a pair differ in more than resolution.
    """
    truth = _truth_files(folder, unit)
    found = _predicted_files(predicted)
    both = [name for name in truth if Path(name).stem in found]
    if not both:
        raise InputError(
            f"no depth in {predicted} has the name of one of the {len(truth)} maps in {folder}"
        )
    predictions, truths = [], []
    for name, (path, step) in truth.items():
        true = read_depth_file(path, unit=step)
        file = found.get(Path(name).stem)
        given = np.zeros_like(true) if file is None else read_depth_file(file, unit=unit)
        predictions.append(_at_truth(given, true, name))
        truths.append(true)
    photos = [_picture(folder / "images" / name) for name in truth]
    return DepthSet("given", tuple(truth), tuple(predictions), tuple(truths), tuple(photos))


def own_depths(folder: Path, *, weights: str | None, device: str | None) -> Iterator[DepthSet]:
    """Yield our depth of ``folder``/images: of each photo alone, then of all of them together."""
    from pointmap.checkpoint import load_network
    from pointmap.images import open_photos
    from pointmap.inference import choose_device
    from recon.depth.anchored_prior import upsample_prior
    from recon.options import Options
    from recon.pipeline import reconstruct
    from recon.single_photos.photo_scene import predict_alone

    files = _truth_files(folder, 0.001)
    truth = [read_depth_file(path, unit=step) for path, step in files.values()]
    paths = [folder / "images" / name for name in files]
    opened, rejected = open_photos(paths)
    if rejected:
        raise InputError(
            f"{rejected[0].path}: {rejected[0].reason}; to score depth files, give --predicted"
        )
    pictures = tuple(_picture(path) for path in paths)
    network = load_network(weights)
    priors = predict_alone(opened, network, device=choose_device(device))
    alone = [
        upsample_prior(prior, *true.shape).depth.astype(np.float64)
        for prior, true in zip(priors, truth, strict=True)
    ]
    yield DepthSet("photo alone", tuple(files), tuple(alone), tuple(truth), pictures)
    scene = reconstruct([folder / "images"], Options(weights=weights, device=device))
    views = {view.name: view for view in scene.views if view.registered}
    together = [
        sample_at(views[name].depth, *true.shape) if name in views else np.zeros_like(true)
        for name, true in zip(files, truth, strict=True)
    ]
    yield DepthSet("all photos", tuple(files), tuple(together), tuple(truth), pictures)


def _truth_files(folder: Path, unit: float) -> dict[str, tuple[Path, float]]:
    """Return {name: (file, unit of its steps)} of the true depth maps."""
    if os.path.isfile(folder / "cameras.json"):
        truth = read_truth(folder / "cameras.json")
        found = {name: (path, truth.depth_unit) for name, path in truth.depth_files.items()}
    else:
        found = {path.name: (path, unit) for path in _depth_files(folder)}
    if not found:
        raise InputError(
            f"{folder} holds no true depth: put depth/ beside cameras.json, or depth files"
        )
    return found


def _predicted_files(folder: Path) -> dict[str, Path]:
    """Return {stem: file} of the predictions."""
    if os.path.isfile(folder / "cameras.json"):
        cameras, _ = read_cameras(folder / "cameras.json")
        return {
            Path(name).stem: camera.depth_file(folder)
            for name, camera in cameras.items()
            if camera.cam_to_world is not None
        }
    return {path.stem: path for path in _depth_files(folder)}


def _depth_files(folder: Path) -> list[Path]:
    if not os.path.isdir(folder):
        raise InputError(f"{folder} is not a folder")
    # Of two files of one stem the raw array wins over the PNG, which may be a picture of it.
    by_stem: dict[str, Path] = {}
    for suffix in DEPTH_SUFFIXES:
        for path in sorted(folder.glob(f"*{suffix}")):
            by_stem.setdefault(path.stem, path)
    return [by_stem[stem] for stem in sorted(by_stem)]


def _at_truth(predicted: Array, truth: Array, name: str) -> Array:
    """Return the prediction at the truth's pixels; shapes may differ in resolution alone."""
    aspects = [width / height for height, width in (predicted.shape, truth.shape)]
    if abs(np.log(aspects[0] / aspects[1])) > _MAX_ASPECT_CHANGE:
        (h, w), (true_h, true_w) = predicted.shape, truth.shape
        raise InputError(
            f"{name}: depth of {w}x{h} pixels against a truth of {true_w}x{true_h}; "
            "both must cover the whole photo"
        )
    return sample_at(predicted, *truth.shape)


def _picture(path: Path) -> NDArray[np.uint8] | None:
    """Return the photo for the plots, if there is one; ``InputError`` when it cannot be read."""
    if not path.is_file():
        return None
    try:
        with open_picture(path) as image:
            return np.asarray(image.convert("RGB"))
    except UnusablePicture as error:
        raise InputError(f"{path}: {error}; mend or remove it") from error
