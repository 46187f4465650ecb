"""From evidence to a verdict: one word, the reason in one line, and how far cameras are off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pointmap.camera import Array, Mask
from pointmap.errors import some_of
from pointmap.images import Photo
from recon.alignment.compared_pictures import MANY, ComparedPictures, compare_pictures
from recon.alignment.doppelgangers import suspicion
from recon.scene import PhotoVerdict, Verdict, VerdictWord
from recon.stage_results import Alignment, NetworkResult
from recon.verdict.evidence import SceneEvidence, TellEvidence, scene_evidence, with_pictures
from recon.verdict.probability import USUAL_SPREAD, probability_wrong
from recon.verdict.single_joint import joined_by_one
from recon.verdict.solved_again import SolveAgain, solved_again, solved_again_deg

# Probabilities from which a scene is doubtful, and wrong; right and wrong ones are taken to be as
# frequent as each other.
_DOUBTFUL, _WRONG = 0.5, 0.8
# Cameras are solved for again where the probability of their being wrong is between these.
_OPEN = 0.05, 0.95
# Degrees that cameras solved for again stand elsewhere by, from which on that is the reason.
_ELSEWHERE_DEG = 2.5
# Typical error of a photo (median over its pairs), from what the observations' errors cause and
# how far a richer camera would move it, both in degrees; and what no scene is better than.
_OF_SHIFT, _FLOOR_DEG = 1.0, 0.05
# Photos of which fewer verified matches fit are doubtful, whatever the scene is.
_PHOTO_EXPLAINED = 0.6
# A photo that sees fewer points is doubtful, whatever they say. Measured: 16 of 16 that saw 23 or
# fewer were off by 5 to 156 degrees, six of nine that saw 24 to 32 by less than 3.
_PHOTO_POINTS = 24
# Share of the pairs of photos that have one in doubt, from which on a scene is.
_PAIRS_IN_DOUBT = 0.5
# A photo whose direction is so many times as uncertain as its rotation has its distance open.
_OPEN_DISTANCE = 3.0
# Expected errors of a photo that make it doubtful, and wrong.
_PHOTO_DOUBTFUL_DEG, _PHOTO_WRONG_DEG = 5.0, 15.0
# How strongly photos have to contradict each other; how much pictures may add to what points say in
# a sound scene; of how many photos at most that is asked. Measured: pictures add 0.4 and less in
# right scenes, and 1.2 and more in two thirds of those of two equal fronts; points of who walks
# through reach 3.7.
_ALIKE, _BY_PICTURES, _MANY_PHOTOS = 6.0, 1.0, 60
# Matches that speak for a division of the photos in two, from which on a scene is doubtful.
# Measured: 0 in right scenes, 218 where three photos were cut out.
_DIVIDED = 60.0
# Share of matches that agree on a second motion, from which on a scene is doubtful. Measured: up to
# 0.3 in right scenes, 0.5 where a board moves through.
_SECOND_MOTION = 0.4
# Focal lengths of two photos that are so far from the network's (logarithm) are the reason.
_STRETCHED = 0.18
# Strain that is told as the reason: matches lie 1.4 times as far off as they need to.
_STRAINED = 0.33
# Shares of the verified matches: if fewer fit, that is the reason; and given cameras are wrong.
_EXPLAINED, _CONTRADICTED = 0.8, 0.5
# Photos from one place that turn by less, in degrees, show the same.
_SAME_DEG = 0.5
# Cameras that stand so near to each other, in degrees seen from what they show, and turn by no
# more, have hardly moved: 1.4 and 0.4 where a head was turned before a table that stood still.
_HARDLY_MOVED_DEG = 2.0


def judge(
    photos: Sequence[Photo],
    alignment: Alignment,
    compared: ComparedPictures | None = None,
    seen: NetworkResult | None = None,
    *,
    learned: bool = False,
    given_poses: bool = False,
    given_lenses: bool = False,
    by_maps: bool = False,
    tell: TellEvidence = scene_evidence,
    again: SolveAgain = solved_again,
) -> Verdict | None:
    """Return how far the cameras of a scene can be believed; None with fewer than two placed.

    ``compared``: what the photos find of each other's pictures, ``seen``: what the network sees in
    them, if these were looked at.
    ``learned``: matches may be those of a learned matcher, which gives as many where two photos
    show hardly anything of the same. ``given_poses``, ``given_lenses``: what the user says of
    cameras or of lenses was taken as it is. ``by_maps``: a depth model's maps may hold cameras that
    matches don't. ``tell`` gives the evidence of matches, ``again`` solves for the cameras from
    other starts.
    """
    placed = int(alignment.placed.sum())
    if placed < 2:
        return None
    of_network = None if given_poses or given_lenses or by_maps else seen
    evidence = with_pictures(tell(photos, alignment), photos, alignment, compared, of_network)
    if given_poses or given_lenses:
        evidence = replace(evidence, focal_spread=0.0)
    if given_poses:
        nothing = np.zeros(len(photos), np.int64)
        evidence = replace(evidence, photo_flat=nothing > 0, photo_points=nothing)
    if not (given_poses or given_lenses or by_maps):
        evidence = asked_again(evidence, photos, alignment, again)
    verdict = verdict_of(evidence, [photo.name for photo in photos])
    if given_poses and evidence.explained < _EXPLAINED:
        return _of_given(verdict, evidence.explained)
    if given_lenses and verdict.word != "sound" and evidence.shift_deg > evidence.error_deg:
        return replace(
            verdict,
            reason="cameras of other lenses than were given would stand elsewhere: check what "
            "--known-cameras or --focal.focal-px say of focal lengths, or leave that out",
        )
    if alignment.cut_out and verdict.word == "sound":
        return doubted(
            verdict,
            "each photo was cut out of a larger one elsewhere, and its principal point is hardly "
            "held by matches, or what they show repeats (windows, tiles): give the original files",
        )
    joint = None if given_poses or by_maps else joined_by_one(alignment)
    if joint is not None and verdict.word == "sound":
        return doubted(verdict, _open_size(photos, *joint))
    if learned and placed == 2 and verdict.word == "sound" and _most_disagree(alignment):
        return doubted(
            verdict,
            "most matches of the two photos contradict their cameras, and other cameras may have "
            "as many: add photos in between",
        )
    return verdict


def _open_size(photos: Sequence[Photo], joint: int, group: Mask) -> str:
    """Return what is open where a photo alone joins a ``group`` (N,) to the others."""
    names = some_of([photos[k].name for k in np.flatnonzero(group).tolist()])
    return (
        f"{photos[joint].name} alone joins {names} to the others: nothing tells how large what "
        "these show is beside the rest; add photos around there, each sharing half of the last one"
    )


def asked_again(
    evidence: SceneEvidence,
    photos: Sequence[Photo],
    alignment: Alignment,
    again: SolveAgain = solved_again,
) -> SceneEvidence:
    """Return the evidence on a scene, with how far cameras stand that are solved for again where
    the rest leaves open what to think of it.
    """
    if not np.isfinite(evidence.shift_deg):
        return evidence
    least, most = _OPEN
    if not least < probability_wrong(evidence) < most:
        return evidence
    return replace(evidence, again_deg=solved_again_deg(again(photos, alignment)))


def _of_given(verdict: Verdict, explained: float) -> Verdict:
    """Return the verdict on cameras of a file, of which matches say that they are others."""
    doubtful = doubted(
        verdict,
        f"only {explained:.0%} of the verified matches fit the cameras that were given: check "
        "their axes and direction (camera to world), their focal lengths and names, or leave out "
        "--known-cameras to have them solved",
    )
    if explained >= _CONTRADICTED and verdict.word != "wrong":
        return doubtful
    return replace(
        doubtful,
        word="wrong",
        probability_wrong=max(verdict.probability_wrong, _WRONG),
        photos=tuple(photo and replace(photo, word="wrong") for photo in verdict.photos),
    )


def judge_alike(
    verdict: Verdict | None, photos: Sequence[Photo], alignment: Alignment
) -> Verdict | None:
    """Return the verdict, doubtful where it was sound and pictures from nearly one spot show
    something else in places: too little to part them. Of many photos points tell.
    """
    if verdict is None or verdict.word != "sound" or not show_two_places(photos, alignment):
        return verdict
    return doubted(
        verdict,
        "photos from nearly one spot show something else around what matches: two places that look "
        "alike, or something large that moved: reconstruct each by itself, or mask what moves",
    )


def show_two_places(photos: Sequence[Photo], alignment: Alignment) -> bool:
    """Return whether pictures from nearly one spot show something else in places."""
    if len(photos) > _MANY_PHOTOS:
        return False
    compared = compare_pictures(photos, alignment, missing=MANY)
    strength, by_points = suspicion(photos, alignment, compared, ComparedPictures.none())
    return strength > _ALIKE or strength - by_points > _BY_PICTURES


def doubted(verdict: Verdict, reason: str) -> Verdict:
    """Return a verdict of sound cameras made doubtful, those of each photo, too."""

    def photo_doubted(photo: PhotoVerdict) -> PhotoVerdict:
        return replace(photo, word="doubtful") if photo.word == "sound" else photo

    return replace(
        verdict,
        word="doubtful",
        probability_wrong=_DOUBTFUL,
        reason=reason,
        photos=tuple(photo and photo_doubted(photo) for photo in verdict.photos),
    )


def _most_disagree(alignment: Alignment) -> bool:
    """Return whether most matches of the pairs that were used don't agree with their poses."""
    edges = [e for e, used in zip(alignment.edges, alignment.used_edges, strict=True) if used]
    agreeing = sum(int(edge.pose.inliers.sum()) for edge in edges)
    return agreeing < 0.5 * sum(len(edge.matches) for edge in edges)


def verdict_of(evidence: SceneEvidence, names: Sequence[str]) -> Verdict:
    """Return the verdict that the evidence leads to, on photos of these ``names``."""
    if not np.isfinite(evidence.shift_deg):
        return _without_points(evidence, names)
    probability = probability_wrong(evidence)
    word = _word(probability, _DOUBTFUL, _WRONG)
    rotation, direction = expected_errors_deg(evidence)
    verdict = Verdict(
        word,
        _reason(evidence) if word != "sound" else _sound_reason(evidence),
        round(probability, 4),
        _middle(rotation),
        _middle(direction),
        _photo_verdicts(evidence, names, rotation, direction),
    )
    if word != "sound":
        return verdict
    if (loose := loosely_held(evidence)) is not None:
        return doubted(verdict, loose)
    if (reason := _by_photos(verdict)) is not None:
        return replace(verdict, word="doubtful", probability_wrong=_DOUBTFUL, reason=reason)
    return verdict


def _by_photos(verdict: Verdict) -> str | None:
    """Return what is said of single photos, where most pairs of three photos or more have one that
    is in doubt; None where they don't.
    """
    placed, odd = sum(photo is not None for photo in verdict.photos), verdict.in_doubt
    certain = placed - len(odd)
    if placed < 3 or certain * (certain - 1) > (1 - _PAIRS_IN_DOUBT) * placed * (placed - 1):
        return None
    names = some_of([photo.name for photo in odd])
    return f"of {placed} photos {len(odd)} are in doubt ({names}); of the first, {odd[0].reason}"


def loosely_held(evidence: SceneEvidence) -> str | None:
    """Return why a scene whose matches fit holds together too loosely; None where it doesn't."""
    if evidence.divided > _DIVIDED:
        return (
            "most matches between two groups of the photos contradict how these stand to each "
            "other: things that repeat, or photos that were cropped or zoomed; add photos in "
            "between, or reconstruct each group by itself"
        )
    if evidence.second_motion > _SECOND_MOTION:
        return (
            "many matches agree on another motion than the cameras': something large that moved "
            "between the photos, or what repeats; add photos, or mask what moves"
        )
    return None


def expected_errors_deg(evidence: SceneEvidence) -> tuple[Array, Array]:
    """Return each photo's typical error (N,) of rotation and of direction relative to the others;
    NaN where nothing tells.
    """
    shift = _OF_SHIFT * evidence.photo_shift_deg
    return (
        np.sqrt(evidence.photo_rotation_deg**2 + shift**2 + _FLOOR_DEG**2),
        np.sqrt(evidence.photo_direction_deg**2 + shift**2 + _FLOOR_DEG**2),
    )


def _word(value: float, doubtful: float, wrong: float) -> VerdictWord:
    return "wrong" if value >= wrong else "doubtful" if value >= doubtful else "sound"


def _without_points(evidence: SceneEvidence, names: Sequence[str]) -> Verdict:
    """Return the verdict on a scene in which no point is seen in parallax."""
    same = not evidence.moves and evidence.turn_deg < _SAME_DEG
    nothing = np.full(len(names), np.nan)
    if same:
        return Verdict(
            "doubtful",
            "the photos show the same from the same place: copies, or what stands still while the "
            "camera or a turntable moves; take them from several places, or mask what stands still",
            0.5,
            None,
            None,
            _photo_verdicts(evidence, names, nothing, nothing),
        )
    one_place = not evidence.moves
    return Verdict(
        "sound" if one_place else "doubtful",
        "all photos were taken from one place: their rotations hold, but depth is the network's "
        "alone; step aside between photos to have it measured"
        if one_place
        else "no point is seen by several photos, only pointmaps place them: add photos that "
        "overlap more",
        0.02 if one_place else 0.3,
        None,
        None,
        _photo_verdicts(evidence, names, nothing, nothing),
    )


def _sound_reason(evidence: SceneEvidence) -> str:
    return (
        f"{evidence.explained:.0%} of the verified matches fit, and no freer camera would "
        "explain them otherwise"
    )


def _reason(evidence: SceneEvidence) -> str:
    """Return what speaks most against the scene, and what to do, in one line."""
    if evidence.look_alikes > 6:
        return (
            "photos match that show something else around what matches, two places that look "
            "alike: reconstruct the photos of each place by themselves"
        )
    if evidence.contradicting > 0.1 or evidence.explained < _EXPLAINED:
        return (
            f"only {evidence.explained:.0%} of the verified matches fit the cameras: repeated or "
            "moving things, or a lens unlike a pinhole (fisheye, panorama); leave such photos out"
        )
    if evidence.focal_spread > USUAL_SPREAD:
        return (
            "the photos would be zoomed so that focal lengths are up to "
            f"{np.exp(evidence.focal_spread):.1f} times apart, of which no file tells: give the "
            "original files, with their EXIF, or --focal.focal-px if they were not zoomed"
        )
    network = evidence.network
    if network is not None and network.focal_apart > _STRETCHED:
        return (
            "the focal length that the matches of the two photos give is "
            f"{np.exp(network.focal_apart):.1f} times off what the network sees in them: give the "
            "original files, with their EXIF, or --focal.focal-px, or add photos in between"
        )
    if network is not None and network.against > 0:
        return (
            "the network sees how the two photos stand to each other "
            f"{network.apart_deg:.0f} degrees otherwise than their matches have it: add photos in "
            "between"
        )
    if evidence.again_deg is not None and evidence.again_deg > _ELSEWHERE_DEG:
        return (
            "solved for again from other focal lengths, the cameras stand "
            f"{evidence.again_deg:.2g} degrees elsewhere: matches hardly hold them; add photos in "
            "between, taken a step aside, or give --focal.focal-px"
        )
    if max(evidence.parallax_deg, evidence.turn_deg) < _HARDLY_MOVED_DEG:
        return (
            f"the camera moved by {evidence.parallax_deg:.1f} degrees between the photos, seen "
            "from what they show, which hardly holds it: step aside between photos; of a thing on "
            "a turntable, mask what stands still behind it (--masks)"
        )
    if evidence.shift_deg > evidence.error_deg:
        return (
            "cameras with a free centre, distortion and zoom would stand elsewhere: photos that "
            "were zoomed or cropped, or a fisheye; give the original files, or --known-cameras"
        )
    if evidence.strain > _STRAINED:
        return (
            f"matches lie {np.exp(evidence.strain):.1f} times as far from where the cameras have "
            "them as each pair of photos by itself allows: inaccurate matches (blur), or photos "
            "that were zoomed, cropped or bent; give sharp, original files"
        )
    return (
        "few matches or little parallax hold the cameras, to about "
        f"{evidence.error_deg:.2g} degrees: add photos in between, taken a step aside"
    )


def _photo_verdicts(
    evidence: SceneEvidence, names: Sequence[str], rotation: Array, direction: Array
) -> tuple[PhotoVerdict | None, ...]:
    verdicts: list[PhotoVerdict | None] = []
    for k, name in enumerate(names):
        explained = float(evidence.photo_explained[k])
        if not evidence.placed[k]:
            verdicts.append(None)
            continue
        error = float(np.fmax(rotation[k], direction[k]))
        word: VerdictWord = "sound"
        if np.isfinite(error):
            word = _word(error, _PHOTO_DOUBTFUL_DEG, _PHOTO_WRONG_DEG)
        few = 0 < evidence.photo_points[k] < _PHOTO_POINTS
        if word == "sound" and (few or explained < _PHOTO_EXPLAINED or evidence.photo_flat[k]):
            word = "doubtful"
        reason = None if word == "sound" else _photo_reason(evidence, names, k)
        errors = _degrees(rotation[k]), _degrees(direction[k])
        verdicts.append(PhotoVerdict(name, word, *errors, reason))
    return tuple(verdicts)


def _photo_reason(evidence: SceneEvidence, names: Sequence[str], k: int) -> str:
    """Return what speaks most against photo ``k``, and what to do, in one line."""
    if evidence.photo_explained[k] < _PHOTO_EXPLAINED:
        return (
            f"only {evidence.photo_explained[k]:.0%} of its verified matches fit the cameras: what "
            "repeats or moves, or another zoom; leave it out, or add photos beside it"
        )
    if 0 < evidence.photo_points[k] < _PHOTO_POINTS:
        return (
            f"only {evidence.photo_points[k]} points hold it, and so many wrong matches may agree "
            "by chance: add photos beside it"
        )
    if evidence.photo_flat[k]:
        return (
            "one flat thing in a small part of the picture is all that joins it to the others: if "
            "that repeats (wallpaper, windows), it stands elsewhere; add photos in between"
        )
    turned, aside = evidence.photo_rotation_deg[k], evidence.photo_direction_deg[k]
    if evidence.photo_shift_deg[k] > max(turned, aside):
        return (
            "a camera with a free centre, distortion and zoom would stand elsewhere: it was zoomed "
            "or cropped, or little holds it; give the original file, or add photos beside it"
        )
    nearest, third = evidence.photo_partners[k].tolist()
    if third >= 0 and aside > _OPEN_DISTANCE * turned:
        return (
            f"hardly any point that it shares with {names[nearest]} is seen by a third photo, so "
            "that nothing tells how far these two stand apart: add photos between them and "
            f"{names[third]}, each sharing half of the last one"
        )
    return "few matches or little parallax hold it: add photos beside it, taken a step aside"


def _middle(values: Array) -> float | None:
    values = values[np.isfinite(values)]
    return _degrees(float(np.median(values))) if len(values) else None


def _degrees(value: float) -> float | None:
    return round(float(value), 3) if np.isfinite(value) else None
