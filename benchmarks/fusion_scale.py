"""What fusion, files and the report cost for 50, 100 and 200 photos.

    python -m benchmarks.fusion_scale [--photos N ...] [--json FILE]

Exact depth of a box with balls, seen from all around, in files as a run keeps it. Half of it is
unsure and a little off, as where photos don't confirm it: other photos are asked about it. Every
number of photos has a process of its own, for its peak of memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.figures import write_figures
from benchmarks.pointmap_scenes import cast_depth, make_room
from benchmarks.surface import colours_at
from pointmap.camera import Array, pinhole, transform_points, unproject
from recon.evaluation.tables import markdown
from recon.fusion import FusionOptions
from recon.fusion.fuse_views import fuse_views
from recon.scene import Camera, LoadedMaps, Scene, Tracks, View
from recon.work.folder import Work

T = TypeVar("T")

_WIDTH, _HEIGHT = 512, 384


@dataclass(frozen=True)
class Cost:
    """CPU and wall seconds of one step, and the process's peak of memory in MB at its end."""

    cpu: float
    seconds: float
    peak_mb: float


@dataclass(frozen=True)
class ScaleScores:
    """What ``photos`` cost; ``start_mb``: the process before. ``depth_mb``, ``report_mb``: files.

    ``again``: a second fusion of the same photos with another voxel size, and its files.
    """

    photos: int
    start_mb: float
    fusion: Cost
    files: Cost
    report: Cost
    again: Cost
    points: int
    triangles: int
    voxel: float
    depth_mb: float
    report_mb: float


@dataclass(frozen=True)
class _KeptMaps:
    """A view's maps, read when they are asked for."""

    kept: Sequence[LoadedMaps]
    number: int

    @property
    def content_key(self) -> str:
        return f"view {self.number}"

    @property
    def pixels(self) -> NDArray[np.uint8]:
        return self.kept[self.number].pixels

    @property
    def depth(self) -> NDArray[np.float32]:
        return self.kept[self.number].depth

    @property
    def confidence(self) -> NDArray[np.float32]:
        return self.kept[self.number].confidence

    @property
    def usable(self) -> None:
        return None


def measured(count: int) -> ScaleScores:
    """Return what ``count`` photos cost in this process."""
    # viz depends on recon; this alone writes a report.
    from recon.save import write_files
    from viz.pages.report import write_report

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        views = _views(count, Work(folder / "maps"))
        start = _peak_mb()
        scene, fusion = _cost(lambda: _fused(views, FusionOptions()))
        _, files = _cost(lambda: _write(write_files, scene, folder / "scene"))
        _, report = _cost(lambda: write_report(scene, folder / "report.html"))
        other = FusionOptions(voxel_size=1.5 * scene.statistics["voxel_size"])
        _, again = _cost(lambda: _write(write_files, _fused(views, other), folder / "again"))
        return ScaleScores(
            photos=count,
            start_mb=start,
            fusion=fusion,
            files=files,
            report=report,
            again=again,
            points=len(scene.cloud.points),
            triangles=len(scene.surface.faces),
            voxel=scene.statistics["voxel_size"],
            depth_mb=sum(p.stat().st_size for p in (folder / "scene/depth").iterdir()) / 1e6,
            report_mb=(folder / "report.html").stat().st_size / 1e6,
        )


def _fused(views: tuple[View, ...], options: FusionOptions) -> Scene:
    fused = fuse_views(views, options, device=torch.device("cpu"), work=Work())
    surface = fused.surface
    return Scene(views, Tracks.empty(), fused.cloud, surface.mesh, statistics=surface.statistics)


def _write(write_files: Callable[..., None], scene: Scene, folder: Path) -> None:
    from recon.export.options import ExportOptions

    folder.mkdir()
    write_files(scene, folder, scene_folder=folder, export=ExportOptions(), report=False)


def _views(count: int, work: Work) -> tuple[View, ...]:
    # The small room is the same; its depth is cast again, one photo at a time.
    poses = make_room(count, 16, 12, span_deg=360).cam_to_world
    K = pinhole(0.6 * float(np.hypot(_WIDTH, _HEIGHT)), _WIDTH, _HEIGHT)
    kept = work.each(
        [f"{number:064d}" for number in range(count)],
        lambda number: _maps(poses[number], K, number),
    )
    names = [f"{number:04d}.jpg" for number in range(count)]
    return tuple(
        View(name, Path(name), Camera(K, _WIDTH, _HEIGHT, pose), _KeptMaps(kept, number))
        for number, (name, pose) in enumerate(zip(names, poses, strict=True))
    )


def _maps(pose: Array, K: Array, number: int) -> LoadedMaps:
    import cv2

    depth = cast_depth(pose, K, _WIDTH, _HEIGHT)
    pixels = colours_at(transform_points(pose, unproject(depth, K))).round().astype(np.uint8)
    rng = np.random.default_rng(number)

    def blobs(rows: int) -> NDArray[np.float32]:
        """A smooth random field (h, w), without bias."""
        coarse = rng.normal(size=(rows, rows * 4 // 3)).astype(np.float32)
        return np.asarray(cv2.resize(coarse, (_WIDTH, _HEIGHT)), np.float32)

    unsure = blobs(12) > 0
    depth = depth * (1 + np.where(unsure, 0.015, 0.002) * blobs(24))
    confidence = np.where(unsure, 0.25, 0.7)
    return LoadedMaps(pixels, depth.astype(np.float32), confidence.astype(np.float32))


def _cost(step: Callable[[], T]) -> tuple[T, Cost]:
    start, cpu = time.perf_counter(), time.process_time()
    result = step()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return result, Cost(cpu, seconds, _peak_mb())


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _table(rows: Sequence[ScaleScores]) -> str:
    names = ["photos", "fusion CPU s (wall)", "files", "report", "again, other voxel", "peak MB",
             "points", "triangles", "depth MB", "report MB"]  # fmt: skip
    lines = []
    for row in rows:
        costs = [f"{c.cpu:.0f} ({c.seconds:.0f})" for c in (row.fusion, row.files, row.report)]
        lines.append(
            [
                str(row.photos),
                *costs,
                f"{row.again.cpu:.0f} ({row.again.seconds:.0f})",
                f"{row.again.peak_mb:.0f}",
                f"{row.points:,}",
                f"{row.triangles:,}",
                f"{row.depth_mb:.0f}",
                f"{row.report_mb:.1f}",
            ]
        )
    return markdown(names, lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and write the JSON; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="benchmarks.fusion_scale", description=__doc__)
    parser.add_argument("--photos", nargs="+", type=int, default=[50, 100, 200])
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="file for all figures")
    given = parser.parse_args(arguments)
    if given.one:
        print(json.dumps(asdict(measured(given.photos[0]))))
        return 0
    rows = []
    for count in given.photos:
        command = [sys.executable, "-m", "benchmarks.fusion_scale", "--one", "--photos", str(count)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        figures = json.loads(done.stdout.splitlines()[-1])
        for name in ("fusion", "files", "report", "again"):
            figures[name] = Cost(**figures[name])
        rows.append(ScaleScores(**figures))
        print(_table(rows), flush=True)
    write_figures(given.json, scenes=rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
