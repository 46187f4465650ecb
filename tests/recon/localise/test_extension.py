"""``run_recon.py NEW... --extend SCENE``: old cameras stay, new photos join them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from room_folder import room_shots, true_scene
from synthetic import save_photo
from tiny_network import write_tiny_network

from pointmap.errors import InputError
from recon.cli import main
from recon.inputs import open_usable
from recon.localise.extension import extended
from recon.save import save_scene

SHOTS = room_shots()
NEW, UNPLACED = 2, 3


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """scene/ of five photos in photos/, the last one unplaced, in metres; new/0.png."""
    folder = tmp_path_factory.mktemp("extend")
    old = [shot for k, shot in enumerate(SHOTS) if k not in (NEW, UNPLACED)]
    scene = true_scene([*old, SHOTS[UNPLACED]], folder / "photos", unplaced={4}, units="metres")
    save_scene(scene, folder / "scene")
    save_photo(SHOTS[NEW], folder / "new" / "0.png")
    write_tiny_network(folder)
    return folder


def run(material: Path, out: Path, *more: str) -> int:
    weights = ("--weights", str(material / "tiny.safetensors"), "--depth-size", "64")
    given = (str(material / "new"), "--extend", str(material / "scene"), "--out", str(out))
    return main([*given, *weights, "--no-refine-depth", *more])


def test_old_cameras_stay_bit_equal_and_the_new_photo_joins_them(
    material: Path, tmp_path: Path
) -> None:
    assert run(material, tmp_path / "out") == 0
    before = json.loads((material / "scene/cameras.json").read_text())["images"]
    after = json.loads((tmp_path / "out/cameras.json").read_text())
    assert after["units"] == "metres"
    images = after["images"]
    # The name 0.png is that of another photo: the new one has its folder's before it.
    assert list(images) == ["0.png", "1.png", "2.png", "3.png", "4.png", "new_0.png"]
    for k in range(4):
        for key in ("K", "distortion", "cam_to_world"):
            assert images[f"{k}.png"][key] == before[f"{k}.png"][key]
    for name, shot in (("new_0.png", SHOTS[NEW]), ("4.png", SHOTS[UNPLACED])):
        centre = np.array(images[name]["cam_to_world"])[:3, 3]
        assert np.linalg.norm(centre - shot.cam_to_world[:3, 3]) < 0.03


def test_only_placed_photos_are_known(material: Path) -> None:
    photos, known = extended(material / "scene", open_usable([material / "new"]))
    assert [photo.name for photo in photos][-2:] == ["4.png", "new_0.png"]
    assert known.units == "metres"
    assert [lens is not None for lens in known.lenses] == [True] * 4 + [False] * 2
    assert [pose is not None for pose in known.cam_to_world] == [True] * 4 + [False] * 2


def test_frames_of_a_video_stay_its_frames(tmp_path: Path) -> None:
    """A scene keeps copies of them, and they share a camera with further frames of the film."""
    scene = true_scene(SHOTS[:2], tmp_path)
    views = tuple(
        replace(view, name=name, path=view.path.rename(tmp_path / name), video="film.mp4")
        for view in scene.views
        for name in [f"film_{view.name}"]
    )
    save_scene(replace(scene, views=views), tmp_path / "scene")
    new = save_photo(SHOTS[NEW], tmp_path / "new.png")
    photos, _ = extended(tmp_path / "scene", open_usable([new]))
    assert [photo.video for photo in photos] == ["film.mp4", "film.mp4", None]
    assert photos[0].camera_key == photos[1].camera_key != photos[2].camera_key


def test_photos_that_the_scene_has_are_left_out(
    material: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    again = shutil.copy(material / "photos/1.png", tmp_path / "other name.png")
    given = [again, material / "photos", material / "new"]
    photos, _ = extended(material / "scene", open_usable(given))
    assert len(photos) == 6
    # The whole folder may be given again: of its own photos nothing is said.
    assert [record.args[1] for record in caplog.records] == ["1.png"]
    assert "other name.png is in the scene already" in caplog.text
    with pytest.raises(InputError, match="has all of these photos already"):
        extended(material / "scene", open_usable([again]))


def test_a_photo_of_the_scene_that_has_gone_is_named(material: Path, tmp_path: Path) -> None:
    for part in ("scene", "photos", "new"):
        shutil.copytree(material / part, tmp_path / part)
    (tmp_path / "photos/1.png").unlink()
    with pytest.raises(InputError, match=r"1\.png of the scene .* has gone or changed: put it"):
        extended(tmp_path / "scene", open_usable([tmp_path / "new"]))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--known-cameras", "cameras.json"), "leave out one of the two"),
        (("--scale-from", "baseline:0.png,1.png,2"), "leave out --scale-from"),
        (("--mode", "depth"), "doesn't go with --mode depth"),
        (("--extend", "nowhere"), "nowhere is not a folder"),
        # Maps are needed for every photo, those of the scene among them.
        (("--prior-depth", "."), "has no depth map for 0.png"),
    ],
)
def test_what_does_not_go_together_is_one_line(
    material: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(material, tmp_path / "out", *more) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and words in errors[0]
    assert not (tmp_path / "out").exists()
