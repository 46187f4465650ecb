"""The command for a borrowed GPU, rehearsed on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from wall_shard import wall_shard

from benchmarks import gpu
from benchmarks.gpu_stages import correctness, training
from pointmap.checkpoint import load_network
from pointmap.training.batches.shards import save_shard


def run(out: Path, *arguments: str) -> dict[str, Any]:
    given = ["--out", str(out), "--work", str(out / "work"), "--device", "cpu", "--tiny"]
    gpu.main([*given, *arguments])
    found: dict[str, Any] = json.loads((out / "results.json").read_text())
    assert (out / "results.txt").read_text() == gpu.table(found) + "\n"
    return found


def test_inference_and_what_is_done_stays_done(tmp_path: Path) -> None:
    found = run(tmp_path, "--stages", "inference")["inference"]
    assert found["state"] == "done"
    values = {row["what"]: row["value"] for row in found["rows"]}
    assert values["tiny, 3 photos, bf16: ours"] > 0
    assert values["tiny, 2 photos, fp32: gain"] > 0
    assert values["tiny, decoding 4 pairs"] > 0 and values["tiny, attention MATH"] > 0
    before = (tmp_path / "results.json").stat().st_mtime_ns
    assert run(tmp_path, "--stages", "inference")["inference"] == found
    assert (tmp_path / "results.json").stat().st_mtime_ns == before


def test_training_gives_weights_in_parts(tmp_path: Path) -> None:
    for folder in ("shards", "held_out"):
        (tmp_path / "work" / folder).mkdir(parents=True)
        save_shard(tmp_path / "work" / folder / "shard-2-00000.pt", wall_shard(64))
    found = run(tmp_path, "--stages", "training")["training"]
    assert found["state"] == "done"
    values = {row["what"]: row["value"] for row in found["rows"]}
    assert values["training command"] == "done" and values["steps so far"] == 20
    parts = sorted(tmp_path.glob("checkpoint.safetensors.??"))
    (tmp_path / "joined.safetensors").write_bytes(b"".join(part.read_bytes() for part in parts))
    assert load_network(str(tmp_path / "joined.safetensors")).config.img_size == (64, 64)


def test_scenes_of_true_cameras(tmp_path: Path) -> None:
    found = run(tmp_path, "--stages", "scenes")["scenes"]
    assert found["state"] == "done"
    values = {row["what"]: row["value"] for row in found["rows"]}
    assert values["stereo 64x48 a photo"] > 0
    assert 0.1 < values["fusion 64x48: voxels that were measured"] <= 1


def test_a_file_in_parts_is_the_file(tmp_path: Path) -> None:
    whole = tmp_path / "weights"
    whole.write_bytes(bytes(range(256)) * 10)
    parts = training.split_file(whole, tmp_path, 1000)
    assert [len(part.read_bytes()) for part in parts] == [1000, 1000, 560]
    assert b"".join(part.read_bytes() for part in parts) == whole.read_bytes()


# Stages of these tests: one that finds two things and hangs, with a process of its own.
HANGING = """
import subprocess, sys, time
from benchmarks.gpu_stages.row import Row
def rows(options):
    yield Row("first", 1.5, "s", "2")
    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield Row("started", float(started.pid))
    time.sleep(600)
"""


@pytest.fixture
def hanging(tmp_path: Path) -> list[str]:
    """A command whose stage "inference" hangs."""
    code = f"""
import sys, types
module = types.ModuleType("benchmarks.gpu_stages.inference")
exec({HANGING!r}, module.__dict__)
sys.modules[module.__name__] = module
from benchmarks import gpu
if "--child" not in sys.argv:
    gpu.CHILD = [sys.executable, sys.argv[0]]
sys.exit(gpu.main(sys.argv[1:]))
"""
    script = tmp_path / "hanging.py"
    script.write_text(f"import sys; sys.path.insert(0, {str(gpu.ROOT)!r})\n{code}")
    return [sys.executable, str(script), "--out", str(tmp_path), "--work", str(tmp_path / "work"),
            "--device", "cpu", "--stages", "inference"]  # fmt: skip


def rows_of(out: Path) -> dict[str, float]:
    path = out / "results.json"
    found = json.loads(path.read_text()) if path.is_file() else {}
    return {row["what"]: row["value"] for row in found.get("inference", {}).get("rows", [])}


def started_one_ends(out: Path) -> bool:
    started = int(rows_of(out)["started"])
    for _ in range(200):
        # One that ended may wait for its parent to take notice.
        if not psutil.pid_exists(started) or psutil.Process(started).status() == "zombie":
            return True
        time.sleep(0.1)
    return False


def wait_for_rows(out: Path) -> None:
    for _ in range(600):
        if "started" in rows_of(out):
            return
        time.sleep(0.1)
    raise AssertionError("no rows came")


def test_a_stage_ends_at_its_limit_and_leaves_what_it_found(
    hanging: list[str], tmp_path: Path
) -> None:
    assert subprocess.run([*hanging, "--limit", "10"], check=False).returncode == 1
    found = json.loads((tmp_path / "results.json").read_text())["inference"]
    assert found["state"] == "stopped after its 10 s"
    assert found["rows"][0] == {"what": "first", "value": 1.5, "unit": "s", "goal": "2"}
    assert started_one_ends(tmp_path)


def test_a_command_that_is_killed_leaves_whole_files_and_no_process(
    hanging: list[str], tmp_path: Path
) -> None:
    process = subprocess.Popen(hanging)
    wait_for_rows(tmp_path)
    process.kill()
    process.wait()
    assert rows_of(tmp_path)["first"] == 1.5
    assert started_one_ends(tmp_path)


def test_tests_for_cuda_are_found() -> None:
    assert "test_cuda.py" in {path.name for path in correctness.marked_files()}
