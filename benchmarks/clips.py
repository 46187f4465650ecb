"""Videos with known content, written by PyAV."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

# Rows of the matrix in a track's header (ISO 14496-12, tkhd), by the clockwise turn to be upright.
_TURNS = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}


def write_clip(
    path: Path,
    pictures: Iterable[NDArray[np.uint8]],
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    times_s: Sequence[float] | None = None,
    turn: int = 0,
    aspect: Fraction | None = None,
    keyframe_every: int = 12,
    faststart: bool = False,
    more: Mapping[str, str] | None = None,
) -> Path:
    """Write RGB pictures at 30 per second, or at ``times_s``.

    ``turn``: stored so that they have to be turned clockwise by so many degrees, as a flag of the
    file says. ``faststart``: what the file declares stands before the pictures. ``more``: options
    of the encoder.
    """
    options = {"movflags": "faststart"} if faststart and path.suffix == ".mp4" else {}
    encoding = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    encoding |= more or {}
    with av.open(str(path), "w", options=options) as container:
        stream = None
        for n, upright in enumerate(pictures):
            picture = np.ascontiguousarray(np.rot90(upright, turn // 90))
            if stream is None:
                stream = container.add_stream(codec, rate=30, options=encoding)
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = pixels
                stream.time_base = Fraction(1, 90000)
                stream.codec_context.time_base = Fraction(1, 90000)
                stream.codec_context.gop_size = keyframe_every
                if aspect is not None:
                    stream.codec_context.sample_aspect_ratio = aspect
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.time_base = Fraction(1, 90000)
            frame.pts = round(90000 * (n / 30 if times_s is None else times_s[n]))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    if turn:
        content = bytearray(path.read_bytes())
        at = content.index(b"tkhd") + 4 + 40
        a, b, c, d = (value << 16 for value in _TURNS[turn])
        for place, value in zip((0, 4, 12, 16), (a, b, c, d), strict=True):
            content[at + place : at + place + 4] = value.to_bytes(4, "big", signed=True)
        path.write_bytes(content)
    return path
