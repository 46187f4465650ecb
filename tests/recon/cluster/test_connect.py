"""A cluster that cannot be reached is one line, soon; what is left out, and what is sent."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from failing_pieces import FailingOnce

from pointmap.errors import InputError
from pointmap.images import open_photos
from recon.cluster import connect
from recon.cluster.connect import pieces_on
from recon.cluster.run_home import RunHome, ShippedPhotos
from recon.work.folder import Work
from recon.work.pieces import PhotosFailed

SAMPLE = Path(__file__).resolve().parents[3] / "examples/courtyard/images"


def test_a_local_run_imports_nothing_of_ray() -> None:
    code = (
        "import sys, recon.pipeline, recon.cli\n"
        "from recon.cluster.connect import pieces_on\n"
        "with pieces_on('local') as pieces: assert list(pieces.each(str, [1])) == ['1']\n"
        "assert not any(name.split('.')[0] == 'ray' for name in sys.modules)\n"
    )
    root = Path(__file__).resolve().parents[3]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


def test_without_ray_the_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'pointmap\[cluster\]'"), pieces_on("auto"):
        pass


@pytest.mark.parametrize(
    "address", ["nonsense", "host:port", "127.0.0.1:1", "nowhere.invalid:6379"]
)
def test_a_cluster_that_is_not_there_is_one_line(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setattr(connect, "find_spec", lambda name: object())
    start = time.monotonic()
    with pytest.raises(InputError), pieces_on(address):
        pass
    assert time.monotonic() - start < 10


# The settings of HTTP/2, and status 404: what a proxy answers that takes any connection.
_NOT_FOUND = bytes.fromhex("0000000400000000000000010105000000018d")


@pytest.mark.parametrize("answer", [b"", b"220 mail\r\n", _NOT_FOUND])
def test_something_else_that_listens_is_no_cluster(
    monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    monkeypatch.setattr(connect, "find_spec", lambda name: object())
    monkeypatch.setattr(connect, "_ANSWER_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        accepted = pool.submit(lambda: server.accept()[0])
        accepted.add_done_callback(lambda done: done.result().sendall(answer))
        with pytest.raises(InputError, match="something listens"), pieces_on(address):
            pass
        accepted.result().close()


def test_no_cluster_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "find_spec", lambda name: object())
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(InputError, match="finds no cluster"), pieces_on("auto"):
        pass


def test_as_few_photos_as_can_be_are_left_out() -> None:
    failed = PhotosFailed([(("a", "b"), "1"), (("b", "c"), "2"), (("d",), "3"), (("e", "f"), "4")])
    assert failed.photos() == {"b": "1", "d": "3", "f": "4"}


def test_a_photo_that_fails_is_left_out_with_a_warning(tmp_path: Path) -> None:
    import recon
    from recon.options import Options
    from recon.stereo.view import StereoOptions

    photos = sorted(SAMPLE.iterdir())[:3]
    options = Options(depth_size=64, stereo=StereoOptions(max_planes=24))
    scene = recon.reconstruct(
        photos, options, work=Work(tmp_path / "work", FailingOnce("Finding features"))
    )
    assert [view.name for view in scene.views] == [photos[0].name, photos[2].name]
    warning = next(text for text in scene.warnings if "left out" in text)
    assert photos[1].name in warning and "MemoryError" in warning


def test_a_node_fetches_a_photo_once_and_knows_the_rest_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, _ = open_photos(sorted(SAMPLE.iterdir())[:2])
    contents = [(photo.path.stat(), "") for photo in photos]
    gone = [replace(photo, path=tmp_path / photo.name) for photo in photos]
    home = RunHome("a-test", "1", tmp_path / "none", "cluster", source=object())
    monkeypatch.setattr(RunHome, "cache", tmp_path / "cache")
    asked: list[Path] = []

    def read(self: RunHome, path: Path) -> bytes:
        asked.append(path)
        return (SAMPLE / path.name).read_bytes()

    monkeypatch.setattr(RunHome, "read", read)
    sent = ShippedPhotos(home, gone, contents)
    assert [photo.path for photo in sent] == [photo.path for photo in gone] and not asked
    for _ in range(2):
        here = sent[1].path
        assert here.read_bytes() == photos[1].path.read_bytes()
        assert here.stat().st_mtime_ns == contents[1][0].st_mtime_ns
    assert asked == [gone[1].path]
    assert ShippedPhotos(home, photos, contents)[0].path == photos[0].path
