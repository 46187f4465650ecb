"""Does it work there: the test suite's half for CUDA, and the reference's stored outputs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.gpu_stages.row import Row, StageOptions

ROOT = Path(__file__).resolve().parents[2]


def rows(options: StageOptions) -> Iterator[Row]:
    """Yield the card, what pytest says at the end, and the largest error of every case."""
    yield Row("device", _name(options.device))
    yield Row("torch", torch.__version__)
    yield Row("pytest -m cuda", _suite(collect_only=options.device.type == "cpu"))
    if options.parity is None:
        yield Row("parity", "no --parity DIR given")
        return
    from benchmarks.parity import check

    # Parity is of float32; the convolutions of cuDNN use TF32 unless told not to.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    for case in check(options.parity, ["tiny_linear"] if options.tiny else (), options.device):
        yield Row(f"parity {case.case}", case.error, "relative error", f"{case.tolerance:.0e}")


def marked_files() -> list[Path]:
    """Return the files with tests marked ``cuda``; others import what such a machine may lack."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [path for path in files if "mark.cuda" in path.read_text(encoding="utf-8")]


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _suite(*, collect_only: bool) -> str:
    """Return the summary of the tests marked ``cuda``; a rehearsal on a CPU only finds them."""
    command = [sys.executable, "-m", "pytest", "-m", "cuda", "-p", "no:cacheprovider"]
    command += ["--continue-on-collection-errors", *map(str, marked_files())]
    done = subprocess.run(
        [*command, "--collect-only"] if collect_only else command,
        cwd=ROOT, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    sys.stdout.write(done.stdout)
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return "; ".join([lines[-1] if lines else "pytest is missing", *failed])
