"""What every command says of itself: plain words, and some for each option."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable

import pytest

import pointmap
from pointmap.__main__ import VERBS

COMMANDS = (
    "recon.cli",
    "recon.batch.command",
    "viz.command",
    "recon.evaluation.command scene",
    "recon.evaluation.command mesh",
    "recon.evaluation.command two-view",
    "recon.evaluation.command depth",
    "recon.evaluation.training_shards",
    "recon.localise.command",
    "recon.export.command",
    "recon.cluster.generate",
    "pointmap.training.command",
    "pointmap.training.generate",
    "pointmap.training.from_photos",
    "pointmap.training.sample_photos",
    "benchmarks.adaptation",
    "benchmarks.alignment",
    "benchmarks.cluster",
    "benchmarks.depth_models",
    "benchmarks.inference",
    "benchmarks.matchers",
    "benchmarks.parity",
    "benchmarks.resume",
    "benchmarks.scale",
    "benchmarks.scale_scenes",
    "benchmarks.scenes",
    "benchmarks.stereo",
    "benchmarks.surface",
    "benchmarks.training",
)

COLUMNS = 100


@pytest.mark.parametrize("command", [c for c in COMMANDS if not c.startswith("benchmarks")])
def test_every_command_of_the_product_tells_its_version(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(command.split()[0]).main(["--version"])
    assert not ended.value.code
    assert capsys.readouterr().out == f"pointmap {pointmap.__version__}\n"


@pytest.mark.parametrize("command", [c for c in COMMANDS if not c.startswith("benchmarks")])
def test_every_command_of_the_product_is_called_as_it_can_be_typed(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    module, *verb = command.split()
    with pytest.raises(SystemExit):
        importlib.import_module(module).main([*verb, "--help"])
    said = capsys.readouterr().out.split()
    typed = "run_recon.py", f"python -m {module.removesuffix('.command')}"
    assert " ".join(said[1:4]).startswith((*typed, *(f"pointmap {verb}" for verb in VERBS)))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_plain_and_says_something_of_every_option(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    module, *verb = command.split()
    main: Callable[[list[str]], object] = importlib.import_module(module).main
    with pytest.raises(SystemExit) as ended:
        main([*verb, "--help"])
    assert not ended.value.code
    text = capsys.readouterr().out
    assert "--" in text and "`" not in text and ":mod:" not in text
    by_tyro = re.search("[-─]{20}", text)
    # Without the frames that tyro draws.
    lines = [re.sub(r"[│╭╮╰╯─]", " ", line).rstrip() for line in text.splitlines()]
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if re.match(r"\s+--[a-z]", line) and not re.search(r"\S  +\S", line.strip()):
            described = following.strip() and not re.match(r"\s*(--|\(default)", following)
            assert described, f"nothing is said of {line.strip()}"
        # Lines are filled: none ends where a line of the source did.
        indent = re.match(r" {7,}(?=\w)", line)
        if by_tyro and indent and re.match(f"{indent[0]}\\w", following):
            word = following.split()[0]
            assert len(line) + 1 + len(word) > COLUMNS - 4, f"{line.strip()} / {following.strip()}"
