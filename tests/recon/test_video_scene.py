"""A video as a person gives it: the scene holds its frames, and every file refers to them."""

from __future__ import annotations

import gc
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest
import torch
from PIL import Image
from synthetic import shoot

import recon
from benchmarks.clips import write_clip
from pointmap.checkpoint import save_checkpoint
from pointmap.network import build_network
from pointmap.training.command import NETWORKS
from recon.cli import main
from recon.inputs import frames_of_videos, video_frames
from recon.progress import Run, unheard
from recon.work.folder import Work


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A walk past a room, held upright, five pictures a second."""
    shots = shoot(9, width=240, height=320, span_deg=24, wavelength=0.12)
    path = tmp_path_factory.mktemp("clip") / "my room.mp4"
    times_s = [0.2 * n for n in range(9)]
    return write_clip(path, (shot.pixels for shot in shots), times_s=times_s, turn=90)


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options for small work, an untrained network among them: the features place the frames."""
    torch.manual_seed(0)
    weights = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_checkpoint(build_network(NETWORKS["tiny"]), weights, card={})
    return [*"--depth-size 96 --no-refine-depth --weights".split(), str(weights)]


@pytest.fixture(scope="module")
def scene(clip: Path, quick: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "scene"
    assert main([str(clip), "--frames", "4", "--out", str(out), *quick]) == 0
    return out


def test_frames_lie_in_the_scene_and_files_refer_to_them(scene: Path) -> None:
    names = sorted(path.name for path in (scene / "frames").iterdir())
    assert len(names) == 4 and all(name.startswith("my room_0000") for name in names)
    for name in names:
        with Image.open(scene / "frames" / name) as picture:
            assert picture.size == (240, 320) and picture.format == "JPEG"
    run = json.loads((scene / "run.json").read_text())
    assert [photo["path"] for photo in run["photos"]] == [f"frames/{name}" for name in names]
    assert {photo["video"] for photo in run["photos"]} == {"my room.mp4"}
    assert {f"frames/{name}" for name in names} <= run["files"].keys()
    assert run["stages"][0]["name"] == "Choosing frames"
    cameras = json.loads((scene / "cameras.json").read_text())["images"]
    assert list(cameras) == names and all(camera["registered"] for camera in cameras.values())
    assert len({camera["K"][0][0] for camera in cameras.values()}) == 1
    transforms = json.loads((scene / "transforms.json").read_text())
    assert [frame["file_path"] for frame in transforms["frames"]] == [f"frames/{n}" for n in names]
    model = pycolmap.Reconstruction(str(scene / "colmap/sparse/0"))
    assert {image.name for image in model.images.values()} == set(names)
    assert not (scene / "colmap/images").exists()


def test_a_scene_that_is_saved_again_has_its_frames(scene: Path, tmp_path: Path) -> None:
    frames = {path.name: path.read_bytes() for path in (scene / "frames").iterdir()}
    copy = tmp_path / "copy"
    recon.save_scene(recon.load_scene(scene), copy)
    assert {path.name: path.read_bytes() for path in (copy / "frames").iterdir()} == frames
    # Frames given as photos, too, when what is made of them takes the place of their own scene.
    again = recon.load_scene(copy)
    photos = tuple(replace(view, video=None) for view in again.views)
    recon.save_scene(replace(again, views=photos), copy, overwrite=True)
    assert {path.name: path.read_bytes() for path in (copy / "frames").iterdir()} == frames
    assert {view.path.parent for view in recon.load_scene(copy).views} == {copy / "frames"}


def test_photos_and_videos_mix_and_colmap_gets_one_folder(
    clip: Path, scene: Path, quick: list[str], tmp_path: Path
) -> None:
    photo = tmp_path / "photo.jpg"
    shutil.copy(next((scene / "frames").iterdir()), photo)
    out = tmp_path / "scene"
    arguments = [str(photo), str(clip), "--frames", "3", "--out", str(out), *quick]
    assert main(arguments) == 0
    listed = json.loads((out / "run.json").read_text())["photos"]
    assert [entry["video"] for entry in listed] == [None, *3 * ["my room.mp4"]]
    assert {path.name for path in (out / "colmap/images").iterdir()} == {
        entry["name"] for entry in listed if entry["registered"]
    }
    assert len(list((out / "frames").iterdir())) == 3


def test_in_python_frames_stay_as_long_as_the_scene(
    clip: Path, quick: list[str], tmp_path: Path
) -> None:
    options = recon.Options(frames=2, depth_size=96, refine_depth=False, weights=quick[-1])
    scene = recon.reconstruct(clip, options)
    places = [view.path for view in scene.views]
    assert len(places) == 2 and all(place.exists() for place in places)
    scene.save(tmp_path / "scene")
    del scene
    gc.collect()
    assert not any(place.exists() for place in places)
    saved = [view.path for view in recon.load_scene(tmp_path / "scene").views]
    assert saved == [tmp_path / "scene/frames" / place.name for place in places]


def test_each_frame_by_itself(clip: Path, quick: list[str], tmp_path: Path) -> None:
    out = tmp_path / "album"
    arguments = [str(clip), "--mode", "depth", "--frames", "2", "--out", str(out)]
    assert main([*arguments, *quick]) == 0
    folders = [path for path in out.iterdir() if path.is_dir()]
    assert len(folders) == 2
    for folder in folders:
        (frame,) = (folder / "frames").iterdir()
        assert frame.stem == folder.name


def test_a_file_that_is_no_video_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "film.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    assert main([str(tmp_path / "film.mp4"), "--out", str(tmp_path / "out")]) == 2
    assert "film.mp4 is no video that can be read" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_a_video_is_warned_of_is_warned_of_again(tmp_path: Path) -> None:
    still = shoot(1, width=160, height=120)[0].pixels
    times_s = [0.2 * n for n in range(9)]
    video = write_clip(tmp_path / "still.mp4", (still for _ in times_s), times_s=times_s)
    for _ in range(2):
        with Run() as run:
            frames = video_frames([video], Work(tmp_path / "w"), target=None, advance=unheard)
        assert frames[video] and "the camera hardly moves" in run.warnings[0]


def test_a_number_of_frames_without_a_video_is_said_to_change_nothing(tmp_path: Path) -> None:
    photo = tmp_path / "a.png"
    Image.fromarray(shoot(1, width=64, height=48)[0].pixels).save(photo)
    for target, warnings in ((None, 0), (5, 1)):
        with Run() as run:
            frames = frames_of_videos([photo], run, Work(None), target=target, recursive=False)
        assert frames == {} and len(run.warnings) == warnings
