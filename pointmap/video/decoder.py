"""Frames of a video file, one after the other, through PyAV.

Chosen over OpenCV's reader, which gives the same frames of rotated, 10-bit, HEVC and variable-rate
files, but takes 1.7 times the CPU time where a small grey picture is wanted (it converts each frame
to full-size BGR first), has no decoder for AV1, ignores pixels that are not square, gives no
reason when a file cannot be read, and opens play lists that name other files.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from pointmap.errors import InputError
from pointmap.high_range import as_srgb, is_srgb
from pointmap.outside.regular_file import check_regular

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

logger = logging.getLogger(__name__)

# FFmpeg goes by content, and some of its formats are lists of other files or addresses to open.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg"
MAX_PIXELS = 2**27
"""Larger frames are refused: 134 megapixels, four times 8K."""
THREADS = min(4, os.cpu_count() or 1)
"""Each thread has a frame of its own, and takes address space."""
_USUAL_FRAME_S = 1 / 30
# A file whose last frame comes so much earlier than it declares has lost its end.
_MISSING_S, _MISSING_SHARE = 1.0, 0.05


class DecodedFrame:
    """One frame: ``number`` in the order of display, ``time_s`` since the first frame, and
    ``read_bytes``, how much of the file had been read for it.
    """

    def __init__(
        self, frame: av.VideoFrame, number: int, time_s: float, read_bytes: int, aspect: float
    ) -> None:
        self.number = number
        self.time_s = time_s
        self.read_bytes = read_bytes
        self._frame = frame
        self._aspect = aspect

    def grey(self, long_side: int) -> NDArray[np.uint8]:
        """Return the frame (h, w) as it is stored, not turned, at most ``long_side`` long."""
        frame = self._frame
        if frame.interlaced_frame:
            from av import VideoFrame

            frame = VideoFrame.from_ndarray(self._pixels("gray"), format="gray")
        shrink = max(1.0, max(frame.width, frame.height) / long_side)
        small = frame.reformat(
            width=round(frame.width / shrink),
            height=round(frame.height / shrink),
            format="gray",
            interpolation="AREA",
        )
        return small.to_ndarray().astype(np.uint8, copy=False)

    def upright(self) -> NDArray[np.uint8]:
        """Return the frame (H, W, 3) sRGB at full size, turned as the file says, pixels square."""
        pixels = self._pixels("rgb24")
        if self._aspect != 1:
            size = round(pixels.shape[1] * self._aspect), pixels.shape[0]
            stretched = cv2.resize(pixels, size, interpolation=cv2.INTER_CUBIC)
            pixels = np.asarray(stretched, np.uint8)
        # FFmpeg counts anticlockwise.
        turns = {
            90: cv2.ROTATE_90_COUNTERCLOCKWISE,
            180: cv2.ROTATE_180,
            270: cv2.ROTATE_90_CLOCKWISE,
        }
        turn = turns.get(round(self._frame.rotation / 90) % 4 * 90)
        return pixels if turn is None else np.asarray(cv2.rotate(pixels, turn), np.uint8)

    def _pixels(self, kind: Literal["gray", "rgb24"]) -> NDArray[np.uint8]:
        frame = self._frame
        primaries, transfer = int(frame.color_primaries), int(frame.color_trc)
        if kind == "rgb24" and not is_srgb(primaries, transfer):
            deep = frame.to_ndarray(format="rgb48le").astype(np.uint16, copy=False)
            pixels = as_srgb(deep, transfer, primaries)
        else:
            pixels = frame.to_ndarray(format=kind).astype(np.uint8, copy=False)
        return _of_one_time(pixels) if frame.interlaced_frame else pixels


def _of_one_time(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an interlaced picture (h, w, ...) with the odd rows made of the even ones beside them,
    if the two show different times, as in films of camcorders: then neighbours differ by more than
    rows that are two apart.
    """
    rows = pixels.astype(np.int16)
    if np.abs(rows[1:] - rows[:-1]).mean() <= np.abs(rows[2:] - rows[:-2]).mean():
        return pixels
    single = pixels.copy()
    above, below = pixels[0:-1:2], pixels[2::2]
    single[1::2] = above
    between = single[1::2][: len(below)]
    between[:] = cv2.addWeighted(above[: len(below)], 0.5, below, 0.5, 0)
    return single


def decoded_frames(video: Path) -> Iterator[DecodedFrame]:
    """Yield the frames that decode whole, in the order of display.

    What a file declares of its frames is not believed. A file that breaks off or is damaged within
    is warned about; after damage frames count again from the next one that needs no other. Raises
    ``InputError`` for a file that is no video or none of whose frames decodes.
    """
    import av

    damaged, number, last_s, first_s = 0, 0, -_USUAL_FRAME_S, None
    with _opened(video) as (container, stream):
        aspect = float(stream.sample_aspect_ratio or 1)
        read_bytes, whole = 0, True
        for packet in container.demux(stream):
            read_bytes = max(read_bytes, (packet.pos or 0) + packet.size)
            try:
                frames = packet.decode()
            except av.FFmpegError:
                damaged, whole = damaged + 1, False
                continue
            for frame in frames:
                whole = (whole or frame.key_frame) and not frame.is_corrupt
                if not whole:
                    continue
                time_s = frame.time if frame.time is not None else last_s + _USUAL_FRAME_S
                first_s = time_s if first_s is None else first_s
                last_s = time_s
                yield DecodedFrame(frame, number, time_s - first_s, read_bytes, aspect)
                number += 1
        declared_s = float((container.duration or 0) / av.time_base)
    if first_s is None:
        raise _unreadable(video)
    length_s = last_s - first_s
    if declared_s - length_s > max(_MISSING_S, _MISSING_SHARE * declared_s):
        logger.warning(
            "%s breaks off after %.1f of %.1f seconds: the frames up to there are used",
            video.name,
            length_s,
            declared_s,
        )
    elif damaged:
        logger.warning("%s is damaged: frames that do not decode are left out", video.name)


@contextmanager
def _opened(video: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open the file and find its moving picture: not the cover of a song, which is a stream too."""
    import av

    try:
        # What is named here is a file, whatever addresses the library knows.
        check_regular(video)
        container = av.open(str(video), options={"format_whitelist": _FORMATS})
    except (av.FFmpegError, OSError, ValueError) as error:
        raise _unreadable(video) from error
    with container:
        covers = av.stream.Disposition.attached_pic
        streams = [s for s in container.streams.video if not s.disposition & covers]
        if not streams:
            raise InputError(f"{video} holds no moving picture: give a video, or photos")
        # What FFmpeg has no decoder for has no context.
        if streams[0].codec_context is None:
            raise _unreadable(video)
        streams[0].thread_type = "AUTO"
        streams[0].thread_count = THREADS
        streams[0].codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        yield container, streams[0]


def _unreadable(video: Path) -> InputError:
    return InputError(
        f"{video} is no video that can be read: copy it again from the camera, "
        "or convert it to mp4 (H.264)"
    )
