"""What the photos of a scene say of each other, pair by pair: matches, poses and focal lengths."""

from __future__ import annotations

from collections.abc import Sequence
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
from recon.two_view.focal_lengths import FocalOptions, solve_focals

if TYPE_CHECKING:
    from pointmap.images import Photo
    from recon.inputs import Inputs


def gather_evidence(
    inputs: Inputs,
    features: Sequence[PhotoFeatures],
    network: NetworkResult,
    options: FocalOptions,
    *,
    advance: Advance = unheard,
) -> PairEvidence:
    """Match the features of the pairs that the network looked at, and verify what they say.

    ``features``: of :func:`recon.two_view.features.find_features`. Given depth maps take the place
    of the network's priors.
    """
    from recon.two_view.features import match_features
    from recon.two_view.pointmap_pose import pointmap_poses
    from recon.two_view.relative_pose import features_contradict, surer, verify_pair

    photos = inputs.photos
    total = 2 * len(network.pairs)
    matches = []
    for number, (i, j) in enumerate(network.pairs):
        matches.append(match_features(features[i], features[j], i, j))
        advance(number + 1, total)
    priors = network.priors
    if inputs.maps is not None:
        priors = priors_from_matches(inputs.maps, photos, matches, priors)
    focals = solve_focals(photos, matches, priors, options, known_px=inputs.known.focals_px)
    poses = pointmap_poses(network.sketches, priors, photos, focals.focals_px)
    hints = {} if poses is None else poses.hints()
    sketches = {(s.i, s.j): s for s in network.sketches}
    edges, contradicted = [], set()
    for number, pair in enumerate(matches):
        key = (pair.i, pair.j)
        hint = hints.get(key)
        edge = verify_pair(photos, pair, hint, focals.focals_px)
        if hint is not None:
            guided = _guided_edge(photos, features, pair, sketches[key], hint, focals.focals_px)
            edge = surer(edge, guided)
        if edge is None and key in network.local:
            # On the network's coarser grid, but they reach further than features of photos.
            edge = verify_pair(photos, network.local[key], hint, focals.focals_px)
        if edge is not None:
            edges.append(edge)
        elif hint is not None and features_contradict(photos, pair, hint, focals.focals_px):
            contradicted.add((pair.i, pair.j))
        advance(len(matches) + number + 1, total)
    kept = [s for s in network.sketches if (min(s.i, s.j), max(s.i, s.j)) not in contradicted]
    return PairEvidence(matches, edges, focals, kept, priors)


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
    from recon.two_view.relative_pose import verify_pair

    i, j = matches.i, matches.j
    region = pointmap_region(
        sketch, hint, (photos[i], photos[j]), (focals_px[i], focals_px[j]), features[i].xy
    )
    found = guided_matches(features[i], features[j], i, j, region).matches
    return verify_pair(photos, joined_matches(matches, found), hint, focals_px)
