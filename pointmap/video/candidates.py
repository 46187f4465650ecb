"""A video watched once: the sharpest frame of each short stretch, kept as a picture file.

A second decoding for the frames that are chosen in the end would nearly double the time. Instead
the few that can be chosen are written at once, and those that are not go again.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pointmap.video.decoder import DecodedFrame, decoded_frames
from pointmap.video.motion import FeatureTracker, TrackedFeatures, displacement, tells_motion
from pointmap.video.selection import Candidate

# A stretch ends after this time, or earlier when the picture has moved by this share of itself.
# Where all features are lost at once, more frames would not tie the picture to the others either.
_STRETCH_S, _STRETCH_MOTION = 0.2, 0.03
# Nothing new to see since the last candidate: an amount below what any step asks for.
_STILL = 0.004
# More frames in a second bring no new views, and take time.
_MEASURED_PER_S = 30
_SHARPNESS_LONG_SIDE, _TRACKING_LONG_SIDE = 960, 320
# Of five minutes or more, up to 1.5 GB lie on disk before the choice is made.
_MOST = 1500
_LEAST_SHARPNESS = 1e-3  # of a single colour; its logarithm is taken
_QUALITY = 95


@dataclass(frozen=True)
class _Measured:
    """A decoded frame with what was measured of it."""

    frame: DecodedFrame
    sharpness: float
    features: TrackedFeatures


def candidates_of(
    video: Path, folder: Path, name: str, *, on_read: Callable[[int], None]
) -> tuple[list[Candidate], list[Path]]:
    """Write the frames of ``video`` that may be chosen to ``folder``, and return them measured.

    The files, ``NAME_NUMBER.jpg`` (JPEG of quality 95: 0.3 to 1 MB at 1080p, where PNG takes 3),
    are upright, at full size and sort in time. ``on_read`` is told how many bytes of the file have
    been read. Raises ``InputError`` for a file that is no video.
    """
    found = _Found(folder, name)
    best: _Measured | None = None
    begun: _Measured | None = None
    blank: _Measured | None = None
    for seen in _measured(video, on_read):
        if not tells_motion(seen.features):
            blank = blank or seen
            continue
        if begun is not None:
            moved = displacement(begun.features, seen.features)
            lasted_s = seen.frame.time_s - begun.frame.time_s
            if lasted_s >= found.stretch_s or _STRETCH_MOTION <= moved < np.inf:
                if best is not None:
                    found.add(best)
                begun = best = None
        begun = begun or seen
        if not found.shows(seen) and (best is None or seen.sharpness > best.sharpness):
            best = seen
    if best is None and not found.candidates:
        best = blank
    if best is not None:
        found.add(best)
    return found.candidates, found.paths


class _Found:
    """The candidates so far, and their files; never more than ``_MOST``."""

    def __init__(self, folder: Path, name: str) -> None:
        self.candidates: list[Candidate] = []
        self.paths: list[Path] = []
        self.stretch_s = _STRETCH_S
        self._folder, self._name = folder, name

    def shows(self, seen: _Measured) -> bool:
        """Return whether the last candidate is the same picture."""
        return bool(self.candidates) and (
            displacement(self.candidates[-1].features, seen.features) < _STILL
        )

    def add(self, best: _Measured) -> None:
        """Write a frame. One of every two goes, and stretches double, where they become many."""
        path = self._folder / f"{self._name}_{best.frame.number:06d}.jpg"
        path.write_bytes(_jpeg(best.frame.upright()))
        self.paths.append(path)
        self.candidates.append(Candidate(best.frame.time_s, best.sharpness, best.features))
        if len(self.candidates) < _MOST:
            return
        self.stretch_s *= 2
        kept = []
        for k in range(0, _MOST, 2):
            sharper = max(k, k + 1, key=lambda n: self.candidates[n].sharpness)
            self.paths[2 * k + 1 - sharper].unlink()
            kept.append(sharper)
        self.paths = [self.paths[k] for k in kept]
        self.candidates = [self.candidates[k] for k in kept]


def _measured(video: Path, on_read: Callable[[int], None]) -> Iterator[_Measured]:
    """Yield the frames of ``video``, at most 30 in a second."""
    tracker = FeatureTracker()
    last_s = -np.inf
    for frame in decoded_frames(video):
        on_read(frame.read_bytes)
        # Times jitter: three quarters of a regular interval are let pass.
        if frame.time_s - last_s < 0.75 / _MEASURED_PER_S:
            continue
        last_s = frame.time_s
        grey = frame.grey(_SHARPNESS_LONG_SIDE)
        yield _Measured(frame, _sharpness(grey), tracker.advance(_shrunk(grey)))


def _sharpness(grey: NDArray[np.uint8]) -> float:
    """Return the variance of the Laplacian (Pech-Pacheco et al., ICPR 2000)."""
    deviation = cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))[1]
    return max(float(deviation[0, 0]) ** 2, _LEAST_SHARPNESS)


def _shrunk(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    shrink = max(1.0, max(grey.shape) / _TRACKING_LONG_SIDE)
    size = round(grey.shape[1] / shrink), round(grey.shape[0] / shrink)
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="JPEG", quality=_QUALITY)
    return content.getvalue()
