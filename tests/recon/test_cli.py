"""The command as a person runs it: small photos through the whole pipeline, and bad input."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from synthetic import Plane, save_photo, shoot
from tiny_network import write_tiny_network

import recon.single_photos.photo_scene
from pointmap.errors import InputError
from recon.cli import main, read_command
from recon.options import Options
from recon.stereo.view import StereoOptions
from recon.work.packing import pack

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_network(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photos of one room, in a folder with a space in its name."""
    folder = tmp_path_factory.mktemp("photos") / "my room"
    for k, shot in enumerate(shoot(3, width=400, height=300, span_deg=24, wavelength=0.12)):
        save_photo(shot, folder / f"{k}.jpg", quality=95)
    return folder


def run(photos: Path | str, out: Path, weights: Path, *more: str) -> int:
    return main(
        [str(photos), "--out", str(out), "--weights", str(weights), "--depth-size", "160", *more]
    )


def cameras_of(out: Path) -> dict:
    return json.loads((out / "cameras.json").read_text())["images"]


@pytest.fixture(scope="module")
def scene(photos: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "my scene"
    assert run(photos, out, weights) == 0
    return out


def test_known_cameras_come_out_bit_equal_and_the_others_join_them(
    photos: Path, weights: Path, tmp_path: Path
) -> None:
    shots = shoot(3, width=400, height=300, span_deg=24, wavelength=0.12)
    names = [f"{k}.jpg" for k in range(3)]
    known = {
        name: {"K": shot.intrinsics.tolist(), "cam_to_world": shot.cam_to_world.tolist()}
        for name, shot in zip(names[:2], shots, strict=False)
    }
    (tmp_path / "known.json").write_text(json.dumps({"pixel_centre": 0.5, "images": known}))
    flags = ["--known-cameras", str(tmp_path / "known.json"), "--no-refine-depth"]
    assert run(photos, tmp_path / "out", weights, *flags) == 0
    cameras = cameras_of(tmp_path / "out")
    for name in names[:2]:
        assert cameras[name]["K"] == known[name]["K"]
        assert cameras[name]["cam_to_world"] == known[name]["cam_to_world"]
    # The third photo is found in the world of the first two.
    centre = np.array(cameras["2.jpg"]["cam_to_world"])[:3, 3]
    assert np.linalg.norm(centre - shots[2].cam_to_world[:3, 3]) < 0.05


def test_photos_become_a_complete_scene(scene: Path) -> None:
    cameras = cameras_of(scene)
    assert [camera["registered"] for camera in cameras.values()] == [True] * 3
    assert all((camera["width"], camera["height"]) == (400, 300) for camera in cameras.values())
    for name in (
        *("points.ply", "mesh.ply", "scene.glb", "transforms.json", "run.json", "report.html"),
        *("colmap/sparse/0/cameras.bin", "depth/0.npz", "depth/0.png"),
    ):
        assert (scene / name).stat().st_size > 0
    run_record = json.loads((scene / "run.json").read_text())
    assert run_record["counts"]["registered"] == 3
    assert {stage["name"] for stage in run_record["stages"]} >= {"Aligning cameras", "Depth"}
    focals = [camera["K"][0][0] for camera in cameras.values()]
    assert focals[0] == focals[1] == focals[2]
    # True focal 380. Three photos of an untrained prior tell it roughly.
    assert 300 < focals[0] < 480


def test_the_same_input_gives_the_same_cameras(
    scene: Path, photos: Path, weights: Path, tmp_path: Path
) -> None:
    assert run(photos, tmp_path / "again", weights) == 0
    again = (tmp_path / "again" / "cameras.json").read_bytes()
    assert again == (scene / "cameras.json").read_bytes()


def test_bad_files_among_good_ones_are_named_and_left_out(
    photos: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mixed"
    shutil.copytree(photos, folder)
    (folder / "notes.jpg").write_text("this is no picture")
    (folder / "cut.jpg").write_bytes((photos / "0.jpg").read_bytes()[:3000])
    # A photo of another place: no texture of the room in it.
    other = shoot(1, width=400, height=300, surfaces=(Plane((0.1, 0.3, 1.0), 3.0),))[0]
    Image.fromarray(other.pixels[::-1]).save(folder / "elsewhere.png")
    out = tmp_path / "out"
    assert run(folder, out, weights) == 0
    said = capsys.readouterr().err
    assert "notes.jpg" in said and "cut.jpg" in said
    cameras = cameras_of(out)
    assert set(cameras) == {"0.jpg", "1.jpg", "2.jpg", "elsewhere.png"}
    assert cameras["elsewhere.png"]["cam_to_world"] is None
    assert "not connected" in cameras["elsewhere.png"]["reason"]
    assert all(cameras[f"{k}.jpg"]["registered"] for k in range(3))
    warnings = " ".join(json.loads((out / "run.json").read_text())["warnings"])
    assert all(name in warnings for name in ("notes.jpg", "cut.jpg", "elsewhere.png"))


def test_one_photo_gives_camera_depth_and_cloud(
    photos: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / f"one {'long' * 30}"
    # By way of a folder that there is not, as relative paths in scripts often lead.
    given = tmp_path / "none" / ".." / out.name
    assert run(photos / "0.jpg", given, weights, "--world", "first-camera") == 0
    # In one piece, however long they are: to be copied.
    said = capsys.readouterr().out.splitlines()
    assert f"report   {out / 'report.html'}" in said
    assert f"turn it  {Path(sys.executable).name} -m viz {shlex.quote(str(out))}" in said
    camera = cameras_of(out)["0.jpg"]
    assert np.array_equal(camera["cam_to_world"], np.eye(4))
    assert json.loads((out / "cameras.json").read_text())["world"]["frame"] == "first-camera"
    assert (np.load(out / "depth" / "0.npz")["depth"] > 0).any()


def png_header(width: int, height: int) -> bytes:
    """The start of a PNG that claims to be huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))


@pytest.mark.parametrize("case", ["nothing there", "empty folder", "1x1", "bomb", "text"])
def test_no_usable_photo_is_one_line_and_exit_code_2(
    case: str, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    if case != "nothing there":
        folder.mkdir()
    if case == "1x1":
        Image.new("RGB", (1, 1)).save(folder / "dot.png")
    if case == "bomb":
        (folder / "bomb.png").write_bytes(png_header(60000, 60000))
    if case == "text":
        (folder / "a.jpg").write_text("no picture")
    assert run(folder, tmp_path / "out", weights) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == (
        [] if case == "nothing there" else ["photos"]
    )


@pytest.mark.parametrize("case", ["missing", "truncated", "other architecture"])
def test_a_bad_checkpoint_is_one_line_and_exit_code_2(
    case: str,
    photos: Path,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bad = tmp_path / "bad.safetensors"
    if case == "truncated":
        bad.write_bytes(weights.read_bytes()[:5000])
    if case == "other architecture":
        from safetensors.torch import save_file

        save_file({"conv.weight": torch.zeros(3)}, bad)
    assert run(photos, tmp_path / "out", bad) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and "bad.safetensors" in errors[0]
    assert not (tmp_path / "out").exists()


def test_bounds_of_options_are_said_in_full() -> None:
    with pytest.raises(InputError, match="--seed must be between 0 and 4294967295; got -1"):
        Options(seed=-1).check()


@pytest.mark.parametrize(
    "option", [("--depth-size", "8"), ("--focal.focal-px", "-5"), ("--fusion.voxel-size", "0")]
)
def test_senseless_options_are_named(
    option: tuple[str, str],
    photos: Path,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(photos, tmp_path / "out", weights, *option) == 2
    assert option[0] in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "option",
    [
        ("--known-cameras", "cameras.json"),
        ("--extend", "scene"),
        ("--prior-depth", "maps"),
        ("--adapt", "60"),
        ("--all-scenes",),
        ("--cluster", "auto"),
        ("--video", "film.mp4"),
    ],
)
def test_what_photos_by_themselves_have_no_use_for_is_refused(
    option: tuple[str, ...],
    photos: Path,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(photos, tmp_path / "out", weights, "--mode", "depth", *option) == 2
    assert f"error: {option[0]} is for scenes" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_quality_sets_what_other_options_leave_open() -> None:
    given = ["photos", "--out", "out", "--quality", "draft"]
    draft = read_command(given).options
    assert draft == Options.of_quality("draft") != Options()
    # A value that happens to be the default is an option that was given, too.
    some = read_command([*given, "--depth-size", "512", "--stereo.sources", "5"]).options
    assert (some.depth_size, some.stereo.sources) == (512, 5)
    assert some.stereo.max_planes == draft.stereo.max_planes != StereoOptions().max_planes
    assert some.fusion == draft.fusion
    assert read_command(given[:3]).options == Options()


def test_an_existing_folder_is_not_mixed_with(
    photos: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "diary.txt").write_text("mine")
    assert run(photos, out, weights) == 2
    assert run(photos, out, weights, "--overwrite") == 2
    assert capsys.readouterr().err.count("error:") == 2
    assert [path.name for path in out.iterdir()] == ["diary.txt"]


@pytest.mark.skipif(sys.platform != "linux", reason="the file system refuses such names")
def test_photos_by_themselves_may_be_called_anything(
    photos: Path, weights: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for source, name in (("0.jpg", b"\xff <b>.jpg"), ("1.jpg", b"x" * 251 + b".jpg")):
        shutil.copy(photos / source, os.path.join(os.fsencode(tmp_path / "in"), name))
    assert run(tmp_path / "in", tmp_path / "out", weights, "--mode", "depth") == 0
    assert len(os.listdir(tmp_path / "out")) == 2 + len({"report.html", "run.json"})


@pytest.mark.parametrize("mode", ["scene", "depth"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_files_that_appear_while_it_works_are_kept(
    photos: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    mode: str,
    overwrite: bool,
) -> None:
    """A thesis that is saved where the scene is to come, and a second run into the same folder."""
    one = str(photos / "0.jpg")
    out = tmp_path / "out"
    flags = ["--mode", mode, *(["--overwrite"] if overwrite else [])]
    codes = []
    during = recon.single_photos.photo_scene.predict_alone

    def work_of_hours(*args: Any, **kwargs: Any) -> Any:
        if not codes:
            codes.append(0)
            codes.append(run(one, out, weights, *flags))
            out.mkdir()
            (out / "thesis.txt").write_text("years of work")
        return during(*args, **kwargs)

    monkeypatch.setattr("recon.single_photos.photo_scene.predict_alone", work_of_hours)
    code = run(one, out, weights, *flags)
    printed = capsys.readouterr().err
    assert codes[1] == 2 and printed.count("another run is writing to") == 1
    kept = tmp_path / "out-kept" if overwrite else out
    written = out if overwrite else tmp_path / "out-2"
    assert code == (0 if overwrite else 2)
    assert (kept / "thesis.txt").read_text() == "years of work"
    assert (written / "run.json").is_file()
    assert (str(kept) if overwrite else f"the new scene is in {written}") in printed
    # The work of a command that didn't end well is kept for the next one.
    names = {name for name in os.listdir(tmp_path) if name != "out.work"}
    assert names == {kept.name, written.name}


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_leaves_nothing_behind(
    sent: signal.Signals, photos: Path, weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = [str(photos), "--out", str(out), "--weights", str(weights)]
    process = subprocess.Popen(
        [sys.executable, "run_recon.py", *arguments],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        # A test run in a shell's background, or by nohup, ignores signals, and so do its children.
        preexec_fn=lambda: signal.signal(sent, signal.SIG_DFL),
    )
    assert process.stderr is not None
    # The first stage's line says that work has begun.
    first = process.stderr.readline()
    assert "Reading photos" in first
    time.sleep(0.5)
    process.send_signal(sent)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 128 + sent
    assert "Traceback" not in rest and "interrupted" in rest
    left = [path.name for path in tmp_path.iterdir()]
    assert left in ([], ["out.work"])
    assert ("the same command goes on from what is in" in rest) == bool(left)


def _of_a_script(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Return how a script ends that is given a folder, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests" / "helpers")},
        capture_output=True,
        text=True,
    )


def test_writing_colmap_leaves_our_way_of_ending(tmp_path: Path) -> None:
    """pycolmap's import takes SIGTERM over, in C, which would leave unfinished folders behind."""
    script = """
import os, signal, sys
from pointmap.commands import end_as_on_ctrl_c
from recon.export.colmap import to_pycolmap
from scene_factory import make_scene
from pathlib import Path
end_as_on_ctrl_c("SIGTERM")
to_pycolmap(make_scene(Path(sys.argv[1])))
try:
    os.kill(os.getpid(), signal.SIGTERM)
except KeyboardInterrupt:
    sys.exit(7)
"""
    done = _of_a_script(script, tmp_path)
    assert done.returncode == 7, done.stderr


def test_writing_colmap_leaves_a_callers_crash_handlers(tmp_path: Path) -> None:
    script = """
import ctypes, faulthandler, signal, sys
from pathlib import Path
faulthandler.enable()
numbers = [signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGBUS, signal.SIGILL]
def handlers():
    actions = [ctypes.create_string_buffer(1024) for _ in numbers]
    for number, action in zip(numbers, actions):
        ctypes.CDLL(None).sigaction(int(number), None, action)
    return [action.raw[:8] for action in actions]  # the address of the handler
before = handlers()
from recon.export.colmap import to_pycolmap
from scene_factory import make_scene
to_pycolmap(make_scene(Path(sys.argv[1])))
sys.exit(0 if handlers() == before else 3)
"""
    done = _of_a_script(script, tmp_path)
    assert done.returncode == 0, done.stderr


def test_work_that_is_whole_and_does_not_fit_is_one_line(
    photos: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(photos, out, weights, "--no-refine-depth", "--keep-work") == 0
    for piece in (tmp_path / "out.work").rglob("*.piece"):
        piece.write_bytes(pack((["no such thing"], [])))
    shutil.rmtree(out)
    assert run(photos, out, weights, "--no-refine-depth") == 2
    assert "run the same command with --fresh" in capsys.readouterr().err
    assert not out.exists()
    assert run(photos, out, weights, "--no-refine-depth", "--fresh") == 0


def test_an_interrupt_that_a_library_makes_an_error_of_is_an_interrupt(
    photos: Path,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_: object) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt as error:
            raise RuntimeError("initialization failed") from error

    monkeypatch.setattr("recon.cli._write", interrupted)
    assert run(photos, tmp_path / "out", weights) == 128 + signal.SIGTERM
    assert "interrupted: nothing was written" in capsys.readouterr().err
    monkeypatch.setattr("recon.cli._write", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(photos, tmp_path / "out", weights)
