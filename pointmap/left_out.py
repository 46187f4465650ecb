"""What lies beside photos and is not taken: named, so that nobody misses it unknowingly."""

from __future__ import annotations

import logging
import mimetypes
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from pointmap.errors import number_of, some_of
from pointmap.raw_photos import RAW_EXTENSIONS
from pointmap.video import VIDEO_EXTENSIONS

logger = logging.getLogger(__name__)

# Pictures that Python's table of types does not know.
_MORE_PICTURES = frozenset({".exr", ".hdr", ".jxl", ".psd", ".tga", ".dds", ".insp", ".mpo"})
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


def in_their_place(others: Iterable[Path]) -> str:
    """Return in brackets what a folder without photos holds that may stand for some, or nothing."""
    others = list(others)
    dead = [path for path in others if not path.exists()]
    archives = [path for path in others if path.suffix.lower() in _ARCHIVES]
    said = [f"unpack {some_of([path.name for path in archives])} first"] if archives else []
    said += [f"the link {dead[0].name} leads nowhere"] if dead else []
    return f" ({'; '.join(said)})" if said else ""


def _is_picture(path: Path) -> bool:
    kind = mimetypes.guess_type(path.name)[0] or ""
    suffix = path.suffix.lower()
    known = suffix in _MORE_PICTURES or suffix in RAW_EXTENSIONS or suffix in (".heic", ".heif")
    return known or kind.startswith("image/")


def _named(paths: Sequence[Path], kind: str) -> tuple[str, str]:
    """Return how many there are of what kind, and the names of some."""
    count = number_of(len(paths), f"{kind} is", f"{kind}s are")
    return count, some_of([path.name for path in paths])
