"""What a finished alignment says of itself, in numbers that a verdict can be made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.distance import pdist

from pointmap.camera import Array, Index, Mask, rotation_angle_deg
from pointmap.images import Photo
from recon.alignment.compared_pictures import ComparedPictures
from recon.alignment.division import best_division
from recon.alignment.doppelgangers import suspicion
from recon.alignment.explained import ENOUGH, PairFits, pair_fits, placed_edges, points_distance
from recon.alignment.moving_things import MovingThings
from recon.stage_results import Alignment, NetworkResult
from recon.verdict.flat_joint import joined_by_flat, shows_small_flat_thing
from recon.verdict.network_witness import NetworkWitness, network_witness
from recon.verdict.second_motion import second_motion
from recon.verdict.strain import strain
from recon.verdict.uncertainty import uncertainty

# Pairs of so many verified matches are not verified by chance: they count where there are some.
_STRONG = 60
# A strong pair of which fewer matches fit contradicts the scene.
_CONTRADICTS = 0.5
# Matches that fit count so many times where a division of the photos is sought: of what repeats,
# half of the pairs may contradict right cameras.
_FITTING = 2.0
# Of more photos some stand for all where every pair is looked at.
_MANY = 200
# Photos of other shapes (long over short side, to a hundredth) are other cameras', of which some
# have lenses this many times as long (logarithm) as one camera's zooms differ by.
_SHAPE, _OTHER_CAMERAS = 0.01, np.log(2)


@dataclass(frozen=True)
class SceneEvidence:
    """Signs of how right a scene's cameras are, that don't ask what the cameras were made from.

    ``explained``: share of the verified matches of strong pairs that fit the cameras;
    ``contradicting``: share of these pairs whose matches mostly don't; ``strain``: how much better
    matches fit their own pair's geometry (:mod:`recon.verdict.strain`); ``error_deg``: typical
    error of the median pair of photos that the observations' own errors cause, ``shift_deg``: how
    far a richer camera would move it, and the share of squared errors it would leave, ``left``, all
    of :mod:`recon.verdict.uncertainty` (NaN without points); ``look_alikes``: how strongly (natural
    logarithm) photos contradict that they show one place; ``divided``: how many more matches
    contradict how two groups of photos stand to each other than twice those that fit it;
    ``second_motion``: matches of few photos that agree on another motion than the cameras', as a
    share of those that fit these; ``focal_spread``: how many times as long as the shortest focal
    length the longest is (natural logarithm), of photos whose files tell none, and of one shape, or
    of all, half as many times, where that is more; ``parallax_deg``: how far apart the median pair
    of cameras is, seen from the points; ``moves``: cameras stand apart; ``turn_deg``: how far
    photos turn.

    Of each photo (N,), NaN where it sees nothing: ``photo_explained``, ``photo_rotation_deg``,
    ``photo_direction_deg`` and ``photo_shift_deg``; whether it was ``placed``; whether one small,
    flat thing joins it to the others, ``photo_flat`` (:mod:`recon.verdict.flat_joint`); how many
    points it sees, ``photo_points``; and of
    ``photo_partners`` (N, 2) the photo that it shares the most points with, and the one of the
    others that these two do, -1 where there is none.

    ``again_deg``: how far from these cameras others stand that were solved for again
    (:mod:`recon.verdict.solved_again`), ``network``: what the network says against them
    (:mod:`recon.verdict.network_witness`); None where that was not asked, or tells nothing.
    """

    explained: float
    contradicting: float
    strain: float
    error_deg: float
    shift_deg: float
    left: float
    look_alikes: float
    divided: float
    second_motion: float
    focal_spread: float
    parallax_deg: float
    moves: bool
    turn_deg: float
    placed: Mask
    photo_explained: Array
    photo_rotation_deg: Array
    photo_direction_deg: Array
    photo_shift_deg: Array
    photo_partners: Index
    photo_flat: Mask
    photo_points: Index
    again_deg: float | None = None
    network: NetworkWitness | None = None


TellEvidence = Callable[[Sequence[Photo], Alignment], SceneEvidence]
"""As :func:`scene_evidence`, or one that keeps what it found."""


def with_pictures(
    evidence: SceneEvidence,
    photos: Sequence[Photo],
    alignment: Alignment,
    compared: ComparedPictures | None = None,
    seen: NetworkResult | None = None,
) -> SceneEvidence:
    """Return the :func:`scene_evidence` of an alignment with that of what was ``compared`` of the
    pictures, and what the network has ``seen`` in them, if anything was.
    """
    if compared is not None and len(compared.pairs):
        evidence = replace(evidence, look_alikes=suspicion(photos, alignment, compared)[0])
    if seen is not None:
        evidence = replace(evidence, network=network_witness(photos, alignment, seen))
    return evidence


def scene_evidence(photos: Sequence[Photo], alignment: Alignment) -> SceneEvidence:
    """Return the evidence for and against an alignment that its matches are; deterministic."""
    # Who walks through is no sign against the cameras.
    moving = MovingThings.of(photos, alignment)
    fits = _without_labels(photos, alignment, moving.fits_without(photos, alignment))
    verified = pair_fits(photos, alignment).matches
    weight = np.minimum(fits.matches, ENOUGH).astype(np.float64)
    strong = (verified >= _STRONG) & (2 * fits.matches >= verified)
    counted = strong if strong.any() else np.ones(len(strong), bool)
    errors = uncertainty(photos, alignment)
    return SceneEvidence(
        explained=_mean(fits.share[counted], weight[counted]),
        contradicting=_mean((fits.share < _CONTRADICTS)[counted], counted[counted]),
        strain=strain(photos, alignment, moving),
        error_deg=errors.pair_deg,
        shift_deg=errors.pair_shift_deg,
        left=errors.left,
        look_alikes=suspicion(photos, alignment, ComparedPictures.none())[0],
        divided=_divided(fits, len(photos)),
        second_motion=second_motion(photos, alignment),
        focal_spread=_focal_spread(photos, alignment),
        parallax_deg=_parallax_deg(alignment),
        moves=bool(fits.moves.any()) or len(alignment.tracks.points) > 0,
        turn_deg=_turn_deg(alignment, fits),
        placed=alignment.placed,
        photo_explained=fits.of_photos(len(photos)),
        photo_rotation_deg=errors.rotation_deg,
        photo_direction_deg=errors.direction_deg,
        photo_shift_deg=errors.shift_deg,
        photo_partners=_partners(alignment),
        photo_flat=joined_by_flat(photos, alignment),
        photo_points=np.asarray(alignment.sees.sum(axis=1), np.int64),
    )


def _without_labels(photos: Sequence[Photo], alignment: Alignment, fits: PairFits) -> PairFits:
    """Return what pairs say without those that contradict the cameras by one small, flat thing: a
    label that is printed on two sides of a carton matches itself.
    """
    label = fits.share < _CONTRADICTS
    for n, edge in enumerate(placed_edges(alignment)):
        label[n] = label[n] and shows_small_flat_thing(photos, edge)
    return replace(fits, matches=np.where(label, 0, fits.matches))


def _divided(fits: PairFits, count: int) -> float:
    """Return by how much matches speak against how two groups of photos stand to each other."""
    number = np.minimum(fits.matches, ENOUGH)
    weights = number * (_FITTING * fits.share - (1 - fits.share))
    return abs(best_division(fits.pairs, weights, count)[0])


def _focal_spread(photos: Sequence[Photo], alignment: Alignment) -> float:
    """Return the logarithm of how far focal lengths, in long sides, are apart that no file told.

    Of photos of one shape, or of all less what cameras of several kinds differ by.
    """
    by_shape: dict[int, list[float]] = {}
    for k, photo in enumerate(photos):
        if alignment.cam_to_world[k] is not None and photo.exif_focal_px is None:
            long, short = max(photo.width, photo.height), min(photo.width, photo.height)
            logarithm = float(np.log(alignment.intrinsics[k, 0, 0] / long))
            by_shape.setdefault(round(long / short / _SHAPE), []).append(logarithm)
    if not by_shape:
        return 0.0
    of_one = max(np.ptp(own) for own in by_shape.values())
    return float(max(of_one, np.ptp(np.concatenate([*by_shape.values()])) - _OTHER_CAMERAS))


def _parallax_deg(alignment: Alignment) -> float:
    centres = np.array([pose[:3, 3] for pose in alignment.cam_to_world if pose is not None])
    if len(centres) < 2:
        return 0.0
    some = centres[:: -(-len(centres) // _MANY)]
    return float(np.degrees(np.median(pdist(some)) / points_distance(alignment)))


def _turn_deg(alignment: Alignment, fits: PairFits) -> float:
    poses = alignment.cam_to_world
    turned = []
    for i, j in fits.pairs.tolist():
        first, second = poses[i], poses[j]
        assert first is not None and second is not None
        turned.append(rotation_angle_deg(first[:3, :3].T @ second[:3, :3]))
    return float(np.median(turned)) if turned else 0.0


def _partners(alignment: Alignment) -> Index:
    """Return of each photo which one it shares the most points with, and which one of the others
    these two do, (N, 2); -1 where no photo shares any.
    """
    shared = alignment.sees @ alignment.sees.T
    partners = np.full((shared.shape[0], 2), -1, np.int64)
    for k, mine in enumerate(partners):
        with_k = shared[[k]].toarray().ravel()
        with_k[k] = 0
        if with_k.any():
            mine[0] = with_k.argmax()
            with_both = with_k + shared[[mine[0]]].toarray().ravel()
            with_both[[k, mine[0]]] = 0
            mine[1] = with_both.argmax() if with_both.any() else -1
    return partners


def _mean(values: Array | Mask, weight: Array | Mask) -> float:
    return float(np.average(values, weights=weight)) if weight.sum() else 1.0
