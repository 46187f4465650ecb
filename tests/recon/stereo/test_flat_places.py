"""Directions of a room, and where its surfaces are, by what photos confirm of it."""

from __future__ import annotations

import numpy as np

from recon.stereo.flat_places import FlatParts, flat_directions, flat_places

UP, WALL, SIDE = np.eye(3)[[2, 0, 1]]


def leaning(direction: np.ndarray, towards: np.ndarray, degrees: float) -> np.ndarray:
    angle = np.radians(degrees)
    return np.cos(angle) * direction + np.sin(angle) * towards


def part(normals: list[np.ndarray], sizes: list[float], points: np.ndarray) -> FlatParts:
    return FlatParts(np.array(normals), np.array(sizes), points, np.full(len(points), 2.0))


def test_directions_are_those_of_most_and_square_where_they_nearly_are() -> None:
    nothing = np.zeros((0, 3))
    slope = leaning(UP, WALL, 40)
    parts = [
        # Of either sign, as planes have none; two photos see the wall lean a little.
        part([UP, leaning(WALL, UP, 2)], [0.5, 0.1], nothing),
        part([-UP, leaning(-WALL, UP, 2)], [0.4, 0.1], nothing),
        part([slope, leaning(SIDE, UP, 45)], [0.1, 0.01], nothing),
    ]
    first, *others = flat_directions(parts)
    assert abs(first @ UP) > 1 - 1e-6
    assert [max(abs(d @ known) > 0.9999 for d in others) for known in (WALL, slope, SIDE)] == [
        True, True, True,
    ]  # fmt: skip
    assert len(others) == 3
    assert flat_directions([part([], [], nothing)]).shape == (0, 3)


def test_places_are_where_points_lie_as_they_do_not_beside() -> None:
    rng = np.random.default_rng(0)
    floor = np.column_stack([rng.uniform(-2, 2, (2000, 2)), rng.normal(0, 0.003, 2000)])
    # Of a cupboard's doors two seams are seen; things stand about before the wall.
    seams = np.column_stack(
        [
            rng.normal(1.2, 0.003, 120),
            rng.choice([-0.5, 0.4], 120),
            rng.uniform(0.1, 0.9, 120),
        ]
    )
    clutter = rng.uniform([-2, -2, 0.1], [2, 2, 2], (3000, 3))
    parts = [part([UP], [1.0], np.concatenate([floor, seams, clutter]))]
    planes, shares = flat_places(parts, np.stack([UP, WALL, SIDE]))
    np.testing.assert_allclose(planes[0], [*UP, 0], atol=0.005)
    assert shares[0] > 0.3
    doors = np.abs(planes - [*WALL, 1.2]).max(axis=1) < 0.01
    assert doors.any()
    assert shares[doors].max() > 0.01
    assert flat_places(parts, np.zeros((0, 3)))[0].shape == (0, 4)
