"""The verdict's figures, fitted to scenes of known truth."""

from __future__ import annotations

import numpy as np

from benchmarks.verdict_fit import Judged, fitted, held_out
from recon.verdict.evidence import SceneEvidence


def _judged(place: str, error_deg: float, observed_deg: float, again_deg: float | None) -> Judged:
    none = np.zeros(0)
    evidence = SceneEvidence(
        explained=0.98,
        contradicting=0.0,
        strain=0.05,
        error_deg=observed_deg,
        shift_deg=0.5,
        left=0.95,
        look_alikes=0.0,
        divided=0.0,
        second_motion=0.0,
        focal_spread=0.0,
        parallax_deg=12.0,
        moves=True,
        turn_deg=10.0,
        placed=np.zeros(0, bool),
        photo_explained=none,
        photo_rotation_deg=none,
        photo_direction_deg=none,
        photo_shift_deg=none,
        photo_partners=np.zeros((0, 2), np.int64),
        photo_flat=np.zeros(0, bool),
        photo_points=np.zeros(0, np.int64),
        again_deg=again_deg,
    )
    return Judged(place, "as it is", evidence, error_deg, np.zeros((0, 2)), 4)


def _scenes() -> list[Judged]:
    """Return scenes of four places: of the clear ones the observations tell, of the others only
    what comes out when they are solved again.
    """
    rng = np.random.default_rng(0)
    scenes = []
    for place in "abcd":
        for _ in range(20):
            scenes.append(_judged(place, 0.5, rng.uniform(0.2, 0.4), None))
            scenes.append(_judged(place, 30.0, rng.uniform(4.0, 9.0), None))
            scenes.append(_judged(place, 0.5, rng.uniform(1.0, 2.0), rng.uniform(0.1, 0.6)))
            scenes.append(_judged(place, 30.0, rng.uniform(1.0, 2.0), rng.uniform(4.0, 40.0)))
    return scenes


def test_scenes_that_were_solved_again_are_told_by_that() -> None:
    scenes = _scenes()
    model = fitted(scenes)
    assert model.again is not None
    assert len(model.again.weights) == len(model.weights) + 1
    wrong = np.array([scene.error_deg > 5 for scene in scenes])
    assert ((model.probability(scenes) > 0.5) == wrong).all()
    family = {place: number for number, place in enumerate("abcd")}
    assert held_out(scenes, family) == wrong.tolist()


def test_without_scenes_that_were_solved_again_there_is_one_model() -> None:
    scenes = [scene for scene in _scenes() if scene.evidence.again_deg is None]
    model = fitted(scenes)
    assert model.again is None
    wrong = np.array([scene.error_deg > 5 for scene in scenes])
    assert ((model.probability(scenes) > 0.5) == wrong).all()
