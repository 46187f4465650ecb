"""``cameras.json``: every photo's camera, in pixels of the original photo."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, get_args

import numpy as np

from pointmap.camera import Array
from pointmap.errors import InputError
from pointmap.lens import MODELS, Lens
from pointmap.outside.values import (
    FOCAL_RANGE_PX,
    MAX_LENGTH,
    MAX_SIDE_PX,
    checked_lens,
    matrix,
    number,
    whole,
)
from recon.export.file_names import depth_stems
from recon.export.json_file import plain, read_json, write_json
from recon.scene import Camera, Scene, World, WorldKind


def write_cameras(path: Path, scene: Scene) -> None:
    """Write ``cameras.json``, photos in their order.

    ``distortion`` is always there: one of COLMAP's models and its coefficients by their names
    (:data:`pointmap.lens.MODELS`). With ``(x, y, 1)`` along a ray, its pixel is ``K (d x, d y,
    1)``; for SIMPLE_RADIAL ``d = 1 + k1 (x^2 + y^2)``, and k1 = 0 is a pinhole.

    Where the cameras were judged, ``verdict`` says how far each photo can be believed
    (:class:`recon.scene.PhotoVerdict`), and of all of them one word.

    It holds nothing that depends on where photos or output lie: the same cameras give the same
    bytes.
    """
    stems = depth_stems([view.name for view in scene.views])
    images = {
        view.name: camera_entry(view.camera, view.reason) | {"depth": f"depth/{stem}.npz"}
        for view, stem in zip(scene.views, stems, strict=True)
    }
    verdict = scene.verdict
    word = None
    if verdict is not None:
        word = verdict.word
        for entry, judged in zip(images.values(), verdict.photos, strict=True):
            said = plain(judged)
            if said is not None:
                del said["name"]
            entry["verdict"] = said
    write_camera_entries(path, images, units=scene.units, world=scene.world, verdict=word)


def camera_entry(camera: Camera, reason: str | None) -> dict[str, Any]:
    """Return what the file says of one photo; ``reason``: why it has no pose, None if it has."""
    pose = camera.cam_to_world
    return {
        "K": np.asarray(camera.intrinsics, np.float64).tolist(),
        "distortion": {"model": camera.lens.model, **camera.lens.parameters},
        "cam_to_world": None if pose is None else np.asarray(pose, np.float64).tolist(),
        "width": int(camera.width),
        "height": int(camera.height),
        "registered": pose is not None,
        "reason": reason,
    }


def write_camera_entries(
    path: Path,
    images: Mapping[str, Any],
    *,
    units: str,
    world: World,
    verdict: str | None = None,
) -> None:
    """Write a file of this form with ``images``, {photo name: :func:`camera_entry`}, and the
    scene's ``verdict`` if there is one.
    """
    write_json(
        path,
        {
            "units": units,
            "world": {
                "frame": world.kind,
                "in_words": world.in_words,
                "up": world.up,
                "up_sigma_deg": world.up_sigma_deg,
            },
            "camera_axes": "OpenCV: x right, y down, z forward",
            "pixel_centre": 0.5,
            **({} if verdict is None else {"verdict": verdict}),
            "images": dict(images),
        },
    )


@dataclass(frozen=True)
class ListedCamera:
    """What a file says of one photo's camera.

    ``intrinsics`` (3, 3) in pixels of the original photo, the centre of the top-left pixel at
    (0.5, 0.5), with the ``lens``; ``cam_to_world`` (4, 4); ``size`` (width,
    height). Each of them is None where the file leaves it open. ``entry`` is all it says, ``place``
    file and photo for messages; ``mask``: the photo's mask file, if the file names one;
    ``of_size``: what gives the camera of a photo of this width and height, where the file tells its
    intrinsics in shares of a size that it leaves open.
    """

    place: str
    intrinsics: Array | None
    lens: Lens
    cam_to_world: Array | None
    size: tuple[int, int] | None
    entry: Mapping[str, Any] = field(default_factory=dict)
    mask: Path | None = None
    of_size: Callable[[int, int], ListedCamera] | None = None

    def camera(self) -> Camera:
        """Return the camera; raise ``InputError`` where intrinsics or size are left open."""
        if self.intrinsics is None or self.size is None:
            raise InputError(f"{self.place} has no K, width or height: all of them are needed")
        return Camera(self.intrinsics, *self.size, self.cam_to_world, self.lens)

    @property
    def reason(self) -> str | None:
        """Why a scene's photo has no pose; None when it has one."""
        reason = self.entry.get("reason")
        return None if reason is None else str(reason)

    def depth_file(self, folder: Path) -> Path:
        """Return the depth file of a scene's photo; ``InputError`` unless it is in ``folder``."""
        name = PurePosixPath(str(self.entry.get("depth", "/")))
        if name.is_absolute() or ".." in name.parts or "\0" in str(name):
            raise InputError(
                f"{folder} holds a scene of another form ({self.place} has no depth file in it): "
                "reconstruct it again"
            )
        return folder / name


def units_of(data: Mapping[str, Any]) -> str:
    """Return the unit of a file's poses, "scene" unless it says that they are in metres."""
    return "metres" if data.get("units") == "metres" else "scene"


def world_of(data: Mapping[str, Any]) -> World:
    """Return the frame that a file's poses are in; "given", with nothing known of it, unless the
    file is ours and says more.
    """
    entry = data.get("world")
    if not isinstance(entry, dict) or entry.get("frame") not in get_args(WorldKind):
        return World("given")
    try:
        x, y, z = matrix([entry.get("up")], "up", 1, 3, 1.1)[0].tolist()
        sigma = entry.get("up_sigma_deg")
        sigma = None if sigma is None else number(sigma, "up_sigma_deg", 0, 180)
    except ValueError:
        return World(entry["frame"])
    return World(entry["frame"], (x, y, z), sigma)


def read_cameras(path: Path) -> tuple[dict[str, ListedCamera], dict[str, Any]]:
    """Return {photo name: camera} of a ``cameras.json``, ours or another's, and the whole file.

    Ours say ``"pixel_centre": 0.5``. Without it K counts from the centre of the top-left pixel, as
    OpenCV's calibration does, and is moved by half a pixel here. Raises ``InputError`` when the
    file is missing or of another form.
    """
    data = read_json(path)
    return listed_cameras(path, data), data


def listed_cameras(path: Path, data: Mapping[str, Any]) -> dict[str, ListedCamera]:
    """Return the cameras of ``data``, which :func:`read_cameras` would read from ``path``."""
    try:
        images = data.get("images")
        if not isinstance(images, dict):
            raise ValueError("no images")
        shift = 0.5 - number(data.get("pixel_centre", 0.0), "pixel_centre", -1, 1)
        return {name: _listed(path, name, entry, shift) for name, entry in images.items()}
    except ValueError as error:
        raise InputError(
            f"{path} is not a cameras.json ({error}): it needs images with K and cam_to_world"
        ) from error


def _listed(path: Path, name: str, entry: Any, shift: float) -> ListedCamera:
    """Return a camera of the file; ``ValueError`` says which photo's is none, and why."""
    try:
        if not isinstance(entry, dict) or not {"K", "cam_to_world"} <= entry.keys():
            raise ValueError("no K and cam_to_world")
        K, pose = entry["K"], entry["cam_to_world"]
        if K is not None:
            K = _intrinsics(K)
            K[:2, 2] += shift
        if pose is not None:
            pose = matrix(pose, "cam_to_world", 4, 4, MAX_LENGTH)
        # Scenes written before lenses were estimated are of pinholes.
        lens = _lens(entry.get("distortion") or {"k1": 0.0})
        size = None
        if "width" in entry:
            width, height = (whole(entry.get(s), s, 1, MAX_SIDE_PX) for s in ("width", "height"))
            size = (width, height)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    return ListedCamera(f"{path}: {name}", K, lens, pose, size, entry)


def _lens(distortion: Any) -> Lens:
    """Return what ``distortion`` says of a lens; without a model one radial coefficient."""
    model = distortion.get("model", "SIMPLE_RADIAL") if isinstance(distortion, dict) else None
    if not isinstance(model, str):
        raise ValueError("distortion is none")
    names = MODELS.get(model, ())
    missing = [name for name in names if name not in distortion]
    if missing:
        raise ValueError(f"distortion has no {missing[0]}")
    return checked_lens(model, [distortion[name] for name in names])


def _intrinsics(value: Any) -> Array:
    K = matrix(value, "K", 3, 3, FOCAL_RANGE_PX[1])
    if not min(K[0, 0], K[1, 1]) >= FOCAL_RANGE_PX[0]:
        raise ValueError(f"K must have focal lengths of at least {FOCAL_RANGE_PX[0]:g} pixels")
    if K[1, 0] or K[2].tolist() != [0, 0, 1]:
        raise ValueError("K must be fx s cx, 0 fy cy, 0 0 1")
    return K
