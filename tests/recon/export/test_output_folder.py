"""The last step of a run: what others do to its target meanwhile is never lost.

Every file operation of the swap is stepped through, and at each one something happens to the
target, or the run is killed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pointmap.errors import InputError
from recon.export import renames, reserved_folder
from recon.export.ownership import file_digests

OURS = ("cameras.json", "depth/a.npz", "report.html")
MINE = "written by a person"

# The operations by which a file or a folder can be found, made, moved or lost.
OPERATIONS = ("listdir", "lstat", "mkdir", "open", "rename", "rmdir", "scandir", "stat", "unlink")


def write_scene(folder: Path, mark: str) -> None:
    """Fill ``folder`` as a saved scene whose files all hold the text ``mark``."""
    for name in OURS:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(mark)
    listed = {"program": "pointmap", "files": file_digests(folder), "mark": mark}
    (folder / "run.json").write_text(json.dumps(listed))


def is_scene(folder: Path, mark: str) -> bool:
    return all(
        (folder / name).is_file() and mark in (folder / name).read_text()
        for name in (*OURS, "run.json")
    )


def run_into(target: Path, *, overwrite: bool) -> None:
    with reserved_folder(target, overwrite=overwrite) as output, output.staged() as staging:
        write_scene(staging, "new")


class Steps:
    """Calls ``event`` just before the operation of that number, and counts them all."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, number: int, event: Callable[[], object]
    ) -> None:
        self.count = 0
        self._number, self._event = number, event
        for name in OPERATIONS:
            monkeypatch.setattr(os, name, self._stepping(getattr(os, name)))
        monkeypatch.setattr(renames, "_renameat2", self._stepping(renames._renameat2))

    def _stepping(self, operation: Callable[..., object]) -> Callable[..., object]:
        def step(*args: object, **kwargs: object) -> object:
            self.count += 1
            if self.count == self._number:
                self._event()
            return operation(*args, **kwargs)

        return step


@pytest.fixture(params=["in one step", "in two steps"])
def swap(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Systems that exchange two names in one step, and those that cannot."""
    if request.param == "in two steps":
        monkeypatch.setattr(renames, "_renameat2", lambda *_: False)
    elif sys.platform != "linux":
        pytest.skip("only Linux is asked to exchange two names")


# What a person, or another program, may do to the target at any moment.


def a_note_is_saved(target: Path) -> None:
    target.mkdir(exist_ok=True)
    (target / "note.txt").write_text(MINE)


def a_note_is_moved_in(target: Path) -> None:
    """In place of a file of ours."""
    target.mkdir(exist_ok=True)
    (target.parent / "my note").write_text(MINE)
    os.replace(target.parent / "my note", target / "report.html")


def a_file_is_edited(target: Path) -> None:
    target.mkdir(exist_ok=True)
    (target / "cameras.json").write_text(MINE)


def a_folder_is_moved_in(target: Path) -> None:
    target.mkdir(exist_ok=True)
    (target.parent / "my photos").mkdir()
    (target.parent / "my photos" / "a.jpg").write_text(MINE)
    (target.parent / "my photos").rename(target / "photos")


def the_folder_is_moved_away(target: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        target.rename(target.parent / "moved away")
    (target.parent / "elsewhere").write_text(MINE)


def another_takes_its_place(target: Path) -> None:
    the_folder_is_moved_away(target)
    a_note_is_saved(target)


def a_file_takes_its_place(target: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        target.rename(target.parent / "moved away")
    target.write_text(MINE)


EVENTS = (
    a_note_is_saved,
    a_note_is_moved_in,
    a_file_is_edited,
    a_folder_is_moved_in,
    the_folder_is_moved_away,
    another_takes_its_place,
    a_file_takes_its_place,
)


def below(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def places_of_scene(root: Path, mark: str) -> list[Path]:
    return [
        path.parent for path in below(root) if path.name == "run.json" and mark in path.read_text()
    ]


@pytest.mark.usefixtures("swap")
@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_happens_to_the_target_at_any_step_is_never_lost(
    overwrite: bool,
    event: Callable[[Path], None],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    count = number = 0
    while number <= count:
        number += 1
        root = tmp_path / str(number)
        target = root / "scene"
        root.mkdir()
        if overwrite:
            target.mkdir()
            write_scene(target, "old")
        refusal = ""
        caplog.clear()
        with pytest.MonkeyPatch.context() as patch:
            steps = Steps(patch, number, lambda target=target: event(target))
            try:
                run_into(target, overwrite=overwrite)
            except InputError as error:
                refusal = str(error)
            count = steps.count
        happened = number <= count
        told = f"{event.__name__} before step {number}: {refusal or 'no refusal'}"
        # All that is not ours is still there, under a name that a person sees.
        mine = [path for path in below(root) if path.read_text() == MINE]
        assert bool(mine) == happened, told
        hidden = [path for path in root.rglob(".*")]
        assert not hidden, told
        # The new scene is whole, or the run refused to begin; then the old one is.
        new = places_of_scene(root, "new")
        assert len(new) == 1 or (refusal and len(places_of_scene(root, "old")) == overwrite), told
        if not happened or not refusal:
            assert new == [target] or new == [root / "moved away"], told
        elif new:
            assert str(new[0]) in refusal and "\n" not in refusal, told
        # Where something was put aside, one line says where.
        kept = [path for path in root.iterdir() if "-kept" in path.name]
        assert all(str(path) in caplog.text for path in kept), told
    assert count > 20


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.usefixtures("swap")
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_ends_at_any_step_loses_neither_a_scene_nor_a_note(
    overwrite: bool, ending: signal.Signals, tmp_path: Path
) -> None:
    """A note that is saved in the old scene meanwhile outlives that run and the next one."""
    ended, number = True, 0
    while ended:
        number += 1
        root = tmp_path / str(number)
        target = root / "scene"
        root.mkdir()
        if overwrite:
            target.mkdir()
            write_scene(target, "old")
        ended = _ends_at(number, ending, target, overwrite=overwrite)
        told = f"{ending.name} before step {number}"
        notes = [path for path in below(root) if path.read_text() == MINE]
        if ending == signal.SIGINT:
            left = {path.name for path in root.glob(".scene.partial/*")}
            assert left <= {"lock"}, told
            assert is_scene(target, "new") or is_scene(target, "old") or not overwrite, told
        # Whatever the ended run has left, the next one knows what to do with it.
        with contextlib.suppress(InputError):
            run_into(target, overwrite=overwrite)
        assert not list(root.rglob(".*")), told
        assert is_scene(target, "new") or (notes and is_scene(target, "old")), told
        assert len([path for path in below(root) if path.read_text() == MINE]) == len(notes), told
    assert number > 20


def _ends_at(number: int, ending: signal.Signals, target: Path, *, overwrite: bool) -> bool:
    """Run in a process that is sent ``ending`` at that step; False when it had fewer steps."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            logging.disable()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            with pytest.MonkeyPatch.context() as patch:
                Steps(patch, number, lambda: os.kill(os.getpid(), ending))
                with reserved_folder(target, overwrite=overwrite) as output:
                    with output.staged() as staging:
                        write_scene(staging, "new")
                        if overwrite:
                            (target / "note.txt").write_text(MINE)
            code = 0
        except KeyboardInterrupt:
            code = 2
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) in (0, 2)
        return os.WEXITSTATUS(status) == 2
    return True


def test_a_new_scene_like_the_old_one_is_whole_wherever_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is deleted is known by its content, which here is that of the new files, too."""
    target = tmp_path / "scene"
    target.mkdir()
    write_scene(target, "new")
    run_into(target, overwrite=True)
    assert is_scene(target, "new")
    rename = renames._renameat2

    def renameat2(source: Path, other: Path, flags: int) -> bool:
        if other.parent == tmp_path:
            raise OSError(errno.EACCES, "Permission denied")
        return rename(source, other, flags)

    monkeypatch.setattr(renames, "_renameat2", renameat2)
    with pytest.raises(InputError, match=r"not replaced .*\.scene\.partial/finished"):
        run_into(target, overwrite=True)
    assert is_scene(target, "new") and is_scene(tmp_path / ".scene.partial/finished", "new")
    monkeypatch.setattr(renames, "_renameat2", rename)
    with pytest.raises(InputError, match="exists already"):
        run_into(target, overwrite=False)
    assert is_scene(target, "new") and is_scene(tmp_path / "scene-kept", "new")
    assert sorted(os.listdir(tmp_path)) == ["scene", "scene-kept"]


def test_two_runs_on_one_target_end_with_one_scene_and_one_line(tmp_path: Path) -> None:
    target = tmp_path / "new" / "scene"
    with reserved_folder(target, overwrite=False) as output, output.staged() as staging:
        write_scene(staging, "new")
        for overwrite in (False, True):
            with pytest.raises(InputError, match=f"another run is writing to {target}") as error:
                run_into(target, overwrite=overwrite)
            assert "\n" not in str(error.value)
        # Another scene beside it is no matter.
        run_into(target.with_name("other"), overwrite=False)
    assert is_scene(target, "new")
    assert sorted(os.listdir(target.parent)) == ["other", "scene"]


@pytest.mark.skipif(sys.platform == "win32", reason="flock")
def test_without_locks_on_the_disk_the_hidden_folder_itself_keeps_others_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    target = tmp_path / "scene"
    with reserved_folder(target, overwrite=False) as output, output.staged() as staging:
        write_scene(staging, "new")
        with pytest.raises(InputError, match=r"another run .* delete .*\.scene\.partial"):
            run_into(target, overwrite=False)
    assert is_scene(target, "new")


@pytest.mark.parametrize("refused", [errno.EACCES, errno.EBUSY])
def test_a_target_that_cannot_be_replaced_stays_and_the_new_scene_lies_beside_it(
    refused: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "scene"
    target.mkdir()
    write_scene(target, "old")
    rename = renames._renameat2

    def renameat2(source: Path, other: Path, flags: int) -> bool:
        if other == target:
            raise OSError(refused, os.strerror(refused))
        return rename(source, other, flags)

    monkeypatch.setattr(renames, "_renameat2", renameat2)
    with pytest.raises(InputError, match=f"{os.strerror(refused)}.*{target}-2"):
        run_into(target, overwrite=True)
    assert is_scene(target, "old") and is_scene(tmp_path / "scene-2", "new")
    assert sorted(os.listdir(tmp_path)) == ["scene", "scene-2"]


@pytest.mark.usefixtures("swap")
def test_free_names_are_numbered_and_nothing_is_replaced(tmp_path: Path) -> None:
    for number, name in enumerate(("film.mp4", "film-2.mp4", "film-3.mp4")):
        (tmp_path / "new").write_text(str(number))
        assert renames.rename_to_free(tmp_path / "new", tmp_path / "film.mp4").name == name
        (tmp_path / "folder").mkdir()
        place = renames.rename_to_free(tmp_path / "folder", tmp_path / "scene.v1")
        assert place.name == ("scene.v1", "scene.v1-2", "scene.v1-3")[number]
    assert (tmp_path / "film.mp4").read_text() == "0"
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(FileExistsError):
        renames.rename_no_replace(tmp_path / "film.mp4", tmp_path / "link")
