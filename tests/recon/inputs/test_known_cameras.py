from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from alignment_scenes import HEIGHT, WIDTH, arc_scene, evidence, scene_edges
from alignment_scenes import phone_photos as photos
from scene_factory import make_scene
from tiny_network import tiny_config

from pointmap.camera import Array, invert_rigid, pixel_rays, project, transform_points
from pointmap.errors import InputError
from pointmap.images import Photo
from pointmap.lens import Lens
from pointmap.network import DUSt3R
from pointmap.photo_names import photo_names
from recon.alignment import align
from recon.alignment.explained import pair_fits
from recon.evaluation.scene import read_truth
from recon.export.cameras_json import read_cameras, write_cameras
from recon.export.colmap import write_colmap
from recon.inputs import Inputs
from recon.inputs.read_cameras import load_known_cameras
from recon.reconstruction import Reconstruction

ODD = np.array([[512.5, 2.0, 333.0], [0.0, 489.25, 229.5], [0.0, 0.0, 1.0]])


def photos_of(scene: Reconstruction) -> list[Photo]:
    return [
        Photo(view.path, view.name, view.camera.width, view.camera.height, None, "one")
        for view in scene.views
    ]


def write(path: Path, images: dict) -> str:
    path.write_text(json.dumps({"pixel_centre": 0.5, "images": images}), encoding="utf-8")
    return str(path)


def entry(K: Array | None, pose: Array | None, k1: float = 0.0) -> dict:
    return {
        "K": None if K is None else K.tolist(),
        "cam_to_world": None if pose is None else pose.tolist(),
        "distortion": {"model": "SIMPLE_RADIAL", "k1": k1},
        "width": WIDTH,
        "height": HEIGHT,
    }


def test_no_file_means_that_nothing_is_known() -> None:
    known = load_known_cameras(None, photos(2))
    assert known.lenses == known.cam_to_world == (None, None)


def test_a_scene_of_ours_is_read_bit_equal(tmp_path: Path) -> None:
    scene = make_scene(tmp_path, k1=-0.01, unregistered={"c.jpg"})
    write_cameras(tmp_path / "cameras.json", scene)
    known = load_known_cameras(str(tmp_path / "cameras.json"), photos_of(scene))
    for view, lens, pose in zip(scene.views, known.lenses, known.cam_to_world, strict=True):
        assert np.array_equal(lens.intrinsics, view.camera.intrinsics)
        assert lens.lens == view.camera.lens
        given = view.camera.cam_to_world
        assert pose is None if given is None else np.array_equal(pose, given)


def test_cameras_of_the_same_picture_at_another_size_are_scaled(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pose = arc_scene(2, 20).cam_to_world[0]
    path = write(tmp_path / "cameras.json", {"0.jpg": entry(ODD, pose, -0.1)})
    # A quarter, rounded to whole pixels, of what the file describes; beside it, an unknown one.
    small = photos(2, WIDTH // 4, round(HEIGHT / 4))
    known = load_known_cameras(path, small)
    (lens, other), (given, _) = known.lenses, known.cam_to_world
    assert lens is not None and other is None
    xy = np.random.default_rng(0).uniform(0, [WIDTH, HEIGHT], (50, 2))
    (whole,) = load_known_cameras(path, photos(1)).lenses
    np.testing.assert_allclose(
        pixel_rays(xy / 4, lens.intrinsics, lens.lens),
        pixel_rays(xy, whole.intrinsics, whole.lens),
        atol=1e-12,
    )
    assert np.array_equal(given, pose)
    assert caplog.messages == [
        f"{path} describes 1 photo at another size: its cameras are scaled to the photos' (0.jpg)"
    ]


@pytest.mark.parametrize(("said", "shift"), [({}, 0.5), ({"pixel_centre": 0}, 0.5),
                                             ({"pixel_centre": 0.5}, 0.0)])  # fmt: skip
def test_pixels_count_from_where_the_file_says(tmp_path: Path, said: dict, shift: float) -> None:
    """Every reader of a cameras.json gives K of the (0.5, 0.5) convention."""
    path = tmp_path / "cameras.json"
    images = {f"{k}.jpg": entry(ODD, np.eye(4)) for k in range(2)}
    path.write_text(json.dumps({**said, "images": images}))
    moved = ODD.copy()
    moved[:2, 2] += shift
    known = load_known_cameras(str(path), photos(1)).lenses[0]
    assert np.array_equal(known.intrinsics, moved)
    assert np.array_equal(read_truth(path).cameras["0.jpg"].intrinsics, moved)
    assert np.array_equal(read_cameras(path)[0]["0.jpg"].camera().intrinsics, moved)


def test_two_poses_in_metres_hold_the_scene_to_metres(tmp_path: Path) -> None:
    path = tmp_path / "known.json"
    images = {"0.jpg": entry(ODD, np.eye(4)), "1.jpg": entry(ODD, np.eye(4))}
    for units, count, expected in (("metres", 2, "metres"), ("metres", 1, "scene"),
                                   ("scene", 2, "scene"), (7, 2, "scene")):  # fmt: skip
        path.write_text(json.dumps({"units": units, "images": images}))
        assert load_known_cameras(str(path), photos(count)).units == expected
    path.write_text(json.dumps({"units": "metres", "images": {"0.jpg": entry(ODD, None)}}))
    assert load_known_cameras(str(path), photos(2)).units == "scene"


@pytest.mark.parametrize("k1", [0.0, -0.01])
def test_a_colmap_model_is_read(tmp_path: Path, k1: float) -> None:
    scene = make_scene(tmp_path, k1=k1, unregistered={"c.jpg"})
    write_colmap(tmp_path, scene)
    known = load_known_cameras(str(tmp_path), photos_of(scene))
    assert known.lenses[2] is None and known.cam_to_world[2] is None
    for k in (0, 1, 3):
        camera = scene.views[k].camera
        assert np.array_equal(known.lenses[k].intrinsics, camera.intrinsics)
        assert known.lenses[k].lens == Lens.radial(k1)
        assert np.allclose(known.cam_to_world[k], camera.cam_to_world, atol=1e-12)


def in_folders(*names: str) -> list[Photo]:
    paths = [Path("/trip") / name for name in names]
    return [
        replace(photo, path=path, name=name)
        for photo, path, name in zip(photos(len(names)), paths, photo_names(paths), strict=True)
    ]


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (("left/0.jpg", "right/0.jpg"), (0, 1)),
        (("./images/right/0.jpg", "../images/left/0.jpg"), (1, 0)),
        (("right/0.jpg",), (None, 0)),
        (("elsewhere/1.jpg", "left/0.jpg"), (1, None)),
    ],
)
def test_cameras_belong_to_photos_by_their_way(
    tmp_path: Path, listed: tuple[str, ...], expected: tuple[int | None, ...]
) -> None:
    poses = [np.eye(4) + k * np.eye(4, k=3) for k in range(len(listed))]
    entries = {name: entry(ODD, pose) for name, pose in zip(listed, poses, strict=True)}
    path = write(tmp_path / "cameras.json", entries)
    found = load_known_cameras(path, in_folders("left/0.jpg", "right/0.jpg")).cam_to_world
    for pose, number in zip(found, expected, strict=True):
        assert pose is None if number is None else np.array_equal(pose, poses[number])


@pytest.mark.parametrize(
    ("listed", "names"),
    [(("0.jpg",), ("left/0.jpg", "right/0.jpg")), (("a/0.jpg", "b/0.jpg"), ("c/0.jpg", "c/1.jpg"))],
)
def test_cameras_of_which_nobody_knows_whose_they_are_are_an_error(
    tmp_path: Path, listed: tuple[str, ...], names: tuple[str, ...]
) -> None:
    path = write(tmp_path / "cameras.json", {name: entry(ODD, np.eye(4)) for name in listed})
    with pytest.raises(InputError, match="cannot be told"):
        load_known_cameras(path, in_folders(*names))


def test_a_colmap_model_that_has_a_photo_twice_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "cameras.txt").write_text("1 PINHOLE 640 480 500 500 320 240\n")
    images = [f"{n} 1 0 0 0 {n} 0 0 1 0.jpg\n\n" for n in (1, 2)]
    (tmp_path / "images.txt").write_text("".join(images))
    with pytest.raises(InputError, match=r"0\.jpg is in it twice"):
        load_known_cameras(str(tmp_path), photos(1))


def test_a_colmap_model_of_any_lens_is_read(tmp_path: Path) -> None:
    import pycolmap

    scene = make_scene(tmp_path)
    write_colmap(tmp_path, scene)
    model = pycolmap.Reconstruction(str(tmp_path))
    given = [-0.02, 0.01, 0.001, -0.002, 0.001, 0.0005, 0.001, -0.001]
    for name in ("FULL_OPENCV", "THIN_PRISM_FISHEYE"):
        for camera in model.cameras.values():
            camera.model = getattr(pycolmap.CameraModelId, name)
            camera.params = [600.0, 610.0, 320.0, 240.0, *given]
        model.write(str(tmp_path))
        lens = load_known_cameras(str(tmp_path), photos_of(scene)).lenses[0]
        assert lens is not None and lens.lens == Lens(name, tuple(given))
        xy = np.random.default_rng(0).uniform(0, [640, 480], (50, 2))
        rays = camera.cam_from_img(xy)
        np.testing.assert_allclose(pixel_rays(xy, lens.intrinsics, lens.lens)[:, :2], rays)
        np.testing.assert_allclose(lens.to_original(lens.to_ideal(xy)), xy, atol=1e-5)
    for camera in model.cameras.values():
        camera.model = pycolmap.CameraModelId.EQUIRECTANGULAR
        camera.params = [640.0, 320.0]
    model.write(str(tmp_path))
    with pytest.raises(InputError, match="panorama"):
        load_known_cameras(str(tmp_path), photos_of(scene))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ({"other.jpg": entry(ODD, None)}, "names none of the photos"),
        ({"0.jpg": {**entry(ODD, None), "width": HEIGHT}}, "480 x 480 pixels, but upright"),
        ({"0.jpg": entry(ODD[:2], None)}, "K must be 3x3"),
        ({"0.jpg": entry(ODD, np.diag([1.0, 1.0, -1.0, 1.0]))}, "mirrors"),
        ({"0.jpg": entry(ODD, 2 * np.eye(4))}, "last row"),
        ({"0.jpg": entry(ODD, np.diag([2.0, 1.0, 1.0, 1.0]))}, "a rotation"),
        ({"0.jpg": {"K": None}}, "not a cameras.json"),
    ],
)
def test_what_cannot_be_right_is_said_in_one_line(tmp_path: Path, images: dict, words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        load_known_cameras(write(tmp_path / "known.json", images), photos(1))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("nothing.json", None, "does not exist: give a cameras.json"),
        ("nothing", None, "does not exist: give a cameras.json"),
        (
            "cameras.txt",
            b"# Camera list\n1 PINHOLE 640 480 500\n",
            "folder of a COLMAP",
        ),
        ("mesh.ply", b"ply\n\xa6", "is no file of cameras: give a cameras.json"),
        ("cut.json", b'{"images": ', "cannot be read"),
        ("cameras.json", b'[{"img_name": "0", "fx": 500}]', "is no file of cameras: give"),
    ],
)
def test_what_may_be_given_is_said_where_something_else_was(
    tmp_path: Path, name: str, content: bytes | None, said: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said) as error:
        load_known_cameras(str(tmp_path / name), photos(1))
    assert "\n" not in str(error.value) and "run_recon" not in str(error.value)


def test_rotations_of_few_digits_are_rotations(tmp_path: Path) -> None:
    pose = np.eye(4)
    pose[:3, :3], _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    pose[:3, :3] *= np.linalg.det(pose[:3, :3])
    for digits, angle in ((4, 1e-4), (8, 1e-8)):
        rounded = pose.round(digits)
        path = write(tmp_path / "few.json", {"0.jpg": entry(ODD, rounded)})
        read = load_known_cameras(path, photos(1)).cam_to_world[0]
        assert read is not None
        assert np.allclose(read[:3, :3] @ read[:3, :3].T, np.eye(3), atol=1e-7)
        assert np.abs(read - pose).max() < angle
        assert digits == 4 or np.array_equal(read, rounded)


def test_a_model_is_found_in_the_folders_of_its_program(tmp_path: Path) -> None:
    scene, project = make_scene(tmp_path), tmp_path / "project"
    for number in "01":
        (project / "sparse" / number).mkdir(parents=True)
        write_colmap(project / "sparse" / number, scene)
        if number == "0":
            for named in ("project", "project/sparse", "project/sparse/0/images.bin"):
                known = load_known_cameras(str(tmp_path / named), photos_of(scene))
                assert all(pose is not None for pose in known.cam_to_world)
    with pytest.raises(InputError, match=r"2 COLMAP models \(sparse/0, sparse/1\): name one"):
        load_known_cameras(str(project), photos_of(scene))
    # Of a scene of ours the file that keeps all digits.
    write(project / "cameras.json", {"0.jpg": entry(ODD, None)})
    assert load_known_cameras(str(project), photos(1)).cam_to_world == (None,)


@pytest.mark.parametrize("k1", [0.0, -0.07])
def test_any_lens_is_an_ideal_pinhole_and_back(tmp_path: Path, k1: float) -> None:
    path = write(tmp_path / "known.json", {"0.jpg": entry(ODD, None, k1)})
    lens = load_known_cameras(path, photos(1)).lenses[0]
    xy = np.random.default_rng(0).uniform(0, [WIDTH, HEIGHT], (50, 2))
    ideal = lens.to_ideal(xy)
    assert np.allclose(pixel_rays(ideal, lens.ideal), pixel_rays(xy, ODD, Lens.radial(k1)))
    assert lens.ideal[0, 0] == lens.ideal[1, 1] == lens.focal_px
    assert lens.ideal[:2, 2].tolist() == [WIDTH / 2, HEIGHT / 2]
    assert np.allclose(lens.to_original(ideal), xy)


def test_lenses_that_are_pinholes_bend_nothing(tmp_path: Path) -> None:
    K = np.array([[500.0, 0, WIDTH / 2], [0, 500.0, HEIGHT / 2], [0, 0, 1]])
    for entries, bent in (
        ([entry(K, None), entry(None, None)], False),
        ([entry(K, None), entry(K, None, k1=-0.05)], True),
        ([entry(K, None), entry(ODD, None)], True),
    ):
        images = {f"{k}.jpg": one for k, one in enumerate(entries)}
        known = load_known_cameras(write(tmp_path / "known.json", images), photos(2))
        assert known.bent == bent


@pytest.mark.parametrize(
    "lens",
    [
        Lens.radial(-0.05),
        Lens("OPENCV", (-0.05, 0.01, 0.002, -0.001)),
        Lens("OPENCV_FISHEYE", (0.01, 0.0, 0.002, 0.0)),
    ],
    ids=lambda lens: lens.model,
)
def test_odd_lenses_come_through_the_alignment_bit_equal(tmp_path: Path, lens: Lens) -> None:
    """All photos have an off-centre lens with skew and distortion; all but the last are known."""
    scene = arc_scene(6, 200)
    poses = scene.cam_to_world
    images = {f"{k}.jpg": entry(ODD, poses[k] if k < 3 else None) for k in range(6)}
    for one in images.values():
        one["distortion"] = {"model": lens.model, **lens.parameters}
    known = load_known_cameras(write(tmp_path / "known.json", images), photos(6))
    bent = [
        project(transform_points(invert_rigid(pose), scene.points), ODD, lens) for pose in poses
    ]
    ideal = [one.to_ideal(xy) for one, xy in zip(known.lenses, bent, strict=True)]
    edges, _ = scene_edges(replace(scene, xy=np.where(np.isfinite(scene.xy), ideal, np.nan)))
    told = evidence(photos(6), edges, known.focals_px, focal_log_sigma=0.0)
    found = align(photos(6), told, known_cam_to_world=known.cam_to_world)
    found = known.restored(found)
    assert all(np.array_equal(K, ODD) for K in found.intrinsics) and set(found.lenses) == {lens}
    for k, pose in enumerate(found.cam_to_world):
        assert np.array_equal(pose, poses[k]) if k < 3 else np.allclose(pose, poses[k], atol=1e-4)
    # Key points are back in the photos' own pixels, and the points project onto them.
    tracks = found.tracks
    assert len(tracks.xy) > 500
    for k, pose in enumerate(found.cam_to_world):
        mine = tracks.view_index == k
        points = transform_points(invert_rigid(pose), tracks.points[tracks.point_index[mine]])
        assert np.abs(project(points, ODD, lens) - tracks.xy[mine]).max() < 0.05
    # And so are matches, by which the cameras are judged.
    assert pair_fits(photos(6), found).share.min() > 0.99


def test_a_photo_whose_camera_is_known_is_not_taken_for_a_photo_by_itself(tmp_path: Path) -> None:
    network, cpu = DUSt3R(tiny_config(64)), torch.device("cpu")
    one = photos(1)
    for found, alone in ((entry(ODD, None), False), (entry(None, np.eye(4)), False), (None, True)):
        path = None if found is None else write(tmp_path / "known.json", {"0.jpg": found})
        known = load_known_cameras(path, one)
        assert Inputs(tuple(one), known, None, network, cpu).is_single_photo == alone


def transforms(path: Path, frames: list[str], **lens: object) -> str:
    listed = [{"file_path": name, "transform_matrix": np.eye(4).tolist()} for name in frames]
    path.write_text(json.dumps({**lens, "frames": listed}), encoding="utf-8")
    return str(path)


def test_scenes_of_nerf_leave_the_size_and_the_endings_open(tmp_path: Path) -> None:
    path = transforms(tmp_path / "train.json", ["./train/0", "./train/1"], camera_angle_x=0.9)
    known = load_known_cameras(path, photos(2))
    for lens, pose in zip(known.lenses, known.cam_to_world, strict=True):
        assert lens is not None and pose is not None
        focal = WIDTH / 2 / np.tan(0.45)
        expected = [[focal, 0, WIDTH / 2], [0, focal, HEIGHT / 2], [0, 0, 1]]
        np.testing.assert_allclose(lens.intrinsics, expected)
    # Another file's name is not the beginning of a photo's.
    path = transforms(tmp_path / "other.json", ["0.jpg"], camera_angle_x=0.9)
    photo = Photo(Path("0.jpg.png"), "0.jpg.png", WIDTH, HEIGHT, None, "one")
    with pytest.raises(InputError, match="names none"):
        load_known_cameras(path, [photo])


def test_a_fisheye_of_instant_ngp_is_one(tmp_path: Path) -> None:
    said = dict(fl_x=300.0, fl_y=300.0, k1=0.1, k2=0.0, k3=0.01, k4=0.0, p1=0, p2=0)
    path = transforms(tmp_path / "t.json", ["0.jpg"], is_fisheye=True, **said)
    (lens,) = load_known_cameras(path, photos(1)).lenses
    assert lens is not None and lens.lens == Lens("OPENCV_FISHEYE", (0.1, 0.0, 0.01, 0.0))


@pytest.mark.parametrize("listed", [r".\images\Küche.jpg", "images/Ku\u0308che.jpg"])
@pytest.mark.parametrize("file", ["Küche.jpg", "Ku\u0308che.jpg"])
def test_names_of_other_systems_are_the_same(tmp_path: Path, listed: str, file: str) -> None:
    path = transforms(tmp_path / "t.json", [listed, "1.jpg"], camera_angle_x=0.9)
    photo = Photo(Path("images") / file, file, WIDTH, HEIGHT, None, "one")
    assert load_known_cameras(path, [photo]).lenses[0] is not None
