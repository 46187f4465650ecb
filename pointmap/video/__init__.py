"""Videos in: the frames that are worth being photos, chosen by sharpness and motion.

:mod:`pointmap.video.frames` has the way from video files to a folder of photos. A video is decoded
once (:mod:`~pointmap.video.decoder`); the sharpest frame of each short stretch, with the features
that were tracked into it, becomes a candidate (:mod:`~pointmap.video.candidates`), and of those
:mod:`~pointmap.video.selection` chooses.
"""

VIDEO_EXTENSIONS = frozenset(
    {".mp4", ".mov", ".m4v", ".3gp", ".avi", ".mkv", ".webm", ".mts", ".m2ts", ".mpg", ".mpeg"}
)
