"""The scale benchmark: costs and scores by number of photos, ours and COLMAP's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from truth_files import some_cameras, write_scene, write_truth

from benchmarks import scale
from benchmarks.scale import Cost, Outcome
from benchmarks.scale_colmap import sequential_pairs
from pointmap.camera import rigid
from pointmap.decoding import open_picture
from recon.evaluation.scene import read_truth

ROOT = Path(__file__).parents[2]
FAKE_RECON = """
import json, shutil, sys
*photos, _, out = sys.argv[1:sys.argv.index("--overwrite")]
print(sys.argv[sys.argv.index("--overwrite") + 1:])
shutil.copytree(out.replace("out", "made"), out, dirs_exist_ok=True)
n = len(photos)
names = ["Reading photos", "Aligning cameras", "Depth", "Depth"]
stages = [{"name": name, "seconds": 2.0 * n**2, "cpu_seconds": 3.0 * n, "peak_memory_mb": 100.0 + k}
          for k, name in enumerate(names)]
open(out + "/run.json", "w").write(json.dumps({"stages": stages}))
"""
FAKE_COLMAP = """
import json, sys
step, work, images, threads = sys.argv[1:]
names = open(work + "/photos.txt").read().split("\\n")
if step == "global":
    sys.exit("no model")
if step == "incremental":
    poses = json.load(open(work.replace("out", "made") + ".json"))
    listed = {name: {"K": None, "cam_to_world": poses[name]} for name in names}
    json.dump({"images": listed}, open(work + "/incremental.json", "w"))
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "run_recon.py").write_text(FAKE_RECON)
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "scale_colmap.py").write_text(FAKE_COLMAP)
    monkeypatch.setattr(scale, "ROOT", tmp_path)
    monkeypatch.setattr(scale, "use_threads", lambda threads: None)
    return tmp_path


def walk(count: int) -> list[np.ndarray]:
    """Cameras one apart on a line, with turns."""
    turns = [pose[:3, :3] for pose in some_cameras(count)]
    return [rigid(R, [k, 0.3 * (k % 2), 0]) for k, R in enumerate(turns)]


def cells(table: str) -> dict[str, list[str]]:
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in table.splitlines()]
    return {" ".join(row[:2]): row for row in rows if row}


def test_both_are_run_scored_and_written(fake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cameras = walk(4)
    (fake / "photos").mkdir()
    for n in range(4):
        (fake / "photos" / f"{n}.jpg").write_bytes(b"\xff\xd8")
    truth = write_truth(fake / "truth", cameras)
    for count, kept in ((2, (0, 3)), (4, (0, 1, 2, 3))):
        found = [cameras[k] if k in kept else None for k in range(4)]
        write_scene(fake / "made" / f"pointmap-{count}", found=found, focal=100.0)
        poses = {f"{k}.jpg": None if k == 1 else cameras[k].tolist() for k in range(4)}
        (fake / "made" / f"colmap-{count}.json").write_text(json.dumps(poses))
    arguments = ["--photos", str(fake / "photos"), "--truth", str(truth), "--counts", "2", "4"]
    arguments += ["--out", str(fake / "out"), "--json", str(fake / "j" / "all.json")]
    assert scale.main([*arguments, "--until", "aligned", "--", "--seed", "3"]) == 1

    summary, stages = capsys.readouterr().out.split("\n\n")
    rows = cells(summary)
    assert rows["2 pointmap"][2:] == ["2/2", "100.0", "-", "16", "12", "0.11"]
    assert rows["4 pointmap"][2:6] == ["4/4", "100.0", "0.000", "64"]
    assert rows["4 COLMAP incremental"][2:5] == ["3/4", "50.0", "0.000"]
    assert rows["4 COLMAP global"][2].startswith("FAILED: exit 1")
    ours = next(line for line in stages.splitlines() if "pointmap: Aligning" in line)
    assert ours.split("|")[2:5] == [" 8.0 / 6.0 / 0.11 ", " 32.0 / 12.0 / 0.11 ", " 2.00 / 1.00 "]
    assert "pointmap: Depth" not in stages  # not asked for
    assert "COLMAP incremental: mapping" in stages and "global" not in stages
    log = (fake / "out" / "pointmap-4.log").read_text()
    assert "'--no-refine-depth'" in log and "'--seed', '3'" in log
    data = json.loads((fake / "j" / "all.json").read_text())
    assert [outcome["photos"] for outcome in data["outcomes"]] == [2, 2, 2, 4, 4, 4]

    assert scale.main([*arguments, "--no-colmap"]) == 0
    summary, stages = capsys.readouterr().out.split("\n\n")
    assert "COLMAP" not in summary
    depth = next(line for line in stages.splitlines() if "pointmap: Depth" in line)
    assert depth.split("|")[2] == " 16.0 / 12.0 / 0.11 "  # the two of that name together


def test_too_few_photos_are_an_error(fake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (fake / "photos").mkdir()
    (fake / "photos" / "a.jpg").write_bytes(b"\xff\xd8")
    with pytest.raises(SystemExit):
        scale.main(["--photos", str(fake / "photos"), "--out", str(fake / "out")])
    assert "has 1 photos, not 50" in capsys.readouterr().err


def test_enlarged_photos_keep_names_and_shape(tmp_path: Path) -> None:
    scene = ROOT / "examples" / "courtyard"
    truth = read_truth(scene / "cameras.json")
    photos = scale.Photos(scene / "images", truth.names[:1], truth)
    large = scale.enlarged(photos, tmp_path / "large", 900)
    sizes = []
    for one in (photos, large):
        with open_picture(one.folder / one.names[0]) as picture:
            sizes.append(picture.size)
    assert large.names == photos.names and large.truth is truth
    assert max(sizes[1]) == 900 and sizes[1][0] * sizes[0][1] == sizes[1][1] * sizes[0][0]


def test_exponents_of_power_laws_are_found() -> None:
    counts = [50, 100, 200]
    assert scale.exponent(counts, [3 * n**1.5 for n in counts]) == pytest.approx(1.5)
    assert scale.exponent([50], [1.0]) is None
    assert scale.exponent([50, 100], [0.0, 1.0]) is None


def test_a_method_that_failed_has_no_share_in_exponents() -> None:
    def outcome(photos: int, seconds: float, failure: str | None = None) -> Outcome:
        cost = Cost(seconds, seconds, 1.0)
        return Outcome(photos, scale.OURS, {"Depth": cost}, cost, failure=failure)

    table = scale.stage_table([outcome(10, 1), outcome(20, 4), outcome(40, 1, "killed")])
    row = next(line for line in table.splitlines() if "Depth" in line)
    assert row.split("|")[2:6] == [
        " 1.0 / 1.0 / 1.00 ",
        " 4.0 / 4.0 / 1.00 ",
        " - ",
        " 2.00 / 2.00 ",
    ]


def test_sequential_pairs_reach_far_in_powers_of_two() -> None:
    names = [str(n) for n in range(40)]
    gaps = [int(b) - int(a) for a, b in sequential_pairs(names)]
    assert set(gaps) == {*range(1, 11), 16, 32}
    assert gaps.count(32) == 8 and len(set(sequential_pairs(names))) == len(gaps)


def test_colmap_places_real_photos(tmp_path: Path) -> None:
    scene = ROOT / "examples" / "courtyard"
    truth = read_truth(scene / "cameras.json")
    photos = scale.Photos(scene / "images", truth.names[3:6], truth)
    options = scale.ScaleOptions(matching="sequential", threads=1)
    for outcome in scale.run_colmap(photos, tmp_path / "colmap", options):
        assert outcome.failure is None
        assert list(outcome.stages) == ["features", "sequential", "mapping"]
        assert outcome.registered == 3 and outcome.auc5 is not None and outcome.auc5 > 80
        assert outcome.total.cpu_seconds > 0 and outcome.total.peak_gb > 0.05
