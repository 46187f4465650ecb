"""Photos that hang on the others by weak pairs: no point of theirs is seen by a third photo."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from pointmap.camera import Index, Mask
from recon.stage_results import Alignment

# Photos hold each other that share so many points which a third one sees, too. A wrong pair shares
# a handful by chance: any point on the epipolar line will do for two photos, hardly for three.
_FIRM_POINTS = 8
# So does a pair by itself that so many matches agree on, and on no other pose: of 4,500 such pairs
# of generated streets none was more than 10 degrees off, and of wrong ones none had more than 52.
_SURE_INLIERS = 60
# Fewer photos aren't a place of their own.
_GROUP = 8


def hanging_group(alignment: Alignment) -> Mask | None:
    """Return which photos (N,) have a firm structure of their own, but hang on the largest such
    group by weak pairs of photos alone; the smallest group of several, None without any.

    A pair's essential matrix says nothing of the distance between its photos, and a wrong one
    contradicts nothing where it is all that joins two groups.
    """
    seen = alignment.sees
    group, large = _firm_groups(alignment, seen)
    if len(large) < 2:
        return None
    mine = group == large[0]
    # Photos of no group go with what they see most of.
    shared = seen @ seen.T
    among = np.isin(group, large)
    drawn = shared[:, mine].sum(axis=1) > shared[:, among & ~mine].sum(axis=1)
    return np.asarray(mine | (~among & drawn))


def weak_ties(alignment: Alignment) -> set[tuple[int, int]]:
    """Return the pairs (i, j) of photos, rightly or wrongly verified, on which groups of photos
    hang that have a firm structure of their own each.
    """
    group, large = _firm_groups(alignment, alignment.sees)
    pairs = {(edge.matches.i, edge.matches.j) for edge in alignment.edges}
    return {(i, j) for i, j in pairs if group[i] != group[j] and {group[i], group[j]} <= {*large}}


def _firm_groups(alignment: Alignment, seen: sparse.csr_array) -> tuple[Index, list[int]]:
    """Return the group (N,) of photos that hold each other firmly, of each, and the groups that may
    be places of their own, smallest first.
    """
    count = len(alignment.cam_to_world)
    often = seen[:, seen.sum(axis=0) > 2]
    firm = (often @ often.T) >= _FIRM_POINTS
    sure = [
        (edge.matches.i, edge.matches.j)
        for edge, used in zip(alignment.edges, alignment.used_edges, strict=True)
        if used and edge.pose.alternative is None and edge.pose.inliers.sum() >= _SURE_INLIERS
    ]
    tied = np.concatenate([alignment.pointmap_pairs, np.array(sure, np.int64).reshape(-1, 2)])
    ties = sparse.csr_array((np.ones(len(tied)), tuple(tied.T)), shape=(count, count))
    group = connected_components(firm + ties, directed=False)[1]
    looped = np.array(_loops(alignment, group), np.int64).reshape(-1, 2)
    ties += sparse.csr_array((np.ones(len(looped)), tuple(looped.T)), shape=(count, count))
    number, group = connected_components(firm + ties, directed=False)
    sizes = np.bincount(group, minlength=number)
    large = np.flatnonzero(sizes >= _GROUP)
    return group, large[np.argsort(sizes[large], kind="stable")].tolist()


def _loops(alignment: Alignment, group: Index) -> list[tuple[int, int]]:
    """Return pairs (i, j) that agree with the cameras and join two groups, one of them by so many
    matches, though of two poses, that it is right, where another one joins these elsewhere: both
    agree only where the loop that they make closes.
    """
    joining: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
    for edge, used in zip(alignment.edges, alignment.used_edges, strict=True):
        i, j = edge.matches.i, edge.matches.j
        if used and group[i] != group[j]:
            if group[i] > group[j]:
                i, j = j, i
            between = int(group[i]), int(group[j])
            joining.setdefault(between, []).append((int(edge.pose.inliers.sum()), i, j))
    closed = []
    for edges in joining.values():
        most, i, j = max(edges)
        if most >= _SURE_INLIERS and any(a != i and b != j for _, a, b in edges):
            closed.append((i, j))
    return closed
