"""NumPy's files: what they hold, or a ValueError before anything large is allocated."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pointmap.outside.arrays import MAX_MAP_PIXELS, as_map, read_npy, read_npz


def header(text: str) -> bytes:
    content = text.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(content).to_bytes(2, "little") + content


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["<f4", ">f8", "u2", "i8", "?", "f2"])
def test_numbers_come_back(tmp_path: Path, kind: str, order: str) -> None:
    written = np.asarray(np.arange(24).reshape(2, 3, 4), kind, order=order)
    np.save(tmp_path / "a.npy", written)
    np.savez_compressed(tmp_path / "a.npz", a=written, b=written[0, 0, 0])
    read = read_npz(tmp_path / "a.npz")
    for found in (read_npy(tmp_path / "a.npy"), read["a"]):
        assert found.dtype == written.dtype and np.array_equal(found, written)
    assert read["b"].shape == () and read_npz(tmp_path / "a.npz", ["b"]).keys() == {"b"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY\x01\x00",
        b"\x93NUMPY\x09\x00" + b" " * 200,
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }"),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -64), }") + bytes(256),
        header("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }") + bytes(8),
        header("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }") + bytes(4),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': " + "(" * 60 + ", }"),
        header("__import__('os').getpid()"),
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff",
    ],
)
def test_other_content_is_a_value_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", content)
    for read in (read_npy, read_npz):
        with pytest.raises(ValueError):
            read(tmp_path / f"a{read.__name__[4:].replace('_', '.').rjust(4, '.')}")


def test_an_archive_that_claims_or_hides_too_much_is_a_value_error(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    stream = io.BytesIO()
    np.savez_compressed(stream, a=np.zeros(1000))
    whole = stream.getvalue()
    place = whole.rindex(b"PK\x01\x02")
    for at, value in (
        (8, b"\x01\x00"),
        (10, b"\x0c\x00"),
        (24, b"\xff\xff\xff\x7f"),
        (24, bytes(4)),
    ):
        path.write_bytes(whole[: place + at] + value + whole[place + at + len(value) :])
        with pytest.raises(ValueError):
            read_npz(path)
    path.write_bytes(whole[:-30])
    with pytest.raises(ValueError):
        read_npz(path)


def test_a_long_list_of_members_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(66_000):
            archive.writestr(zipfile.ZipInfo(f"{number}.npy"), b"")
    with pytest.raises(ValueError, match="more members"):
        read_npz(path)


def test_a_map_of_more_pixels_than_any_camera_has_is_refused() -> None:
    assert as_map(np.ones((2, 3), np.uint8)).dtype == np.float64
    with pytest.raises(ValueError, match="larger than 100 megapixels"):
        as_map(np.broadcast_to(np.uint8(0), (MAX_MAP_PIXELS + 1,)))
