"""How likely a scene is wrong, fitted to judged scenes, and how often that errs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize

from pointmap.camera import Array, Mask
from recon.verdict.evidence import SceneEvidence
from recon.verdict.probability import one_place, signs

WRONG_DEG = 5.0
# Probability from which a scene is doubtful.
DOUBTFUL = 0.5
# How much weights per standard deviation are held to 0.
RIDGE = 3.0
# Of two places that look alike; their geometry is as that of right ones is.
ALIKE = "look-alikes"


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
    """Weights and offset of :func:`recon.verdict.probability.probability_wrong`: of all scenes, and
    ``again`` of those whose cameras were solved for again, None where there are too few.
    """

    weights: Array
    offset: float
    again: Model | None = None

    def probability(self, scenes: Sequence[Judged]) -> Array:
        """Return the probability (N,) that each scene is wrong."""
        return np.array([self._of_one(scene.evidence) for scene in scenes])

    def _of_one(self, evidence: SceneEvidence) -> float:
        against = signs(evidence)
        if len(against) > len(self.weights) and self.again is not None:
            return self.again._of_one(evidence)
        by_geometry = 1 / (1 + np.exp(-(against[: len(self.weights)] @ self.weights + self.offset)))
        return float(1 - (1 - by_geometry) * one_place(evidence.look_alikes))


def fitted(scenes: Sequence[Judged]) -> Model:
    """Return the likeliest model; right and wrong scenes count alike, as classes."""
    scenes = [scene for scene in scenes if not scene.by_rule and scene.kind != ALIKE]
    wrong = np.array([scene.error_deg > WRONG_DEG for scene in scenes])
    told = [signs(scene.evidence) for scene in scenes]
    count = min(len(one) for one in told)
    model = _fitted(np.array([one[:count] for one in told]), wrong)
    again = np.array([len(one) > count for one in told])
    if not wrong[again].any() or wrong[again].all():
        return model
    asked = np.array([one for one in told if len(one) > count])
    return replace(model, again=_fitted(asked, wrong[again]))


def _fitted(X: Array, wrong: Mask) -> Model:
    """Return the model of scenes with the signs ``X`` (N, S), of which some are ``wrong`` (N,)."""
    weight = np.where(wrong, 1 / max(wrong.sum(), 1), 1 / max((~wrong).sum(), 1)) * len(X) / 2
    middle, spread = X.mean(axis=0), X.std(axis=0) + 1e-6
    Z, count = (X - middle) / spread, X.shape[1]

    def cost(parameters: Array) -> tuple[float, Array]:
        slope, logit = parameters[:count], Z @ parameters[:count] + parameters[count]
        missed = np.logaddexp(0, logit) - wrong * logit
        pull = weight * (1 / (1 + np.exp(-logit)) - wrong)
        gradient = np.append(pull @ Z + RIDGE * slope, pull.sum())
        return float(weight @ missed) + 0.5 * RIDGE * float(slope @ slope), gradient

    bounds = [(0.0, None)] * count + [(None, None)]
    found = minimize(cost, np.zeros(count + 1), jac=True, bounds=bounds, method="L-BFGS-B").x
    slope = found[:count] / spread
    return Model(slope, float(found[count] - slope @ middle))


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
            doubted[k] = scenes[k].by_rule or bool(p >= DOUBTFUL)
    return doubted
