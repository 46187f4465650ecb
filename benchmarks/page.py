"""The report in a real browser: what a person does with the scene in it, and what a frame costs.

    PYTHONPATH=.:tests/helpers python -m benchmarks.page fountain SCENE --out FOLDER
    PYTHONPATH=.:tests/helpers python -m benchmarks.page frames SCENE [SCENE ...]

``fountain``: SCENE is that of the sample photos, in metres (``--scale-from``). From some photos'
places the fountain's rim is measured by clicking at its corners, as far off as a hand is; then the
scene is cut by a handle, flown through, and its link opened. Screenshots go to FOLDER.

``frames``: the model in each report is turned by the mouse. WebGL is drawn by the processor here
(SwiftShader), so that CPU seconds tell more than the clock.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
from chromium import Chromium
from PIL import Image
from viewer_page import ViewerPage

from benchmarks.courtyard_surface import SAMPLE, true_views
from benchmarks.scenes import ROOT
from pointmap.camera import Array, invert_rigid, project, transform_points
from pointmap.training.scenes.courtyard import TARGET
from recon.evaluation.scene import read_truth
from recon.evaluation.tables import markdown
from recon.export.ply import read_mesh_ply
from recon.scene import Camera

WINDOW = (1024, 900)
RIM_RADIUS, RIM_HEIGHT = 1.42, 0.73
"""Of the fountain's eight-cornered rim, in metres (``pointmap.training.scenes.courtyard``)."""
HAND_PX = 1.0
"""Standard deviation of where a person clicks, across and down, in pixels of the screen."""
PHOTOS = (0, 3, 6, 9)
_SHOWN = 0.02  # of a corner's distance: what is nearer by more hides it
_PAST = 0.1  # so wrong is a click that went past an edge, to what lies behind it
_TURNS = 60  # moves of the mouse


def rim_corners() -> Array:
    """Return the corners (8, 3) of the fountain's rim in the true world."""
    angles = np.pi / 8 + np.pi / 4 * np.arange(8)
    around = RIM_RADIUS * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.column_stack([TARGET[:2] + around, np.full(8, RIM_HEIGHT)])


def shown_corners(camera: Camera, depth: Array) -> list[int]:
    """Return which corners a photo shows, whose true depth is ``depth`` (h, w)."""
    seen = transform_points(invert_rigid(camera.cam_to_world), rim_corners())
    columns, rows = np.floor(project(seen, camera.intrinsics)).astype(int).T
    h, w = depth.shape
    shown = []
    for k, (row, column) in enumerate(zip(rows, columns, strict=True)):
        if 2 <= row < h - 2 and 2 <= column < w - 2:
            # A corner is an edge: it is the nearest about (0 is the sky).
            about = depth[row - 2 : row + 3, column - 2 : column + 3]
            if abs(about[about > 0].min(initial=np.inf) / seen[k, 2] - 1) < _SHOWN:
                shown.append(k)
    return shown


@contextmanager
def opened(page: Path) -> Iterator[ViewerPage]:
    """Yield the page in a browser of its own."""
    with tempfile.TemporaryDirectory() as profile:
        with Chromium(Path(profile), width=WINDOW[0], height=WINDOW[1]) as browser:
            viewer = ViewerPage(browser, page)
            viewer.open()
            yield viewer


def measure_rim(
    page: ViewerPage, photo: int, camera: Camera, shown: Sequence[int]
) -> list[tuple[float, float]]:
    """Return what is true and what the page says, in metres, of the distances between all corners
    ``shown`` by a photo of the true ``camera``.
    """
    hand, corners = np.random.default_rng(photo), rim_corners()
    page.open()
    page.fly(photo)
    page.press("[data-do=measure]")
    found = []
    for pair in itertools.combinations(shown, 2):
        for corner in pair:
            x, y = page.pixel_of(camera, corners[corner].tolist()) + hand.normal(0, HAND_PX, 2)
            page.browser.mouse((float(x), float(y)))
        true = float(np.linalg.norm(corners[pair[0]] - corners[pair[1]]))
        found.append((true, _metres(page.said().removeprefix("Distance "))))
    return found


def _metres(text: str) -> float:
    number, unit = text.split()
    return float(number) * {"m": 1.0, "cm": 0.01, "mm": 0.001}[unit]


def fountain(scene: Path, out: Path) -> list[list[str]]:
    """Walk through the report of the sample scene; return rows of what was done and came out."""
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    views, cameras = true_views(), list(read_truth(SAMPLE).cameras.items())
    with opened(scene / "report.html") as page:
        _keep(page, out / "opened.png")
        pairs = []
        for photo in PHOTOS:
            name, camera = cameras[photo]
            pairs += measure_rim(page, photo, camera, shown_corners(camera, views[name].depth))
            _keep(page, out / f"measured-{photo}.png")
        (out / "distances.json").write_text(json.dumps(pairs) + "\n", encoding="utf-8")
        off = np.array([abs(said / true - 1) for true, said in pairs])
        rows.append([
            f"the rim's corners, {len(pairs)} distances of {min(pairs)[0]:.2f} to "
            f"{max(pairs)[0]:.2f} m from {len(PHOTOS)} photos' places",
            f"off by {100 * np.median(off):.1f} % (median); {(off < 0.02).sum()} within 2 %, "
            f"{(off > _PAST).sum()} past an edge (over {100 * _PAST:.0f} %)",
        ])  # fmt: skip
        page.open()
        rows.append(["cut by a handle, then the files by the command it says", _cut(page, scene)])
        _keep(page, out / "cut.png")
        page.open()
        page.fly(4)
        shares = [_faded(page, share, out / f"flown-{share}.png") for share in (0, 100)]
        rows.append(["flown to a photo: it against the model from there, median difference "
                     "of 255", f"{np.median(np.abs(shares[0] - shares[1])):.0f}"])  # fmt: skip
        rows.append(
            ["the link of a cut, measured view, opened anew: pixels that differ", _link(page)]
        )
        _keep(page, out / "linked.png")
    return rows


def _keep(page: ViewerPage, path: Path) -> None:
    page.settle()
    Image.fromarray(page.browser.picture()).save(path)


def _cut(page: ViewerPage, scene: Path) -> str:
    """Drag the right side of the box to the middle; cut the mesh as the page says, and compare."""
    page.press("[data-do=cut]")
    x, y = page.middle(".handle:nth-of-type(2)")
    left, _, width, _ = page.box("canvas")
    page.browser.mouse((x, y), ((x + left + width / 2) / 2, y), (left + width / 2, y))
    page.settle()
    said = page.run("document.querySelector('[data-box]').textContent")
    numbers = said.split("--crop ")[1].split()
    box = np.array(numbers, float).reshape(2, 3)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pointmap", "export", str(scene), "--format", "ply"]
        command += ["--crop", *numbers, "--out", f"{folder}/cut"]
        subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
        whole, part = (read_mesh_ply(f / "mesh.ply") for f in (scene, Path(folder, "cut")))
    inside = np.all((part.vertices >= box[0] - 1e-3) & (part.vertices <= box[1] + 1e-3), axis=1)
    share = 100 * len(part.faces) / len(whole.faces)
    return f"{share:.0f} % of the triangles left, {100 * inside.mean():.1f} % of them in the box"


def _faded(page: ViewerPage, per_cent: int, path: Path) -> Array:
    """Move the slider of the photo over the model; return what is seen."""
    left, _, width, _ = page.box("[data-fade]")
    page.browser.mouse((left + 1 + (width - 2) * per_cent / 100, page.middle("[data-fade]")[1]))
    _keep(page, path)
    return page.picture().astype(float)


def _link(page: ViewerPage) -> str:
    """Press Copy link; return how much of the picture at its address is another one."""
    page.press("[data-do=measure]")
    x, y = page.middle("canvas")
    page.browser.mouse((x, y))
    page.browser.mouse((x + 60, y + 30))
    page.press("[data-do=measure]")
    page.press("[data-do=cut]")
    page.browser.mouse(page.middle("[data-face='0,0']"))
    page.browser.mouse((x, y), (x + 40, y + 10), (x + 80, y + 20))
    page.press("[data-do=link]")
    shown, address = page.picture().astype(int), page.run("location.hash")
    page.open(address)
    differ = np.abs(page.picture().astype(int) - shown).max(axis=-1) > 20
    return f"{100 * differ.mean():.2f} %"


_WATCH = (
    "window.drawnLevels = new Set(); (canvas => new MutationObserver(() => "
    "window.drawnLevels.add(canvas.dataset.level)).observe(canvas, { attributes: true }))"
    "(document.querySelector('canvas'))"
)


def frames(scene: Path) -> list[str]:
    """Return a row of what it takes to draw a scene's report while the mouse turns it."""
    with opened(scene / "report.html") as page:
        levels = json.loads(page.run(
            "JSON.stringify(JSON.parse(document.getElementById('scene-data').textContent)"
            ".mesh.map((level) => level.triangles))"))  # fmt: skip
        _, _, width, height = page.box("canvas")
        drawn = "Number(document.querySelector('canvas').dataset.drawn)"
        x, y = page.middle("canvas")
        fine = []
        for k in range(8):
            page.browser.mouse((x, y), (x + 10 - 20 * (k % 2), y))
            page.settle()
            fine.append(float(page.run("document.querySelector('canvas').dataset.drawMs")))
        page.run(_WATCH)
        before, spent, start = page.run(drawn), _cpu_seconds(), time.perf_counter()
        page.browser.mouse((x, y), *((x + 4 * k - 2 * _TURNS, y) for k in range(_TURNS)))
        coarse = page.run("window.drawnLevels.has('coarse')")
        count = max(1, page.run(drawn) - before)
        took, spent = time.perf_counter() - start, _cpu_seconds() - spent
    size = (scene / "report.html").stat().st_size / 1e6
    return [
        scene.name,
        f"{size:.1f}",
        f"{width:.0f}x{height:.0f}",
        f"{levels[-1]:,}" if levels else "-",
        f"{np.median(fine):.0f}",
        f"{levels[0]:,}" if coarse else "the same",
        f"{1000 * took / count:.0f}",
        f"{1000 * spent / count:.0f}",
    ]


def _cpu_seconds() -> float:
    """Return what the browser has computed so far."""
    seconds = 0.0
    for process in psutil.Process().children(recursive=True):
        times = process.cpu_times()
        seconds += times.user + times.system
    return seconds


FRAME_COLUMNS = (
    "scene", "MB", "window", "triangles at rest", "ms to draw them", "triangles while it turns",
    "ms from frame to frame", "CPU ms a frame",
)  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    """Do what is asked, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    walk = commands.add_parser("fountain", help="use the report as a person does")
    walk.add_argument("scene", type=Path)
    walk.add_argument("--out", type=Path, required=True, help="folder for screenshots")
    draw = commands.add_parser("frames", help="measure what a frame costs")
    draw.add_argument("scenes", type=Path, nargs="+")
    given = parser.parse_args(arguments)
    if given.command == "fountain":
        print(markdown(("done", "came out"), fountain(given.scene, given.out)))
    else:
        print(markdown(FRAME_COLUMNS, [frames(scene) for scene in given.scenes]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
