"""The commands on the pages of docs/how-to run, in the order of the page.

What a page may use, in the empty folder where its commands run:

- ``my_photos/``: a.jpg, b.jpg, c.jpg, small photos of the sample scene; ``photo.jpg`` is the first;
- ``my_scene/``: what ``python run_recon.py my_photos/ --out my_scene`` wrote;
- ``survey/``: a folder for each scene, here of one photo;
- ``clip.mp4``: a film of them;
- ``truth.json``: its true cameras; ``posed/``: images/, cameras.json and depth/ of one scene;
- ``checkpoint.safetensors``: an untrained network.

``SMALLER`` makes a command's work small; it changes nothing else. A block that cannot run here has
a comment above it, ``<!-- not run: reason -->``, and is in ``NOT_RUN``.
"""

from __future__ import annotations

import importlib
import json
import logging
import re
import shlex
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pointmap.training.generate
from benchmarks.clips import write_clip
from pointmap.checkpoint import save_checkpoint
from pointmap.network import build_network
from pointmap.training.command import NETWORKS

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs" / "how-to").glob("*.md"))
SAMPLE = ROOT / "examples" / "courtyard"
LONG_SIDE = 320
MODULES = {
    "run_recon.py": "recon.cli",
    "viz": "viz.command",
    "recon.evaluation": "recon.evaluation.command",
    "recon.batch": "recon.batch.command",
    "recon.localise": "recon.localise.command",
    "pointmap": "pointmap.__main__",
    "pointmap.training": "pointmap.training.command",
}
SMALLER = {
    "run_recon.py": "--depth-size 64",
    "run_recon.py --adapt": "--adapt 1",
    "recon.batch": "--depth-size 64",
    "pointmap.training.generate": "--scenes 2 --size 64x64 --views 2",
    "pointmap.training": "--network tiny --steps 2 --batch 2",
    "pointmap.training.from_photos": "--steps 1",
    "recon.evaluation.training_shards": "--long-side 64",
}
NOT_RUN = {
    ("depth-models", "needs the network, to download the model"),
    ("evaluate", "minutes for each scene"),
    ("evaluate", "needs the data set"),
    ("exports", "needs COLMAP's window"),
    ("exports", "needs nerfstudio and a GPU"),
    ("many-scenes", "the same as above, from a list"),
    ("metres", "needs the network, to download the checkpoint"),
    ("official-checkpoints", "needs the network, to download the checkpoint"),
    ("train", "needs a GPU, or runs for minutes"),
    ("view-and-share", "draws for a minute where there is no graphics card"),
    ("view-and-share", "needs a model of yours, and a film takes a while"),
    ("view-and-share", "opens a window, or serves until Ctrl-C"),
}


@dataclass(frozen=True)
class Block:
    """One fenced block of a page: its ``language``, its text, and why it is not run, if so."""

    language: str
    text: str
    not_run: str | None


BLOCK = re.compile(r"(?:<!-- not run: (.+?) -->\n)?```(sh|python)\n(.*?)```", flags=re.DOTALL)


def blocks_of(page: Path) -> list[Block]:
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [Block(language, text, reason or None) for reason, language, text in found]


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages may use."""
    folder = tmp_path_factory.mktemp("how-to")
    photos = folder / "my_photos"
    photos.mkdir()
    true = json.loads((SAMPLE / "cameras.json").read_text())
    images = {}
    for letter, path in zip("abc", sorted((SAMPLE / "images").iterdir()), strict=False):
        with Image.open(path) as image:
            scale = LONG_SIDE / max(image.size)
            small = image.resize((round(image.width * scale), round(image.height * scale)))
        small.save(photos / f"{letter}.jpg", quality=95)
        entry = true["images"][path.name]
        rows = [[scale * value for value in row] for row in entry["K"][:2]]
        images[f"{letter}.jpg"] = entry | {
            "K": [*rows, entry["K"][2]],
            "width": small.width,
            "height": small.height,
        }
    shutil.copy(photos / "a.jpg", folder / "photo.jpg")
    (folder / "survey" / "house 1").mkdir(parents=True)
    shutil.copy(photos / "a.jpg", folder / "survey" / "house 1")
    held = (np.asarray(Image.open(photos / f"{letter}.jpg")) for letter in "abc" for _ in range(5))
    write_clip(folder / "clip.mp4", held)
    (folder / "truth.json").write_text(json.dumps(true | {"images": images}))
    torch.manual_seed(0)
    save_checkpoint(build_network(NETWORKS["tiny"]), folder / "checkpoint.safetensors", card={})
    with pytest.MonkeyPatch.context() as patch, unchanged_process():
        patch.chdir(folder)
        run_command("python run_recon.py my_photos/ --out my_scene")
    posed = folder / "posed"
    posed.mkdir()
    shutil.copytree(photos, posed / "images")
    shutil.copy(folder / "my_scene" / "cameras.json", posed)
    pictures = shutil.ignore_patterns("*.png")
    shutil.copytree(folder / "my_scene" / "depth", posed / "depth", ignore=pictures)
    return folder


@contextmanager
def unchanged_process() -> Iterator[None]:
    """Undo what a command sets for its whole process, which is the tests' own here."""
    loggers = [logging.getLogger(name) for name in ("", "pointmap", "recon", "viz")]
    before = [(log.handlers[:], log.level, log.propagate) for log in loggers]
    threads, on_sigterm = torch.get_num_threads(), signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        for log, (handlers, level, propagate) in zip(loggers, before, strict=True):
            log.handlers, log.propagate = handlers, propagate
            log.setLevel(level)
        torch.set_num_threads(threads)
        signal.signal(signal.SIGTERM, on_sigterm)


def run_command(line: str) -> None:
    """Run one line of a page in this process, with ``SMALLER``; fail unless it writes its files."""
    words = shlex.split(line, comments=True)
    if not words:
        return
    assert words[0] == "python", f"only python commands run here, mark the block: {line}"
    command, arguments = (words[2], words[3:]) if words[1] == "-m" else (words[1], words[2:])
    for name, options in SMALLER.items():
        program, *option = name.split()
        if command == program and all(one in arguments for one in option):
            arguments += options.split()
    code = importlib.import_module(MODULES.get(command, command)).main(arguments)
    assert not code, f"exit code {code}: {line}"
    for option, value in pairwise(arguments):
        if option in ("--out", "--save", "--json", "--run"):
            assert Path(value).exists(), f"{value} was not written: {line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_of_the_page_run(
    page: Path, material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A page that writes my_scene itself begins without it.
    writes_it = "--out my_scene\n" in page.read_text(encoding="utf-8")
    ignored = shutil.ignore_patterns("my_scene") if writes_it else None
    here = tmp_path / "here"
    shutil.copytree(material, here, ignore=ignored)
    monkeypatch.chdir(here)
    monkeypatch.setattr(pointmap.training.generate, "SCENES_PER_SHARD", 2)
    with unchanged_process():
        for block in blocks_of(page):
            if block.not_run:
                continue
            if block.language == "python":
                exec(compile(block.text, str(page), "exec"), {})
            else:
                for line in block.text.splitlines():
                    run_command(line)


def test_blocks_that_are_not_run_are_listed_with_a_reason() -> None:
    found = {(page.stem, block.not_run) for page in PAGES for block in blocks_of(page)}
    assert {entry for entry in found if entry[1]} == NOT_RUN
