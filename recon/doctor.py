"""``pointmap doctor``: what this machine has for the work, and what would make it faster."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from ctypes.util import find_library
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pointmap
from pointmap.command_line import read_arguments
from pointmap.commands import run_command
from pointmap.version import answer_version

# What each optional part needs: its packages, and what one installs.
_EXTRAS = {
    "browser viewer": (("viser", "websockets"), "pip install 'pointmap[browser]'"),
    "cluster": (("ray",), "pip install 'pointmap[cluster]'"),
    "depth as OpenEXR": (("OpenEXR",), "pip install 'pointmap[exr]'"),
    "depth models": (
        ("transformers", "diffusers", "onnxruntime"),
        "pip install 'pointmap[models]'",
    ),
    "learned matchers": (("kornia",), "pip install 'pointmap[models]'"),
}
_LOW_DISK_GB = 5.0
_LOW_MEMORY_GB = 4.0


@dataclass(frozen=True)
class Finding:
    """One line: a ``part``, what was ``found`` of it, and ``advice``, None where all is well."""

    part: str
    found: str
    advice: str | None = None


@dataclass(frozen=True)
class Command:
    """Say what this machine has (processor, GPU, display, Vulkan, optional packages, downloaded
    models, free disk), and what would be faster or is missing. Nothing is changed or downloaded.
    """


def main(arguments: Sequence[str] | None = None, prog: str = "pointmap doctor") -> int:
    """Run the command with ``arguments`` (``sys.argv`` by default) and return its exit code."""
    answer_version(arguments)
    return run_command(lambda: _run(arguments, prog))


def _run(arguments: Sequence[str] | None, prog: str) -> int:
    read_arguments(Command, arguments, prog)
    findings = list(examine(Path.cwd()))
    width = max(len(finding.part) for finding in findings)
    for finding in findings:
        sys.stdout.write(f"{finding.part:<{width}}  {finding.found}\n")
    advice = [finding for finding in findings if finding.advice is not None]
    sys.stdout.write("\nall is well\n" if not advice else "\nwhat would be better:\n")
    for finding in advice:
        sys.stdout.write(f"- {finding.part}: {finding.advice}\n")
    return 0


def examine(folder: Path) -> Iterator[Finding]:
    """Yield what there is; ``folder`` is where scenes would be written."""
    yield Finding("pointmap", f"{pointmap.__version__}, Python {platform.python_version()}")
    yield _processor()
    yield _memory()
    yield _gpu()
    yield _display()
    vulkan = find_library("vulkan") or find_library("vulkan-1")
    yield Finding("Vulkan", vulkan or "none: pictures are drawn without a graphics card")
    for name, (packages, remedy) in _EXTRAS.items():
        missing = [package for package in packages if find_spec(package) is None]
        found = f"needs {', '.join(missing)}" if missing else "there"
        yield Finding(name, found, remedy if missing else None)
    yield _models()
    yield _disk(folder)


def _processor() -> Finding:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    limit = os.environ.get("OMP_NUM_THREADS")
    found = f"{platform.machine()}, {usable} cores" + (
        f", OMP_NUM_THREADS={limit}" if limit else ""
    )
    held = limit is not None and limit.isdigit() and int(limit) < (usable or 1)
    return Finding("processor", found, "unset OMP_NUM_THREADS to use all cores" if held else None)


def _memory() -> Finding:
    import psutil

    memory = psutil.virtual_memory()
    free = memory.available / 1e9
    advice = "close other programs, or give --depth-size 384" if free < _LOW_MEMORY_GB else None
    return Finding("memory", f"{free:.1f} of {memory.total / 1e9:.1f} GB free", advice)


def _gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        names = {torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())}
        return Finding("GPU", f"{', '.join(sorted(names))} (torch {torch.__version__})")
    if torch.backends.mps.is_available():
        return Finding("GPU", f"Apple's (torch {torch.__version__})")
    if shutil.which("nvidia-smi"):
        remedy = "install torch for CUDA: https://pytorch.org/get-started/locally/"
        return Finding("GPU", f"not used: torch {torch.__version__} is for CPUs", remedy)
    remedy = "large checkpoints (--weights) and stereo are many times faster on a GPU"
    return Finding("GPU", f"none (torch {torch.__version__})", remedy)


def _display() -> Finding:
    shown = os.environ.get("WAYLAND_DISPLAY") or os.environ.get("DISPLAY")
    if shown or sys.platform in ("darwin", "win32"):
        return Finding("display", shown or "there")
    return Finding(
        "display", "none", "use view --browser, or --save page.html, for a scene to turn"
    )


def _models() -> Finding:
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        cache = scan_cache_dir()
    except CacheNotFound:
        return Finding("downloaded models", "none; the bundled network needs no download")
    names = sorted(repository.repo_id for repository in cache.repos)
    listed = ", ".join(names) or "none; the bundled network needs no download"
    return Finding("downloaded models", f"{listed} ({cache.size_on_disk / 1e9:.1f} GB)")


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free / 1e9
    advice = "make room: a large scene takes some GB while it is made"
    return Finding("free disk here", f"{free:.1f} GB", advice if free < _LOW_DISK_GB else None)


if __name__ == "__main__":
    sys.exit(main())
