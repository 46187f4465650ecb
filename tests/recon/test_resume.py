"""A run that was stopped goes on where it was, to the same scene bit by bit; nothing is redone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from synthetic import save_photos, shoot
from tiny_network import write_tiny_network

import recon
from pointmap.errors import InputError
from pointmap.lens import Lens
from recon.cli import main
from recon.depth.undistorted import in_photo
from recon.fusion import FusionOptions
from recon.inputs import Inputs, read_inputs
from recon.options import Options
from recon.progress import Run
from recon.reconstruction import Reconstruction
from recon.stage_results import DepthMap
from recon.stereo.view import StereoOptions
from recon.work.folder import Work

COUNT = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scene")
    save_photos(shoot(COUNT, width=256, height=192, span_deg=16), folder / "photos")
    write_tiny_network(folder)
    return folder


def options_of(folder: Path, **changes: Any) -> Options:
    stereo = StereoOptions(max_planes=48)
    given = {"weights": str(folder / "tiny.safetensors"), "depth_size": 96, "stereo": stereo}
    return Options(**given | changes)


def scene_of(folder: Path, work: Work | Path | None, **changes: Any) -> Reconstruction:
    return recon.reconstruct(folder / "photos", options_of(folder, **changes), work=work)


def assert_same(first: Reconstruction, second: Reconstruction) -> None:
    for a, b in zip(first.views, second.views, strict=True):
        assert a.name == b.name and a.reason == b.reason
        for name in ("depth", "confidence", "pixels"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        np.testing.assert_array_equal(a.camera.intrinsics, b.camera.intrinsics)
        np.testing.assert_array_equal(a.camera.cam_to_world, b.camera.cam_to_world)
    np.testing.assert_array_equal(first.cloud.points, second.cloud.points)
    np.testing.assert_array_equal(first.surface.vertices, second.surface.vertices)
    np.testing.assert_array_equal(first.surface.faces, second.surface.faces)
    assert first.warnings == second.warnings and first.pairs == second.pairs


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> Reconstruction:
    return scene_of(folder, None)


class Stopping(Work):
    """Work that ends like a killed process, before or while its ``after``-th result is written."""

    def __init__(self, folder: Path, after: int) -> None:
        super().__init__(folder)
        self.left = after

    def _put(self, key: str, value: object, warnings: list[tuple[str, str]]) -> None:
        self.left -= 1
        if self.left < 0:
            unfinished = self._path(key).with_suffix(".unfinished")
            unfinished.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_bytes(b"half of it")
            raise KeyboardInterrupt
        super()._put(key, value, warnings)


def test_stopped_again_and_again_it_comes_to_the_same_scene(
    folder: Path, undisturbed: Reconstruction, tmp_path: Path
) -> None:
    stops = 0
    while True:
        # Each time five results further: between stages, and within them.
        work = Stopping(tmp_path / "work", after=5)
        try:
            scene = scene_of(folder, work)
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops >= 4
    assert_same(scene, undisturbed)


def test_with_other_options_only_what_depends_on_them_is_done(
    folder: Path, undisturbed: Reconstruction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    assert_same(scene_of(folder, work), undisturbed)
    names = {path.name for path in work.rglob("*.piece")}

    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("this was done already")

    for place in (
        "recon.two_view.find_features.extract_features",
        "recon.two_view.gather_evidence.solve_focals",
        "recon.two_view.mirrored_photos.mirrored_photos",
        "recon.pipeline.compare_pictures",
        "recon.stereo.refine._Stereo._plan",
        "recon.stereo.refine._Stereo._first",
        "recon.depth.dense_depths.tied_depth",
        "recon.world.frame.estimate_up",
        "recon.fusion.usable_depth.count_votes",
    ):
        monkeypatch.setattr(place, never)
    coarse = scene_of(folder, work, fusion=FusionOptions(voxel_size=0.2))
    assert 0 < len(coarse.surface.faces) < len(undisturbed.surface.faces) / 4
    np.testing.assert_array_equal(coarse.views[0].depth, undisturbed.views[0].depth)
    # Cloud, shape and colours more; what was there has stayed.
    assert len({path.name for path in work.rglob("*.piece")} - names) == 3
    with pytest.raises(AssertionError, match="done already"):
        scene_of(folder, work, depth_size=80)


def stop(*args: object, **kwargs: object) -> None:
    raise KeyboardInterrupt


def test_stopped_while_it_aligns_it_does_what_is_left(
    folder: Path, undisturbed: Reconstruction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    with monkeypatch.context() as patched:
        patched.setattr("recon.alignment.align_scene.photos_with_few_matches", stop)
        with pytest.raises(KeyboardInterrupt):
            scene_of(folder, work)
    # The first alignment was made, and no other comes to be needed.
    monkeypatch.setattr("recon.alignment.align_scene.align", stop)
    assert_same(scene_of(folder, work), undisturbed)


def test_stopped_while_it_fuses_it_does_what_is_left(
    folder: Path, undisturbed: Reconstruction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    for step in ("clean", "vertex_colours"):
        with monkeypatch.context() as patched:
            patched.setattr(f"recon.fusion.surface.{step}", stop)
            with pytest.raises(KeyboardInterrupt):
                scene_of(folder, work)
        # From here on they would stop it again.
        monkeypatch.setattr("recon.fusion.cloud._photo_points", stop)
        monkeypatch.setattr("recon.fusion.surface.integrate", stop)
    monkeypatch.setattr("recon.fusion.surface.clean", stop)
    scene = scene_of(folder, work)
    assert_same(scene, undisturbed)
    np.testing.assert_array_equal(scene.surface.colours, undisturbed.surface.colours)
    monkeypatch.undo()
    scene_of(folder, tmp_path / "other")
    # Parts of the surface go once it is whole, however often it was stopped.
    names = [{path.name for path in w.rglob("*.piece")} for w in (work, tmp_path / "other")]
    assert names[0] == names[1]


def test_depth_of_bent_photos_is_brought_into_them_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lens = Lens.radial(-0.1)
    shots = shoot(COUNT, width=256, height=192, span_deg=16, lens=lens)
    save_photos(shots, tmp_path / "photos")
    images = {}
    for n, shot in enumerate(shots):
        images[f"{n}.png"] = {
            "K": shot.intrinsics.tolist(),
            "width": 256,
            "height": 192,
            "cam_to_world": shot.cam_to_world.tolist(),
            "distortion": {"model": lens.model, **lens.parameters},
        }
    known = tmp_path / "known.json"
    known.write_text(json.dumps({"pixel_centre": 0.5, "images": images}))
    brought = []

    def counted(*given: Any) -> DepthMap:
        brought.append(given)
        return in_photo(*given)

    monkeypatch.setattr("recon.depth.dense_depths.in_photo", counted)
    options = options_of(folder, known_cameras=str(known))
    scene = recon.reconstruct(tmp_path / "photos", options, work=tmp_path / "work")
    assert all(view.camera.lens == lens and view.depth.any() for view in scene.views)
    assert len(brought) == COUNT


def test_another_photo_under_the_same_name_is_noticed(
    folder: Path, undisturbed: Reconstruction, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    for path in (folder / "photos").iterdir():
        (tmp_path / "photos" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "tiny.safetensors").write_bytes((folder / "tiny.safetensors").read_bytes())
    work = tmp_path / "work"
    assert_same(scene_of(tmp_path, work), undisturbed)
    changed = Image.open(tmp_path / "photos" / "1.png").convert("L").convert("RGB")
    changed.save(tmp_path / "photos" / "1.png")
    again, fresh = scene_of(tmp_path, work), scene_of(tmp_path, None)
    assert_same(again, fresh)
    assert (again.views[1].pixels != undisturbed.views[1].pixels).any()


def test_a_photo_that_changes_while_the_run_is_on_is_an_error(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = tmp_path / "photos" / "0.png"
    photo.parent.mkdir()
    for path in (folder / "photos").iterdir():
        (tmp_path / "photos" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "tiny.safetensors").write_bytes((folder / "tiny.safetensors").read_bytes())

    def change() -> None:
        Image.open(photo).convert("L").convert("RGB").save(photo)

    def cut() -> None:
        photo.write_bytes(photo.read_bytes()[:300])

    for spoil, said in (
        (change, "changed since the start"),
        # Not what its decoder would say of it.
        (cut, "changed since the start"),
        (photo.unlink, "can no longer be read .*run the same command again when it is back"),
    ):

        def spoil_and_load(
            inputs: Inputs, *args: object, spoil: Callable[[], None] = spoil, **kwargs: object
        ) -> None:
            spoil()
            inputs.load(0, long_side=96)

        monkeypatch.setattr("recon.pipeline.predict_scene", spoil_and_load)
        with pytest.raises(InputError, match=said):
            scene_of(tmp_path, tmp_path / "work")
        photo.write_bytes((folder / "photos/0.png").read_bytes())


def test_the_command_keeps_or_deletes_its_work(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(folder / "photos"), "--weights", str(folder / "tiny.safetensors")]
    arguments += ["--depth-size", "96", "--no-refine-depth", "--out", str(tmp_path / "out")]
    assert main([*arguments, "--keep-work"]) == 0
    work = tmp_path / "out.work"
    assert f"the work is kept in {work} (" in capsys.readouterr().out
    meshes = [(tmp_path / "out" / "mesh.ply").read_bytes()]
    times = {path: path.stat().st_mtime_ns for path in work.rglob("*.piece")}
    assert main([*arguments, "--overwrite", "--keep-work", "--fusion.voxel-size", "0.05"]) == 0
    meshes.append((tmp_path / "out" / "mesh.ply").read_bytes())
    left = set(work.rglob("*.piece"))
    # The old cloud, shape and colours are gone with what they were made of, the rest was not
    # written again.
    assert len(left - times.keys()) == 3
    assert times.keys() - left
    assert all(path.stat().st_mtime_ns == times[path] for path in left & times.keys())
    assert main([*arguments, "--overwrite", "--fresh"]) == 0
    assert not work.exists()
    meshes.append((tmp_path / "out" / "mesh.ply").read_bytes())
    assert meshes[0] == meshes[2] != meshes[1]
    assert json.loads((tmp_path / "out" / "run.json").read_text())["counts"]["registered"] == COUNT


def test_the_command_refuses_a_work_folder_that_is_not_its_own(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out.work").mkdir()
    (tmp_path / "out.work" / "thesis.txt").write_text("years of work")
    arguments = [str(folder / "photos"), "--weights", str(folder / "tiny.safetensors")]
    for more in ([], ["--fresh"]):
        assert main([*arguments, "--out", str(tmp_path / "out"), *more]) == 2
        assert "move them away or choose another output folder" in capsys.readouterr().err
    assert (tmp_path / "out.work" / "thesis.txt").read_text() == "years of work"


def test_copies_of_photos_are_left_out(folder: Path, tmp_path: Path) -> None:
    photos = sorted((folder / "photos").iterdir())
    for number in range(4):
        (tmp_path / f"copy {number}.png").write_bytes(photos[0].read_bytes())
    with Run() as run:
        inputs = read_inputs([tmp_path, *photos], Options(weights=str(folder / "tiny.safetensors")))
    assert [photo.path for photo in inputs.photos] == photos
    assert run.warnings == [
        "4 photos are left out, as copies of others: copy 0.png of 0.png, copy 1.png of 0.png, "
        "copy 2.png of 0.png, ..."
    ]
