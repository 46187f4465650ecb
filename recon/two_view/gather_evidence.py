"""What the photos of a scene say of each other, pair by pair: matches, poses and focal lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pointmap.camera import Array
from recon.prediction.given_maps import priors_from_matches
from recon.progress import Advance, unheard
from recon.stage_results import (
    NetworkResult,
    PairEdge,
    PairEvidence,
    PairMatches,
    PairSketch,
    PhotoFeatures,
)
from recon.two_view.chosen_pose import PoseFrom, pointmap_edge, with_feature_matches
from recon.two_view.features import match_features
from recon.two_view.focal_lengths import FocalOptions, solve_focals
from recon.two_view.relative_pose import features_contradict, surer, verify_pair

if TYPE_CHECKING:
    from pointmap.images import Photo
    from recon.inputs import Inputs


def gather_evidence(
    inputs: Inputs,
    features: Sequence[PhotoFeatures],
    network: NetworkResult,
    options: FocalOptions,
    *,
    pose_from: PoseFrom = "auto",
    advance: Advance = unheard,
) -> PairEvidence:
    """Match the features of the pairs that the network looked at, and verify what they say.

    ``features``: of :func:`recon.two_view.features.find_features`. Given depth maps take the place
    of the network's priors. ``pose_from``: "auto" takes a pair's pose from its matches and leaves
    pointmaps that don't contradict them to the alignment; "matches" asks the pointmaps nothing;
    "procrustes" and "pnp" take every pair's pose from its pointmaps.
    """
    from recon.two_view.pointmap_pose import pointmap_poses

    photos, count = inputs.photos, len(network.pairs)
    matches = []
    for number, (i, j) in enumerate(network.pairs):
        matches.append(match_features(features[i], features[j], i, j))
        advance(number + 1, 2 * count)
    priors = network.priors
    if inputs.maps is not None:
        priors = priors_from_matches(inputs.maps, photos, matches, priors)
    focals = solve_focals(photos, matches, priors, options, known_px=inputs.known.focals_px)
    sketches = [] if pose_from == "matches" else network.sketches
    poses = pointmap_poses(sketches, priors, photos, focals.focals_px)
    hints = {} if poses is None else poses.hints()
    by_pair = {(s.i, s.j): s for s in sketches}
    edges, contradicted = [], set()
    for number, pair in enumerate(matches):
        key = (pair.i, pair.j)
        hint = hints.get(key)
        edge = _verified(photos, features, pair, by_pair, hint, focals.focals_px)
        if edge is None and key in network.local:
            # On the network's coarser grid, but they reach further than features of photos.
            edge = verify_pair(photos, network.local[key], hint, focals.focals_px)
        if pose_from == "procrustes" or pose_from == "pnp":
            there, back = by_pair[key], by_pair[key[::-1]]
            said = pointmap_edge(pose_from, there, back, photos, network.priors, focals.focals_px)
            edge = with_feature_matches(said, edge)
        if edge is not None:
            edges.append(edge)
        elif hint is not None and features_contradict(photos, pair, hint, focals.focals_px):
            contradicted.add(key)
        advance(count + number + 1, 2 * count)
    kept = [s for s in sketches if (min(s.i, s.j), max(s.i, s.j)) not in contradicted]
    return PairEvidence(matches, edges, focals, kept, priors)


def _verified(
    photos: Sequence[Photo],
    features: Sequence[PhotoFeatures],
    pair: PairMatches,
    sketches: Mapping[tuple[int, int], PairSketch],
    hint: Array | None,
    focals_px: Array,
) -> PairEdge | None:
    """Return the edge of the pair's feature matches, guided by its pointmaps if they are trusted.

    ``hint``: cam2_to_cam1 (4, 4) of trusted pointmaps.
    """
    edge = verify_pair(photos, pair, hint, focals_px)
    if hint is None:
        return edge
    guided = _guided_edge(photos, features, pair, sketches[pair.i, pair.j], hint, focals_px)
    return surer(edge, guided)


def _guided_edge(
    photos: Sequence[Photo],
    features: Sequence[PhotoFeatures],
    matches: PairMatches,
    sketch: PairSketch,
    hint: Array,
    focals_px: Array,
) -> PairEdge | None:
    """Return the edge that matches where trusted pointmaps predict them give, with all others."""
    from recon.two_view.guided_matching import guided_matches, joined_matches, pointmap_region

    i, j = matches.i, matches.j
    region = pointmap_region(
        sketch, hint, (photos[i], photos[j]), (focals_px[i], focals_px[j]), features[i].xy
    )
    found = guided_matches(features[i], features[j], i, j, region).matches
    return verify_pair(photos, joined_matches(matches, found), hint, focals_px)
