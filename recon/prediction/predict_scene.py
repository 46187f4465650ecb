"""What the network says of all photos of a scene, and what later stages keep of it."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import TYPE_CHECKING

from recon.prediction.view_graph import Pair
from recon.progress import Advance, unheard
from recon.stage_results import NetworkResult, PairMatches, PairSketch, PhotoPrediction, PhotoPrior
from recon.work.content_key import content_key
from recon.work.folder import Pieces
from recon.work.on_demand import Mapped

if TYPE_CHECKING:
    from recon.inputs import Inputs

# Of what is kept of a photo's predictions.
_VERSION = 2


def predict_scene(
    inputs: Inputs, pairs: Sequence[Pair], *, advance: Advance = unheard
) -> NetworkResult:
    """Return what the network says of the ``pairs`` (i, j), i <= j, which name every photo."""
    work = inputs.work
    keys = _photo_keys(inputs, pairs)
    known = {k for k, key in enumerate(keys) if work.found([key]) is not None}
    if len(known) < len(keys):
        for k, prediction in predict_photos(inputs, pairs, known=known, advance=advance):
            work.put(keys[k], prediction)
    photos: Sequence[PhotoPrediction] = Pieces(work, keys)
    sketches: list[PairSketch] = []
    local: dict[Pair, PairMatches] = {}
    for photo in photos:
        sketches += photo.sketches
        local |= {(m.i, m.j): m for m in photo.local}
    return NetworkResult(tuple(pairs), Mapped(_prior, photos), sketches, local)


def _photo_keys(inputs: Inputs, pairs: Sequence[Pair]) -> list[str]:
    """Return the names of what the network says of each photo."""
    partners: list[set[int]] = [set() for _ in inputs.photos]
    for i, j in pairs:
        partners[i].add(j)
        partners[j].add(i)
    photos = inputs.photo_keys
    return [
        # By number, too: the order of a pair counts, and what is kept names photos so.
        content_key(
            "prediction",
            _VERSION,
            inputs.network_key,
            (k, photos[k]),
            [(j, photos[j]) for j in sorted(others)],
        )
        for k, others in enumerate(partners)
    ]


def _prior(photo: PhotoPrediction) -> PhotoPrior:
    return photo.prior


def predict_photos(
    inputs: Inputs,
    pairs: Sequence[Pair],
    *,
    known: Container[int] = (),
    advance: Advance = unheard,
) -> Iterator[tuple[int, PhotoPrediction]]:
    """Yield each photo and what the network says of it, as soon as all its ``pairs`` are done.

    Photos are encoded when they are needed, pairs are decoded in an order that needs each photo
    for a short while, and of predictions only what later stages need is kept. ``known``: photos
    that are not wanted again. The others come out the same bits, whichever those are.
    """
    from pointmap.inference import EncodedOnDemand, predict_pairs
    from recon.prediction.descriptor_matches import match_descriptors
    from recon.prediction.pair_sketch import sketch_pair
    from recon.prediction.photo_prior import PriorAccumulator

    photos, network, device = inputs.photos, inputs.network, inputs.device
    left: dict[int, int] = {}
    for pair in pairs:
        for k in set(pair):
            left[k] = left.get(k, 0) + 1
    accumulator = PriorAccumulator(photos)
    sketches: dict[int, list[PairSketch]] = {k: [] for k in left}
    local: dict[int, list[PairMatches]] = {k: [] for k in left}
    forth = None
    encoded = EncodedOnDemand(network, photos, device=device)
    for prediction in predict_pairs(
        network, encoded, pairs, device=device, known=known, on_progress=advance
    ):
        i, j = prediction.i, prediction.j
        if i not in known:
            accumulator.add(prediction)
            if i != j:
                sketches[i].append(sketch_pair(prediction, photos[i]))
        if i < j:
            forth = prediction
        elif forth is not None and i > j:
            matches = match_descriptors(forth, prediction, photos, device=device)
            if matches is not None and j not in known:
                local[j].append(matches)
        if i < j:
            continue
        for k in {i, j}:
            left[k] -= 1
            if left[k] == 0 and k not in known:
                sketched = sorted(sketches.pop(k), key=lambda s: s.j)
                yield k, PhotoPrediction(accumulator.prior(k), tuple(sketched), tuple(local.pop(k)))
