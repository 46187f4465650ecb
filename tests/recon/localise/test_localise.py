"""``python -m recon.localise``: photos of the true room, its cameras known exactly."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from room_folder import HEIGHT, WAVELENGTH, WIDTH, room_shots, true_scene
from synthetic import Plane, Shot, look_at, render, save_photo, shoot

from pointmap.camera import (
    Array,
    invert_rigid,
    pinhole,
    pixel_rays,
    project,
    rotation_angle_deg,
    transform_points,
)
from pointmap.images import load_photo, open_photos
from pointmap.lens import Lens
from recon.export.cameras_json import read_cameras
from recon.export.load import load_scene
from recon.export.ownership import file_digests
from recon.inputs import open_usable
from recon.localise import candidates
from recon.localise.command import main
from recon.localise.localise import Localised, localise_photos
from recon.localise.solved_scene import read_solved_scene
from recon.save import save_scene
from recon.scene import Tracks
from recon.two_view.features import FEATURE_LONG_SIDE, extract_features, match_features

POSE = look_at(np.array([0.5, -1.0, -3.6]), np.array([0.1, 0.3, 0.3]))
# The room is about 5 units wide.
CENTRE_TOLERANCE, TURN_TOLERANCE_DEG = 0.02, 0.3


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """scene/ of the photos in photos/, the last of them unplaced."""
    folder = tmp_path_factory.mktemp("localise")
    shots = room_shots(5)
    save_scene(true_scene(shots, folder / "photos", unplaced={4}), folder / "scene")
    return folder


def new_shot(width: int, height: int, focal: float, k1: float = 0.0) -> Shot:
    K = pinhole(focal, width, height)
    return render(K, POSE, width, height, wavelength=WAVELENGTH, lens=Lens.radial(k1))


def localised(scene: Path, photo: Path) -> Localised:
    (found,) = localise_photos(read_solved_scene(scene), open_usable([photo]))
    return found


def assert_at(pose: Array | None, truth: Array) -> None:
    assert pose is not None
    assert np.linalg.norm(pose[:3, 3] - truth[:3, 3]) < CENTRE_TOLERANCE
    assert rotation_angle_deg(pose[:3, :3].T @ truth[:3, :3]) < TURN_TOLERANCE_DEG


@pytest.mark.parametrize(
    ("width", "height", "focal", "k1"),
    [(300, 200, 225, 0.0), (200, 300, 390, 0.0), (300, 200, 270, -0.06)],
    ids=["wide", "tele, upright", "bent"],
)
def test_a_photo_of_an_unknown_camera(
    material: Path, tmp_path: Path, width: int, height: int, focal: float, k1: float
) -> None:
    path = save_photo(new_shot(width, height, focal, k1), tmp_path / "new.png")
    found = localised(material / "scene", path)
    assert_at(found.camera.cam_to_world, POSE)
    assert found.found is not None and found.found.lens.source == "estimated"
    assert abs(found.camera.intrinsics[0, 0] / focal - 1) < 0.01
    assert abs(found.camera.lens.k1_k2[0] - k1) < 0.01
    assert found.found.inliers > 200 and found.found.error_px < 0.5


def with_exif(path: Path, shot: Shot, *, model: str, focal_35mm: int = 0) -> Path:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Maker", model
    if focal_35mm:
        exif.get_ifd(0x8769)[0xA405] = focal_35mm
    return save_photo(shot, path, exif=exif)


def test_the_camera_of_the_scenes_photos_is_taken_as_it_is(tmp_path: Path) -> None:
    """EXIF names it; it has an odd principal point and distortion, which one photo tells badly."""
    K = pinhole(230, WIDTH, HEIGHT) + np.array([[0, 0, 4], [0, 0, -3], [0, 0, 0]])

    def bent(pose: Array) -> Shot:
        return render(K, pose, WIDTH, HEIGHT, wavelength=WAVELENGTH, lens=Lens.radial(-0.03))

    shots = [bent(shot.cam_to_world) for shot in room_shots(4)]
    scene = true_scene(shots, tmp_path / "photos")
    for view, shot in zip(scene.views, shots, strict=True):
        with_exif(view.path, shot, model="A")
    save_scene(scene, tmp_path / "scene")
    path = with_exif(tmp_path / "new.png", bent(POSE), model="A")
    found = localised(tmp_path / "scene", path)
    assert found.found is not None and found.found.lens.source == "the scene's camera"
    assert np.array_equal(found.camera.intrinsics, K) and found.camera.lens == Lens.radial(-0.03)
    assert_at(found.camera.cam_to_world, POSE)
    # 270 px of a diagonal of 300 are 38.9 mm of 43.3; whole millimetres are 2 % off.
    other = new_shot(WIDTH, HEIGHT, 270)
    path = with_exif(tmp_path / "other.png", other, model="B", focal_35mm=38)
    found = localised(tmp_path / "scene", path)
    assert found.found is not None and found.found.lens.source == "EXIF"
    assert abs(found.camera.intrinsics[0, 0] / 270 - 1) < 0.005
    assert_at(found.camera.cam_to_world, POSE)


def test_a_photo_of_the_same_size_is_of_the_same_camera_only_if_that_fits(
    material: Path, tmp_path: Path
) -> None:
    true, source = 0.95 * WIDTH, "the scene's camera"
    for focal in (true, 300.0):
        path = save_photo(new_shot(WIDTH, HEIGHT, focal), tmp_path / f"{focal}.png")
        found = localised(material / "scene", path)
        assert found.found is not None
        assert (found.found.lens.source == source) == (focal == true)
        assert abs(found.camera.intrinsics[0, 0] / focal - 1) < 0.01
        assert_at(found.camera.cam_to_world, POSE)


def feature_tracks(shots: list[Shot], photos: Path) -> Tracks:
    """Tracks of the features of neighbouring photos, their points exact."""
    opened, _ = open_photos([photos / f"{k}.png" for k in range(len(shots))])
    features = [extract_features(load_photo(p, long_side=FEATURE_LONG_SIDE)) for p in opened]
    points, seen = [], []
    for i, j in zip(range(len(shots) - 1), range(1, len(shots)), strict=True):
        matches = match_features(features[i], features[j], i, j)
        shot = shots[i]
        column, row = matches.xy_i.astype(int).T
        rays = pixel_rays(matches.xy_i, shot.intrinsics, shot.lens)
        world = transform_points(shot.cam_to_world, rays * shot.depth[row, column][:, None])
        there = transform_points(invert_rigid(shots[j].cam_to_world), world)
        good = np.linalg.norm(project(there, shots[j].intrinsics) - matches.xy_j, axis=1) < 1
        number = sum(map(len, points)) + np.arange(good.sum())
        points.append(world[good])
        seen += [(number, i, matches.xy_i[good]), (number, j, matches.xy_j[good])]
    every = np.concatenate(points)
    return Tracks(
        every,
        np.zeros((len(every), 3), np.uint8),
        np.concatenate([number for number, _, _ in seen]),
        np.concatenate([np.full(len(number), view) for number, view, _ in seen]),
        np.concatenate([xy for _, _, xy in seen]),
    )


def test_tracks_alone_place_a_photo_where_no_depth_is_confirmed(tmp_path: Path) -> None:
    shots = room_shots(5)
    scene = true_scene(shots, tmp_path / "photos")
    views = tuple(
        replace(view, maps=replace(view.maps, confidence=view.maps.confidence / 4))
        for view in scene.views
    )
    path = save_photo(new_shot(300, 200, 270), tmp_path / "new.png")
    save_scene(replace(scene, views=views), tmp_path / "nothing")
    found = localised(tmp_path / "nothing", path)
    assert not found.placed and "no known depth" in str(found.reason)
    tracks = feature_tracks(shots, tmp_path / "photos")
    save_scene(replace(scene, views=views, tracks=tracks), tmp_path / "scene")
    assert_at(localised(tmp_path / "scene", path).camera.cam_to_world, POSE)


def test_photos_that_show_something_else_or_too_little_are_not_placed(
    material: Path, tmp_path: Path
) -> None:
    wall = shoot(
        1, width=WIDTH, height=HEIGHT, wavelength=0.05, surfaces=(Plane((0.1, 0.3, 1.0), 3.0),)
    )
    elsewhere = save_photo(wall[0], tmp_path / "elsewhere.png")
    shot = new_shot(WIDTH, HEIGHT, 228)
    pixels = np.full_like(shot.pixels, 90)
    pixels[84:104, 110:130] = shot.pixels[84:104, 110:130]
    corner = save_photo(replace(shot, pixels=pixels), tmp_path / "corner.png")
    plain = save_photo(replace(shot, pixels=0 * pixels), tmp_path / "plain.png")
    scene = read_solved_scene(material / "scene")
    found = list(localise_photos(scene, open_usable([elsewhere, corner, plain])))
    assert len(found) == 3
    for one in found:
        assert not one.placed and one.reason, one.photo.name


def test_far_fewer_partners_than_photos_are_enough(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "PARTNERS", 2)
    scene = read_solved_scene(material / "scene")
    path = save_photo(new_shot(WIDTH, HEIGHT, 228), tmp_path / "new.png")
    photos = open_usable([path, material / "photos/4.png"])
    # The new photo stands right of the middle, the unplaced one at the right end.
    first, last = candidates.likely_partners(scene, photos)
    assert set(first) < {"1.png", "2.png", "3.png"} and last[0] == "3.png"
    assert_at(next(localise_photos(scene, photos)).camera.cam_to_world, POSE)


def test_what_is_masked_makes_nobody_a_partner(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "PARTNERS", 1)
    shots = room_shots(5)
    counts = np.tile(np.arange(WIDTH) < WIDTH // 3, (HEIGHT, 1))
    # The left third is that of one photo of the scene, the rest that of another.
    mixed = np.where(counts[..., None], shots[0].pixels, shots[3].pixels)
    (photo,) = open_usable([save_photo(replace(shots[0], pixels=mixed), tmp_path / "new.png")])
    Image.fromarray(255 * counts.astype(np.uint8)).save(tmp_path / "mask.png")
    masked = replace(photo, mask=tmp_path / "mask.png")
    scene = read_solved_scene(material / "scene")
    assert candidates.likely_partners(scene, [photo, masked]) == [["3.png"], ["0.png"]]
    # The same of what is masked in a photo of the scene.
    whole = true_scene(shots, tmp_path / "photos")
    views = list(whole.views)
    views[3] = replace(views[3], maps=replace(views[3].maps, usable=counts))
    save_scene(replace(whole, views=tuple(views)), tmp_path / "scene")
    scene = read_solved_scene(tmp_path / "scene")
    assert candidates.likely_partners(scene, [photo]) == [["0.png"]]


def test_the_command_writes_cameras_and_leaves_the_scene_as_it_is(
    material: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = file_digests(material)
    new = save_photo(new_shot(300, 200, 270), tmp_path / "new.png")
    plain = tmp_path / "plain.png"
    Image.new("RGB", (200, 100)).save(plain)
    own = shutil.copy(material / "photos/1.png", tmp_path / "copy of one.png")
    (tmp_path / "again").mkdir()
    again = shutil.copy(new, tmp_path / "again")
    photos = [str(path) for path in (new, plain, own, material / "photos/4.png", again)]
    written = tmp_path / "found.json"
    assert main([str(material / "scene"), *photos, "--json", str(written)]) == 0
    assert file_digests(material) == before
    printed = capsys.readouterr().out
    assert "plain.png: not placed: nothing in it was recognised" in printed
    assert "copy of one.png: it is 1.png of the scene" in printed
    assert "new.png: " in printed and "cam_to_world" in printed
    # As many digits as anybody reads; the file has all.
    assert not re.search(r"\d{11}", printed)
    cameras, whole = read_cameras(written)
    assert whole["units"] == "scene" and whole["pixel_centre"] == 0.5
    assert list(cameras) == ["new.png", "plain.png", "copy of one.png", "4.png", "again/new.png"]
    assert_at(cameras["new.png"].cam_to_world, POSE)
    assert cameras["plain.png"].cam_to_world is None
    assert cameras["plain.png"].entry["reason"] and not cameras["plain.png"].entry["registered"]
    # A photo of the scene has exactly the place that it has there, one that had none gets one.
    kept = load_scene(material / "scene").cameras["1.png"]
    assert np.array_equal(cameras["copy of one.png"].cam_to_world, kept.cam_to_world)
    assert_at(cameras["4.png"].cam_to_world, room_shots(5)[4].cam_to_world)
    twin = cameras["again/new.png"].cam_to_world
    assert np.array_equal(twin, cameras["new.png"].cam_to_world)
    assert main([str(material / "scene"), str(plain)]) == 2


def test_without_its_photos_the_scene_still_places_new_ones(
    material: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its own small copies are left; one photo has been replaced by another picture."""
    shutil.copytree(material / "scene", tmp_path / "scene")
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "photos/2.png")
    path = save_photo(new_shot(300, 200, 270), tmp_path / "new.png")
    assert_at(localised(tmp_path / "scene", path).camera.cam_to_world, POSE)
    assert caplog.text.count("has gone or changed: its small copy in the scene is used") == 4


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("no folder", "is not a folder"),
        ("no cameras", "cameras.json is missing"),
        ("cut cameras", "cannot be read"),
        ("other form", "of another form"),
        ("none placed", "there is nothing to place others in"),
        ("no depth", "is missing: reconstruct the scene again"),
        ("no photo", "no file matches"),
        ("no photo given", "no photos given"),
        ("nowhere to write", "is no folder: make it first"),
        ("into the scene", "would be a file of the scene"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_exit_code_2(
    material: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: str,
    words: str,
) -> None:
    scene = tmp_path / "scene"
    more = [str(save_photo(new_shot(120, 90, 110), tmp_path / "new.png"))]
    if damage != "no folder":
        shutil.copytree(material / "scene", scene)
    if damage == "no cameras":
        (scene / "cameras.json").unlink()
    if damage == "cut cameras":
        (scene / "cameras.json").write_text((scene / "cameras.json").read_text()[:500])
    if damage in ("other form", "none placed"):
        data = json.loads((scene / "cameras.json").read_text())
        for entry in data["images"].values():
            entry["cam_to_world"] = None
            if damage == "other form":
                del entry["depth"]
        (scene / "cameras.json").write_text(json.dumps(data))
    if damage == "no depth":
        (scene / "depth/0.npz").unlink()
    if damage == "no photo":
        more = [str(tmp_path / "*.jpg")]
    if damage == "no photo given":
        more = []
    if damage == "nowhere to write":
        more += ["--json", str(tmp_path / "none/found.json")]
    if damage == "into the scene":
        more += ["--json", str(scene / "cameras.json")]
    assert main([str(scene), *more]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and words in errors[0]


def test_damaged_tracks_are_warned_about_and_depth_does(
    material: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(material / "scene", tmp_path / "scene")
    (tmp_path / "scene/colmap/sparse/0/points3D.bin").write_bytes(b"\xff" * 30)
    path = save_photo(new_shot(300, 200, 270), tmp_path / "new.png")
    assert_at(localised(tmp_path / "scene", path).camera.cam_to_world, POSE)
    assert "is damaged" in caplog.text
