"""A reader that goes away, a full disk, a name without an encoding: the command goes on."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pointmap.lossy_streams import LossyStream

ROOT = Path(__file__).resolve().parents[2]
TALK = """
import sys
from pointmap.lossy_streams import lossy_streams
with lossy_streams():
    for _ in range(2000):
        sys.stdout.write("a line \\udcff of output\\n")
        sys.stderr.write("a line \\udcff of errors\\n")
        sys.stdout.flush()
open(sys.argv[1], "w").close()
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device on this system")
@pytest.mark.parametrize("where", ["pipe", "full"])
def test_what_cannot_be_said_ends_nothing(tmp_path: Path, where: str) -> None:
    if where == "pipe":
        reading, writing = os.pipe()
        os.close(reading)
    else:
        writing = os.open("/dev/full", os.O_WRONLY)
    command = [sys.executable, "-c", TALK, str(tmp_path / "done")]
    done = subprocess.run(command, cwd=ROOT, stdout=writing, stderr=writing, check=False)
    os.close(writing)
    assert done.returncode == 0 and (tmp_path / "done").exists()


@pytest.mark.skipif(os.name != "posix", reason="closes streams by a shell")
def test_streams_that_were_never_open_end_nothing(tmp_path: Path) -> None:
    python, done = (shlex.quote(str(path)) for path in (sys.executable, tmp_path / "done"))
    script = f"exec {python} -c '{TALK}' {done} <&- >&- 2>&-"
    ended = subprocess.run(["sh", "-c", script], cwd=ROOT, check=False)
    assert ended.returncode == 0
    # The first file that it opens has not got the number of a standard stream, nor what is said.
    assert (tmp_path / "done").read_bytes() == b""


def test_what_has_no_encoding_is_escaped() -> None:
    raw = io.BytesIO()
    stream = LossyStream(io.TextIOWrapper(raw, encoding="ascii"))
    assert stream.write("ü \udcff") == 3
    stream.flush()
    assert raw.getvalue() == b"\\xfc \\udcff" and stream.encoding == "ascii"
