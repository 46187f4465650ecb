"""What a file holds that no decoder takes for a picture, told by its first bytes in plain words."""

from __future__ import annotations

from codecs import getincrementaldecoder
from pathlib import Path

from pointmap.errors import UnusablePicture
from pointmap.outside.regular_file import open_regular
from pointmap.wide_tiff import first_tags, unread_tiff

_OTHER_KINDS = {
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"8BPS": "Photoshop",
    b"v/1\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance HDR",
    b"%PDF": "PDF",
    b"%!PS": "PostScript",
    b"DDS ": "DDS",
    b"P5": "PGM",
    b"P6": "PPM",
}
_ARCHIVES = (b"PK\x03\x04", b"Rar!", b"7z\xbc\xaf\x27\x1c", b"\x1f\x8b", b"BZh", b"\xfd7zXZ")
_FILMS = (b"isom", b"iso2", b"mp41", b"mp42", b"qt  ", b"avc1", b"M4V ", b"3gp4", b"3gp5")
_LOOKED_AT = 2**16
_TIFF = (b"II*\0", b"MM\0*")


def _is_film(start: bytes) -> bool:
    """Return whether a file begins as Matroska, WebM or AVI."""
    return start.startswith(b"\x1a\x45\xdf\xa3") or (start[:4], start[8:12]) == (b"RIFF", b"AVI ")


def _is_text(start: bytes) -> bool:
    """Return whether a file begins as text in UTF-8, which may be cut in the middle of a letter."""
    try:
        text = getincrementaldecoder("utf-8-sig")().decode(start)
    except UnicodeDecodeError:
        return False
    return bool(text) and all(c.isprintable() or c.isspace() for c in text)


def refuse_other_contents(path: Path) -> None:
    """Raise ``UnusablePicture`` with the remedy where it can be told what a file holds that is no
    photo; ``OSError`` where it cannot be read.
    """
    with open_regular(path) as file:
        start = file.read(_LOOKED_AT)
    for begins, kind in _OTHER_KINDS.items():
        if start.startswith(begins):
            raise UnusablePicture(f"of a kind that is not read ({kind}); save it as JPEG or PNG")
    if start.startswith(_ARCHIVES):
        raise UnusablePicture("an archive; unpack it, and name the folder that comes out")
    if (start[4:8] == b"ftyp" and start[8:12] in _FILMS) or _is_film(start):
        raise UnusablePicture("a film under a picture's name; call it .mp4 or .mov")
    if start.startswith(b"version https://git-lfs"):
        raise UnusablePicture("a pointer of Git LFS, not the photo; fetch that with git lfs pull")
    if _is_text(start):
        raise UnusablePicture("a web page or other text, as of a failed download; fetch it again")
    if start and not any(start):
        raise UnusablePicture("nothing but zeros, as of a copy that broke off; copy it again")
    if start[:4] in _TIFF:
        _refuse_tiff(path)


def _refuse_tiff(path: Path) -> None:
    """Raise ``UnusablePicture`` with what is unusual about a TIFF, if its tags tell."""
    try:
        with open_regular(path) as file:
            refusal = unread_tiff(first_tags(file))
    except Exception:  # Pillow raises anything on damaged tags
        return
    raise refusal
