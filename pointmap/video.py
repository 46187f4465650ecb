"""Frames of a video, as photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pointmap.errors import InputError

VIDEO_EXTENSIONS = frozenset({".mp4", ".mov", ".avi", ".mkv", ".m4v", ".webm"})


def extract_frames(video: Path, folder: Path, *, count: int = 24) -> list[Path]:
    """Write ``count`` frames, evenly spread over a video, to ``folder`` as PNG, upright.

    A shorter video gives all its frames. Files are named after the video and the frame's number, so
    that they sort in time. Raises ``InputError`` when no frame can be decoded.
    """
    import cv2

    total = _count_frames(video)
    if not total:
        raise InputError(f"{video} is no video that can be read; convert it to mp4 (H.264)")
    # The middles of equal spans: the very first and last frames are often a hand on the button.
    wanted = {int(n) for n in (np.arange(min(count, total)) + 0.5) * total / min(count, total)}
    folder.mkdir(parents=True, exist_ok=True)
    capture, written = cv2.VideoCapture(str(video)), []
    try:
        # Frame by frame: seeking is off by several frames in many files.
        for number in range(total):
            if not capture.grab():
                break
            if number in wanted:
                _, frame = capture.retrieve()
                path = folder / f"{video.stem}_{number:06d}.png"
                cv2.imwrite(str(path), frame)
                written.append(path)
    finally:
        capture.release()
    return written


def _count_frames(video: Path) -> int:
    """Return the number of frames that decode; what files declare is often wrong."""
    import cv2

    capture, total = cv2.VideoCapture(str(video)), 0
    try:
        while capture.grab():
            total += 1
    finally:
        capture.release()
    return total
