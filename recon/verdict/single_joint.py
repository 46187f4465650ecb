"""Two groups of photos that a single photo joins: nothing tells how large one is beside the other.

Matches between two photos say nothing of how far they stand apart. That follows from points which
a third photo sees. Where all that two groups have in common is one photo, and none of its points is
seen in both, either group may be made larger around that photo, and every match fits as before.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import breadth_first_order, connected_components

from pointmap.camera import Mask
from recon.alignment.closed_loops import BY_CHANCE
from recon.stage_results import Alignment

# A photo by itself is no group; from this share on of the pairs of photos, a scene's cameras are in
# doubt whose relative sizes are open.
_FEWEST, _SHARE = 2, 0.2
# Of all points so many may be seen in both groups by chance, and tell nothing. One in a small scene
# does tell: two right scenes of benchmarks.verdict, of six and eight photos, had just one.
_POINTS_BY_CHANCE = 0.001


def joined_by_one(alignment: Alignment) -> tuple[int, Mask] | None:
    """Return the photo that alone joins a group (N,) of photos to all others, and that group, the
    smaller one; None where no photo does, or where this says nothing of most pairs of photos.
    """
    placed = np.flatnonzero(alignment.placed)
    count = len(placed)
    if count < 2 * _FEWEST + 1:
        return None
    ties = _ties(alignment)[placed][:, placed]
    for joint in _candidates(ties):
        others = np.delete(np.arange(count), joint)
        number, label = connected_components(ties[others][:, others], directed=False)
        if number < 2:
            continue
        sizes = np.bincount(label)
        apart = label != int(np.argmax(sizes))
        size = int(apart.sum())
        pairs = size * (count - 1 - size) / (count * (count - 1) / 2)
        group = np.zeros(len(alignment.cam_to_world), bool)
        group[placed[others[apart]]] = True
        if size >= _FEWEST and pairs >= _SHARE and _is_open(alignment, placed[joint], group):
            return int(placed[joint]), group
    return None


def _is_open(alignment: Alignment, joint: int, group: Mask) -> bool:
    """Return whether no more points are seen both in a ``group`` (N,) and in other photos than its
    ``joint`` than would be by chance.
    """
    sees = alignment.sees
    outside = ~group
    outside[joint] = False
    across = (sees[group].sum(axis=0) > 0) & (sees[outside].sum(axis=0) > 0)
    return bool(across.sum() <= _POINTS_BY_CHANCE * sees.shape[1])


def _ties(alignment: Alignment) -> sparse.csr_array:
    """Return a matrix (N, N), not 0 where two photos share points, or pointmaps tie them."""
    sees, count = alignment.sees, len(alignment.cam_to_world)
    shared = (sees @ sees.T) >= BY_CHANCE
    tied = alignment.pointmap_pairs
    ties = sparse.csr_array((np.ones(len(tied)), tuple(tied.T)), shape=(count, count))
    return sparse.csr_array(shared + ties + ties.T)


def _candidates(ties: sparse.csr_array) -> NDArray[np.int64]:
    """Return the photos that may join two groups: what one alone joins to the first photo comes
    after it, on the ways on which the ties are gone along.
    """
    order, before = breadth_first_order(ties, 0, directed=False)
    following = np.ones(ties.shape[0])
    for photo in order[:0:-1]:
        following[before[photo]] += following[photo]
    return np.flatnonzero(following > _FEWEST)
