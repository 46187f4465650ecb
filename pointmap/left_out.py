"""What lies beside photos and is not taken: named, so that nobody misses it unknowingly."""

from __future__ import annotations

import logging
import mimetypes
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from pointmap.errors import number_of, some_of
from pointmap.outside.regular_file import open_regular
from pointmap.raw_photos import RAW_EXTENSIONS
from pointmap.video import VIDEO_EXTENSIONS

logger = logging.getLogger(__name__)

# Pictures that Python's table of types does not know.
_MORE_PICTURES = frozenset({".exr", ".hdr", ".jxl", ".psd", ".tga", ".dds", ".insp", ".mpo"})
# How files of pictures begin, and the kinds in those of RIFF and ISO.
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
_CONTAINERS = (b"RIFFWEBP", b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypavif")
_ARCHIVES = frozenset({".zip", ".rar", ".7z", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".cbz"})


def live_movies(files: Collection[Path]) -> set[Path]:
    """Return the films among ``files`` that phones keep beside a photo: ``IMG_1.MOV`` of
    ``IMG_1.HEIC`` in one folder.
    """
    films = [path for path in files if path.suffix.lower() == ".mov"]
    if not films:
        return set()
    photos = {
        (path.parent, path.stem)
        for path in files
        if path.suffix.lower() not in VIDEO_EXTENSIONS and _is_picture(path)
    }
    return {path for path in films if (path.parent, path.stem) in photos}


def tell_left_out(others: Iterable[Path], movies: Iterable[Path], taken: Collection[Path]) -> None:
    """Warn of pictures and films among ``others``, files of the folders that were given beside
    those ``taken``, and of ``movies`` beside photos; with how many of each there are.
    """
    beside = {(path.parent, path.stem) for path in taken}
    films, live = list[Path](), list(movies)
    doubles, raw, unknown = list[Path](), list[Path](), list[Path]()
    dead, folders, archives = list[Path](), list[Path](), list[Path]()
    misnamed = list[Path]()
    for path in others:
        suffix, has_photo = path.suffix.lower(), (path.parent, path.stem) in beside
        if path.is_dir():
            folders.append(path)
        elif not path.exists():
            dead.append(path)
        elif suffix in _ARCHIVES:
            archives.append(path)
        elif suffix in VIDEO_EXTENSIONS:
            (live if suffix == ".mov" and has_photo else films).append(path)
        elif suffix in RAW_EXTENSIONS:
            (doubles if has_photo else raw).append(path)
        elif _is_picture(path):
            unknown.append(path)
        elif _is_misnamed(path):
            misnamed.append(path)
    if live:
        logger.warning(
            "%s left out, beside photos of the same name (Live Photos): %s",
            *_named(live, "film"),
        )
    if films:
        logger.warning(
            "%s left out, as of a folder photos alone are taken; name videos to use their frames: "
            "%s",
            *_named(films, "video"),
        )
    if doubles:
        logger.warning(
            "%s left out, beside photos of the same name: %s",
            *_named(doubles, "camera raw file"),
        )
    if raw:
        logger.warning(
            "%s left out; pip install 'pointmap[raw]' reads such files: %s",
            *_named(raw, "camera raw file"),
        )
    if dead:
        logger.warning("%s left out, as links that lead nowhere: %s", *_named(dead, "photo"))
    if folders:
        logger.warning(
            "%s left out, a link or not to be listed: %s; name it to use its photos",
            *_named(folders, "folder"),
        )
    if archives:
        logger.warning("%s left out; unpack to use what it holds: %s", *_named(archives, "archive"))
    if unknown:
        logger.warning("%s left out, of a kind that is not read: %s", *_named(unknown, "picture"))
    if misnamed:
        logger.warning(
            "%s left out, as their names don't end as a photo's: %s; add .jpg or the like to use "
            "them",
            *_named(misnamed, "picture"),
        )


def in_their_place(others: Iterable[Path]) -> str:
    """Return in brackets what a folder without photos holds that may stand for some, or nothing."""
    others = list(others)
    dead = [path for path in others if not path.exists()]
    archives = [path for path in others if path.suffix.lower() in _ARCHIVES]
    films = [path for path in others if path.suffix.lower() in VIDEO_EXTENSIONS]
    misnamed = [path for path in others if path.is_file() and _is_misnamed(path)]
    said = [f"unpack {_some(archives)} first"] if archives else []
    said += [f"the link {dead[0].name} leads nowhere"] if dead else []
    said += [f"videos are not taken of a folder: {_some(films)}"] if films else []
    said += [f"pictures by what they hold: {_some(misnamed)}; add .jpg"] if misnamed else []
    return f" ({'; '.join(said)})" if said else ""


def _is_picture(path: Path) -> bool:
    kind = mimetypes.guess_type(path.name)[0] or ""
    suffix = path.suffix.lower()
    known = suffix in _MORE_PICTURES or suffix in RAW_EXTENSIONS or suffix in (".heic", ".heif")
    return known or kind.startswith("image/")


def _is_misnamed(path: Path) -> bool:
    """Return whether a file whose name tells nothing begins as a JPEG, PNG, WebP, HEIC or AVIF."""
    if mimetypes.guess_type(path.name)[0] is not None:
        return False
    try:
        with open_regular(path) as file:
            start = file.read(12)
    except OSError:
        return False
    container = start[:4] + start[8:] if start[:4] == b"RIFF" else start[4:]
    return start.startswith(_PICTURES) or container in _CONTAINERS


def _some(paths: Sequence[Path]) -> str:
    return some_of([path.name for path in paths])


def _named(paths: Sequence[Path], kind: str) -> tuple[str, str]:
    """Return how many there are of what kind, and the names of some."""
    count = number_of(len(paths), f"{kind} is", f"{kind}s are")
    return count, _some(paths)
