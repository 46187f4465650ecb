"""Every file of the output contract, read back by the program it is meant for."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from scene_factory import (
    NAMES,
    UNREGISTERED,
    colours_at,
    make_mixed_scene,
    make_scene,
    placed,
)
from view_maps import with_maps

from pointmap.camera import invert_rigid, project, rotation_angle_deg, transform_points
from pointmap.lens import Lens
from recon.export.cameras_json import read_cameras, write_cameras
from recon.export.depth_npz import (
    read_depth_npz,
    rounded,
    write_depth_npz,
    write_depth_png,
)
from recon.export.file_names import depth_stems, relative_photo_path
from recon.export.glb import frustum_size, write_glb
from recon.export.json_file import plain, write_json
from recon.export.ply import read_cloud_ply, read_mesh_ply, write_cloud_ply, write_mesh_ply
from recon.export.run_json import read_run, write_run
from recon.reconstruction import Reconstruction
from recon.scene import Mesh, PhotoVerdict, PointCloud, Verdict


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Reconstruction:
    return make_mixed_scene(tmp_path_factory.mktemp("photos"))


def _linear_to_srgb(linear: np.ndarray) -> np.ndarray:
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


class TestCamerasJson:
    def test_holds_every_photo_in_order_and_exactly(
        self, scene: Reconstruction, tmp_path: Path
    ) -> None:
        write_cameras(tmp_path / "cameras.json", scene)
        data = json.loads((tmp_path / "cameras.json").read_text(encoding="utf-8"))
        assert data["units"] == "scene"
        assert data["pixel_centre"] == 0.5
        assert data["camera_axes"].startswith("OpenCV")
        assert tuple(data["images"]) == NAMES
        for view in scene.views:
            entry = data["images"][view.name]
            assert set(entry) == {
                *("K", "distortion", "cam_to_world", "width", "height", "registered"),
                *("reason", "depth"),
            }
            assert (entry["width"], entry["height"]) == (view.camera.width, view.camera.height)
            # repr-exact floats: not close, equal.
            np.testing.assert_array_equal(entry["K"], view.camera.intrinsics)
            if view.name == UNREGISTERED:
                assert entry["cam_to_world"] is None
                assert entry["registered"] is False
                assert "matches" in entry["reason"]
            else:
                np.testing.assert_array_equal(entry["cam_to_world"], view.camera.cam_to_world)
                assert entry["registered"] is True
                assert entry["reason"] is None
            assert entry["depth"] == f"depth/{Path(view.name).stem}.npz"

    def test_the_lens_comes_back(self, tmp_path: Path) -> None:
        scene = make_scene(tmp_path, k1=-0.0123456789)
        write_cameras(tmp_path / "cameras.json", scene)
        text = (tmp_path / "cameras.json").read_text(encoding="utf-8")
        assert json.loads(text)["images"]["a.jpg"]["distortion"] == {
            "model": "SIMPLE_RADIAL",
            "k1": -0.0123456789,
        }
        cameras, _ = read_cameras(tmp_path / "cameras.json")
        assert {camera.lens for camera in cameras.values()} == {Lens.radial(-0.0123456789)}
        # Scenes of before there was such an entry.
        data = json.loads(text)
        for entry in data["images"].values():
            del entry["distortion"]
        (tmp_path / "cameras.json").write_text(json.dumps(data), encoding="utf-8")
        cameras, _ = read_cameras(tmp_path / "cameras.json")
        assert {camera.lens for camera in cameras.values()} == {Lens()}

    def test_does_not_depend_on_where_the_photos_lie(self, tmp_path: Path) -> None:
        for place in ("one", "two/deeper"):
            write_cameras(tmp_path / place.replace("/", "_"), make_scene(tmp_path / place))
        assert (tmp_path / "one").read_bytes() == (tmp_path / "two_deeper").read_bytes()

    def test_matrices_are_one_row_per_line(self, scene: Reconstruction, tmp_path: Path) -> None:
        write_cameras(tmp_path / "cameras.json", scene)
        lines = (tmp_path / "cameras.json").read_text(encoding="utf-8").splitlines()
        assert any(line.strip() == "[0.0, 0.0, 0.0, 1.0]" for line in lines)


class TestJson:
    def test_strange_strings_come_back(self, tmp_path: Path) -> None:
        data = {"[\n  1\n]": "a [ 1 ].jpg", "bad \udcff name": [[1, -2.5e-300], []], "ü": "日本"}
        write_json(tmp_path / "x.json", data)
        assert json.loads((tmp_path / "x.json").read_bytes()) == data

    def test_nan_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="JSON"):
            write_json(tmp_path / "x.json", {"K": float("nan")})

    def test_options_of_any_kind_become_json(self) -> None:
        options = {
            "out": Path("a") / "b",
            "size": np.float32(0.5),
            "limit": float("inf"),
            "kinds": {"b", "a"},
            "box": np.eye(2),
            "nested": dataclasses.make_dataclass("Options", [("k", int)])(3),
        }
        assert json.loads(json.dumps(plain(options), allow_nan=False)) == {
            "out": str(Path("a") / "b"),
            "size": 0.5,
            "limit": "inf",
            "kinds": ["a", "b"],
            "box": [[1.0, 0.0], [0.0, 1.0]],
            "nested": {"k": 3},
        }


class TestNames:
    @pytest.mark.parametrize(
        ("names", "stems"),
        [
            (["a.jpg", "b.jpg"], ["a", "b"]),
            (["a.jpg", "a.png"], ["a", "a_png"]),
            # The photo really called a_png keeps that name.
            (["a.jpg", "a.png", "a_png.jpg"], ["a", "a_png_2", "a_png"]),
            (["x/a.jpg", "y/a.jpg", "x:a.jpg"], ["x_a", "y_a", "x_a_jpg"]),
            (["A.jpg", "a.jpg", "a.JPG"], ["A", "a_jpg", "a_JPG_2"]),
            # The same letter as one character and as two, which macOS takes for one file.
            (["\u00fc.jpg", "u\u0308.jpg"], ["\u00fc", "u\u0308_jpg"]),
            ([".jpg", "a.b.c.jpg", "noend"], [".jpg", "a.b.c", "noend"]),
        ],
    )
    def test_stems_are_unique_and_keep_what_they_can(
        self, names: list[str], stems: list[str]
    ) -> None:
        assert depth_stems(names) == stems

    def test_stems_leave_room_for_endings(self) -> None:
        names = [f"{'x' * 240}{end}.jpg" for end in ("a", "b")] + ["ü" * 126 + ".jpg", "y.jpg"]
        stems = depth_stems(names)
        assert len(set(stems)) == 4 and stems[3] == "y"
        assert all(len(stem.encode()) <= 200 for stem in stems)

    def test_photo_paths_are_relative_even_through_links(self, tmp_path: Path) -> None:
        (tmp_path / "real/photos").mkdir(parents=True)
        (tmp_path / "link").symlink_to(tmp_path / "real/photos")
        (tmp_path / "real/photos/a b.jpg").touch()
        relative = relative_photo_path(tmp_path / "link/a b.jpg", tmp_path / "scene")
        assert relative == "../real/photos/a b.jpg"


class TestDepthMaps:
    def test_npz_holds_depth_confidence_image_and_matching_intrinsics(
        self, scene: Reconstruction, tmp_path: Path
    ) -> None:
        view = scene.views[1]
        write_depth_npz(tmp_path / "b b.npz", view)
        with np.load(tmp_path / "b b.npz", allow_pickle=False) as arrays:
            np.testing.assert_allclose(arrays["depth"], view.depth, rtol=2**-12)
            np.testing.assert_allclose(arrays["confidence"], view.confidence, atol=1 / 256)
            np.testing.assert_array_equal(arrays["image"], view.pixels)
            assert arrays["depth"].dtype == arrays["confidence"].dtype == np.float32
            height, width = arrays["depth"].shape
            # A corner of the photo is the same corner of the depth map.
            corner = arrays["K"] @ np.linalg.inv(view.camera.intrinsics) @ [480, 640, 1]
            np.testing.assert_allclose(corner, [width, height, 1], atol=1e-9)
        bent = dataclasses.replace(
            view, camera=dataclasses.replace(view.camera, lens=Lens.radial(-0.02))
        )
        write_depth_npz(tmp_path / "bent.npz", bent)
        assert read_depth_npz(tmp_path / "bent.npz").lens == Lens.radial(-0.02)

    def test_depth_is_rounded_far_below_its_accuracy_and_only_once(self) -> None:
        depth = np.exp(np.random.default_rng(0).normal(0, 3, 10_000)).astype(np.float32)
        once = rounded(depth)
        assert np.abs(once / depth - 1).max() <= 2**-12
        assert abs((once.astype(float) / depth - 1).mean()) < 1e-5
        np.testing.assert_array_equal(rounded(once), once)
        assert not (once.view(np.uint32) & 0xFFF).any()
        np.testing.assert_array_equal(rounded(np.zeros(3, np.float32)), 0)

    def test_anything_but_positive_numbers_is_written_as_unknown(
        self, scene: Reconstruction, tmp_path: Path
    ) -> None:
        depth = scene.views[0].depth.copy()
        depth[0, :4] = [np.nan, np.inf, -1, 2]
        write_depth_npz(tmp_path / "a.npz", with_maps(scene.views[0], depth=depth))
        np.testing.assert_array_equal(read_depth_npz(tmp_path / "a.npz").depth[0, :4], [0, 0, 0, 2])

    def test_png_is_a_picture_of_the_same_size(self, scene: Reconstruction, tmp_path: Path) -> None:
        from PIL import Image

        write_depth_png(tmp_path / "a.png", scene.views[0])
        with Image.open(tmp_path / "a.png") as picture:
            pixels = np.asarray(picture.convert("RGB"))
        assert pixels.shape == (*scene.views[0].depth.shape, 3)
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20


class TestPly:
    def test_cloud_in_open3d_and_trimesh(self, scene: Reconstruction, tmp_path: Path) -> None:
        import open3d as o3d
        import trimesh

        path = tmp_path / "pünkte 1.ply"
        write_cloud_ply(path, scene.cloud)
        tensor = o3d.t.io.read_point_cloud(path)
        np.testing.assert_array_equal(tensor.point["positions"].numpy(), scene.cloud.points)
        np.testing.assert_array_equal(tensor.point["normals"].numpy(), scene.cloud.normals)
        np.testing.assert_array_equal(tensor.point["colors"].numpy(), scene.cloud.colours)
        confidence = tensor.point["confidence"].numpy().reshape(-1)
        np.testing.assert_array_equal(confidence, scene.cloud.confidence)
        legacy = o3d.io.read_point_cloud(path)
        assert legacy.has_normals() and legacy.has_colors()
        cloud = trimesh.load(path)
        np.testing.assert_array_equal(cloud.vertices, scene.cloud.points)
        np.testing.assert_array_equal(cloud.colors[:, :3], scene.cloud.colours)

    def test_mesh_in_open3d_and_trimesh(self, scene: Reconstruction, tmp_path: Path) -> None:
        import open3d as o3d
        import trimesh

        write_mesh_ply(tmp_path / "mesh.ply", scene.surface)
        mesh = o3d.io.read_triangle_mesh(tmp_path / "mesh.ply")
        np.testing.assert_array_equal(np.asarray(mesh.vertices), scene.surface.vertices)
        np.testing.assert_array_equal(np.asarray(mesh.triangles), scene.surface.faces)
        np.testing.assert_array_equal(np.asarray(mesh.vertex_normals), scene.surface.normals)
        colours = np.round(np.asarray(mesh.vertex_colors) * 255)
        np.testing.assert_array_equal(colours, scene.surface.colours)
        other = trimesh.load(tmp_path / "mesh.ply", process=False)
        np.testing.assert_array_equal(other.faces, scene.surface.faces)
        np.testing.assert_array_equal(other.visual.vertex_colors[:, :3], scene.surface.colours)

    def test_empty_cloud_and_mesh_are_valid_files(self, tmp_path: Path) -> None:
        import open3d as o3d
        import trimesh

        write_cloud_ply(tmp_path / "points.ply", PointCloud.empty())
        write_mesh_ply(tmp_path / "mesh.ply", Mesh.empty())
        for name in ("points.ply", "mesh.ply"):
            assert trimesh.load(tmp_path / name).is_empty
        assert len(o3d.io.read_triangle_mesh(tmp_path / "mesh.ply").vertices) == 0
        assert len(read_cloud_ply(tmp_path / "points.ply").points) == 0
        assert len(read_mesh_ply(tmp_path / "mesh.ply").faces) == 0

    def test_files_edited_elsewhere_load(self, scene: Reconstruction, tmp_path: Path) -> None:
        import trimesh

        mesh = scene.surface
        text = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).export(
            file_type="ply", encoding="ascii", vertex_normal=False
        )
        (tmp_path / "mesh.ply").write_bytes(text)
        loaded = read_mesh_ply(tmp_path / "mesh.ply")
        np.testing.assert_allclose(loaded.vertices, mesh.vertices, atol=1e-6)
        np.testing.assert_array_equal(loaded.faces, mesh.faces)
        assert loaded.colours.shape == loaded.normals.shape == loaded.vertices.shape


class TestGlb:
    @staticmethod
    def _tree(path: Path) -> dict:
        data = path.read_bytes()
        magic, version, length, json_length = struct.unpack("<4sIII", data[:16])
        assert (magic, version, length) == (b"glTF", 2, len(data))
        return json.loads(data[20 : 20 + json_length])

    def test_mesh_is_y_up_with_exact_colours(self, scene: Reconstruction, tmp_path: Path) -> None:
        import open3d as o3d
        import trimesh

        write_glb(tmp_path / "scene.glb", scene)
        loaded = trimesh.load(tmp_path / "scene.glb", process=False)
        mesh = loaded.geometry["mesh"]
        expected = scene.surface.vertices * np.float32([1, -1, -1])
        np.testing.assert_allclose(mesh.vertices, expected, atol=1e-6)
        np.testing.assert_array_equal(mesh.faces, scene.surface.faces)
        # Turned, not mirrored: the ball's triangles still face outwards.
        assert ((mesh.face_normals * mesh.triangles_center).sum(1) > 0.9).all()
        colours = _linear_to_srgb(np.asarray(mesh.visual.vertex_attributes["color"]))
        np.testing.assert_allclose(colours * 255, scene.surface.colours, atol=0.01)
        merged = o3d.io.read_triangle_mesh(tmp_path / "scene.glb")
        cameras = len(placed(scene))
        assert len(merged.triangles) == len(scene.surface.faces) + 4 * cameras
        assert merged.has_vertex_colors()

    def test_frusta_and_cameras_stand_where_the_photos_were_taken(
        self, scene: Reconstruction, tmp_path: Path
    ) -> None:
        import trimesh

        write_glb(tmp_path / "scene.glb", scene)
        tree = self._tree(tmp_path / "scene.glb")
        nodes = {node["name"]: node for node in tree["nodes"] if "camera" in node}
        loaded = trimesh.load(tmp_path / "scene.glb", process=False)
        assert len(nodes) == len(placed(scene)) == len(tree["cameras"])
        assert f"camera {UNREGISTERED}" not in nodes
        for view in placed(scene):
            node = nodes[f"camera {view.name}"]
            assert tree["nodes"].index(node) in tree["scenes"][0]["nodes"]
            matrix = np.reshape(node["matrix"], (4, 4)).T
            centre = view.camera.cam_to_world[:3, 3] * [1, -1, -1]
            np.testing.assert_allclose(matrix[:3, 3], centre, atol=1e-9)
            # A glTF camera looks along its own -z: the ball in the middle is ahead of each.
            ahead = -matrix[:3, 2]
            assert ahead @ (-centre) / np.linalg.norm(centre) > 0.999
            # And stands upright: its y axis goes up, as the world's now does.
            assert matrix[1, 1] > 0.9
            lens = tree["cameras"][node["camera"]]["perspective"]
            K, height = view.camera.intrinsics, view.camera.height
            assert np.tan(lens["yfov"] / 2) == pytest.approx(height / 2 / K[1, 1])
            frustum = loaded.geometry[f"frustum {view.name}"]
            np.testing.assert_allclose(frustum.vertices[0], centre, atol=1e-6)
            in_camera = transform_points(
                invert_rigid(view.camera.cam_to_world), frustum.vertices[1:] * [1, -1, -1]
            )
            pixels = project(in_camera, K)
            w, h = view.camera.width, view.camera.height
            np.testing.assert_allclose(pixels, [(0, 0), (w, 0), (w, h), (0, h)], atol=1e-2)
            np.testing.assert_allclose(in_camera[:, 2], frustum_size(scene), rtol=1e-4)

    def test_cloud_stands_in_for_an_empty_mesh(self, scene: Reconstruction, tmp_path: Path) -> None:
        import trimesh

        write_glb(tmp_path / "s.glb", dataclasses.replace(scene, surface=Mesh.empty()))
        points = trimesh.load(tmp_path / "s.glb").geometry["points"]
        expected = scene.cloud.points * np.float32([1, -1, -1])
        np.testing.assert_allclose(points.vertices, expected, atol=1e-6)
        colours = _linear_to_srgb(points.colors[:, :3] / 255) * 255
        bright = scene.cloud.colours > 100
        np.testing.assert_allclose(colours[bright], scene.cloud.colours[bright], atol=2)

    def test_cameras_alone_and_nothing_at_all(self, scene: Reconstruction, tmp_path: Path) -> None:
        import trimesh

        bare = dataclasses.replace(scene, surface=Mesh.empty(), cloud=PointCloud.empty())
        write_glb(tmp_path / "cameras.glb", bare)
        assert len(trimesh.load(tmp_path / "cameras.glb").geometry) == len(placed(scene))
        write_glb(tmp_path / "nothing.glb", dataclasses.replace(bare, views=()))
        assert self._tree(tmp_path / "nothing.glb")["scenes"] == [{}]
        assert len(trimesh.load(tmp_path / "nothing.glb").geometry) == 0

    def test_frustum_size_is_sane_for_one_photo_and_for_cameras_in_one_place(
        self, tmp_path: Path
    ) -> None:
        single = make_scene(tmp_path, names=("a.jpg",))
        assert 0.2 < frustum_size(single) < 0.8
        same = tuple(dataclasses.replace(single.views[0], name=name) for name in ("a.jpg", "b.jpg"))
        assert 0.2 < frustum_size(dataclasses.replace(single, views=same)) < 0.8


def test_run_json_says_what_happened(scene: Reconstruction, tmp_path: Path) -> None:
    (tmp_path / "depth").mkdir()
    (tmp_path / "depth/a.npz").write_bytes(b"abc")
    write_run(tmp_path / "run.json", scene, scene_folder=tmp_path)
    run = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert run["counts"] == {
        "photos": 5,
        "registered": 4,
        "tracks": len(scene.tracks.points),
        "points": len(scene.cloud.points),
        "triangles": len(scene.surface.faces),
    }
    assert run["versions"]["numpy"] == np.__version__
    assert all(run["versions"][name] for name in ("pointmap", "python", "torch", "open3d"))
    assert run["options"] == {"seed": 0, "voxel": None, "photos": scene.options["photos"]}
    assert run["stages"][0] == {
        "name": "alignment",
        "seconds": 1.25,
        "peak_memory_mb": 321.5,
        "cpu_seconds": 2.25,
    }
    assert run["seconds"] == 1.75
    assert run["warnings"] == ["c.jpg: example warning"]
    assert run["files"] == {"depth/a.npz": hashlib.sha256(b"abc").hexdigest()}
    assert str(Path.home()) not in json.dumps(run["photos"])
    unplaced = [photo["name"] for photo in run["photos"] if not photo["registered"]]
    assert unplaced == [UNREGISTERED]


def test_the_verdict_is_in_both_files_and_comes_back(scene: Reconstruction, tmp_path: Path) -> None:
    photos = tuple(
        PhotoVerdict(view.name, "doubtful", 0.5, 6.25, "add photos") if view.registered else None
        for view in scene.views
    )
    verdict = Verdict("doubtful", "few matches: add photos", 0.625, 0.5, None, photos)
    judged = dataclasses.replace(scene, verdict=verdict)
    write_run(tmp_path / "run.json", judged, scene_folder=tmp_path)
    assert read_run(tmp_path).verdict == verdict
    assert json.loads((tmp_path / "run.json").read_text())["verdict"]["word"] == "doubtful"
    write_cameras(tmp_path / "cameras.json", judged)
    said = json.loads((tmp_path / "cameras.json").read_text())
    assert said["verdict"] == "doubtful"
    error = {
        "word": "doubtful",
        "rotation_error_deg": 0.5,
        "direction_error_deg": 6.25,
        "reason": "add photos",
    }
    assert [entry["verdict"] for entry in said["images"].values()] == [
        error if view.registered else None for view in scene.views
    ]
    write_run(tmp_path / "run.json", scene, scene_folder=tmp_path)
    assert read_run(tmp_path).verdict is None


def test_the_factory_scene_is_true(scene: Reconstruction) -> None:
    """Depth, poses and tracks agree: otherwise the tests above would compare errors."""
    first, second = placed(scene)[:2]
    relative = first.camera.cam_to_world[:3, :3].T @ second.camera.cam_to_world[:3, :3]
    assert 5 < rotation_angle_deg(relative) < 40
    height, width = first.depth.shape
    x, y = width // 2 + 0.5, height // 2 + 0.5
    K = first.depth_intrinsics
    ray = np.array([(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], 1.0])
    hit = transform_points(first.camera.cam_to_world, ray * first.depth[height // 2, width // 2])
    assert np.linalg.norm(hit) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(
        colours_at(hit).astype(int), first.pixels[height // 2, width // 2].astype(int), atol=1
    )
