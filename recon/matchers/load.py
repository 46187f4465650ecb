"""From what people write after ``--matcher`` to a matcher."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pointmap.errors import InputError
from recon.matchers.kornia_matchers import (
    KORNIA_MATCHERS,
    kornia_is_installed,
    load_kornia_matcher,
    weights_are_here,
)
from recon.matchers.protocol import Matcher

if TYPE_CHECKING:
    import torch


def load_matcher(given: str, *, device: torch.device) -> Matcher | None:
    """Return the matcher that ``given`` names: a short name, an id on the hub, or a folder.

    "sift": None, key points of SIFT are matched anyway. "auto": the first that is installed with
    its weights, None where there is none; nothing is downloaded. Raises ``InputError`` where it
    cannot be had or used.
    """
    if given == "sift":
        return None
    if given == "auto":
        here = [known for known in KORNIA_MATCHERS if weights_are_here(known)]
        if here and kornia_is_installed():
            return load_kornia_matcher(here[0], device=device)
        return None
    for known in KORNIA_MATCHERS:
        if known.name == given:
            return load_kornia_matcher(known, device=device)
    names = ", ".join(known.name for known in KORNIA_MATCHERS)
    raise InputError(f"--matcher {given} is not known; give auto, sift or one of {names}")
