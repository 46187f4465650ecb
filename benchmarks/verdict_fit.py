"""How likely a scene is wrong, fitted to judged scenes, and how often that errs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize

from pointmap.camera import Array
from recon.verdict.evidence import SceneEvidence
from recon.verdict.judge import signs

WRONG_DEG = 5.0
# Right scenes that may be doubted, of those that the limit is chosen by.
FALSE_ALARMS = 0.03
# How much slopes are held, and at what, per standard deviation: each sign says something, also
# where none of the scenes shows it alone.
RIDGE, SLOPE = 0.5, 1.0


@dataclass(frozen=True)
class Judged:
    """One solved scene: its ``source`` folder, the ``kind`` of change, what it told, the true
    median error of a pair, ``error_deg``, and of each placed photo's pairs, ``photo_deg`` (N, 2) of
    rotation and direction (NaN: not placed). ``by_rule``: it is doubted whatever the signs say, and
    nothing is fitted to it.
    """

    source: str
    kind: str
    evidence: SceneEvidence
    error_deg: float
    photo_deg: Array
    photos: int
    by_rule: bool = False


@dataclass(frozen=True)
class Model:
    """Slopes and offsets of :func:`recon.verdict.judge.probability_wrong`, and the probability from
    which on a scene is doubtful.
    """

    weights: Array
    biases: Array
    doubtful: float

    def probability(self, scenes: Sequence[Judged]) -> Array:
        """Return the probability (N,) that each scene is wrong."""
        against = np.array([signs(scene.evidence) for scene in scenes])
        rates = np.logaddexp(0, against * self.weights + self.biases).sum(axis=1)
        return np.asarray(-np.expm1(-rates))


def fitted(scenes: Sequence[Judged]) -> Model:
    """Return the likeliest model; right and wrong scenes count alike, as classes."""
    scenes = [scene for scene in scenes if not scene.by_rule]
    X = np.array([signs(scene.evidence) for scene in scenes])
    wrong = np.array([scene.error_deg > WRONG_DEG for scene in scenes])
    weight = np.where(wrong, 1 / max(wrong.sum(), 1), 1 / max((~wrong).sum(), 1)) * len(X) / 2
    middle, spread = X.mean(axis=0), X.std(axis=0) + 1e-6
    Z, count = (X - middle) / spread, X.shape[1]

    def cost(parameters: Array) -> tuple[float, Array]:
        slope, offset = parameters[:count], parameters[count:]
        inner = Z * slope + offset
        rate = np.logaddexp(0, inner).sum(axis=1)
        missed = np.where(wrong, -np.log(-np.expm1(-rate) + 1e-12), rate)
        pull = weight * np.where(wrong, -1 / np.expm1(rate), 1.0)
        each = pull[:, None] / (1 + np.exp(-inner))
        gradient = np.concatenate([(each * Z).sum(axis=0), each.sum(axis=0)])
        gradient[:count] += RIDGE * (slope - SLOPE)
        held = 0.5 * RIDGE * float(np.square(slope - SLOPE).sum())
        return float((weight * missed).sum()) + held, gradient

    start = np.concatenate([np.full(count, SLOPE), np.full(count, -3.0)])
    bounds = [(0.0, None)] * count + [(None, None)] * count
    found = minimize(cost, start, jac=True, bounds=bounds, method="L-BFGS-B").x
    slope = found[:count] / spread
    model = Model(slope, found[count:] - slope * middle, 0.5)
    right = model.probability(scenes)[~wrong]
    limit = float(np.quantile(right, 1 - FALSE_ALARMS)) if len(right) else 0.5
    return replace(model, doubtful=min(limit, 0.5))


@dataclass(frozen=True)
class Rates:
    """Of scenes of one kind: how many came out ``right`` and ``wrong``, how many of the wrong ones
    were called doubtful or worse (``hits``), and of the right ones (``alarms``).
    """

    right: int
    wrong: int
    hits: int
    alarms: int

    @staticmethod
    def of(errors: Sequence[float], doubted: Sequence[bool]) -> Rates:
        """Return the rates of scenes with these errors, in degrees, of which some were doubted."""
        wrong, doubt = np.array(errors) > WRONG_DEG, np.array(doubted, bool)
        return Rates(
            int((~wrong).sum()),
            int(wrong.sum()),
            int((wrong & doubt).sum()),
            int((~wrong & doubt).sum()),
        )

    def cells(self) -> tuple[str, ...]:
        """Return the cells of a table's row."""
        hits = f"{self.hits / self.wrong:.1%}" if self.wrong else "-"
        alarms = f"{self.alarms / self.right:.1%}" if self.right else "-"
        return (str(self.wrong), hits, str(self.right), alarms)


def held_out(scenes: Sequence[Judged], family: dict[str, int]) -> list[bool]:
    """Return whether each scene is doubted by a model fitted to the other families' scenes."""
    doubted = [False] * len(scenes)
    for number in set(family.values()):
        inside = [k for k, scene in enumerate(scenes) if family[scene.source] == number]
        others = [scene for scene in scenes if family[scene.source] != number]
        if not inside or not others:
            continue
        model = fitted(others)
        probability = model.probability([scenes[k] for k in inside])
        for k, p in zip(inside, probability, strict=True):
            doubted[k] = scenes[k].by_rule or bool(p >= model.doubtful)
    return doubted
