"""The scene benchmark: runs, measures, scores, and goes on after a failure."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from truth_files import some_cameras, write_scene, write_truth

from benchmarks import scenes
from benchmarks.measure import run_measured

FAKE_RECON = """
import shutil, sys
*photos, _, out = sys.argv[1:sys.argv.index("--overwrite")]
print("photos", *photos)
print(sys.argv[sys.argv.index("--overwrite") + 1:])
if "broken" in out:
    sys.exit("no network")
shutil.copytree(out.replace("out", "made"), out)
"""


def make_scene(root: Path, name: str) -> Path:
    (root / name / "images").mkdir(parents=True)
    for n in range(4):
        Image.new("RGB", (80, 60)).save(root / name / "images" / f"{n}.jpg")
    return root / name


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "run_recon.py").write_text(FAKE_RECON)
    monkeypatch.setattr(scenes, "ROOT", tmp_path)
    return tmp_path


def test_scenes_are_run_scored_and_written(fake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cameras = some_cameras(4)
    known, unknown, broken = (make_scene(fake, n) for n in ("known", "unknown", "broken"))
    write_truth(known, cameras)
    write_scene(fake / "made" / "known", found=[cameras[0], cameras[1], None], focal=110.0)
    write_scene(fake / "made" / "unknown", found=[np.eye(4), None], focal=100.0)
    arguments = [*map(str, (known, broken, unknown, fake / "gone")), "--out", str(fake / "out")]
    arguments += ["--json", str(fake / "a" / "b.json"), "--weights", "w.pth", "--", "--seed", "3"]
    assert scenes.main(arguments) == 1

    rows = {row.split("|")[1].strip(): row for row in capsys.readouterr().out.splitlines()}
    cells = [cell.strip() for cell in rows["known"].split("|")]
    assert cells[2:4] == ["2/4", "16.7 / 16.7 / 16.7 / 16.7"]
    assert cells[4:6] == ["180.00 / 180.00", "10.00"]
    assert cells[6:8] == ["0.033 / 0.033", "0.833 / 0.833"]  # a factor 1.25 is not within
    assert float(cells[9]) > 0
    assert "FAILED: exit 1: no network" in rows["broken"]
    assert "1/2 | - | - | - | - | - |" in rows["unknown"]
    assert "gone" in rows["gone"] and "FAILED" in rows["gone"]
    assert len({row.count("|") for row in rows.values()}) == 1
    log = (fake / "out" / "known.log").read_text()
    assert f"photos {known / 'images'}" in log and "['--seed', '3', '--weights', 'w.pth']" in log
    data = json.loads((fake / "a" / "b.json").read_text())
    assert [scene["failure"] is None for scene in data["scenes"]] == [True, False, True, False]
    assert data["scenes"][0]["scores"]["poses"]["auc"]["30"] == pytest.approx(100 / 6)


def test_several_numbers_of_photos_give_a_table_with_means(
    fake: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cameras = some_cameras(4)
    known = make_scene(fake, "known")
    write_truth(known, cameras)
    for count in (2, 4):
        write_scene(fake / "made" / f"known-{count}", found=cameras, focal=100.0)
    assert scenes.main([str(known), "--out", str(fake / "out"), "--photos", "2", "4"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("2/2") == printed.count("4/4") == 1
    few = printed.split("\n\n")[-1].splitlines()
    assert few[0] == "| AUC@30 | 2 photos | 4 photos |"
    assert few[2].startswith("| known |") and few[3] == few[2].replace("known", "mean")
    assert (fake / "out" / "known-2").is_dir() and (fake / "out" / "known-4").is_dir()


def test_few_photos_are_scored_against_the_truth_of_those_only(fake: Path) -> None:
    cameras = some_cameras(4)
    known = make_scene(fake, "known")
    write_truth(known, cameras)
    write_scene(fake / "made" / "known", found=[cameras[0], None, None, cameras[3]], focal=100.0)
    result = scenes.run_scene(known, fake / "out" / "known", scenes.BenchmarkOptions(photos=2))
    photos = [str(known / "images" / name) for name in ("0.jpg", "3.jpg")]
    assert "photos " + " ".join(photos) in (fake / "out" / "known.log").read_text()
    assert result.scores is not None and result.scores.poses is not None
    assert (result.scores.photos, result.scores.registered) == (2, 2)
    assert result.scores.poses.auc[5] == pytest.approx(100)


def test_measured_memory_is_the_commands_own(tmp_path: Path) -> None:
    held = bytearray(400_000_000)  # ours: the system would count it as the command's as well
    code = "import sys; data = bytearray(150_000_000); print('done'); sys.exit(3)"
    measured = run_measured([sys.executable, "-c", code], tmp_path / "log", timeout_s=60)
    del held
    assert measured.exit_code == 3 and (tmp_path / "log").read_text() == "done\n"
    assert 0.15 < measured.peak_gb < 0.3


def test_a_command_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    code = "import time; time.sleep(600)"
    measured = run_measured([sys.executable, "-c", code], tmp_path / "log", timeout_s=1)
    assert measured.exit_code == -9
