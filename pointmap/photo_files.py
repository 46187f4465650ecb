"""Which files are meant by what a user names: photos, folders of them, patterns and videos."""

from __future__ import annotations

import glob
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pointmap.errors import InputError
from pointmap.left_out import in_their_place, live_movies, tell_left_out
from pointmap.outside.patterns import TooMany, matching_paths
from pointmap.outside.regular_file import home_expanded
from pointmap.raw_photos import is_raw, reads_raw
from pointmap.saved_scene import RUN_JSON, listed_files
from pointmap.video import VIDEO_EXTENSIONS

PHOTO_EXTENSIONS = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".heic", ".heif"),
        *(".avif", ".jp2", ".j2k", ".jpf", ".jpx", ".gif", ".bmp"),
    }
)
"""How files of a folder are called that are taken for photos; camera raw files, too, where rawpy is
installed (:mod:`pointmap.raw_photos`)."""
# Folders that systems keep beside photos: small copies (Synology), what was deleted, and what ZIP
# files from a Mac bring along.
_SYSTEM_FOLDERS = frozenset({"@eaDir", "#recycle", "$RECYCLE.BIN", "__MACOSX"})


def find_photos(
    inputs: Iterable[str | Path],
    *,
    frames: Mapping[Path, Sequence[Path]] | None = None,
    recursive: bool = False,
) -> list[Path]:
    """Return the photo files that files, folders, glob patterns and videos stand for, each once.

    Folders (``recursive``: their subfolders, too) and patterns give the files with a photo's
    extension in natural order (``2.jpg`` before ``10.jpg``); files named one by one are taken as
    they are, but for films that phones keep beside photos. Pictures and films in a folder that are
    not taken are warned of. In the place of a video come its ``frames``, as
    :func:`pointmap.video.frames.choose_frames` returns them. Raises ``InputError`` for a path that
    does not exist, a pattern without a match, a video without frames, and when nothing is found at
    all.
    """
    frames = frames or {}
    photos: list[Path] = []
    files, others = _files_of(inputs, recursive)
    movies = live_movies(files)
    tell_left_out(others, movies, files)
    for path in files:
        if path in movies:
            continue
        if not is_video(path):
            photos.append(path)
        elif path in frames:
            photos.extend(frames[path])
        else:
            raise InputError(f"{path} is a video; give photos")
    return photos


def find_videos(inputs: Iterable[str | Path], *, recursive: bool = False) -> list[Path]:
    """Return the videos that are named among the inputs, or matched by a pattern that ends as one.

    A folder's videos are not among them, nor films beside a photo of the same name: phones keep a
    short one beside many a photo. Raises ``InputError`` as :func:`find_photos` does.
    """
    files, _ = _files_of(inputs, recursive)
    movies = live_movies(files)
    return [path for path in files if is_video(path) and path not in movies]


def is_video(path: Path) -> bool:
    """Return whether the file's name ends as that of a video."""
    return path.suffix.lower() in VIDEO_EXTENSIONS


def _files_of(inputs: Iterable[str | Path], recursive: bool) -> tuple[list[Path], list[Path]]:
    """Return photos and videos in the order in which they were given, each once, and the folders'
    other files.
    """
    inputs = list(inputs)
    files: dict[str, Path] = {}
    others: dict[str, Path] = {}
    for given in inputs:
        taken, left = _expand(str(given), recursive)
        for path in taken:
            place = _place(path)
            # Of a photo and links to it the photo itself has the name that others know.
            if place not in files or (files[place].is_symlink() and not path.is_symlink()):
                files[place] = path
        others |= {_place(path): path for path in left}
    left_out = [path for at, path in others.items() if at not in files]
    if not files:
        where = f" found in {', '.join(str(given) for given in inputs)}" if inputs else " given"
        deeper = "" if recursive else " (with --recursive also of subfolders)"
        extensions = " ".join(sorted(extension[1:] for extension in PHOTO_EXTENSIONS))
        raise InputError(
            f"no photos{where}{in_their_place(left_out)}; name videos, or files or folders{deeper} "
            f"with {extensions}"
        )
    return list(files.values()), left_out


def _place(path: Path) -> str:
    """Return where a file lies, whatever links lead there."""
    return os.path.realpath(path)


def _expand(given: str, recursive: bool) -> tuple[list[Path], list[Path]]:
    """Return the files that one argument stands for, and of a folder those that are not taken."""
    if not given:
        # As of a variable of the shell that isn't set; a path would make this folder of it.
        raise InputError("an empty name is no photo's: name photo files or folders")
    path = home_expanded(given)
    try:
        if path.is_dir():
            # Patterns match nothing in a folder that may not be listed.
            os.scandir(path).close()
            pattern = glob.escape(str(path)) + ("/**/*" if recursive else "/*")
            found, unseen = matching_paths(pattern)
            links = [p for p in found if p.is_symlink() and _is_called_photo(p)]
            dead = sorted((p for p in links if not p.exists()), key=natural_key)
            inside = [
                p
                for p in (*_visible(found), *dead, *_elsewhere(unseen, path))
                if _SYSTEM_FOLDERS.isdisjoint(p.relative_to(path).parts)
            ]
            inside = _without_scenes(inside)
            taken = [p for p in _photos_among(inside) if p.is_file()]
            return taken, [other for other in inside if other not in set(taken)]
        if path.is_file():
            return [path], []
        if path.exists():
            raise InputError(f"{given} is neither a file nor a folder")
    except OSError as error:
        raise InputError(f"cannot read {given}: {error.strerror or error}") from error
    if not glob.has_magic(given):
        raise InputError(f"{given} does not exist")
    try:
        matches, unseen = matching_paths(str(path))
    except TooMany:
        raise InputError(
            f"{given} leads through more files than can be looked at: name the folder of the photos"
        ) from None
    if not matches:
        raise InputError(f"no file matches {given}")
    files = _visible(matches)
    taken = [f for f in files if is_video(f)] if is_video(path) else _photos_among(files)
    return taken, unseen


def _without_scenes(files: Sequence[Path]) -> list[Path]:
    """Return the files but those of saved scenes among them, whose depth maps are pictures, too."""
    scenes = {file.parent: listed_files(file.parent) for file in files if file.name == RUN_JSON}

    def is_saved(file: Path) -> bool:
        return any(
            unicodedata.normalize("NFC", file.relative_to(scene).as_posix()) in names
            for scene in file.parents
            if (names := scenes.get(scene))
        )

    return [file for file in files if not is_saved(file)] if any(scenes.values()) else list(files)


def _elsewhere(folders: Sequence[Path], folder: Path) -> list[Path]:
    """Return the folders but links to what a ``folder`` holds, which is looked into in any case."""
    whole = _place(folder)
    return [f for f in folders if not (f.is_symlink() and Path(_place(f)).is_relative_to(whole))]


def _visible(paths: Iterable[Path]) -> list[Path]:
    """Return the visible files in natural order."""
    # Files like ._IMG_1.jpg are what macOS leaves beside photos on foreign disks.
    return sorted((p for p in paths if p.name[0] != "." and p.is_file()), key=natural_key)


def _photos_among(files: Sequence[Path]) -> list[Path]:
    """Return those called as photos; a raw file only where there is no photo of its name."""
    photos = {path for path in files if _is_called_photo(path)}
    if reads_raw():
        developed = {(path.parent, path.stem) for path in photos}
        photos |= {p for p in files if is_raw(p) and (p.parent, p.stem) not in developed}
    return [path for path in files if path in photos]


def _is_called_photo(path: Path) -> bool:
    return path.suffix.lower() in PHOTO_EXTENSIONS


def natural_key(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Return what sorts paths as people count: ``2.jpg`` before ``10.jpg``."""
    parts = re.split(r"(\d+)", str(path).lower())
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts], str(path)
