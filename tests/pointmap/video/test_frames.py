"""Videos to a folder of photos: what is chosen of real files, and what is used again."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from video_clips import painting, window

from benchmarks.clips import write_clip
from pointmap.errors import InputError
from pointmap.video.frames import choose_frames
from pointmap.video.selection import STEP

SIZE = (320, 180)
# The camera moves, waits, and moves twice as fast; pixels of the painting from frame to frame.
PACE_PX = np.concatenate([np.full(70, 4.0), np.zeros(40), np.full(40, 8.0)])
PLACES_PX = np.cumsum(PACE_PX)
BLURRED = np.zeros(150, bool)
for _start in (12, 31, 50, 118, 133):
    BLURRED[_start : _start + 5] = True


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A walk along a painting with bursts of motion blur, held upright."""
    whole = painting()
    pictures = (window(whole, x, size=SIZE) for x in PLACES_PX)
    shown = (
        cv2.blur(picture, (15, 1)) if blurred else picture
        for picture, blurred in zip(pictures, BLURRED, strict=True)
    )
    path = tmp_path_factory.mktemp("clip") / "a walk.mp4"
    return write_clip(path, shown, turn=90)


def numbers(frames: list[Path]) -> list[int]:
    return [int(path.stem.rpartition("_")[2]) for path in frames]


def test_sharp_frames_by_motion(walk: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    frames = choose_frames([walk], tmp_path, on_progress=lambda *now: told.append(now))[walk]
    chosen = numbers(frames)
    assert chosen == sorted(chosen) and frames == sorted(frames)
    assert not BLURRED[chosen].any()
    # One of the standing camera, at most; as many of the fast part as of the slow.
    assert sum(70 <= n < 110 for n in chosen) <= 1
    steps = np.diff(PLACES_PX[chosen]) / SIZE[0]
    assert 0.5 * STEP < steps.min() and steps.max() <= 3 * STEP + 0.03
    assert abs(sum(n < 70 for n in chosen) - sum(n >= 110 for n in chosen)) <= 5
    assert told == sorted(told) and told[-1][0] == told[-1][1] == walk.stat().st_size
    whole = painting()
    for frame, number in zip(frames, chosen, strict=True):
        with Image.open(frame) as picture:
            grey = np.asarray(picture, float).mean(axis=2)
        true = window(whole, PLACES_PX[number], size=SIZE).mean(axis=2)
        assert np.abs(grey - true).mean() < 12


def test_frames_are_made_once(walk: Path, tmp_path: Path) -> None:
    frames = choose_frames([walk], tmp_path)[walk]
    made = [path.stat().st_mtime_ns for path in frames]
    moved = Path(shutil.copy(walk, tmp_path.parent / walk.name))
    assert choose_frames([moved], tmp_path) == {moved: frames}
    assert [path.stat().st_mtime_ns for path in frames] == made

    # Another number is another choice, and nothing of the first is left.
    few = choose_frames([walk], tmp_path, target=5)[walk]
    assert len(few) == 5
    assert {path.name for path in tmp_path.iterdir()} == {"frames.json", *(f.name for f in few)}

    # A folder of a run that was killed, or that lost a frame, is made again.
    few[0].unlink()
    (tmp_path / ".candidates").mkdir()
    (tmp_path / ".candidates" / "a walk_000000.jpg").touch()
    assert choose_frames([walk], tmp_path, target=5)[walk] == few
    assert few[0].exists() and not (tmp_path / ".candidates").exists()


def test_a_manifest_deletes_nothing_outside_its_folder(walk: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.jpg"
    mine.touch()
    folder = tmp_path / "frames"
    folder.mkdir()
    (folder / "frames.json").write_text(json.dumps({"frames": {"a": ["../mine.jpg"]}}))
    choose_frames([walk], folder, target=2)
    assert mine.exists()


def test_videos_of_one_name_keep_apart(walk: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / walk.name
    other.parent.mkdir()
    shutil.copy(walk, other)
    chosen = choose_frames([walk, other, walk], tmp_path / "frames", target=8)
    assert list(chosen) == [walk, other]
    assert [len(frames) for frames in chosen.values()] == [4, 4]
    names = [frame.name for frames in chosen.values() for frame in frames]
    assert len(set(names)) == 8 and sorted(names)[0].startswith("a walk-2_")


def test_a_camera_that_does_not_move_is_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(0)
    still = window(painting(), 100, size=SIZE).astype(int)
    noisy = (np.clip(still + rng.normal(0, 4, still.shape), 0, 255) for _ in range(60))
    path = write_clip(tmp_path / "tripod.mp4", (picture.astype(np.uint8) for picture in noisy))
    with caplog.at_level(logging.WARNING):
        assert len(choose_frames([path], tmp_path / "frames")[path]) == 1
    assert "tripod.mp4: the camera hardly moves" in caplog.text
    caplog.clear()
    grey = write_clip(tmp_path / "wall.mp4", (np.full((90, 160, 3), n, np.uint8) for n in range(9)))
    assert len(choose_frames([grey], tmp_path / "frames")[grey]) == 1


def test_a_folder_that_cannot_be_written_is_an_error(walk: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="frames of videos cannot be written"):
        choose_frames([walk], tmp_path / "file" / "frames")
