"""From what people write after an option to the folder of a pretrained model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pointmap import hub
from pointmap.errors import InputError
from pointmap.outside.regular_file import home_expanded
from recon.pretrained.folder import licence_of


@dataclass(frozen=True)
class KnownRepository:
    """A published model: its short ``name``, its ``id`` on the Hugging Face hub, and the
    ``licence`` of its weights as their page has it.
    """

    name: str
    id: str
    licence: str


Known = TypeVar("Known", bound=KnownRepository)


def known_repository(name: str, table: Sequence[Known]) -> Known | None:
    """Return the model of a short name or an id, in capitals or not; None for others."""
    return next((m for m in table if name.casefold() in (m.name, m.id.casefold())), None)


def model_folder(
    option: str,
    given: str,
    table: Sequence[Known],
    patterns: Sequence[str],
    *,
    others: Sequence[str] = (),
) -> tuple[Path, str, Known | None]:
    """Return the folder of the model that ``given`` names, its licence, and what it is in the
    ``table``, if it is there.

    ``given``: a folder, an id or a short name, the latter two with @ and a revision if need be
    (:func:`pointmap.hub.download_folder`, of which the ``patterns`` are). It is downloaded unless
    it is in the cache. Raises ``InputError``, which names the ``option`` and what ``others`` it
    takes, where there is none or it cannot be had.
    """
    folder = home_expanded(given)
    if os.path.isdir(folder):
        return folder, licence_of(folder), None
    name, at, revision = given.partition("@")
    known = known_repository(name, table)
    if known is not None:
        return hub.download_folder(f"{known.id}{at}{revision}", patterns), known.licence, known
    if not hub.is_repository(given):
        names = ", ".join([*others, *(m.name for m in table)])
        raise InputError(
            f"{option} {given}: neither a folder nor a known name; give an id on the Hugging Face "
            f"hub, or one of {names}"
        )
    folder = hub.download_folder(given, patterns)
    return folder, licence_of(folder), None
