"""What the photos of a scene say of each other, pair by pair: matches, poses and focal lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pointmap.camera import Array
from recon.known_cameras import KnownCameras
from recon.options import Options
from recon.prediction.given_maps import PriorMap, priors_from_matches
from recon.progress import Advance
from recon.stage_results import (
    NetworkResult,
    PairEdge,
    PairEvidence,
    PairMatches,
    PairSketch,
    PhotoFeatures,
)

if TYPE_CHECKING:
    from pointmap.images import Photo


def gather_evidence(
    photos: Sequence[Photo],
    features: Sequence[PhotoFeatures],
    network: NetworkResult,
    known: KnownCameras,
    maps: Sequence[PriorMap] | None,
    options: Options,
    advance: Advance,
) -> PairEvidence:
    """Match the features of the pairs that the network looked at, and verify what they say.

    ``features`` are those of ideal photos (:meth:`KnownCameras.ideal_features`). Depth ``maps``, if
    given, take the place of the network's priors.
    """
    from recon.two_view.features import match_features
    from recon.two_view.focal_lengths import solve_focals
    from recon.two_view.pointmap_pose import pointmap_poses
    from recon.two_view.relative_pose import features_contradict, surer, verify_pair

    total = 2 * len(network.pairs)
    matches = []
    for number, (i, j) in enumerate(network.pairs):
        matches.append(match_features(features[i], features[j], i, j))
        advance(number + 1, total)
    priors = network.priors
    if maps is not None:
        priors = priors_from_matches(maps, photos, matches, priors)
    focals = solve_focals(photos, matches, priors, options.focal, known_px=known.focals_px)
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
