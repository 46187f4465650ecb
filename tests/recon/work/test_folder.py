"""Results as files: kept, found again, bounded in memory, never anybody else's."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import numpy as np
import pytest

from pointmap.errors import InputError
from recon.progress import Run
from recon.work.content_key import content_key
from recon.work.folder import CACHE_BYTES, Work
from recon.work.on_demand import Scattered

KEYS = [content_key("test", 1, n) for n in range(6)]


def squares(work: Work, made: list[int], at_once: int | None = 1) -> list[int]:
    def make(number: int) -> int:
        made.append(number)
        return number**2

    return list(work.each(KEYS, make, at_once=at_once))


@pytest.mark.parametrize("at_once", [1, None])
def test_what_is_there_is_not_made_again(at_once: int | None, tmp_path: Path) -> None:
    made: list[int] = []
    assert squares(Work(tmp_path / "w"), made, at_once) == [0, 1, 4, 9, 16, 25]
    assert sorted(made) == [0, 1, 2, 3, 4, 5]
    work = Work(tmp_path / "w")
    work.forget([KEYS[2], KEYS[4]])
    made.clear()
    assert squares(work, made, at_once) == [0, 1, 4, 9, 16, 25]
    assert sorted(made) == [2, 4]
    assert list(work.found(KEYS) or ()) == [0, 1, 4, 9, 16, 25]


@pytest.mark.parametrize("stop", range(6))
def test_stopped_at_any_moment_it_goes_on(stop: int, tmp_path: Path) -> None:
    made: list[int] = []

    def make(number: int) -> int:
        if number == stop:
            raise KeyboardInterrupt
        made.append(number)
        return number**2

    work = Work(tmp_path / "w")
    with pytest.raises(KeyboardInterrupt):
        work.each(KEYS, make)
    assert work.found(KEYS) is None
    assert squares(Work(tmp_path / "w"), made) == [0, 1, 4, 9, 16, 25]
    assert made == [0, 1, 2, 3, 4, 5]


def test_damaged_and_unfinished_files_are_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    work = Work(tmp_path / "w")
    squares(work, [])
    files = sorted(tmp_path.rglob("*.piece"))
    files[0].write_bytes(files[0].read_bytes()[:-9])
    files[1].write_bytes(b"")
    (files[1].parent / f"{files[1].stem}.unfinished").write_bytes(b"half")
    made: list[int] = []
    again = Work(tmp_path / "w")
    assert squares(again, made) == [0, 1, 4, 9, 16, 25]
    assert len(made) == 2 and caplog.text.count("is damaged") == 2
    again.delete_unused()
    assert len(list(tmp_path.rglob("*.*"))) == 6 + 1


def test_warnings_come_again_with_what_they_are_about(tmp_path: Path) -> None:
    def make(number: int) -> int:
        if number % 2:
            logging.getLogger("recon.test").warning("photo %d is odd", number)
        return number

    for _ in range(2):
        with Run() as run:
            Work(tmp_path / "w").each(KEYS, make)
        assert run.warnings == [f"photo {n} is odd" for n in (1, 3, 5)]


def test_memory_is_bounded_and_everything_can_be_read(tmp_path: Path) -> None:
    work = Work(tmp_path / "w")
    share = CACHE_BYTES // 3 // 8
    kept = work.each(KEYS, lambda n: np.full(share, float(n)))
    assert [float(array[-1]) for array in kept] == [0, 1, 2, 3, 4, 5]
    assert work._recent_bytes <= CACHE_BYTES
    assert work.size_bytes() > 6 * 8 * share


def test_nobody_elses_folder_is_used_or_deleted(tmp_path: Path) -> None:
    theirs = tmp_path / "w"
    theirs.mkdir()
    (theirs / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="holds files that are not of an unfinished run"):
        Work(theirs)
    ours = Work(tmp_path / "ours")
    squares(ours, [])
    (ours.folder / "notes.txt").write_text("mine")
    ours.delete()
    assert os.listdir(ours.folder) == ["notes.txt"]
    empty = Work(tmp_path / "empty")
    assert not empty.folder.exists()
    empty.delete()


def test_a_killed_runs_mark_may_be_cut(tmp_path: Path) -> None:
    squares(Work(tmp_path / "w"), [])
    mark = tmp_path / "w" / "README.txt"
    mark.write_bytes(mark.read_bytes()[:10])
    made: list[int] = []
    squares(Work(tmp_path / "w"), made)
    assert made == []


@pytest.mark.parametrize(
    ("number", "says"), [(errno.ENOSPC, "make room"), (errno.EACCES, "cannot write to")]
)
def test_a_full_disk_is_said_and_can_be_gone_on_from(
    number: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work(tmp_path / "w")
    work.each(KEYS[:2], lambda n: n)
    with monkeypatch.context() as patch:

        def full(self: Path, data: bytes) -> int:
            with self.open("wb") as file:
                file.write(data[:5])
            raise OSError(number, os.strerror(number))

        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(InputError, match=says):
            work.each(KEYS, lambda n: n)
    made: list[int] = []
    squares(Work(tmp_path / "w"), made)
    assert made == [2, 3, 4, 5]


def test_a_temporary_folder_goes_with_the_work() -> None:
    work = Work()
    squares(work, [])
    folder = work.folder
    assert folder.exists()
    del work
    assert not folder.exists()


def test_scattered_results_have_gaps(tmp_path: Path) -> None:
    kept = Work(tmp_path / "w").each(KEYS[:2], lambda n: 10 * n)
    photos = Scattered(kept, [1, 3], 4)
    assert list(photos) == [None, 0, None, 10] and list(photos[1:]) == [0, None, 10]
    assert len({photos.item_key(k) for k in (0, 1, 3)}) == 3


def test_two_runs_never_share_a_folder(tmp_path: Path) -> None:
    first, second = Work(tmp_path / "w"), Work(tmp_path / "w")
    with first.held():
        with pytest.raises(InputError, match="another run is using"), second.held():
            pass
        squares(first, [])
    with second.held():
        assert list(second.found(KEYS) or ()) == [0, 1, 4, 9, 16, 25]


def test_input_that_cannot_be_used_leaves_no_folder(tmp_path: Path) -> None:
    work = Work(tmp_path / "w")
    with pytest.raises(InputError, match="no video"), work.held():
        work.frames_folder().mkdir()
        raise InputError("no video")
    assert not (tmp_path / "w").exists()
    with pytest.raises(InputError, match="full"), work.held():
        work.put(KEYS[0], 7)
        raise InputError("full")
    assert Work(tmp_path / "w").get(KEYS[0]) == 7
    with work.held():
        (work.frames_folder()).mkdir()
        (work.frames_folder() / "clip_000000.jpg").write_bytes(b"a frame")
        work.forget(KEYS)
    assert (tmp_path / "w/frames/clip_000000.jpg").exists()


def test_a_folder_that_was_held_for_nothing_is_gone(tmp_path: Path) -> None:
    with Work(tmp_path / "w").held():
        assert Work(tmp_path / "w").found(KEYS) is None
    assert not (tmp_path / "w").exists()
    with Work().held():
        pass
