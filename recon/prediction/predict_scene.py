"""What the network says of all photos of a scene, and what later stages keep of it."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recon.prediction.view_graph import Pair
from recon.progress import Advance, unheard
from recon.stage_results import NetworkResult, PairMatches, PairSketch, PhotoPrediction
from recon.work.content_key import content_key
from recon.work.folder import Pieces
from recon.work.on_demand import Mapped
from recon.work.pieces import Needs, PhotosFailed, PiecesFailed

if TYPE_CHECKING:
    from pointmap.inference import EncodedOnDemand, PairPrediction
    from recon.inputs import Inputs

# Of what is kept of a photo's predictions.
_VERSION = 2
_NEEDS = Needs("Predicting pointmaps", memory_mb=1500, per_task=8)


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
    return NetworkResult(tuple(pairs), Mapped(attrgetter("prior"), photos), sketches, local)


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
    from pointmap.inference import EncodedOnDemand, pair_batches
    from recon.prediction.photo_prior import PriorAccumulator

    photos = inputs.photos
    left: dict[int, int] = {}
    for pair in pairs:
        for k in set(pair):
            left[k] = left.get(k, 0) + 1
    accumulator = PriorAccumulator(photos)
    sketches: dict[int, list[PairSketch]] = {k: [] for k in left}
    local: dict[int, list[PairMatches]] = {k: [] for k in left}
    sizes = EncodedOnDemand(inputs.network, photos, device=inputs.device).sizes
    batches = [
        _Batch(tuple(batch), frozenset(k for pair in batch for k in pair if k in known))
        for batch in pair_batches(sizes, pairs, device=inputs.device)
    ]
    todo = [batch for batch in batches if not batch.is_known]
    count = sum(len(batch.pairs) for batch in batches)
    done = count - sum(len(batch.pairs) for batch in todo)
    needs = replace(_NEEDS, gpu=inputs.device.type != "cpu")
    try:
        for batch, said in zip(
            todo,
            inputs.work.pieces.stream(_Predictor(inputs).said, todo, needs=needs),
            strict=True,
        ):
            for one in said:
                if one.i not in known:
                    accumulator.add(one)
                if one.sketch is not None:
                    sketches[one.i].append(one.sketch)
                if one.local is not None:
                    local[one.local.i].append(one.local)
            done += len(batch.pairs)
            advance(done, count)
            for k in (k for pair in batch.pairs if not batch.knows(pair) for k in set(pair)):
                left[k] -= 1
                if left[k] == 0 and k not in known:
                    sketched = tuple(sorted(sketches.pop(k), key=lambda s: s.j))
                    yield k, PhotoPrediction(accumulator.prior(k), sketched, tuple(local.pop(k)))
    except PiecesFailed as failed:
        pieces = [
            (tuple(dict.fromkeys(str(photos[k].path) for pair in todo[n].pairs for k in pair)), why)
            for n, why in failed.reasons.items()
        ]
        raise PhotosFailed(pieces) from failed


@dataclass(frozen=True)
class _Batch:
    """Pairs that are decoded together, and those of their photos that are not wanted again."""

    pairs: tuple[Pair, ...]
    known: frozenset[int]

    def knows(self, pair: Pair) -> bool:
        """Whether nothing is wanted of a pair."""
        return self.known.issuperset(pair)

    @property
    def is_known(self) -> bool:
        """Whether nothing is wanted of any."""
        return all(map(self.knows, self.pairs))


@dataclass(frozen=True)
class _Said:
    """What is kept of a prediction (i, j): ``points_i`` with their confidence, of pairs its sketch,
    and with (j, i), i < j, the local matches of the two, if the network has any.
    """

    i: int
    points_i: NDArray[np.float32]
    confidence_i: NDArray[np.float32]
    sketch: PairSketch | None
    local: PairMatches | None


class _Predictor:
    """Makes the pieces of :func:`predict_photos`: photos that it encoded last are at hand."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._encoded: EncodedOnDemand | None = None

    def __getstate__(self) -> dict[str, object]:
        # Another process encodes what it needs.
        return {"_inputs": self._inputs, "_encoded": None}

    def said(self, batches: Sequence[_Batch]) -> Iterator[list[_Said]]:
        """Yield what is kept of each batch."""
        from pointmap.inference import EncodedOnDemand, predict_batches

        inputs = self._inputs
        network, device = inputs.network, inputs.device
        if self._encoded is None:
            self._encoded = EncodedOnDemand(network, inputs.photos, device=device)
        known = frozenset[int]().union(*(batch.known for batch in batches))
        pairs = [batch.pairs for batch in batches]
        for predictions in predict_batches(
            network, self._encoded, pairs, device=device, known=known
        ):
            yield self._kept(predictions, known)

    def _kept(self, predictions: Sequence[PairPrediction], known: frozenset[int]) -> list[_Said]:
        from recon.prediction.descriptor_matches import match_descriptors
        from recon.prediction.pair_sketch import sketch_pair

        photos, device = self._inputs.photos, self._inputs.device
        forth, kept = None, []
        for prediction in predictions:
            i, j = prediction.i, prediction.j
            sketch = local = None
            if i not in known and i != j:
                sketch = sketch_pair(prediction, photos[i])
            if i < j:
                forth = prediction
            elif forth is not None and i > j and j not in known:
                local = match_descriptors(forth, prediction, photos, device=device)
            kept.append(_Said(i, prediction.points_i, prediction.confidence_i, sketch, local))
        return kept
