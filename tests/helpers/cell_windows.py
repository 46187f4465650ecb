"""Windows of the network's matcher for tests that say where its matches are."""

from __future__ import annotations

import torch

from pointmap.network.matched.cell_matches import FINE_CELL, WINDOW, CellMatches, Window


def blind_window(found: CellMatches) -> Window:
    """Return a window that sees nothing fine: matches stay in its middle, where they were."""
    flat = torch.zeros(*found.mass.shape, WINDOW**2)
    return Window(found, flat, (found.positions - 0.5) / FINE_CELL - WINDOW // 2)
