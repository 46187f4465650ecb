"""Files beside the contract's own, each read back by a program that people use."""

import dataclasses
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scene_factory import make_scene
from view_maps import with_maps

from pointmap.errors import InputError
from recon.export import ExportOptions
from recon.export.depth_formats import write_depth_files
from recon.export.glb import write_glb
from recon.export.obj import write_obj
from recon.export.tum import write_tum
from recon.fusion.texture import texture_mesh
from recon.reconstruction import Reconstruction
from recon.scene import Mesh, PointCloud

UNREGISTERED = "c.jpg"
VALIDATOR = Path(__file__).parents[3] / ".cache/gltf-validator"
VALIDATE = """
const validator = require("gltf-validator"), fs = require("fs");
validator.validateBytes(new Uint8Array(fs.readFileSync(process.argv[1])))
    .then(report => console.log(JSON.stringify(report)));
"""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Reconstruction:
    folder = tmp_path_factory.mktemp("photos")
    return make_scene(folder, unregistered=[UNREGISTERED], write_photos=True)


@pytest.fixture(scope="module")
def textured(scene: Reconstruction) -> Reconstruction:
    # The photos show a wall, too: what counts here is that file and picture belong together.
    return dataclasses.replace(scene, textured=texture_mesh(scene.surface, scene.views))


@pytest.fixture(scope="module")
def validator() -> Path:
    """Khronos's own validator, from the npm registry, once."""
    if shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    if not (VALIDATOR / "node_modules/gltf-validator").is_dir():
        VALIDATOR.mkdir(parents=True, exist_ok=True)
        npm = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(VALIDATOR)]
        done = subprocess.run([*npm, "gltf-validator@2.0.0-dev.3.10"], capture_output=True)
        if done.returncode:
            pytest.skip("the npm registry cannot be reached")
    return VALIDATOR


class TestGltfValidator:
    @pytest.mark.parametrize("kind", ["textured", "coloured", "cloud", "cameras", "nothing"])
    def test_no_errors_and_no_warnings(
        self, textured: Reconstruction, validator: Path, tmp_path: Path, kind: str
    ) -> None:
        scene = textured
        if kind != "textured":
            scene = dataclasses.replace(scene, textured=None)
        if kind in ("cloud", "cameras", "nothing"):
            scene = dataclasses.replace(scene, surface=Mesh.empty())
        if kind in ("cameras", "nothing"):
            scene = dataclasses.replace(scene, cloud=PointCloud.empty())
        if kind == "nothing":
            scene = dataclasses.replace(scene, views=())
        path = tmp_path / "scene.glb"
        write_glb(path, scene)
        done = subprocess.run(
            ["node", "-e", VALIDATE, str(path)],
            capture_output=True,
            check=True,
            text=True,
            env={**os.environ, "NODE_PATH": str(validator / "node_modules")},
        )
        report = json.loads(done.stdout)
        assert report["issues"]["numErrors"] == 0, report["issues"]["messages"]
        assert report["issues"]["numWarnings"] == 0, report["issues"]["messages"]
        if kind != "nothing":
            assert report["info"]["totalVertexCount"] > 0


def test_textured_glb_opens_in_trimesh_with_its_picture(
    textured: Reconstruction, tmp_path: Path
) -> None:
    import trimesh

    write_glb(tmp_path / "scene.glb", textured)
    loaded = trimesh.load(tmp_path / "scene.glb", process=False)
    mesh, expected = loaded.geometry["mesh"], textured.textured
    assert expected is not None
    np.testing.assert_allclose(mesh.vertices, expected.vertices * [1, -1, -1], atol=1e-6)
    np.testing.assert_array_equal(mesh.faces, expected.faces)
    uv = np.stack([mesh.visual.uv[:, 0], 1 - mesh.visual.uv[:, 1]], -1)
    np.testing.assert_allclose(uv, expected.uv, atol=1e-6)
    picture = np.asarray(mesh.visual.material.baseColorTexture.convert("RGB"))
    np.testing.assert_array_equal(picture, expected.texture)
    # The frusta keep their plain colours.
    frustum = loaded.geometry["frustum a.jpg"]
    assert frustum.visual.material.name == "photo colours" and len(frustum.faces) == 4


def test_textured_obj_opens_in_trimesh_and_open3d(textured: Reconstruction, tmp_path: Path) -> None:
    import open3d as o3d
    import trimesh

    write_obj(tmp_path, textured)
    expected = textured.textured
    assert expected is not None
    assert {p.name for p in tmp_path.iterdir()} == {"mesh.obj", "mesh.mtl", "mesh.png"}
    mesh = trimesh.load(tmp_path / "mesh.obj", process=False)
    np.testing.assert_array_equal(np.asarray(mesh.visual.material.image), expected.texture)
    # trimesh may number the vertices anew: compare corner by corner.
    corners, found = expected.vertices[expected.faces], mesh.vertices[mesh.faces]
    np.testing.assert_allclose(found, corners, atol=1e-6)
    uv = mesh.visual.uv[mesh.faces]
    np.testing.assert_allclose(uv[..., 0], expected.uv[expected.faces][..., 0], atol=1e-6)
    np.testing.assert_allclose(1 - uv[..., 1], expected.uv[expected.faces][..., 1], atol=1e-6)
    other = o3d.io.read_triangle_mesh(tmp_path / "mesh.obj")
    assert len(other.triangles) == len(expected.faces)
    assert other.has_triangle_uvs() and not other.textures[-1].is_empty()


def test_plain_obj_has_vertex_colours(scene: Reconstruction, tmp_path: Path) -> None:
    import trimesh

    write_obj(tmp_path, scene)
    assert [p.name for p in tmp_path.iterdir()] == ["mesh.obj"]
    mesh = trimesh.load(tmp_path / "mesh.obj", process=False)
    np.testing.assert_allclose(mesh.vertices, scene.surface.vertices, atol=1e-6)
    np.testing.assert_array_equal(mesh.faces, scene.surface.faces)
    np.testing.assert_allclose(
        mesh.visual.vertex_colors[:, :3].astype(int), scene.surface.colours, atol=1
    )
    write_obj(tmp_path, dataclasses.replace(scene, surface=Mesh.empty()))
    assert "\nf " not in (tmp_path / "mesh.obj").read_text()


def test_tum_trajectory_holds_every_placed_camera(scene: Reconstruction, tmp_path: Path) -> None:
    from scipy.spatial.transform import Rotation

    write_tum(tmp_path / "cameras.tum", scene)
    rows = np.loadtxt(tmp_path / "cameras.tum")
    placed = [(n, v) for n, v in enumerate(scene.views) if v.registered]
    assert rows.shape == (len(placed), 8)
    for row, (number, view) in zip(rows, placed, strict=True):
        assert row[0] == number
        np.testing.assert_allclose(row[1:4], view.camera.cam_to_world[:3, 3], atol=1e-9)
        rotation = Rotation.from_quat(row[4:]).as_matrix()
        np.testing.assert_allclose(rotation, view.camera.cam_to_world[:3, :3], atol=1e-9)


def test_every_file_with_cameras_gives_them_back(scene: Reconstruction, tmp_path: Path) -> None:
    """Pose and lens of every placed photo to 1e-6, from each file that holds them."""
    import pycolmap

    out = scene.save(tmp_path / "scene")
    cameras = json.loads((out / "cameras.json").read_text())["images"]
    transforms = json.loads((out / "transforms.json").read_text())
    frames = {Path(frame["file_path"]).name: frame for frame in transforms["frames"]}
    images = {
        i.name: i for i in pycolmap.Reconstruction(str(out / "colmap/sparse/0")).images.values()
    }
    data = (out / "scene.glb").read_bytes()
    tree = json.loads(data[20 : 20 + int.from_bytes(data[12:16], "little")])
    nodes = {node["name"]: node for node in tree["nodes"] if "camera" in node}
    turn = np.diag([1.0, -1.0, -1.0, 1.0])
    for view in scene.views:
        if not view.registered:
            assert cameras[view.name]["cam_to_world"] is None and view.name not in frames
            continue
        K, (w, h) = view.camera.intrinsics, (view.camera.width, view.camera.height)
        frame, image = frames[view.name], images[view.name]
        node = nodes[f"camera {view.name}"]
        lens = tree["cameras"][node["camera"]]["perspective"]
        poses = {
            "cameras.json": np.array(cameras[view.name]["cam_to_world"]),
            "transforms.json": np.array(frame["transform_matrix"]) @ turn,
            "colmap": np.vstack([image.cam_from_world().inverse().matrix(), [0, 0, 0, 1]]),
            "scene.glb": turn @ np.reshape(node["matrix"], (4, 4)).T @ turn,
        }
        for name, pose in poses.items():
            np.testing.assert_allclose(pose, view.camera.cam_to_world, atol=1e-6, err_msg=name)
        shared = {**transforms, **frame}
        lenses = {
            "cameras.json": np.array(cameras[view.name]["K"])[[0, 1, 0, 1], [0, 1, 2, 2]],
            "transforms.json": [shared[key] for key in ("fl_x", "fl_y", "cx", "cy")],
            "colmap": image.camera.calibration_matrix()[[0, 1, 0, 1], [0, 1, 2, 2]],
        }
        for name, found in lenses.items():
            np.testing.assert_allclose(
                found, K[[0, 1, 0, 1], [0, 1, 2, 2]], atol=1e-6, err_msg=name
            )
        # glTF has no principal point: the field of view is all it can hold.
        assert np.tan(lens["yfov"] / 2) == pytest.approx(h / 2 / K[1, 1], rel=1e-6)
        assert lens["aspectRatio"] == pytest.approx(w / K[0, 0] * K[1, 1] / h, rel=1e-6)


class TestDepthFiles:
    FORMATS = ("depth-npz", "depth-png", "depth-exr")

    def test_all_formats_hold_the_same_depth(self, scene: Reconstruction, tmp_path: Path) -> None:
        cv2 = pytest.importorskip("cv2")
        exr = pytest.importorskip("OpenEXR")
        write_depth_files(tmp_path, scene, ExportOptions(formats=self.FORMATS))
        scale = json.loads((tmp_path / "depth_png/scale.json").read_text())
        assert scale["units"] == "scene" and scale["unknown"] == 0
        for view in scene.views:
            stem = Path(view.name).stem
            known = np.isfinite(view.depth) & (view.depth > 0)
            truth = np.where(known, view.depth, 0)
            with np.load(tmp_path / f"depth_npz/{stem}.npz") as arrays:
                np.testing.assert_array_equal(arrays["depth"], truth)
                np.testing.assert_allclose(arrays["K"], view.depth_intrinsics)
            png = cv2.imread(str(tmp_path / f"depth_png/{stem}.png"), cv2.IMREAD_UNCHANGED)
            assert png.dtype == np.uint16
            step = scale["depth_per_step"]
            np.testing.assert_allclose(png * step, truth, atol=0.51 * step)
            np.testing.assert_array_equal(png == 0, ~known)
            with exr.File(str(tmp_path / f"depth_exr/{stem}.exr")) as file:
                channels = file.channels()
                np.testing.assert_array_equal(channels["Z"].pixels, truth)
                np.testing.assert_allclose(channels["confidence"].pixels, view.confidence)

    def test_original_resolution_is_the_photos(self, scene: Reconstruction, tmp_path: Path) -> None:
        options = ExportOptions(formats=("depth-npz", "depth-png"), depth_resolution="original")
        write_depth_files(tmp_path, scene, options)
        for view in scene.views:
            size = (view.camera.height, view.camera.width)
            stem = Path(view.name).stem
            with np.load(tmp_path / f"depth_npz/{stem}.npz") as arrays:
                assert arrays["depth"].shape == arrays["confidence"].shape == size
                np.testing.assert_allclose(arrays["K"], view.camera.intrinsics)
                known = arrays["depth"] > 0
                small = view.depth[np.isfinite(view.depth) & (view.depth > 0)]
                assert np.median(arrays["depth"][known]) == pytest.approx(np.median(small), 0.02)
            with Image.open(tmp_path / f"depth_png/{stem}.png") as picture:
                assert picture.size == size[::-1]

    def test_depth_unknown_everywhere(self, scene: Reconstruction, tmp_path: Path) -> None:
        view = scene.views[0]
        for value in (0.0, np.nan):
            blank = with_maps(view, depth=np.full_like(view.depth, value))
            folder = tmp_path / str(value)
            folder.mkdir()
            options = ExportOptions(formats=("depth-png",), depth_resolution="original")
            write_depth_files(folder, dataclasses.replace(scene, views=(blank,)), options)
            with Image.open(folder / "depth_png/a.png") as picture:
                assert np.asarray(picture).max() == 0

    def test_what_cannot_be_written_is_said_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(InputError, match="--formats"):
            ExportOptions(depth_resolution="original").check()
        monkeypatch.setattr("recon.export.options.find_spec", lambda name: None)
        with pytest.raises(InputError, match="OpenEXR"):
            ExportOptions(formats=("depth-exr",)).check()
        ExportOptions(formats=("depth-png", "obj")).check()


def test_saved_scene_lists_the_further_files(textured: Reconstruction, tmp_path: Path) -> None:
    """So that overwriting later knows them as ours."""
    export = ExportOptions(formats=("depth-png",))
    target = textured.save(tmp_path / "scene", export=export)
    listed = set(json.loads((target / "run.json").read_text())["files"])
    assert {"mesh.obj", "mesh.mtl", "mesh.png", "depth_png/a.png", "cameras.tum"} <= listed
    textured.save(target, overwrite=True)
    assert not (target / "depth_png").exists()
