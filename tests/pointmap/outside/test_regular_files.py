"""Pipes, sockets and devices where files are read; patterns and hubs without an end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pointmap import hub
from pointmap.checkpoint import load_network
from pointmap.errors import InputError
from pointmap.images import load_photo, open_photos
from pointmap.outside import patterns
from pointmap.outside.patterns import matching_paths
from pointmap.outside.regular_file import home_expanded, open_regular, read_regular
from pointmap.photo_files import find_photos
from pointmap.video.decoder import decoded_frames
from recon.export.depth_npz import read_depth_npz
from recon.export.json_file import read_json
from recon.export.ply import read_cloud_ply
from recon.inputs.read_cameras import load_known_cameras

READERS: dict[str, Callable[[Path], object]] = {
    "a.json": read_json,
    "b.json": lambda path: load_known_cameras(str(path), []),
    "a.npz": read_depth_npz,
    "a.ply": read_cloud_ply,
    "a.pth": load_network,
    "a.safetensors": load_network,
    "a.mp4": lambda path: next(decoded_frames(path)),
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "folder"])
def test_what_is_no_file_is_never_waited_for(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(InputError) as caught:
        READERS[name](path)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_a_photo_that_turns_into_a_pipe_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(path)
    (photo,), _ = open_photos([path])
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match=r"a\.png: cannot be opened: not a regular file"):
        load_photo(photo, long_side=32)
    assert open_photos([path])[1][0].reason == "cannot be opened: not a regular file"


def test_no_more_is_read_than_allowed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_regular(tmp_path / "a", most_bytes=5) == b"12345"
    with pytest.raises(OSError, match="larger than 0 MB"):
        read_regular(tmp_path / "a", most_bytes=4)


@pytest.mark.skipif(sys.platform != "linux", reason="no bound on memory on this system")
def test_a_small_file_takes_no_memory_for_what_it_might_hold(tmp_path: Path) -> None:
    # A laptop of 8 GB refuses 16 at once, though nothing would ever be written there.
    (tmp_path / "a").write_bytes(b"12345")
    script = f"""
import resource
from pathlib import Path
from pointmap.outside.regular_file import read_regular
resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
print(read_regular(Path({str(tmp_path / "a")!r}), most_bytes=2**34))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "b'12345'\n", done.stderr


def test_a_file_that_grows_is_read_up_to_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    as_it_was = os.stat(path)
    path.write_bytes(b"1234567")
    monkeypatch.setattr(os, "fstat", lambda handle: as_it_was)
    assert read_regular(path, most_bytes=7) == b"1234567"
    with pytest.raises(OSError, match="larger than"):
        read_regular(path, most_bytes=6)
    with pytest.raises(OSError, match="no name of a file"):
        open_regular(tmp_path / "a\0b")
    assert home_expanded("~nosuchuser/a") == Path("~nosuchuser/a")
    for name in ("x" * 300, "a\0b", "~nosuchuser/a.jpg"):
        with pytest.raises(InputError):
            find_photos([name])


def test_patterns_match_as_glob_does_and_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.jpg", "one/b.jpg", "one/two/c.JPG", "one/.d.jpg", ".h/e.jpg", "one/f.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "one" / "round").symlink_to(tmp_path)

    def names(pattern: str) -> set[str]:
        matches, unseen = matching_paths(f"{tmp_path}/{pattern}")
        assert not unseen  # a link that leads back up holds nothing new
        return {p.relative_to(tmp_path).as_posix() for p in matches}

    assert names("*.jpg") == {"a.jpg"}
    assert names("**/*.jpg") == {"a.jpg", "one/b.jpg"}
    assert names("*/*.jpg") == {"one/b.jpg"}
    assert names("o?e/t*/*") == {"one/two/c.JPG"}
    assert names(".*/*.jpg") == {".h/e.jpg"}
    assert names("one/f.txt") == {"one/f.txt"}
    assert names("nothing/*") == set()
    monkeypatch.chdir(tmp_path)
    assert matching_paths("**/b.jpg")[0] == [Path("one/b.jpg")]
    monkeypatch.setattr(patterns, "MAX_ENTRIES", 3)
    with pytest.raises(InputError, match="more files than can be looked at"):
        find_photos([f"{tmp_path}/**/*.jpg"])


def test_a_hub_that_never_answers_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    monkeypatch.setattr(hub, "_MOST_SECONDS", 0.05)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: answered.wait(30))
    with pytest.raises(InputError, match="does not answer"):
        load_network("naver/Tiny")
    answered.set()


def test_both_files_of_the_hub_are_of_one_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def download(repository: str, name: str, revision: str | None) -> str:
        asked.append((repository, name, revision))
        return str(tmp_path / ("1" * 40) / name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    for weights in ("naver/Tiny", "naver/Tiny@v1"):
        assert hub.download(weights, check=lambda _: None) == tmp_path / ("1" * 40)
    files = [("config.json", None), ("model.safetensors", "1" * 40),
             ("config.json", "v1"), ("model.safetensors", "1" * 40)]  # fmt: skip
    assert asked == [("naver/Tiny", *file) for file in files]
