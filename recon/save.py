"""The whole output contract, written to one folder at once."""

from __future__ import annotations

from collections.abc import Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from pointmap.freed_memory import return_freed_memory
from recon.export.cameras_json import write_cameras
from recon.export.colmap import write_colmap
from recon.export.depth_formats import write_depth_files
from recon.export.depth_npz import write_depth_npz, write_depth_png
from recon.export.file_names import depth_stems, place_folder
from recon.export.glb import write_glb
from recon.export.nerfstudio import write_transforms
from recon.export.obj import write_obj
from recon.export.options import ExportOptions
from recon.export.ply import write_cloud_ply, write_mesh_ply
from recon.export.products import write_products
from recon.export.run_json import write_run
from recon.export.splat import write_splat, write_spz
from recon.export.staging import OutputFolder, real_path, reserved_folder
from recon.export.tum import write_tum
from recon.export.upright import copy_name, needs_copies, write_upright_photos
from recon.fusion.simplify import simplified
from recon.scene import Scene, View
from recon.work.content_key import content_key
from recon.work.folder import Work
from recon.work.threads import in_threads

# Of what is kept: raised when the same scene gives another.
_VERSION = 1
_FRAMES = "frames"
# Of larger meshes the page is written after the models, for less memory.
_MOST_BESIDE = 1_000_000


def save_scene(
    scene: Scene,
    folder: str | Path,
    *,
    overwrite: bool = False,
    export: ExportOptions | None = None,
) -> Path:
    """Write every file of the output contract to ``folder``, and what else ``export`` names.

    ``folder`` appears complete or not at all. With ``overwrite`` an old scene there is replaced as
    a whole, but only when the folder is empty or holds nothing except what its ``run.json`` lists.
    What others put there while this runs is kept: see
    :meth:`recon.export.staging.OutputFolder.staged`. Raises ``InputError`` when the folder may not
    be replaced or cannot be written, and while another run is writing to it.
    """
    with reserved_folder(folder, overwrite=overwrite) as output:
        save_into(scene, output, export or ExportOptions())
    return Path(folder)


def save_into(
    scene: Scene, output: OutputFolder, export: ExportOptions, work: Work | None = None
) -> None:
    """Write the same to a folder that was reserved before the work began; what takes long to make
    is kept in ``work``.

    Raises ``InputError`` as :meth:`recon.export.staging.OutputFolder.staged` does.
    """
    export.check()
    with output.staged() as staging:
        write_files(scene, staging, scene_folder=output.target, export=export, work=work)


def write_files(
    scene: Scene,
    staging: Path,
    *,
    scene_folder: Path,
    export: ExportOptions,
    report: bool = True,
    work: Work | None = None,
) -> None:
    """Write the files to ``staging``, an empty folder that will become ``scene_folder``.

    Without ``report``, for one of many scenes that share a page, there is no ``report.html``.
    ``work``: see :func:`save_into`.
    """
    for number, other in enumerate(scene.further, start=2):
        place = place_folder(number)
        (staging / place).mkdir()
        write_files(
            other,
            staging / place,
            scene_folder=scene_folder / place,
            export=export,
            report=report,
            work=work,
        )
    # The models take as long as all else, and most of either lets go of the interpreter. A window
    # that draws for the page has to be the main thread's on macOS.
    with ThreadPoolExecutor(1) as beside:
        models = beside.submit(_write_models, staging, scene, export, work)
        with_frames = _write_views(staging, scene, scene_folder, export)
        if len(scene.surface.faces) > _MOST_BESIDE:
            models.result()
        if report:
            # viz depends on recon, not the other way: it is imported where it is called.
            from viz.pages.report import write_report

            write_report(scene, staging / "report.html")
        models.result()
    write_run(staging / "run.json", with_frames, scene_folder=scene_folder)


def _write_views(staging: Path, scene: Scene, scene_folder: Path, export: ExportOptions) -> Scene:
    """Write cameras, depth and photos; return the scene with the photos where these will lie."""
    write_cameras(staging / "cameras.json", scene)
    write_tum(staging / "cameras.tum", scene)
    depth_folder = staging / "depth"
    depth_folder.mkdir()
    stems = depth_stems([view.name for view in scene.views])

    def write_depth(pair: tuple[View, str]) -> None:
        view, stem = pair
        write_depth_npz(depth_folder / f"{stem}.npz", view)
        write_depth_png(depth_folder / f"{stem}.png", view)

    for _ in in_threads(write_depth, zip(scene.views, stems, strict=True)):
        pass
    write_depth_files(staging, scene, export)
    (staging / "colmap/sparse/0").mkdir(parents=True)
    frames = {view.name for view in scene.views if _goes_along(view, scene_folder)}
    if frames:
        kept = [view for view in scene.views if view.name in frames]
        write_upright_photos(staging / _FRAMES, kept)
    placed = [view for view in scene.views if view.registered]
    # COLMAP looks for all photos in one folder.
    mixed = len({view.name in frames for view in placed}) == 2
    others = [view for view in placed if view.name not in frames]
    copies = "colmap/images" if mixed or needs_copies(others) else None
    if copies:
        write_upright_photos(staging / copies, placed)
    names = [copy_name(view) if copies else view.name for view in scene.views]
    write_colmap(staging / "colmap/sparse/0", scene, names)
    return_freed_memory()
    with_frames = _with_paths(scene, frames, scene_folder / _FRAMES)
    write_transforms(
        staging / "transforms.json", with_frames, scene_folder=scene_folder, photos=copies
    )
    if scene.options.get("depth_products"):
        (staging / "products").mkdir()
        for view, stem in zip(scene.views, stems, strict=True):
            write_products(staging / "products", stem, view, units=scene.units)
    return with_frames


def _write_models(staging: Path, scene: Scene, export: ExportOptions, work: Work | None) -> None:
    """Write cloud and surface."""
    # First, as it is what is kept.
    lighter = _lighter(scene, export.glb_triangles, work)
    write_cloud_ply(staging / "points.ply", scene.cloud)
    write_mesh_ply(staging / "mesh.ply", scene.surface)
    write_glb(staging / "scene.glb", lighter)
    if "obj" in export.formats or scene.textured is not None:
        write_obj(staging, scene)
    if "splat" in export.formats:
        write_splat(staging / "splat.ply", scene.cloud, scene.surface)
    if "spz" in export.formats:
        write_spz(staging / "splat.spz", scene.cloud, scene.surface)
    return_freed_memory()


def _lighter(scene: Scene, most: int, work: Work | None) -> Scene:
    """Return the scene with about so many triangles at ``most``, if its surface has no texture."""
    surface = scene.surface
    if len(surface.faces) <= most or scene.textured is not None:
        return scene
    if work is None:
        lighter = simplified(surface, most)
    else:
        key = content_key("lighter surface", _VERSION, surface, most)
        lighter = work.once(key, lambda: simplified(surface, most))
    return replace(scene, surface=lighter)


def _goes_along(view: View, scene_folder: Path) -> bool:
    """Return whether the scene has to have the photo itself: nobody else keeps a frame of a video.

    A photo inside the folder that is replaced is such a frame, given again: it would be deleted.
    """
    return view.video is not None or real_path(view.path).is_relative_to(scene_folder)


def _with_paths(scene: Scene, names: Set[str], folder: Path) -> Scene:
    """Return the scene with the photos of these ``names`` where their copies will finally lie."""
    views = (
        replace(view, path=folder / copy_name(view), turned=False) if view.name in names else view
        for view in scene.views
    )
    return replace(scene, views=tuple(views))
