"""Videos to a folder of photos, which is made once and then used again."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pointmap.errors import InputError
from pointmap.file_digest import file_sha256
from pointmap.outside.json_object import parse_object
from pointmap.outside.names import shortened
from pointmap.outside.regular_file import read_regular
from pointmap.outside.typed import as_type

logger = logging.getLogger(__name__)

_MANIFEST = "frames.json"
_UNCHOSEN = ".candidates"
# Of the choice and of the files: a folder of another version is made anew.
_VERSION = 2
_LEAST_MOTION_FRAMES = 3


def choose_frames(
    videos: Sequence[Path],
    folder: Path,
    *,
    target: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[Path, list[Path]]:
    """Write frames of ``videos`` to ``folder`` and return them for each, in the order of time.

    Frames are upright JPEG at full size, named after the video and their number, chosen by
    sharpness and by how far the picture moved (:func:`pointmap.video.selection.choose`).
    ``target``: how many to choose in all. ``on_progress`` is told (done, total).

    ``folder`` must be for this alone; its ``frames.json`` says what the frames were made of. Those
    that an earlier call wrote there for the same content, names and target, if all are there, are
    returned as they are. Raises ``InputError`` for a file that is no video, and where ``folder``
    cannot be written.
    """
    videos = list(dict.fromkeys(videos))
    names = _clip_names(videos)
    try:
        key = {
            "version": _VERSION,
            "target": target,
            "videos": {name: file_sha256(video) for name, video in zip(names, videos, strict=True)},
        }
        kept = _kept(folder, key)
        if kept is None:
            kept = _make(videos, names, folder, key, on_progress or (lambda done, total: None))
    except OSError as error:
        raise InputError(
            f"frames of videos cannot be written to {folder} ({error.strerror or error}): make room"
        ) from error
    return {
        video: [folder / frame for frame in kept[name]]
        for name, video in zip(names, videos, strict=True)
    }


def _make(
    videos: Sequence[Path],
    names: Sequence[str],
    folder: Path,
    key: dict[str, Any],
    on_progress: Callable[[int, int], None],
) -> dict[str, list[str]]:
    """Choose frames and move them to ``folder``; return their names for each video's name."""
    from pointmap.video.bounded import bounded_candidates
    from pointmap.video.selection import choose

    clear_frames(folder)
    folder.mkdir(parents=True, exist_ok=True)
    unchosen = folder / _UNCHOSEN
    unchosen.mkdir()
    sizes = [video.stat().st_size for video in videos]
    clips, files = [], []
    try:
        for number, (video, name) in enumerate(zip(videos, names, strict=True)):

            def on_read(read: int, number: int = number) -> None:
                on_progress(sum(sizes[:number]) + min(read, sizes[number]), sum(sizes))

            candidates, paths = bounded_candidates(video, unchosen, name, on_read=on_read)
            on_read(sizes[number])
            clips.append(candidates)
            files.append(paths)
        chosen = choose(clips, key["target"])
        for video, indices in zip(videos, chosen, strict=True):
            if len(indices) < _LEAST_MOTION_FRAMES and key["target"] is None:
                logger.warning(
                    "%s: the camera hardly moves (frames worth taking: %d); film while walking "
                    "sideways round what is to be seen",
                    video.name,
                    len(indices),
                )
        kept = [[paths[k] for k in indices] for paths, indices in zip(files, chosen, strict=True)]
        frames = {
            name: [path.name for path in some] for name, some in zip(names, kept, strict=True)
        }
        # Before the frames: those of a run that is killed now are known as ours, and made again.
        _write_manifest(folder / _MANIFEST, {**key, "frames": frames})
        for path in (path for some in kept for path in some):
            path.replace(folder / path.name)
    finally:
        shutil.rmtree(unchosen, ignore_errors=True)
    return frames


def _clip_names(videos: Sequence[Path]) -> list[str]:
    """Return a name per video, its stem where that is free; frames of one never get another's."""
    taken: set[str] = set()
    names = []
    for video in videos:
        stem = shortened(video.stem)
        candidates = (stem, *(f"{stem}-{n}" for n in range(2, len(videos) + 2)))
        name = next(name for name in candidates if name.casefold() not in taken)
        taken.add(name.casefold())
        names.append(name)
    return names


def _kept(folder: Path, key: dict[str, Any]) -> dict[str, list[str]] | None:
    """Return the frames that the folder holds, if they are complete and made for ``key``."""
    manifest = _read_manifest(folder)
    frames = manifest.pop("frames", None)
    if manifest != key or frames is None:
        return None
    complete = all((folder / frame).is_file() for some in frames.values() for frame in some)
    return frames if complete else None


def clear_frames(folder: Path) -> None:
    """Delete what :func:`choose_frames` wrote to ``folder``, if it was there, and nothing else."""
    shutil.rmtree(folder / _UNCHOSEN, ignore_errors=True)
    for some in _read_manifest(folder).get("frames", {}).values():
        for frame in some:
            (folder / Path(frame).name).unlink(missing_ok=True)
    (folder / _MANIFEST).unlink(missing_ok=True)


def _read_manifest(folder: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        manifest = parse_object(read_regular(folder / _MANIFEST))
        frames = as_type(manifest.get("frames", {}), dict[str, tuple[str, ...]], "frames")
        return {**manifest, "frames": {name: list(some) for name, some in frames.items()}}
    return {}


def _write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    partial.replace(path)
