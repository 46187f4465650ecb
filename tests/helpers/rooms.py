"""Rooms with exact pointmaps, and what is kept of predictions about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from alignment_scenes import evidence

from benchmarks.pointmap_scenes import Errors, RoomScene, complete_pairs, make_room, predictions
from pointmap.camera import Array
from pointmap.inference import PairPrediction
from recon.alignment import align
from recon.prediction.pair_sketch import sketch_pair
from recon.prediction.photo_prior import PriorAccumulator
from recon.stage_results import Alignment, PairEdge, PairSketch, PhotoPrior
from recon.two_view.focal_lengths import solve_focals

WIDTH, HEIGHT = 64, 48


@dataclass(frozen=True)
class Taken:
    """A room, and what is kept of the predictions about it."""

    scene: RoomScene
    priors: list[PhotoPrior]
    sketches: list[PairSketch]
    focals: Array

    def align(
        self,
        edges: Sequence[PairEdge] = (),
        sketches: Sequence[PairSketch] | None = None,
        **settings,
    ) -> Alignment:
        said = self.sketches if sketches is None else sketches
        found = evidence(self.scene.photos, edges, self.focals, priors=self.priors, sketches=said)
        return align(self.scene.photos, found, **settings)


def take(scene: RoomScene, said: Sequence[PairPrediction]) -> Taken:
    photos = scene.photos
    accumulator = PriorAccumulator(photos)
    for prediction in said:
        accumulator.add(prediction)
    priors = accumulator.finish()
    sketches = [sketch_pair(p, photos[p.i]) for p in said]
    return Taken(scene, priors, sketches, solve_focals(photos, [], priors).focals_px)


def room(count: int, errors: Errors | None = None, **settings) -> Taken:
    scene = make_room(count, WIDTH, HEIGHT)
    return take(scene, list(predictions(scene, complete_pairs(count), errors, **settings)))


def depth_ratio(taken: Taken, found: Alignment) -> Array:
    """Depths by pointmaps over the true ones (N, h, w)."""
    depth = np.stack([prior.points[..., 2] for prior in taken.priors])
    return found.depth_scale[:, None, None] * depth / taken.scene.depth
