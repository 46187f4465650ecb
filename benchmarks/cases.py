"""Runs small inputs that are known to be hard: python -m benchmarks.cases FOLDER --out FOLDER.

Each folder in FOLDER is a case: ``images/`` (or the photos themselves), with ``cameras.json`` where
the true cameras are known and ``sparse/`` where they are given. What is right is in :data:`CASES`,
by the folder's name; of a folder that is not listed, that poses reach an AUC@5 of 80 or are not
called sound. Files that name photos must name pictures that open and have the stated size.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.handed_on import parse
from benchmarks.measure import Measured, run_measured
from benchmarks.scenes import ROOT
from pointmap.camera import invert_rigid, project, transform_points
from pointmap.decoding import open_picture
from pointmap.errors import InputError, UnusablePicture
from recon.evaluation.scene import SceneTruth, read_truth, score_scene
from recon.evaluation.tables import markdown
from recon.export import load_scene

COLUMNS = ("case", "placed", "AUC@5", "verdict", "right", "what is not", "CPU s")


@dataclass(frozen=True)
class Case:
    """What is right: an AUC at 5 degrees of ``auc`` or more (None: all photos placed), or, if
    ``or_told``, that the run says what is wrong: it refuses, takes look-alikes apart, or calls the
    scene doubtful.
    ``photos``: how many are placed, None for all whose cameras are known, or that are found.
    ``surface``: there must be one. ``sky``: the photos show a smooth sky, of which next to nothing
    may be in the mesh.
    """

    auc: float | None = None
    or_told: bool = False
    photos: int | None = None
    surface: bool = True
    sky: bool = False
    arguments: tuple[str, ...] = ()


CASES = {
    "zoom-noexif": Case(88),
    "zoom-noexif-two": Case(88),
    "zoom-exif-f35": Case(90),
    "crop-offcentre": Case(80, or_told=True, surface=False),
    "bonnet25": Case(85),
    "turn-static-bg": Case(85, or_told=True, surface=False),
    "turn-white": Case(90),
    "turn-transparent": Case(90),
    "rotation": Case(90),
    "fisheye120": Case(90, or_told=True, surface=False),
    "pano360": Case(90, or_told=True, surface=False),
    "doppel": Case(80, or_told=True, surface=False),
    "doppel18": Case(80, or_told=True, surface=False),
    "haze-sky": Case(50, sky=True),
    "nadir": Case(95),
    "bitdepth-12in16": Case(90),
    "heic": Case(85),
    "tiff-orientation": Case(85),
    "dupnames": Case(photos=6, arguments=("--recursive",)),
    "colmap-subfolders": Case(photos=6, arguments=("--recursive", "--known-cameras", "sparse")),
    "extensions": Case(photos=8),
    "live-photos": Case(photos=4),
    "icc-p3": Case(photos=5),
    "icc-none": Case(photos=5),
}
_UNKNOWN = Case(80, or_told=True, surface=False)
# Of warnings that photos are of several places.
_APART = "two places that look alike", "taken for another place"
# Equal colours of a profile and without it, in levels of 255; pixels where nothing is, that may
# have depth at the edge all the same.
_SAME_COLOUR, _TRANSPARENT = 2.0, 0.005
# Share of the triangles that may show sky; neighbouring pixels of a sky differ by no more (levels),
# and a rim of it in pixels may be the roof's.
_SKY, _SMOOTH, _RIM = 0.01, 3, 3
# What COLMAP, nerfstudio and Blender all read.
_READ_BY_ALL = (".jpg", ".jpeg", ".png", ".tif", ".tiff")


@dataclass(frozen=True)
class CaseResult:
    """What came of a case; ``wrong``: what is not as it should be, one entry each."""

    name: str
    placed: str
    auc: float | None
    verdict: str
    wrong: tuple[str, ...]
    measured: Measured


def run_case(folder: Path, out: Path, arguments: Sequence[str], timeout_s: float) -> CaseResult:
    """Reconstruct a case in a process of its own and compare with what is right."""
    name, case = folder.name, CASES.get(folder.name, _UNKNOWN)
    images = folder / "images"
    own = [str(folder / a) if (folder / a).exists() else a for a in case.arguments]
    command: list[str | Path] = [
        sys.executable,
        ROOT / "run_recon.py",
        images if images.is_dir() else folder,
        "--out",
        out,
        "--overwrite",
        *own,
        *arguments,
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    log = out.with_name(f"{out.name}.log")
    measured = run_measured(command, log, timeout_s=timeout_s)
    if measured.exit_code != 0:
        last = (log.read_text(errors="replace").strip().splitlines() or ["no output"])[-1]
        refused = case.or_told and measured.exit_code == 2
        return CaseResult(name, "-", None, "refused", () if refused else (last,), measured)
    run = json.loads((out / "run.json").read_text(encoding="utf-8"))
    counts, verdict = run["counts"], run.get("verdict") or {}
    word = verdict.get("word", "none")
    auc = _auc(folder / "cameras.json", out, [photo["name"] for photo in run["photos"]])
    apart = any(told in warning for told in _APART for warning in run["warnings"])
    told = case.or_told and (word in ("doubtful", "wrong") or apart)
    wrong = []
    if case.auc is not None and not (auc is not None and auc >= case.auc) and not told:
        wrong.append(f"AUC@5 below {case.auc:g}")
    if case.auc is not None and auc is not None and auc >= max(case.auc, 80) and word == "wrong":
        wrong.append("right cameras are called wrong")
    expected = counts["photos"] if case.photos is None else case.photos
    if name in CASES and (folder / "cameras.json").exists():
        # Also those that were left out.
        expected = len(read_truth(folder / "cameras.json").cameras)
    if not told and (counts["registered"] != expected or counts["photos"] != expected):
        wrong.append(f"{expected} photos should be placed")
    if case.surface and not counts["triangles"]:
        wrong.append("no surface")
    wrong += _unreadable(out)
    wrong += _transparent(out, images)
    if case.sky:
        wrong += _sky(out)
    placed = f"{counts['registered']}/{counts['photos']}"
    return CaseResult(name, placed, auc, word, tuple(wrong), measured)


def _auc(cameras: Path, out: Path, names: Sequence[str]) -> float | None:
    """Return the AUC at 5 degrees of the photos ``names``; their true ``cameras`` may name them by
    another format.
    """
    if not cameras.exists():
        return None
    truth = read_truth(cameras).cameras
    by_stem = {Path(name).stem: camera for name, camera in truth.items()}
    told = {name: by_stem[Path(name).stem] for name in names if Path(name).stem in by_stem}
    poses = score_scene(out, SceneTruth(tuple(told), told, {})).poses
    return None if poses is None else poses.auc[5]


def _unreadable(out: Path) -> list[str]:
    """Return what the files for COLMAP and nerfstudio name and is no upright photo of its size."""
    wrong = []
    frames = json.loads((out / "transforms.json").read_text(encoding="utf-8"))
    named = [(out / f["file_path"], f.get("w", frames.get("w")), f.get("h", frames.get("h")))
             for f in frames["frames"]]  # fmt: skip
    for path, width, height in named:
        try:
            with open_picture(path) as picture:
                if path.suffix.lower() not in _READ_BY_ALL:
                    wrong.append(f"transforms.json names {path.name}, which few programs read")
                elif picture.size != (width, height):
                    wrong.append(f"{path.name} lies on its side in transforms.json")
        except (OSError, UnusablePicture):
            wrong.append(f"transforms.json names {path.name}, which does not open")
    return wrong[:1]


def _transparent(out: Path, images: Path) -> list[str]:
    """Return whether pixels that are transparent in a photo have depth."""
    known = []
    for view in load_scene(out).views:
        path = images / view.name
        if path.suffix.lower() != ".png":
            continue
        with open_picture(path) as picture:
            if "A" not in picture.getbands():
                continue
            height, width = view.depth.shape
            alpha = np.asarray(picture.getchannel("A").resize((width, height)))
        known.append((view.depth[alpha == 0] > 0).mean())
    return ["transparent pixels have depth"] if known and max(known) > _TRANSPARENT else []


def _sky(out: Path) -> list[str]:
    """Return whether triangles show the sky, a smooth region from the upper border of photos.

    One does whose middle lies in the sky of most photos that have it in their picture.
    """
    import cv2

    scene = load_scene(out)
    middles = scene.surface.vertices[scene.surface.faces].mean(axis=1)
    seen, in_sky = np.zeros((2, len(middles)))
    for view in scene.views:
        if view.camera.cam_to_world is None:
            continue
        height, width = view.depth.shape
        filled = np.zeros((height + 2, width + 2), np.uint8)
        for x in range(0, width, 8):
            levels = (_SMOOTH,) * 3
            flags = 4 | cv2.FLOODFILL_MASK_ONLY | (1 << 8)
            cv2.floodFill(view.pixels.copy(), filled, (x, 0), (0,), levels, levels, flags)
        kernel = np.ones((2 * _RIM + 1, 2 * _RIM + 1), np.uint8)
        sky = cv2.erode(filled[1:-1, 1:-1], kernel).astype(bool)
        points = transform_points(invert_rigid(view.camera.cam_to_world), middles)
        xy = np.nan_to_num(project(points, view.depth_intrinsics, view.camera.lens), nan=-1.0)
        inside = (points[:, 2] > 0) & (xy >= 0).all(1) & (xy < [width, height]).all(1)
        column, row = np.where(inside[:, None], xy, 0).astype(int).T
        seen += inside
        in_sky += inside & sky[row, column]
    share = float((in_sky > 0.5 * seen).mean()) if len(middles) else 0.0
    return [f"{share:.1%} of the triangles are sky"] if share > _SKY else []


def _across(results: dict[str, CaseResult], out: Path) -> dict[str, str]:
    """Return what is wrong with cases that are compared with another one, by name."""
    found = {}
    if {"icc-p3", "icc-none"} <= results.keys():
        mine, plain = (_mean_colour(out / name) for name in ("icc-p3", "icc-none"))
        if mine is not None and plain is not None and np.abs(mine - plain).max() > _SAME_COLOUR:
            found["icc-p3"] = "colours are not those without a profile"
    return found


def _mean_colour(scene: Path) -> np.ndarray | None:
    """Return the mean colours (photos, 3) of a scene's photos."""
    try:
        views = load_scene(scene).views
    except InputError:
        return None
    return np.array([view.pixels.reshape(-1, 3).mean(axis=0) for view in views])


def table(results: Sequence[CaseResult]) -> str:
    """Return a Markdown table, one row per case."""
    rows = [
        (
            result.name,
            result.placed,
            "-" if result.auc is None else f"{result.auc:.1f}",
            result.verdict,
            "no" if result.wrong else "yes",
            "; ".join(result.wrong).replace("|", "/"),
            f"{result.measured.cpu_seconds:.0f}",
        )
        for result in results
    ]
    return markdown(COLUMNS, rows)


def main(arguments: Sequence[str]) -> int:
    """Run all cases, print the table; exit code 1 when one is not right."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cases",
        description=__doc__,
    )
    parser.add_argument("folder", type=Path, help="folder of cases, or one case")
    parser.add_argument("--out", type=Path, required=True, help="folder for results and logs")
    parser.add_argument("--only", nargs="+", metavar="CASE", help="these cases alone")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds per case")
    given, handed_on = parse(parser, arguments)
    folders = sorted(
        folder
        for folder in given.folder.iterdir()
        if folder.is_dir() and folder.name in (given.only or {folder.name} - {"hostile"})
    )
    results: dict[str, CaseResult] = {}
    for folder in folders:
        result = run_case(folder, given.out / folder.name, handed_on, given.timeout)
        results[folder.name] = result
        print(table([result]).splitlines()[-1], file=sys.stderr, flush=True)
    for name, text in _across(results, given.out).items():
        result = results[name]
        results[name] = CaseResult(
            name, result.placed, result.auc, result.verdict, (*result.wrong, text), result.measured
        )
    print(table(list(results.values())))
    return int(any(result.wrong for result in results.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
