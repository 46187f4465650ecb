"""``python -m recon.localise SCENE PHOTO...``: where photos were taken, in a scene's frame."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from pointmap.command_line import read_arguments
from pointmap.commands import EXIT_INPUT_ERROR, run_command
from pointmap.errors import InputError, one_line
from pointmap.version import answer_version

if TYPE_CHECKING:
    from pointmap.camera import Array
    from recon.localise.localise import Localised
    from recon.scene import World


@dataclass(frozen=True)
class Command:
    """Find where photos were taken, in the frame of a scene that run_recon.py wrote.

    Prints K and cam_to_world of each photo, with how many points of the scene it was recognised by.
    A photo that too few of them hold is not placed, and the reason is said: no place is a guess.
    The scene stays as it is, and its photos should lie where they lay (of those that have gone, the
    small copies in the scene serve, less accurately). To add the photos to the scene, run
    run_recon.py with --extend.

    Exit code: 0 if a photo was placed, 2 if none was or the input cannot be used.
    """

    scene: tyro.conf.Positional[Path]
    """Folder that run_recon.py wrote."""

    photos: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        tyro.conf.arg(metavar="PHOTO ...", help_behavior_hint=""),
    ]
    """Photo files, folders of photos, or quoted patterns such as 'trip/*.jpg'."""

    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Also write the cameras to this file, in the form of the scene's cameras.json."""

    masks: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Masks of the photos, as run_recon.py takes them. Those of the scene's photos are known."""

    seed: int = 0
    """Seed of every random choice."""


def main(arguments: list[str] | None = None, prog: str = "python -m recon.localise") -> int:
    """Run the command with ``arguments`` (``sys.argv`` by default) and return its exit code."""
    # Idle OpenMP threads that spin slow everything when another program is busy.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    answer_version(arguments)
    return run_command(lambda: _run(read_arguments(Command, arguments, prog)))


def _run(command: Command) -> int:
    """Do what ``command`` says; return the exit code."""
    from recon.inputs import open_usable
    from recon.inputs.masks import with_masks
    from recon.localise.localise import localise_photos
    from recon.localise.solved_scene import read_solved_scene

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if command.json is not None:
        _check_writable(command.json, command.scene)
    if not command.photos:
        raise InputError("no photos given: name photo files, folders of photos or quoted patterns")
    scene = read_solved_scene(command.scene)
    found = []
    photos = with_masks(command.masks, open_usable(command.photos))
    for one in localise_photos(scene, photos, seed=command.seed):
        sys.stdout.write(_description(one, scene.units))
        sys.stdout.flush()
        found.append(one)
    if command.json is not None:
        _write(command.json, found, scene.units, scene.world)
    return 0 if any(one.placed for one in found) else EXIT_INPUT_ERROR


def _check_writable(path: Path, scene: Path) -> None:
    """Raise ``InputError`` where no file can be written, before the work is done for nothing."""
    from pointmap.output_place import check_place

    check_place(path)
    if path.resolve().is_relative_to(scene.resolve()):
        raise InputError(f"{path} would be a file of the scene: choose a place outside it")


def _description(one: Localised, units: str) -> str:
    """Return what is printed of one photo."""
    name, found, pose = one_line(one.photo.name), one.found, one.camera.cam_to_world
    if pose is None:
        return f"{name}: not placed: {one.reason}\n"
    if found is None:
        said = f"it is {one.same_as} of the scene"
    else:
        length = "m" if units == "metres" else "scene units"
        said = (
            f"{found.inliers} points, median error {found.error_px:.2f} px, "
            f"position +- {found.position_sigma:.2g} {length}, "
            f"direction +- {found.rotation_sigma_deg:.2g} deg, lens: {found.lens.source}"
        )
    # As many digits as are read; the file has all.
    lens = {name: _rounded(value) for name, value in one.camera.lens.parameters.items()}
    return (
        f"{name}: {said}\n"
        f"  K             {_rows(one.camera.intrinsics)}\n"
        f"  lens          {one.camera.lens.model} {lens}\n"
        f"  cam_to_world  {_rows(pose)}\n"
    )


def _rows(matrix: Array) -> list[list[float]]:
    return [[_rounded(value) for value in row] for row in matrix.tolist()]


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _write(path: Path, localised: list[Localised], units: str, world: World) -> None:
    from recon.export.cameras_json import camera_entry, write_camera_entries

    images: dict[str, Any] = {}
    for one in localised:
        entry = camera_entry(one.camera, one.reason)
        if one.same_as is not None:
            entry["same_as"] = one.same_as
        if one.found is not None:
            entry |= {
                "points": one.found.inliers,
                "error_px": one.found.error_px,
                "position_sigma": one.found.position_sigma,
                "rotation_sigma_deg": one.found.rotation_sigma_deg,
                "lens": one.found.lens.source,
            }
        images[one.photo.name] = entry
    try:
        write_camera_entries(path, images, units=units, world=world)
    except OSError as error:
        if os.path.isfile(path):
            path.unlink()  # the half that fitted on a full disk
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
