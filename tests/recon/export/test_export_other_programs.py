"""COLMAP's and nerfstudio's files, read back by pycolmap and by their documented rules."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from scene_factory import make_mixed_scene, make_scene, placed

from pointmap.camera import invert_rigid, project, transform_points
from recon.export.colmap import read_colmap, write_colmap
from recon.export.nerfstudio import write_transforms
from recon.reconstruction import Reconstruction
from recon.scene import Tracks


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Reconstruction:
    return make_mixed_scene(tmp_path_factory.mktemp("photos"))


class TestColmap:
    def test_pycolmap_sees_our_cameras_and_our_reprojection_error(
        self, scene: Reconstruction, tmp_path: Path
    ) -> None:
        import pycolmap

        write_colmap(tmp_path, scene)
        model = pycolmap.Reconstruction(str(tmp_path))
        assert sorted(image.name for image in model.images.values()) == sorted(
            view.name for view in placed(scene)
        )
        assert model.num_reg_images() == len(placed(scene))
        # Landscape and portrait have their own intrinsics; equal ones share a camera.
        assert sorted(c.model.name for c in model.cameras.values()) == ["PINHOLE", "SIMPLE_PINHOLE"]
        for image in model.images.values():
            view = next(v for v in scene.views if v.name == image.name)
            camera = model.cameras[image.camera_id]
            assert (camera.width, camera.height) == (view.camera.width, view.camera.height)
            K = camera.calibration_matrix()
            np.testing.assert_allclose(K, view.camera.intrinsics, atol=1e-9)
            world_to_cam = np.vstack([image.cam_from_world().matrix(), [0, 0, 0, 1]])
            cam_to_world = np.linalg.inv(world_to_cam)
            np.testing.assert_allclose(cam_to_world, view.camera.cam_to_world, atol=1e-9)
        ours = self._errors_px(scene)
        assert [model.points3D[i].error for i in sorted(model.points3D)] == pytest.approx(ours)
        # 0.5 px of noise per axis: the number is of the right size, not just the same.
        assert 0.4 < model.compute_mean_reprojection_error() < 0.9

    def test_a_lens_is_colmaps(self, tmp_path: Path) -> None:
        import pycolmap

        scene = make_scene(tmp_path, k1=-0.3)
        write_colmap(tmp_path, scene)
        model = pycolmap.Reconstruction(str(tmp_path))
        cameras = {c.model.name: c.params for c in model.cameras.values()}
        assert cameras["SIMPLE_RADIAL"].tolist() == [610.0, 323.0, 238.0, -0.3]
        assert cameras["OPENCV"].tolist() == [620.0, 623.0, 243.0, 318.0, -0.3, 0.0, 0.0, 0.0]
        ours = self._errors_px(scene)
        assert [model.points3D[i].error for i in sorted(model.points3D)] == pytest.approx(ours)
        assert model.compute_mean_reprojection_error() < 0.9

    @staticmethod
    def _errors_px(scene: Reconstruction) -> list[float]:
        """Mean error of every point that at least two placed photos see."""
        tracks = scene.tracks
        errors: list[list[float]] = [[] for _ in tracks.points]
        for point, index, xy in zip(tracks.point_index, tracks.view_index, tracks.xy, strict=True):
            camera = scene.views[index].camera
            in_camera = transform_points(invert_rigid(camera.cam_to_world), tracks.points[point])
            difference = project(in_camera, camera.intrinsics, camera.lens) - xy
            errors[point].append(float(np.linalg.norm(difference)))
        return [float(np.mean(each)) for each in errors if len(each) > 1]

    def test_tracks_come_back(self, scene: Reconstruction, tmp_path: Path) -> None:
        write_colmap(tmp_path, scene)
        loaded = read_colmap(tmp_path, len(scene.views))
        tracks = scene.tracks
        counts = np.bincount(tracks.point_index, minlength=len(tracks.points))
        assert len(loaded.points) == (counts > 1).sum() > 10
        np.testing.assert_array_equal(loaded.points, tracks.points[counts > 1])
        np.testing.assert_array_equal(loaded.colours, tracks.colours[counts > 1])
        assert self._observations(loaded) == {
            row for row in self._observations(tracks) if self._is_long(tracks, row)
        }

    @pytest.mark.parametrize("case", ["far key point", "far point", "no such photo"])
    def test_tracks_that_nothing_real_has_are_left_out(
        self, case: str, scene: Reconstruction, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        write_colmap(tmp_path, scene)
        photos = len(scene.views) - (2 if case == "no such photo" else 0)
        for name, row in (("images.bin", "far key point"), ("points3D.bin", "far point")):
            if case == row:
                data = bytearray((tmp_path / name).read_bytes())
                # The first key point's x; the first point's x.
                at = data.index(b"\0", 76) + 9 if name == "images.bin" else 16
                data[at : at + 8] = np.float64(1e300).tobytes()
                (tmp_path / name).write_bytes(data)
        assert len(read_colmap(tmp_path, photos).points) == 0
        assert "is damaged" in caplog.text

    @staticmethod
    def _observations(tracks: Tracks) -> set[tuple]:
        points = tracks.points[tracks.point_index]
        return {
            (*point, int(view), *xy)
            for point, view, xy in zip(
                points.tolist(), tracks.view_index, tracks.xy.tolist(), strict=True
            )
        }

    @staticmethod
    def _is_long(tracks: Tracks, row: tuple) -> bool:
        counts = np.bincount(tracks.point_index, minlength=len(tracks.points))
        index = int(np.flatnonzero((tracks.points == row[:3]).all(axis=1))[0])
        return bool(counts[index] > 1)

    def test_observations_of_unplaced_photos_are_left_out(self, tmp_path: Path) -> None:
        import pycolmap

        whole = make_scene(tmp_path, names=("a.jpg", "b.jpg", "c.jpg"))
        lost = dataclasses.replace(
            whole.views[1],
            camera=dataclasses.replace(whole.views[1].camera, cam_to_world=None),
            reason="lost",
        )
        views = (whole.views[0], lost, whole.views[2])
        write_colmap(tmp_path, dataclasses.replace(whole, views=views))
        model = pycolmap.Reconstruction(str(tmp_path))
        assert sorted(model.images) == [1, 3]
        assert min(point.track.length() for point in model.points3D.values()) == 2

    def test_no_track_and_no_placed_photo(self, scene: Reconstruction, tmp_path: Path) -> None:
        import pycolmap

        write_colmap(tmp_path, dataclasses.replace(scene, tracks=Tracks.empty()))
        model = pycolmap.Reconstruction(str(tmp_path))
        assert (model.num_reg_images(), model.num_points3D()) == (len(placed(scene)), 0)
        nothing = make_scene(tmp_path, unregistered={"a.jpg", "b.jpg", "c.jpg", "d.jpg"})
        write_colmap(tmp_path, nothing)
        assert len(pycolmap.Reconstruction(str(tmp_path)).images) == 0
        assert len(read_colmap(tmp_path, 4).points) == 0


class TestNerfstudio:
    def _load(self, scene: Reconstruction, tmp_path: Path) -> dict:
        write_transforms(tmp_path / "transforms.json", scene, scene_folder=tmp_path / "out")
        return json.loads((tmp_path / "transforms.json").read_text(encoding="utf-8"))

    def test_cameras_are_opengl_and_project_to_the_same_pixels(
        self, scene: Reconstruction, tmp_path: Path
    ) -> None:
        data = self._load(scene, tmp_path)
        assert "fl_x" not in data
        assert data["ply_file_path"] == "points.ply"
        assert len(data["frames"]) == len(placed(scene))
        point = np.array([0.1, 0.3, -0.9])
        for frame, view in zip(data["frames"], placed(scene), strict=True):
            matrix = np.array(frame["transform_matrix"])
            right, up, back = np.linalg.inv(matrix)[:3, :3] @ point + np.linalg.inv(matrix)[:3, 3]
            assert back < 0
            x = frame["cx"] + frame["fl_x"] * right / -back
            y = frame["cy"] - frame["fl_y"] * up / -back
            in_camera = transform_points(invert_rigid(view.camera.cam_to_world), point)
            np.testing.assert_allclose([x, y], project(in_camera, view.camera.intrinsics))
            assert (frame["w"], frame["h"]) == (view.camera.width, view.camera.height)
            # Where the file will lie, the photo is found by this path.
            resolved = (tmp_path / "out" / frame["file_path"]).parts
            assert ".." in resolved
            assert not Path(frame["file_path"]).is_absolute()
            assert frame["file_path"].endswith(view.name)

    def test_shared_intrinsics_stand_once_at_the_top(self, tmp_path: Path) -> None:
        scene = make_scene(tmp_path / "photos", names=("a.jpg", "b.jpg", "c.jpg"))
        scene = dataclasses.replace(scene, views=(scene.views[0], scene.views[2]))
        data = self._load(scene, tmp_path)
        assert data["fl_x"] == scene.views[0].camera.intrinsics[0, 0]
        assert (data["w"], data["h"]) == (640, 480)
        assert all("fl_x" not in frame for frame in data["frames"])

    def test_each_photo_has_its_lens_where_intrinsics_differ(self, tmp_path: Path) -> None:
        scene = make_scene(tmp_path / "photos", names=("a.jpg", "b.jpg"), k1=0.07)
        data = self._load(scene, tmp_path)
        # nerfstudio believes a k1 at the top and none below it.
        assert "k1" not in data
        assert [frame["k1"] for frame in data["frames"]] == [0.07, 0.07]
        shared = dataclasses.replace(scene, views=scene.views[:1])
        assert self._load(shared, tmp_path)["k1"] == 0.07

    def test_no_placed_photo_gives_no_frame(self, tmp_path: Path) -> None:
        scene = make_scene(tmp_path, names=("a.jpg",), unregistered={"a.jpg"})
        assert self._load(scene, tmp_path)["frames"] == []
