"""Optional packages: whether one is installed, in a version that serves."""

from __future__ import annotations

from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

from pointmap.errors import InputError


def check_package(*names: str, least: tuple[int, int], needed_by: str) -> None:
    """Raise ``InputError`` unless one of the packages ``names`` is installed, and no older than
    the version ``least``; none is imported. ``needed_by``: what asks for it.
    """
    for name in names:
        with suppress(PackageNotFoundError):
            installed = version(name)
            break
    else:
        raise InputError(
            f"{needed_by} needs the package {names[0]}: pip install 'pointmap[models]'"
        )
    if tuple(int(part) for part in installed.split(".")[:2]) < least:
        raise InputError(
            f"{name} {installed} is too old for {needed_by}: pip install -U 'pointmap[models]'"
        )
