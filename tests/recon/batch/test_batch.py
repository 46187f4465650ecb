"""Many scenes: what fails is said and does not stop the rest; what is done is not done again."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import unquote

import pytest
from PIL import Image
from synthetic import shoot
from tiny_network import write_tiny_network

from pointmap.errors import InputError
from recon.batch.command import EXIT_SOME_FAILED, main
from recon.batch.outcome import Outcome, read_outcome
from recon.batch.processes import BatchFolder, Scenes
from recon.batch.scene_list import read_scenes
from viz.pages.batch_page import BatchRow, batch_page

ROOT = Path(__file__).resolve().parents[3]
HOSTILE = "<b>&'\"; [x]"


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four scenes: two of one small photo, one that is broken, one that is empty."""
    folder = tmp_path_factory.mktemp("batch")
    names = ["1", HOSTILE, "broken", "empty"]
    for name, shot in zip(names, [*shoot(2, width=96, height=72), None, None], strict=True):
        (folder / "survey" / name).mkdir(parents=True)
        if shot is not None:
            Image.fromarray(shot.pixels).save(folder / "survey" / name / "a.png")
    (folder / "survey" / "broken" / "a.jpg").write_bytes(b"\xff\xd8\xff no photo")
    write_tiny_network(folder)
    return folder


def arguments_of(survey: Path, out: Path) -> list[str]:
    options = ["--weights", str(survey / "tiny.safetensors"), "--depth-size", "64"]
    return [str(survey / "survey"), "--out", str(out), "--at-once", "2", "--", *options]


def outcome(path: Path) -> Outcome:
    found = read_outcome(path)
    assert found is not None
    return found


@contextmanager
def elsewhere_reserved(folder: Path) -> Iterator[None]:
    """Have another process keep the scene's folder to itself meanwhile."""
    code = (
        "import sys; from recon.export import reserved_folder\n"
        "with reserved_folder(sys.argv[1], overwrite=True): print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline()
        yield
        # By the end of its input; ``with`` waits for it.
        process.stdin.close()


def test_killed_on_the_way_it_goes_on_and_says_which_scenes_failed(
    survey: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, arguments = tmp_path / "out", arguments_of(survey, tmp_path / "out")
    # Two scenes that another run holds: the batch cannot end before it is killed.
    with elsewhere_reserved(out / "scenes" / HOSTILE), elsewhere_reserved(out / "scenes/empty"):
        batch = subprocess.Popen(
            [sys.executable, "-m", "recon.batch", *arguments],
            cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        first = out / "outcomes/1.json"
        while not first.is_file():
            assert batch.poll() is None
            time.sleep(0.05)
        batch.kill()
        batch.wait()
    changed = first.stat().st_mtime_ns
    assert main(arguments) == EXIT_SOME_FAILED
    names = os.listdir(survey / "survey")
    outcomes = {name: outcome(out / "outcomes" / f"{name}.json") for name in names}
    assert {n for n, o in outcomes.items() if o.reason is None} == {"1", HOSTILE}
    assert "no usable photo" in str(outcomes["broken"].reason)
    assert "empty" in str(outcomes["empty"].reason)
    assert first.stat().st_mtime_ns == changed
    said = capsys.readouterr()
    assert "2 scenes, 2 without one" in said.out
    assert f"4 of 4: {HOSTILE}\n" in said.err or f"3 of 4: {HOSTILE}\n" in said.err
    page = (out / "index.html").read_text(encoding="utf-8")
    assert HOSTILE not in page and page.count("data:image/jpeg") == 2
    assert "script-src 'none'" in page
    # Of a scene that there is not, what was said on the way.
    logs = re.findall(r"href='(logs/[^']+)'", page)
    assert logs and all((out / unquote(log)).is_file() for log in logs)


def test_a_folder_that_looks_like_an_option_is_a_scene(
    survey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(survey / "survey" / "1", tmp_path / "survey" / "-1")
    monkeypatch.chdir(tmp_path / "survey")
    assert main([".", *arguments_of(survey, tmp_path / "out")[1:]]) == 0
    assert (tmp_path / "out/scenes/-1/run.json").is_file()


def scenes_of(survey: Path, out: Path, names: set[str]) -> Scenes:
    folder = BatchFolder(out)
    folder.make()
    entries = [entry for entry in read_scenes(survey / "survey") if entry.name in names]
    options = arguments_of(survey, out)
    return Scenes(entries, folder, options[options.index("--") + 1 :], at_once=1)


def test_a_scene_on_which_a_killed_run_still_works_comes_when_that_has_ended(
    survey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recon.batch.processes._WAIT_SECONDS", 1e6)
    came = []
    with ExitStack() as other, scenes_of(survey, tmp_path, {"1", "empty"}) as scenes:
        other.enter_context(elsewhere_reserved(tmp_path / "scenes/1"))
        for ended in scenes.outcomes():
            if ended is not None:
                came.append(ended.name)
            elif came and not scenes.running:
                # Nothing is left but the one that waits.
                other.close()
    assert came == ["empty", "1"] and scenes.done["1"].reason is None


def test_a_scene_that_another_run_keeps_fails_in_one_line_and_the_others_come(
    survey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recon.batch.processes._WAIT_SECONDS", 0.5)
    kept = elsewhere_reserved(tmp_path / "scenes/broken")
    with kept, scenes_of(survey, tmp_path, {"broken", "empty"}) as scenes:
        assert {ended.name for ended in scenes.outcomes() if ended} == {"broken", "empty"}
    reason = str(scenes.done["broken"].reason)
    assert reason.startswith("another run is writing to") and "\n" not in reason
    assert "no photos found" in str(scenes.done["empty"].reason)


def test_options_that_no_scene_can_take_are_refused_at_once(survey: Path, tmp_path: Path) -> None:
    given = [str(survey / "survey"), "--out", str(tmp_path / "out"), "--"]
    for wrong in (["--out", "elsewhere"], ["--video", "a.mp4"], ["--depth-size", "1"]):
        assert main([*given, *wrong]) == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("out", ["survey", "survey/results", "survey/1/results"])
def test_results_do_not_lie_among_the_scenes(
    survey: Path, capsys: pytest.CaptureFixture[str], out: str
) -> None:
    """The next run would take them for one."""
    assert main(arguments_of(survey, survey / out)) == 2
    assert "choose an output folder outside it" in capsys.readouterr().err
    assert len(list((survey / "survey").iterdir())) == 4


@pytest.mark.parametrize("comma", [",", ";", "\t"])
def test_a_table_names_scenes_and_finds_photos_from_where_it_lies(
    tmp_path: Path, comma: str
) -> None:
    table = tmp_path / "scenes.csv"
    text = "\ufeffname,photos\nhouse,a/b\n,trip/day 2\n".replace(",", comma)
    table.write_text(text, encoding="utf-8")
    found = [(scene.name, scene.photos) for scene in read_scenes(table)]
    assert found == [("house", str(tmp_path / "a/b")), ("day 2", str(tmp_path / "trip/day 2"))]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("photos\n", "no scene"),
        ("folder\na\n", "names no photos"),
        ("photos,name\na,../b\n", "name of a folder"),
        ("photos,name\na,..\n", "name of a folder"),
        ("photos\na/x\nb/X\n", "a name of its own"),
        ("photos\nx\n\0\n", "x"),
        ('photos\n"a\n', "no CSV"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(tmp_path: Path, text: str, says: str) -> None:
    table = tmp_path / "scenes.csv"
    table.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=says):
        read_scenes(table)


def test_a_scene_twice_in_a_table_of_this_folder_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("scenes.csv").write_text("photos\nmill\nmill\n")
    with pytest.raises(InputError, match="a name of its own"):
        read_scenes(Path("scenes.csv"))


def test_the_page_escapes_all_that_it_is_told() -> None:
    row = BatchRow(HOSTILE, f"scenes/{HOSTILE}/r.html", HOSTILE, HOSTILE, HOSTILE, HOSTILE,
                   [HOSTILE], failed=True)  # fmt: skip
    page = batch_page([row])
    assert "<b>" not in page and HOSTILE not in page
