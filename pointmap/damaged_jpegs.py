"""JPEGs whose data is wrong inside: decoders go on with grey, shifted or wrongly coloured blocks.

Pillow keeps to itself what libjpeg says of them. OpenCV's copy of it writes that to the standard
error of its process, so the files are decoded once more, small, in a process of their own: this
module run as a program, which reads their names and writes a NUL after what is said of each.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pointmap.outside.regular_file import open_regular

_START = b"\xff\xd8\xff"
# Cameras pad: up to so many bytes too many between two markers are no damage.
_PADDING = 64
_TOO_MANY = re.compile(r"(\d+) extraneous bytes before marker")


def damage_of_jpegs(paths: Sequence[Path]) -> list[str | None]:
    """Return for each picture file in what way its data is wrong, in libjpeg's words; None for a
    sound one, one that is no JPEG, and where that cannot be found out.

    Wrong bits that stand for another picture as well are not found.
    """
    jpegs = [path for path in paths if _is_jpeg(path)]
    if not jpegs:
        return [None] * len(paths)
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__],
            input=b"\0".join(os.fsencode(path.absolute()) for path in jpegs),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={
                **os.environ,
                # Found where it was found here, wherever that is.
                "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),
                "OPENBLAS_NUM_THREADS": "1",
            },
        )
    except OSError:  # no further process is to be had
        return [None] * len(paths)
    *said, _ = done.stderr.decode("utf-8", "replace").split("\0")
    damage = dict(zip(jpegs, map(_damage, said), strict=False))
    return [damage.get(path) for path in paths]


def _is_jpeg(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            return file.read(len(_START)) == _START
    except OSError:
        return False


def _damage(said: str) -> str | None:
    """Return the first of libjpeg's warnings that is one of damage."""
    for line in said.splitlines():
        _, is_warning, words = line.partition("Corrupt JPEG data: ")
        padding = _TOO_MANY.match(words)
        if is_warning and (padding is None or int(padding[1]) > _PADDING):
            return words.strip()
    return None


def _decode_all(names: Sequence[bytes]) -> None:
    import cv2
    import numpy as np

    for name in names:
        try:
            with open(name, "rb") as file:
                data = np.frombuffer(file.read(), np.uint8)
            cv2.imdecode(data, cv2.IMREAD_REDUCED_GRAYSCALE_8)
        except (OSError, cv2.error):
            pass
        os.write(2, b"\0")


if __name__ == "__main__":
    _decode_all(sys.stdin.buffer.read().split(b"\0"))
