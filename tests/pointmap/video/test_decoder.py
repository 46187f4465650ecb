"""Frames out of video files: upright, complete, in order, and what is said of bad files."""

from __future__ import annotations

import logging
import wave
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from video_clips import number_of, numbered, painting, window

from benchmarks.clips import write_clip
from pointmap.errors import InputError
from pointmap.video.decoder import DecodedFrame, decoded_frames

COUNT = 40


def clip(path: Path, **settings) -> Path:
    return write_clip(path, map(numbered, range(COUNT)), **settings)


def check(frames: list[DecodedFrame], numbers: list[int]) -> None:
    """The frames hold these numbers, upright, and their colours."""
    pictures = [frame.upright() for frame in frames]
    assert [number_of(picture) for picture in pictures] == numbers
    assert [frame.number for frame in frames] == list(range(len(numbers)))
    assert all(picture.shape == (96, 160, 3) for picture in pictures)
    corners = np.array([picture[8, 12] for picture in pictures], int)
    assert np.abs(corners - (220, 30, 30)).max() < 16


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_a_turned_video_comes_out_upright(turn: int, tmp_path: Path) -> None:
    frames = list(decoded_frames(clip(tmp_path / "a.mp4", turn=turn)))
    check(frames, list(range(COUNT)))
    stored = (96, 160) if turn in (0, 180) else (160, 96)
    assert frames[0].grey(400).shape == stored
    assert max(frames[0].grey(80).shape) == 80


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("a.mov", "libx265", "yuv420p"),
        ("a.mp4", "libx265", "yuv420p10le"),
        ("a.mkv", "libx264", "yuv420p10le"),
        ("a.webm", "libvpx-vp9", "yuv420p"),
        ("a.m2ts", "libx264", "yuv420p"),
    ],
)
def test_kinds_of_files(name: str, codec: str, pixels: str, tmp_path: Path) -> None:
    path = clip(tmp_path / name, codec=codec, pixels=pixels)
    check(list(decoded_frames(path)), list(range(COUNT)))


def test_times_are_those_of_the_file(tmp_path: Path) -> None:
    times_s = np.cumsum(np.random.default_rng(0).uniform(0.01, 0.3, COUNT))
    frames = list(decoded_frames(clip(tmp_path / "a.mp4", times_s=times_s.tolist())))
    check(frames, list(range(COUNT)))
    found = np.array([frame.time_s for frame in frames])
    assert np.abs(found - (times_s - times_s[0])).max() < 1e-3


def test_a_frame_of_two_fields_is_of_one_time(tmp_path: Path) -> None:
    # Without colours, which such films hold at half the size.
    grey = np.repeat(painting()[..., :1], 3, axis=2)
    views = [window(grey, 6.0 * k) for k in range(2 * 12)]
    fields = [first.copy() for first in views[::2]]
    for frame, second in zip(fields, views[1::2], strict=True):
        frame[1::2] = second[1::2]
    interlaced = {"flags": "+ilme+ildct", "crf": "12"}
    still = [views[0]] * 12
    for name, pictures, expected in (("moves", fields, views[::2]), ("still", still, still)):
        path = tmp_path / f"{name}.mts"
        write_clip(path, pictures, more=interlaced)
        frames = list(decoded_frames(path))
        assert len(frames) == 12
        for frame, view in zip(frames, expected, strict=True):
            whole = view.astype(int)
            if name == "moves":
                whole[1:-1:2] = (whole[:-2:2] + whole[2::2]) / 2
            assert np.abs(frame.upright() - whole)[:-1].mean() < 4
            assert np.abs(frame.grey(400)[::2].astype(int) - view[::2, :, 0]).mean() < 8


def test_pixels_that_are_not_square_become_square(tmp_path: Path) -> None:
    frames = list(decoded_frames(clip(tmp_path / "a.mp4", aspect=Fraction(4, 3))))
    assert frames[0].upright().shape == (96, 213, 3)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_of_a_file_that_breaks_off_the_beginning_is_used(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_clip(tmp_path / name, (numbered(n % 256) for n in range(90)), faststart=True)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with caplog.at_level(logging.WARNING):
        frames = list(decoded_frames(path))
    numbers = [number_of(frame.upright()) for frame in frames]
    assert 15 < len(numbers) < 70 and numbers == sorted(numbers)
    check(frames[:15], list(range(15)))
    assert f"{name} breaks off after" in caplog.text


def test_damage_in_the_middle_costs_the_frames_up_to_the_next_whole_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = clip(tmp_path / "a.mp4", faststart=True)
    content = bytearray(path.read_bytes())
    at = content.index(b"mdat") + (len(content) - content.index(b"mdat")) // 2
    content[at : at + 150] = bytes(255 - value for value in content[at : at + 150])
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        frames = list(decoded_frames(path))
    numbers = [number_of(frame.upright()) for frame in frames]
    assert numbers == sorted(numbers) and len(numbers) < COUNT
    assert {0, COUNT - 1} <= set(numbers)
    check(frames, numbers)
    assert "a.mp4 is damaged" in caplog.text


def test_files_that_are_no_video_are_an_error_with_a_remedy(tmp_path: Path) -> None:
    whole = clip(tmp_path / "whole.mp4")
    (tmp_path / "text.mp4").write_text("no video " * 100)
    (tmp_path / "empty.mp4").touch()
    # The end, which says where the pictures are, is missing: the camera was switched off.
    (tmp_path / "cut.mp4").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    # Lists of other files: what they name is not opened.
    (tmp_path / "concat.mp4").write_text("ffconcat version 1.0\nfile whole.mp4\n")
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:3,\nwhole.mp4\n#EXT-X-ENDLIST\n")
    for name in ("text", "empty", "cut", "concat", "list"):
        with pytest.raises(InputError, match="no video that can be read: copy it again"):
            list(decoded_frames(tmp_path / f"{name}.mp4"))


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    import av

    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        samples = np.zeros((1, 44100), np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(InputError, match="holds no moving picture"):
        list(decoded_frames(path))
    with wave.open(str(tmp_path / "sound.avi"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(8000))
    with pytest.raises(InputError, match="no video that can be read"):
        list(decoded_frames(tmp_path / "sound.avi"))
