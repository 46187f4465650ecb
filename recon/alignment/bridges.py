"""Edges that would join groups of photos which each hang together without them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from recon.prediction.photo_graph import component_labels
from recon.stage_results import PairEdge

# A group of so many photos is a place of its own, which one or two weak edges don't join to
# another: two houses that look alike have those. Half of six photos of one thing is less.
_GROUP = 4
_LEAST_BRIDGES = 3


def without_lone_bridges(
    before: Sequence[PairEdge], edges: Sequence[PairEdge], count: int
) -> list[PairEdge]:
    """Return ``edges`` of ``count`` photos without new ones that join two places too weakly.

    ``before``: edges that were verified in the usual way. What is new joins two groups of these
    that have four photos or more only if three edges or more do. A photo without a group, or with
    one other, may be joined by a single edge: that is what photos are matched again for.
    """
    verified = {(edge.matches.i, edge.matches.j) for edge in before}
    group = component_labels(count, verified)
    sizes = np.bincount(group)

    def joined(edge: PairEdge) -> tuple[int, int] | None:
        """Return the two places that a new edge joins, None where it joins no two."""
        pair = edge.matches.i, edge.matches.j
        first, second = sorted(group[list(pair)].tolist())
        large = min(sizes[first], sizes[second]) >= _GROUP
        return (first, second) if pair not in verified and first != second and large else None

    bridges = Counter(joined(edge) for edge in edges)
    return [
        edge
        for edge in edges
        if (place := joined(edge)) is None or bridges[place] >= _LEAST_BRIDGES
    ]
