"""Videos that ask for more than there is, or for all time: one line, and this process goes on."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from video_clips import numbered

from benchmarks.clips import write_clip
from pointmap.errors import InputError
from pointmap.video.bounded import bounded_candidates
from pointmap.video.candidates import candidates_of
from pointmap.video.frames import choose_frames


def watched(video: Path, folder: Path, **bounds: int) -> tuple[list, list[Path], list[int]]:
    folder.mkdir()
    read: list[int] = []
    return *bounded_candidates(video, folder, "a", on_read=read.append, **bounds), read


def test_it_gives_what_watching_here_gives(tmp_path: Path) -> None:
    video = write_clip(tmp_path / "a.mp4", map(numbered, range(0, 250, 5)))
    found, paths, read = watched(video, tmp_path / "there")
    (tmp_path / "here").mkdir()
    expected, files = candidates_of(video, tmp_path / "here", "a", on_read=lambda _: None)
    assert len(found) == len(expected) > 0
    for a, b in zip(found, expected, strict=True):
        assert (a.time_s, a.sharpness) == (b.time_s, b.sharpness)
        for name in ("ids", "places"):
            mine, other = getattr(a.features, name), getattr(b.features, name)
            assert mine.dtype == other.dtype
            np.testing.assert_array_equal(mine, other)
    assert [p.name for p in paths] == [p.name for p in files]
    assert [p.read_bytes() for p in paths] == [p.read_bytes() for p in files]
    assert sorted(paths) == sorted((tmp_path / "there").iterdir())
    assert read and max(read) <= video.stat().st_size


@pytest.mark.skipif(sys.platform != "linux", reason="bounds of address space")
def test_too_much_memory_or_time_is_one_line(tmp_path: Path) -> None:
    video = write_clip(tmp_path / "a.mp4", map(numbered, range(30)))
    for number, bounds in enumerate(({"max_bytes": 2**28}, {"max_seconds": 0})):
        with pytest.raises(InputError, match=r"a\.mp4") as caught:
            watched(video, tmp_path / f"{number}", **bounds)
        assert "\n" not in str(caught.value)


def test_a_machine_of_many_cores_needs_no_more_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENCV_FOR_THREADS_NUM", "256")
    clip = write_clip(tmp_path / "clip.mp4", (numbered(n) for n in range(30)))
    (tmp_path / "out").mkdir()
    candidates, _ = bounded_candidates(
        clip, tmp_path / "out", "clip", on_read=lambda read: None, max_bytes=3 * 2**29
    )
    assert candidates


def test_what_is_refused_or_warned_of_there_is_said_here(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    video = write_clip(tmp_path / "a.mkv", map(numbered, range(200)))
    content = video.read_bytes()
    video.write_bytes(content[: len(content) // 2])
    with caplog.at_level(logging.WARNING):
        found, _, _ = watched(video, tmp_path / "out")
    assert found and "breaks off" in caplog.text
    (tmp_path / "b.mp4").write_bytes(b"no video")
    with pytest.raises(InputError, match="no video that can be read"):
        watched(tmp_path / "b.mp4", tmp_path / "none")


def test_a_crash_of_the_decoder_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = write_clip(tmp_path / "a.mp4", map(numbered, range(30)))
    start = subprocess.Popen

    def crashing(arguments: list, **settings: object) -> subprocess.Popen:
        code = f"import os; os.kill(os.getpid(), {int(signal.SIGSEGV)})"
        return start([sys.executable, "-c", code], **settings)

    monkeypatch.setattr(subprocess, "Popen", crashing)
    with pytest.raises(InputError, match="damaged"):
        choose_frames([video], tmp_path / "frames")


def test_frames_larger_than_any_camera_are_refused(tmp_path: Path) -> None:
    """A header may claim any size: 16 bits a side in MPEG-4 part 2."""
    video = write_clip(tmp_path / "a.avi", map(numbered, range(8)), codec="ffv1")
    content = bytearray(video.read_bytes())
    for at in (content.index(b"avih") + 8 + 32, content.index(b"strf") + 8 + 4):
        content[at : at + 8] = (60_000).to_bytes(4, "little") * 2
    video.write_bytes(content)
    with pytest.raises(InputError, match="no video that can be read"):
        watched(video, tmp_path / "out")
