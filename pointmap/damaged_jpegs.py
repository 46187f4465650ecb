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
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointmap.outside.regular_file import open_regular, read_regular

_START = b"\xff\xd8\xff"
# Cameras pad: up to so many bytes too many between two markers are no damage.
_PADDING = 64
# An edge right across has this many times the step of the rows around it, so many on each side, and
# a good part of what the highest has; in levels of 255, steps are at least so high. Chosen on 34
# photos of seven places, bytes cut out, replaced, zeroed or cut off in 272 ways: 3 % of wrong
# pixels are left in, 4 to 5 % of right ones are lost.
_EDGE, _AROUND, _OF_HIGHEST, _LEAST_STEP = 2.5, 8, 0.6, 2.0
# So many rows of one colour at the end are missing ones.
_PLAIN = 4
_TOO_MANY = re.compile(r"(\d+) extraneous bytes before marker")


@dataclass(frozen=True)
class Damage:
    """In what way a JPEG is wrong, in libjpeg's ``words``, and which ``share`` of its height, from
    the top as it is stored, is not: 1 where the picture doesn't show where that ends.
    """

    words: str
    share: float


def damage_of_jpegs(paths: Sequence[Path]) -> list[Damage | None]:
    """Return the damage of each picture file; None for a sound one, one that is no JPEG, and where
    that cannot be found out.

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


def _damage(said: str) -> Damage | None:
    """Return what libjpeg's first warning of damage says, with the share that is told after all."""
    *lines, share = said.splitlines() or [""]
    for line in lines:
        _, is_warning, words = line.partition("Corrupt JPEG data: ")
        padding = _TOO_MANY.match(words)
        if is_warning and (padding is None or int(padding[1]) > _PADDING):
            return Damage(words.strip(), float(share))
    return None


def sound_share(rows: NDArray[np.floating]) -> float:
    """Return which share of a damaged picture's height is sound, by its block rows (R, C) of grey.

    Rows of a JPEG are stored one after the other: what comes after wrong bytes is another part of
    the picture, or grey, and the edge goes right across.
    """
    if len(rows) <= _PLAIN:
        return 1.0
    step = np.abs(np.diff(rows, axis=0)).mean(axis=1)
    # Beside the steps of the rows around, but for its neighbours: the first row may hold both.
    around = np.pad(step, _AROUND, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(around, 2 * _AROUND + 1).copy()
    windows[:, _AROUND - 1 : _AROUND + 2] = np.nan
    edge = step / np.maximum(np.nanmedian(windows, axis=1), _LEAST_STEP)
    high = edge >= max(_EDGE, _OF_HIGHEST * edge.max())
    first = int(np.argmax(high)) + 1 if high.any() else len(rows)
    # What is missing at the end is of one colour.
    alike = np.abs(rows - rows[-1]).max(axis=1) < 1
    plain = int(np.argmin(alike[::-1]))
    if plain >= _PLAIN:
        first = min(first, len(rows) - plain)
    if first == len(rows):
        return 1.0
    # A row of colour is two of grey, and the one before may be cut in its middle.
    return max(first - 2, 0) / len(rows)


def _decode_all(names: Sequence[bytes]) -> None:
    import cv2

    flags = cv2.IMREAD_REDUCED_GRAYSCALE_8 | cv2.IMREAD_IGNORE_ORIENTATION
    for name in names:
        share = 1.0
        try:
            data = read_regular(Path(os.fsdecode(name)))
            rows = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
            if rows is not None:
                share = sound_share(rows.astype(np.float32))
        except (OSError, cv2.error):
            pass
        os.write(2, f"\n{share}\0".encode())


if __name__ == "__main__":
    _decode_all(sys.stdin.buffer.read().split(b"\0"))
