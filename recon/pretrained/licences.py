"""Licences of weights, by the names that their publishers give them."""

from __future__ import annotations

import logging

logger = logging.getLogger(__name__)


def may_be_sold(licence: str) -> bool:
    """Return whether a licence allows commercial use, as far as its name tells."""
    name = licence.casefold()
    return not any(part in name for part in ("-nc", "noncommercial", "amlr", "research"))


def warn_of_licence(model: str, licence: str) -> None:
    """Warn of weights that must not be used commercially."""
    if not may_be_sold(licence):
        logger.warning("the weights of %s are for non-commercial use alone: %s", model, licence)
