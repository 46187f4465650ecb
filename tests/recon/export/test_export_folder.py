"""Scene folders: complete or not there, never over a stranger's files, and read back whole."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scene_factory import make_scene

import recon.save as save_module
from pointmap.errors import InputError
from recon.export import load_scene, reserved_folder
from recon.export.options import ExportOptions
from recon.reconstruction import Reconstruction
from recon.save import save_into, save_scene
from recon.scene import Mesh, PointCloud, Tracks
from recon.work.folder import Work
from viz.viewers.window import save_picture

CONTRACT = {
    *(
        "cameras.json",
        "cameras.tum",
        "points.ply",
        "mesh.ply",
        "scene.glb",
        "transforms.json",
        "run.json",
    ),
    *("report.html", "depth/a.npz", "depth/a.png", "depth/b b ü.npz", "depth/b b ü.png"),
    *(f"colmap/sparse/0/{n}.bin" for n in ("cameras", "images", "points3D", "rigs", "frames")),
}


@pytest.fixture
def scene(tmp_path: Path) -> Reconstruction:
    return make_scene(tmp_path / "my photos", names=("a.jpg", "b b ü.jpg"), write_photos=True)


@contextlib.contextmanager
def file_size_limit() -> Iterator[None]:
    """The kernel refuses to write past 8 kB of any file, much as a full disk does.

    Around the tested call alone: pytest's own output may go to a file longer than that.
    """
    resource = pytest.importorskip("resource", reason="no file size limits on Windows")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def check_folder(folder: Path | str, *, overwrite: bool) -> None:
    """What a run does before its work, and a run that comes to nothing."""
    with reserved_folder(folder, overwrite=overwrite):
        pass


def _files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_the_whole_contract_is_written_and_listed(scene: Reconstruction, tmp_path: Path) -> None:
    target = tmp_path / "new parent" / "scène 1"
    assert scene.save(target) == target
    assert _files(target) == CONTRACT
    assert {*json.loads((target / "run.json").read_text())["files"], "run.json"} == CONTRACT
    assert "<html" in (target / "report.html").read_text(encoding="utf-8").lower()
    # Nothing else appeared beside the folder, and others may read what the umask allows.
    assert os.listdir(target.parent) == [target.name]
    umask = os.umask(0)
    os.umask(umask)
    assert target.stat().st_mode & 0o777 == 0o777 & ~umask
    frames = json.loads((target / "transforms.json").read_text())["frames"]
    assert [(target / frame["file_path"]).is_file() for frame in frames] == [True, True]


@pytest.mark.usefixtures("light_report")
class TestLoad:
    def test_a_saved_scene_comes_back(self, scene: Reconstruction, tmp_path: Path) -> None:
        lost = dataclasses.replace(
            scene.views[1],
            camera=dataclasses.replace(scene.views[1].camera, cam_to_world=None),
            reason="of another place",
        )
        scene = dataclasses.replace(scene, views=(scene.views[0], lost), tracks=Tracks.empty())
        save_scene(scene, tmp_path / "out")
        shutil.rmtree(tmp_path / "my photos")
        loaded = load_scene(tmp_path / "out")
        assert len(loaded.views) == 2
        for ours, view in zip(scene.views, loaded.views, strict=True):
            assert (view.name, view.path, view.reason) == (ours.name, ours.path, ours.reason)
            assert view.registered == ours.registered
            np.testing.assert_array_equal(view.camera.intrinsics, ours.camera.intrinsics)
            # What depth files round is recon.export.depth_npz's to say.
            for name, off in (("depth", 2e-3), ("confidence", 1 / 256), ("pixels", 0)):
                got, expected = getattr(view, name), getattr(ours, name)
                np.testing.assert_allclose(got, expected, rtol=0, atol=off)
                assert getattr(view, name).dtype == getattr(ours, name).dtype
        np.testing.assert_array_equal(
            loaded.views[0].camera.cam_to_world, scene.views[0].camera.cam_to_world
        )
        for kind in ("cloud", "surface"):
            for field in dataclasses.fields(getattr(scene, kind)):
                got = getattr(getattr(loaded, kind), field.name)
                expected = getattr(getattr(scene, kind), field.name)
                np.testing.assert_array_equal(got, expected)
                assert got.dtype == expected.dtype
        for name in ("units", "pairs", "stages", "warnings", "options"):
            assert getattr(loaded, name) == getattr(scene, name)

    def test_tracks_and_empty_geometry(self, scene: Reconstruction, tmp_path: Path) -> None:
        bare = dataclasses.replace(scene, cloud=PointCloud.empty(), surface=Mesh.empty())
        loaded = load_scene(save_scene(bare, tmp_path / "out"))
        seen_twice = np.bincount(scene.tracks.point_index) == 2
        np.testing.assert_array_equal(loaded.tracks.points, scene.tracks.points[seen_twice])
        assert len(loaded.cloud.points) == len(loaded.surface.faces) == 0

    @pytest.mark.parametrize("name", ["cameras.json", "run.json", "depth/a.npz"])
    def test_missing_and_damaged_files_are_named(
        self, scene: Reconstruction, tmp_path: Path, name: str
    ) -> None:
        out = save_scene(scene, tmp_path / "out")
        whole = (out / name).read_bytes()
        for damage in (whole[: len(whole) // 2], b"", b"[]", b"{}"):
            (out / name).write_bytes(damage)
            with pytest.raises(InputError) as error:
                load_scene(out)
            assert "\n" not in str(error.value)
        (out / name).unlink()
        with pytest.raises(InputError, match=rf"{name} is missing"):
            load_scene(out)

    def test_missing_geometry_is_a_warning(
        self, scene: Reconstruction, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        out = save_scene(scene, tmp_path / "out")
        (out / "points.ply").unlink()
        (out / "mesh.ply").unlink()
        shutil.rmtree(out / "colmap")
        with caplog.at_level(logging.WARNING):
            loaded = load_scene(out)
        assert len(loaded.cloud.points) == len(loaded.surface.faces) == len(loaded.tracks.xy) == 0
        assert all(name in caplog.text for name in ("points.ply", "mesh.ply", "colmap"))

    @pytest.mark.parametrize("name", ["points.ply", "mesh.ply"])
    def test_a_damaged_ply_is_named(self, scene: Reconstruction, tmp_path: Path, name: str) -> None:
        out = save_scene(scene, tmp_path / "out")
        whole = (out / name).read_bytes()
        last_index = b"\xff\xff\xff\x7f" if name == "mesh.ply" else b""
        for damage in (b"no ply", whole[:500], whole[:-1], whole[:-4] + last_index):
            (out / name).write_bytes(damage)
            with pytest.raises(InputError, match=name):
                load_scene(out)

    def test_a_damaged_colmap_model_only_costs_the_tracks(
        self, scene: Reconstruction, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        out = save_scene(scene, tmp_path / "out")
        for name in ("points3D.bin", "images.bin"):
            path = out / "colmap/sparse/0" / name
            whole = path.read_bytes()
            for damage in (whole[:-20], whole[:5], b"\xff" * 100):
                path.write_bytes(damage)
                caplog.clear()
                assert len(load_scene(out).views) == 2
                assert "is damaged" in caplog.text
            path.write_bytes(whole)
        assert len(load_scene(out).tracks.points) > 5

    def test_a_folder_that_is_no_scene(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="not a folder"):
            load_scene(tmp_path / "nowhere")
        with pytest.raises(InputError, match=r"cameras\.json is missing"):
            load_scene(tmp_path)


@pytest.mark.usefixtures("light_report")
class TestAllOrNothing:
    def test_the_same_scene_gives_the_same_bytes(
        self, scene: Reconstruction, tmp_path: Path
    ) -> None:
        one, two = (save_scene(scene, tmp_path / name) for name in ("one", "two"))
        for name in sorted(_files(one)):
            assert (one / name).read_bytes() == (two / name).read_bytes(), name

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("a bug"), MemoryError()])
    @pytest.mark.parametrize("step", ["write_cameras", "write_colmap", "write_run"])
    def test_a_failure_leaves_the_old_scene_and_nothing_else(
        self,
        scene: Reconstruction,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        step: str,
        error: BaseException,
    ) -> None:
        out = save_scene(scene, tmp_path / "out")
        before = {name: (out / name).read_bytes() for name in _files(out)}

        def fail(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(save_module, step, fail)
        with pytest.raises(type(error)):
            save_scene(scene, out, overwrite=True)
        with pytest.raises(type(error)):
            save_scene(scene, tmp_path / "deep/er/new")
        assert sorted(os.listdir(tmp_path)) == ["my photos", "out"]
        assert {name: (out / name).read_bytes() for name in _files(out)} == before

    @pytest.mark.parametrize("biggest", ["depth/a.npz", "points.ply", "colmap", "scene.glb"])
    def test_a_full_disk_is_one_line_and_leaves_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, biggest: str
    ) -> None:
        """The kernel's refusal must reach us from whichever library writes the file."""
        scene = make_scene(tmp_path / "photos", names=("a.jpg",) if biggest != "colmap" else ())
        small = dataclasses.replace(scene, cloud=PointCloud.empty(), surface=Mesh.empty(), views=())
        if biggest == "depth/a.npz":
            small = dataclasses.replace(small, views=scene.views)
        elif biggest == "points.ply":
            cloud = dataclasses.replace(
                scene.cloud,
                **{
                    field.name: np.repeat(getattr(scene.cloud, field.name), 10, axis=0)
                    for field in dataclasses.fields(scene.cloud)
                },
            )
            small = dataclasses.replace(small, cloud=cloud)
        elif biggest == "scene.glb":
            monkeypatch.setattr(save_module, "write_mesh_ply", lambda *_: None)
            small = dataclasses.replace(small, surface=scene.surface)
        else:
            pair = make_scene(tmp_path / "photos", names=("a.jpg", "b.jpg"))
            tracks = Tracks(
                **{
                    name: np.tile(getattr(pair.tracks, name), (20, 1))
                    for name in ("points", "colours", "xy")
                },
                point_index=np.concatenate(
                    [pair.tracks.point_index + k * len(pair.tracks.points) for k in range(20)]
                ),
                view_index=np.tile(pair.tracks.view_index, 20),
            )
            monkeypatch.setattr(save_module, "write_depth_npz", lambda *_: None)
            monkeypatch.setattr(save_module, "write_depth_png", lambda *_: None)
            small = dataclasses.replace(small, views=pair.views, tracks=tracks)
        with pytest.raises(InputError) as error, file_size_limit():
            save_scene(small, tmp_path / "out")
        assert "cannot write" in str(error.value) and "\n" not in str(error.value)
        assert os.listdir(tmp_path) == []

    def test_a_link_to_a_folder_is_followed(self, scene: Reconstruction, tmp_path: Path) -> None:
        (tmp_path / "disk").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "disk" / "scene")
        save_scene(scene, tmp_path / "link")
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "disk/scene/run.json").is_file()


@pytest.mark.usefixtures("light_report")
class TestOverwrite:
    def test_an_old_scene_is_replaced_as_a_whole(
        self, scene: Reconstruction, tmp_path: Path
    ) -> None:
        out = save_scene(scene, tmp_path / "out")
        (out / ".DS_Store").touch()
        save_picture(scene, out / "view.png")
        other = make_scene(tmp_path / "my photos", names=("z.jpg",))
        check_folder(out, overwrite=True)
        save_scene(other, out, overwrite=True)
        assert sorted(os.listdir(out / "depth")) == ["z.npz", "z.png"]
        assert not (out / ".DS_Store").exists() and not (out / "view.png").exists()
        assert sorted(os.listdir(tmp_path)) == ["my photos", "out"]

    def test_without_the_option_it_is_refused(self, scene: Reconstruction, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        for check in (
            lambda: check_folder(tmp_path / "out", overwrite=False),
            lambda: save_scene(scene, tmp_path / "out"),
        ):
            with pytest.raises(InputError, match=r"exists already.*--overwrite .*overwrite=True"):
                check()

    def test_an_empty_folder_is_ours_to_take(self, scene: Reconstruction, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        save_scene(scene, tmp_path / "out", overwrite=True)
        assert (tmp_path / "out/run.json").is_file()

    @pytest.mark.parametrize(
        "place", ["IMG_1.jpg", "depth/mine.png", "images/view.png", "view.png", "mesh.ply"]
    )
    @pytest.mark.parametrize("with_run", [True, False])
    def test_a_strangers_file_is_never_deleted(
        self, scene: Reconstruction, tmp_path: Path, place: str, with_run: bool
    ) -> None:
        """Photos beside their scene, a mesh that was mended and saved over ours, a picture that
        is not the viewer's, or a folder that just happens to hold a run.json."""
        out = save_scene(scene, tmp_path / "out")
        (out / place).parent.mkdir(exist_ok=True)
        (out / place).write_text("mine")
        if not with_run:
            (out / "run.json").write_text('{"files": ["IMG_1.jpg"]}')
        for check in (
            lambda: check_folder(out, overwrite=True),
            lambda: save_scene(scene, out, overwrite=True),
        ):
            with pytest.raises(InputError) as error:
                check()
            assert place in str(error.value) or not with_run
            assert "choose another folder" in str(error.value)
        assert (out / place).read_text() == "mine"

    def test_a_scene_of_the_first_version_is_known_by_its_names(
        self, scene: Reconstruction, tmp_path: Path
    ) -> None:
        out = save_scene(scene, tmp_path / "out")
        run = json.loads((out / "run.json").read_text())
        run["files"] = [*run["files"], "run.json"]
        (out / "run.json").write_text(json.dumps(run))
        save_scene(scene, out, overwrite=True)
        assert isinstance(json.loads((out / "run.json").read_text())["files"], dict)
        assert sorted(os.listdir(tmp_path)) == ["my photos", "out"]

    def test_a_link_inside_is_a_strangers_file(self, scene: Reconstruction, tmp_path: Path) -> None:
        out = save_scene(scene, tmp_path / "out")
        (out / "photos").symlink_to(tmp_path / "my photos")
        with pytest.raises(InputError, match="photos"):
            save_scene(scene, out, overwrite=True)

    def test_the_current_folder_is_not_pulled_away(
        self, scene: Reconstruction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = save_scene(scene, tmp_path / "out")
        monkeypatch.chdir(out)
        with pytest.raises(InputError, match="current folder"):
            check_folder(".", overwrite=True)
        with pytest.raises(InputError, match="/ cannot be replaced"):
            check_folder("/", overwrite=True)


class TestCheckBeforeTheWork:
    def test_a_good_place_is_left_as_it_was(self, tmp_path: Path) -> None:
        check_folder(tmp_path / "new/deep/out", overwrite=False)
        check_folder(tmp_path / "new", overwrite=True)
        assert os.listdir(tmp_path) == []

    def test_files_in_the_way(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(InputError, match="file is a file"):
            check_folder(tmp_path / "file", overwrite=True)
        with pytest.raises(InputError, match="file is a file"):
            check_folder(tmp_path / "file/below/out", overwrite=True)

    def test_a_place_that_cannot_be_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "locked").mkdir(mode=0o500)
        if os.geteuid() == 0:

            def refuse(self: Path, *_: object, **__: object) -> None:
                raise PermissionError(errno.EACCES, "Permission denied", str(self))

            monkeypatch.setattr(Path, "mkdir", refuse)
        with pytest.raises(InputError, match="Permission denied"):
            check_folder(tmp_path / "locked/out", overwrite=False)

    @pytest.mark.parametrize("length", [250, 300])
    def test_a_name_too_long_for_the_disk(self, tmp_path: Path, length: int) -> None:
        with pytest.raises(InputError, match="name too long"):
            check_folder(tmp_path / ("x" * length), overwrite=False)

    def test_a_system_folder_that_refuses_folders(self) -> None:
        if not Path("/proc/self").exists():
            pytest.skip("needs /proc")
        with pytest.raises(InputError, match="cannot write"):
            check_folder("/proc/pointmap/out", overwrite=False)

    def test_too_little_space(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        usage = shutil.disk_usage(tmp_path)._replace(free=5 * 2**20)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
        with pytest.raises(InputError, match="only 5 MB free"):
            check_folder(tmp_path / "out", overwrite=False)


@pytest.mark.usefixtures("light_report")
def test_the_glb_is_light_the_ply_is_whole_and_what_was_simplified_is_kept(
    scene: Reconstruction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import trimesh

    whole = len(scene.surface.faces)
    work = Work(tmp_path / "out.work")

    def written(triangles: int) -> bytes:
        with reserved_folder(tmp_path / "out", overwrite=True) as output:
            save_into(scene, output, ExportOptions(glb_triangles=triangles), work)
        return (tmp_path / "out/scene.glb").read_bytes()

    first = written(whole // 2)
    assert len(trimesh.load(tmp_path / "out/mesh.ply", process=False).faces) == whole
    surface = trimesh.load(tmp_path / "out/scene.glb", process=False).geometry["mesh"]
    assert whole // 4 < len(surface.faces) <= whole // 2

    monkeypatch.setattr(save_module, "simplified", lambda *_: pytest.fail("simplified again"))
    assert written(whole // 2) == first
    with pytest.raises(pytest.fail.Exception):
        written(whole // 3)
