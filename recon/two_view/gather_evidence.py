"""What the photos of a scene say of each other, pair by pair: poses and focal lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pointmap.camera import Array
from recon.prediction.given_maps import priors_from_matches
from recon.progress import Advance, unheard
from recon.stage_results import (
    Focals,
    NetworkResult,
    PairEdge,
    PairEvidence,
    PairMatches,
    PairSketch,
    PhotoFeatures,
    PhotoPrior,
)
from recon.two_view.chosen_pose import PoseFrom, pointmap_edge, with_feature_matches
from recon.two_view.focal_lengths import FocalOptions, solve_focals
from recon.two_view.relative_pose import features_contradict, surer, verify_pair
from recon.work.content_key import content_key, item_key
from recon.work.on_demand import Chosen, Mapped
from recon.work.pieces import Needs

# Of gather_evidence, solve_focals and pointmap_poses, for results that were kept.
_VERSION, _FOCAL_VERSION, _POINTMAP_VERSION = 4, 3, 1
_NEEDS = Needs("Relative poses", memory_mb=1100, per_task=16)

if TYPE_CHECKING:
    from pointmap.images import Photo
    from recon.inputs import Inputs


@dataclass(frozen=True)
class Matched:
    """Photos, their ``features``, what ``matches`` in pairs of them, and what the network has
    ``seen`` of some.
    """

    inputs: Inputs
    features: Sequence[PhotoFeatures]
    matches: Sequence[PairMatches]
    seen: NetworkResult

    def of_photos(self, numbers: Sequence[int], evidence: PairEvidence) -> Matched:
        """Return the same of some photos, of which the ``evidence`` is."""
        features = Chosen(self.features, numbers)
        seen = self.seen.of_photos(numbers)
        return Matched(self.inputs.of_photos(numbers), features, evidence.matches, seen)


def gather_evidence(
    matched: Matched,
    options: FocalOptions,
    *,
    pose_from: PoseFrom = "auto",
    focals: Focals | None = None,
    advance: Advance = unheard,
) -> PairEvidence:
    """Verify the feature matches of pairs, with what the network says of some of them.

    Given depth maps take the place of the network's priors. ``pose_from``: "auto" takes a pair's
    pose from its matches and leaves pointmaps that don't contradict them to the alignment;
    "matches" asks the pointmaps nothing; "procrustes" and "pnp" take every pair's pose from its
    pointmaps, which has to be predicted. ``focals``: where they have been found already.
    """
    inputs, matches, network = matched.inputs, matched.matches, matched.seen
    photos, priors = inputs.photos, network.priors
    own = None
    if inputs.maps is not None:
        own, priors = priors, priors_from_matches(inputs.maps, photos, matches, priors)
    focals = focals or _focals(inputs, matches, priors, options)
    sketches = [] if pose_from == "matches" else network.sketches
    hints = _hints(inputs, sketches, priors, focals.focals_px)
    by_pair = {(s.i, s.j): s for s in sketches}

    def asked(pair: PairMatches) -> _Asked:
        key = pair.i, pair.j
        sketched = by_pair.get(key), by_pair.get(key[::-1])
        return _Asked(pair, network.local.get(key), *sketched, hints.get(key))

    relate = _Relate(photos, matched.features, network.priors, focals.focals_px, pose_from)
    pairs = Mapped(asked, matches)
    relations = inputs.work.each(
        [relate.name(pair) for pair in pairs],
        relate,
        of=pairs,
        at_once=None,
        needs=_NEEDS,
        photos=lambda n: [str(photos[k].path) for k in (matches[n].i, matches[n].j)],
        advance=advance,
    )
    edges, contradicted = [], set()
    for pair, relation in zip(matches, relations, strict=True):
        if relation.edge is not None:
            edges.append(relation.edge)
        elif relation.contradicted:
            contradicted.add((pair.i, pair.j))
    kept = [s for s in sketches if (min(s.i, s.j), max(s.i, s.j)) not in contradicted]
    return PairEvidence(list(matches), edges, focals, kept, priors, network.pairs, own)


def _focals(
    inputs: Inputs,
    matches: Sequence[PairMatches],
    priors: Sequence[PhotoPrior],
    options: FocalOptions,
) -> Focals:
    """Return the focal lengths of all photos, kept like the pairs' poses."""
    photos, known_px = inputs.photos, inputs.known.focals_px
    return inputs.work.once(
        content_key(
            "focals",
            _FOCAL_VERSION,
            [(p.width, p.height, p.camera_key, p.exif_focal_px) for p in photos],
            [item_key(matches, n) for n in range(len(matches))],
            [item_key(priors, n) for n in range(len(priors))],
            options,
            known_px,
        ),
        lambda: solve_focals(photos, matches, priors, options, known_px=known_px),
    )


def _hints(
    inputs: Inputs, sketches: list[PairSketch], priors: Sequence[PhotoPrior], focals_px: Array
) -> dict[tuple[int, int], Array]:
    """Return cam2_to_cam1 (4, 4) of the pairs whose pointmaps are trusted, kept likewise."""
    from recon.two_view.pointmap_pose import pointmap_poses

    photos = inputs.photos
    poses = inputs.work.once(
        content_key(
            "pointmap poses",
            _POINTMAP_VERSION,
            sketches,
            [item_key(priors, n) for n in range(len(priors))],
            [(photo.width, photo.height) for photo in photos],
            focals_px,
        ),
        lambda: pointmap_poses(sketches, priors, photos, focals_px),
    )
    return {} if poses is None else poses.hints()


@dataclass(frozen=True)
class _Asked:
    """What is known of a pair: its matches, the network's ``local`` ones, the sketches of its
    predictions (i, j) and (j, i), and as ``hint`` cam2_to_cam1 (4, 4) of trusted pointmaps.
    """

    matches: PairMatches
    local: PairMatches | None
    there: PairSketch | None
    back: PairSketch | None
    hint: Array | None


@dataclass(frozen=True)
class _Relation:
    """A pair's ``edge``, if any, and whether its features contradict its pointmaps."""

    edge: PairEdge | None
    contradicted: bool


@dataclass(frozen=True)
class _Relate:
    """How two photos relate, by what concerns the two of them alone; ``focals_px`` (N,)."""

    photos: Sequence[Photo]
    features: Sequence[PhotoFeatures]
    network_priors: Sequence[PhotoPrior]
    focals_px: Array
    pose_from: PoseFrom

    def name(self, asked: _Asked) -> str:
        """Return the name of what follows for a pair."""
        pair = asked.matches
        ends = pair.i, pair.j
        return content_key(
            "relation",
            _VERSION,
            pair,
            [item_key(self.features, k) for k in ends],
            [(self.photos[k].width, self.photos[k].height, self.focals_px[k]) for k in ends],
            asked.local,
            asked.hint,
            (asked.there, asked.back),
            self.pose_from,
        )

    def __call__(self, asked: _Asked) -> _Relation:
        """Return how the photos of a pair relate."""
        photos, focals_px = self.photos, self.focals_px
        edge = self._verified(asked)
        if edge is None and asked.local is not None:
            # On the network's coarser grid, but they reach further than features of photos.
            edge = verify_pair(photos, asked.local, asked.hint, focals_px)
        contradicts = asked.hint is not None and features_contradict(
            photos, asked.matches, asked.hint, focals_px
        )
        way, there, back = self.pose_from, asked.there, asked.back
        if way == "auto" or way == "matches" or there is None or back is None:
            return _Relation(edge, contradicts)
        said = pointmap_edge(way, there, back, photos, self.network_priors, focals_px)
        return _Relation(with_feature_matches(said, edge), contradicts)

    def _verified(self, asked: _Asked) -> PairEdge | None:
        """Return the edge of the pair's feature matches, guided by pointmaps that are trusted."""
        from recon.two_view.guided_matching import guided_matches, joined_matches, pointmap_region

        photos, features, focals_px = self.photos, self.features, self.focals_px
        matches, sketch, hint = asked.matches, asked.there, asked.hint
        edge = verify_pair(photos, matches, hint, focals_px)
        if hint is None or sketch is None:
            return edge
        i, j = matches.i, matches.j
        region = pointmap_region(
            sketch, hint, (photos[i], photos[j]), (focals_px[i], focals_px[j]), features[i].xy
        )
        found = guided_matches(features[i], features[j], i, j, region).matches
        return surer(edge, verify_pair(photos, joined_matches(matches, found), hint, focals_px))
