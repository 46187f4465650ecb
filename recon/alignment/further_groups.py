"""Photos that are no part of a scene, but hang together among themselves: other places."""

from __future__ import annotations

from recon.prediction.photo_graph import connected_groups
from recon.stage_results import Alignment

# Two photos that contradict the scene may well agree with each other by chance; three hardly do.
_LEAST_CONTRADICTING = 3


def further_groups(alignment: Alignment) -> list[list[int]]:
    """Return the groups of photos without a place that verified edges connect, largest first.

    A photo that nothing relates to another one is no group, nor are two that edges tie to the scene
    although they don't fit into it.
    """
    count = len(alignment.cam_to_world)
    placed = alignment.placed
    pairs = [(edge.matches.i, edge.matches.j) for edge in alignment.edges]
    tied = {k for i, j in pairs if placed[i] != placed[j] for k in (i, j)}
    among = [(i, j) for i, j in pairs if not placed[i] and not placed[j]]
    return [
        group
        for group in connected_groups(count, among)
        if len(group) >= (_LEAST_CONTRADICTING if tied & set(group) else 2)
    ]
