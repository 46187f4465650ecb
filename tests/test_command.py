"""``pointmap VERB``: quick, and each verb is the command that it names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import pointmap
from pointmap.__main__ import VERBS, main


def test_help_is_there_before_anything_large_is_imported() -> None:
    code = (
        "import sys, pointmap.__main__ as command\n"
        "assert command.main(['--help']) == 0\n"
        "assert command.main(['nothing']) == 2\n"
        "assert not {'numpy', 'torch', 'recon', 'tyro', 'rich'} & set(sys.modules)\n"
    )
    root = Path(__file__).parents[1]
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert all(f"  {verb} " in said.stdout for verb in VERBS)
    assert "'nothing'" in said.stderr and "doctor" in said.stderr


def test_commands_begin_before_anything_large_is_imported() -> None:
    # An interrupt until then would end in a traceback; and what they say of OpenMP's threads counts
    # only if it is said before torch is there.
    commands = "viz", "recon.localise", "recon.batch", "recon.evaluation"
    modules = ", ".join(["recon.cli", *(f"{command}.__main__" for command in commands)])
    code = f"import sys, {modules}\nassert not {{'torch', 'open3d', 'trimesh'}} & set(sys.modules)"
    root = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


def test_commands_import_nothing_that_draws_in_notebooks(tmp_path: Path) -> None:
    body = "def main(arguments):\n    import open3d, sys\n    return 'dash' in sys.modules\n"
    (tmp_path / "drawing.py").write_text(body)
    code = "from pointmap.launch import launch; assert launch('drawing') == 0"
    root = Path(__file__).parents[1]
    paths = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"}
    subprocess.run([sys.executable, "-c", code], cwd=root, env={**os.environ, **paths}, check=True)


@pytest.mark.parametrize(
    "command",
    [
        "run_recon.py",
        "-m pointmap reconstruct",
        "-m pointmap.training",
        "-m recon.batch",
        "-m recon.evaluation",
        "-m recon.export",
        "-m recon.localise",
        "-m viz",
    ],
)
def test_an_interrupt_before_the_work_is_one_line(command: str, tmp_path: Path) -> None:
    root = Path(__file__).parents[1]
    library = "torch" if "training" in command else "tyro"
    (tmp_path / f"{library}.py").write_text("raise KeyboardInterrupt")
    done = subprocess.run(
        [sys.executable, *command.split(), "a", "--out", tmp_path / "out"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}", "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (130, "interrupted: nothing was written\n")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_calls_itself_by_its_name(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert not ended.value.code
    assert f"usage: pointmap {verb}" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([verb, "--version"])
    assert capsys.readouterr().out == f"pointmap {pointmap.__version__}\n"


def test_a_verb_gets_its_arguments_and_gives_its_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["view", str(tmp_path / "none")]) == 2
    assert main(["depth", str(tmp_path / "none.jpg"), "--out", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()
    assert main([]) == 2
    assert "usage" in capsys.readouterr().out


def test_the_doctor_finds_what_is_here_and_says_what_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import recon.doctor

    monkeypatch.setenv("OMP_NUM_THREADS", "0")
    monkeypatch.setattr(recon.doctor, "find_spec", lambda name: None)
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "needs viser, websockets" in said and "pip install 'pointmap[browser]'" in said
    for part in ("processor", "memory", "GPU", "display", "Vulkan", "free disk"):
        assert f"\n{part}" in said
