"""Do the splats look at least as well as the mesh? Seen from photos that the scene never had.

    python -m benchmarks.splats PHOTOS [PHOTOS ...] --out FOLDER [-- RECON OPTIONS...]

Every 8th photo of each folder is left out (the 5th, the 13th, ...), the others are reconstructed
with ``--formats splat``, the left out ones are placed by ``recon.localise``. ``mesh.ply`` and
``splat.ply`` are drawn from there, as pinholes, and compared with the photo without its distortion.
The splats are composited front to back as their training would (Kerbl et al., "3D Gaussian
Splatting", SIGGRAPH 2023; projection of Zwicker et al., "EWA splatting", 2002).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numba
import numpy as np
from numpy.typing import NDArray

from benchmarks.handed_on import parse
from benchmarks.measure import run_measured
from benchmarks.scenes import ROOT
from pointmap.camera import Array, invert_rigid, pixel_centres, project, transform_points
from pointmap.images import load_photo, open_photos
from recon.evaluation.tables import markdown
from recon.export.ply import read_mesh_ply
from recon.localise.localise import localise_photos
from recon.localise.solved_scene import read_solved_scene
from recon.scene import Camera

EVERY, FIRST = 8, 4
LONG_SIDE = 768
GREY = 128.0  # where nothing is drawn
COLUMNS = ("scene", "photo", "PSNR whole, mesh / splats", "PSNR where the mesh is", "drawn %")
_SH0 = 0.28209479177387814
_DILATION_PX2 = 0.3  # of a trained splat's renderer: no Gaussian is narrower than a pixel


@dataclass(frozen=True)
class Gaussians:
    """``means`` (N, 3), ``axes`` (N, 3, 3) scaled by their standard deviations, ``colours`` (N, 3)
    from 0 to 255, ``opacity`` (N,).
    """

    means: Array
    axes: Array
    colours: Array
    opacity: Array


def read_splat(path: Path) -> Gaussians:
    """Return what a splat.ply of floats holds."""
    from scipy.spatial.transform import Rotation

    head, body = path.read_bytes().split(b"end_header\n", 1)
    names = [line.split()[-1].decode() for line in head.splitlines() if b"property float" in line]
    table = np.frombuffer(body, "<f4").reshape(-1, len(names)).astype(np.float64)
    column = dict(zip(names, table.T, strict=True))
    pick = lambda *keys: np.stack([column[key] for key in keys], axis=-1)  # noqa: E731
    turned = Rotation.from_quat(pick("rot_1", "rot_2", "rot_3", "rot_0")).as_matrix()
    return Gaussians(
        pick("x", "y", "z"),
        turned * np.exp(pick("scale_0", "scale_1", "scale_2"))[:, None],
        255 * (0.5 + _SH0 * pick("f_dc_0", "f_dc_1", "f_dc_2")),
        1 / (1 + np.exp(-column["opacity"])),
    )


def draw_splats(splats: Gaussians, K: Array, world_to_cam: Array, size: tuple[int, int]) -> Array:
    """Return the picture (h, w, 3) of ``size`` (w, h)."""
    points = transform_points(world_to_cam, splats.means)
    ahead = points[:, 2] > 0.01 * np.median(points[:, 2])
    x, y, z = points[ahead].T
    jacobian = np.zeros((len(z), 2, 3))
    jacobian[:, 0, 0], jacobian[:, 0, 2] = K[0, 0] / z, -K[0, 0] * x / z**2
    jacobian[:, 1, 1], jacobian[:, 1, 2] = K[1, 1] / z, -K[1, 1] * y / z**2
    flat = jacobian @ world_to_cam[:3, :3] @ splats.axes[ahead]
    covariance = flat @ flat.transpose(0, 2, 1) + _DILATION_PX2 * np.eye(2)
    centres = project(points[ahead], K)
    order = np.argsort(z, kind="stable")
    picture = np.zeros((size[1], size[0], 3))
    left = np.ones((size[1], size[0]))
    _composite(
        centres[order],
        covariance[order],
        splats.colours[ahead][order],
        splats.opacity[ahead][order],
        picture,
        left,
    )
    return picture + GREY * left[..., None]


@numba.njit
def _composite(centres, covariance, colours, opacity, picture, left):  # type: ignore[no-untyped-def]
    h, w = left.shape
    for k in range(len(centres)):
        a, b, d = covariance[k, 0, 0], covariance[k, 0, 1], covariance[k, 1, 1]
        det = a * d - b * b
        if det <= 0:
            continue
        u, v = centres[k]
        reach_x, reach_y = 3 * np.sqrt(a), 3 * np.sqrt(d)
        for row in range(max(0, int(v - reach_y)), min(h, int(v + reach_y) + 1)):
            for column in range(max(0, int(u - reach_x)), min(w, int(u + reach_x) + 1)):
                dx, dy = column + 0.5 - u, row + 0.5 - v
                power = -0.5 * (d * dx * dx - 2 * b * dx * dy + a * dy * dy) / det
                alpha = min(0.99, opacity[k] * np.exp(power))
                if alpha < 1 / 255 or left[row, column] < 1e-4:
                    continue
                for c in range(3):
                    picture[row, column, c] += left[row, column] * alpha * colours[k, c]
                left[row, column] *= 1 - alpha


def draw_mesh(
    folder: Path, K: Array, world_to_cam: Array, size: tuple[int, int]
) -> tuple[Array, NDArray[np.bool_]]:
    """Return the picture (h, w, 3) of mesh.ply and where (h, w) it shows something."""
    import open3d as o3d

    mesh = read_mesh_ply(folder / "mesh.ply")
    caster = o3d.t.geometry.RaycastingScene()
    caster.add_triangles(
        o3d.core.Tensor.from_numpy(mesh.vertices),
        o3d.core.Tensor.from_numpy(mesh.faces.astype("u4")),
    )
    cam_to_world = invert_rigid(world_to_cam)
    picture, hits = np.zeros((size[1], size[0], 3)), np.zeros((size[1], size[0]))
    # Four rays a pixel, as anyone who draws a mesh smooths its edges.
    for off in ((-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25)):
        along = np.ones((size[1], size[0], 3))
        along[..., :2] = (pixel_centres(*size) + off - K[:2, 2]) / [K[0, 0], K[1, 1]]
        along = along @ cam_to_world[:3, :3].T
        starts = np.broadcast_to(cam_to_world[:3, 3], along.shape)
        cast = caster.cast_rays(
            o3d.core.Tensor.from_numpy(np.concatenate([starts, along], -1).astype(np.float32))
        )
        hit = np.isfinite(cast["t_hit"].numpy())
        u, v = cast["primitive_uvs"].numpy()[hit].T
        corners = mesh.colours[mesh.faces[cast["primitive_ids"].numpy()[hit]]]
        picture[hit] += (corners * np.stack([1 - u - v, u, v], axis=1)[..., None]).sum(axis=1) / 4
        hits += hit / 4
    return picture + GREY * (1 - hits)[..., None], hits == 1


def without_distortion(pixels: NDArray[np.uint8], camera: Camera) -> tuple[Array, Array]:
    """Return the photo (h, w, 3) as a pinhole of K (3, 3) and the same size sees it."""
    height, width = pixels.shape[:2]
    K = camera.intrinsics_at(width, height)
    rays = np.ones((height, width, 3))
    rays[..., :2] = (pixel_centres(width, height) - K[:2, 2]) / [K[0, 0], K[1, 1]]
    at = (project(rays, K, camera.lens) - 0.5).astype(np.float32)
    x, y = np.ascontiguousarray(at[..., 0]), np.ascontiguousarray(at[..., 1])
    seen = cv2.remap(pixels, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return seen.astype(np.float64), K


def psnr(picture: Array, photo: Array, where: NDArray[np.bool_]) -> float:
    """Return the peak signal to noise ratio in dB over the pixels of ``where`` (h, w)."""
    error = np.mean((np.clip(picture, 0, 255) - photo)[where] ** 2)
    return float(10 * np.log10(255**2 / error))


def rows_of(name: str, scene: Path, left_out: Sequence[Path], pictures: Path) -> list[list[str]]:
    """Return a row per left out photo; photo, mesh and splats side by side go to ``pictures``."""
    photos, _ = open_photos(left_out)
    splats, rows = read_splat(scene / "splat.ply"), []
    for found in localise_photos(read_solved_scene(scene), photos):
        photo = found.photo.path.name
        if found.camera.cam_to_world is None:
            rows.append([name, photo, "not placed", "", ""])
            continue
        pixels = load_photo(found.photo, long_side=LONG_SIDE).pixels
        true, K = without_distortion(pixels, found.camera)
        size, world_to_cam = (true.shape[1], true.shape[0]), invert_rigid(found.camera.cam_to_world)
        mesh, there = draw_mesh(scene, K, world_to_cam, size)
        drawn = draw_splats(splats, K, world_to_cam, size)
        both = [
            " / ".join(f"{psnr(one, true, where):.2f}" for one in (mesh, drawn))
            for where in (np.ones_like(there), there)
        ]
        rows.append([name, photo, *both, f"{100 * there.mean():.0f}"])
        beside = np.clip(np.hstack([true, mesh, drawn]), 0, 255).astype(np.uint8)
        cv2.imwrite(str(pictures / f"{name}-{Path(photo).stem}.png"), beside[..., ::-1])
    return rows


def main(arguments: Sequence[str]) -> int:
    """Reconstruct, draw and compare."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.splats", description=__doc__)
    parser.add_argument("photos", nargs="+", type=Path, help="folders of photos")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--again", action="store_true", help="draw scenes in --out that are there")
    given, handed_on = parse(parser, arguments)
    rows: list[list[str]] = []
    for folder in given.photos:
        name = folder.absolute().parent.name if folder.name == "images" else folder.name
        photos = sorted(path for path in folder.iterdir() if path.is_file())
        scene = given.out / name
        if not given.again:
            kept = [str(p) for k, p in enumerate(photos) if k % EVERY != FIRST]
            command = [sys.executable, str(ROOT / "run_recon.py"), *kept, "--out", str(scene)]
            command += ["--formats", "splat", "--overwrite", *handed_on]
            measured = run_measured(command, given.out / f"{name}.log", timeout_s=3600)
            if measured.exit_code:
                rows.append([name, "", f"failed, see {name}.log", "", ""])
                continue
        rows += rows_of(name, scene, photos[FIRST::EVERY], given.out)
    print(markdown(COLUMNS, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
