"""The layouts of procedural scenes. Each adds parts and returns where cameras and targets may be.

A layout takes the random generator, the builder and a difficulty in [0, 1] (more parts) and returns
two boxes (2, 3): allowed camera places, and the places worth looking at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from pointmap.camera import Array
from pointmap.training.scenes.builder import Builder, Material, random_rotation, yaw_rotation
from pointmap.training.scenes.solids import (
    BOX,
    CONE,
    CYLINDER,
    ELLIPSOID,
    HILLS,
    HULL,
    IMPLICIT,
    LUMPS,
    PRISMS,
    ROUNDED,
    STONES,
    TORUS,
)

_Rng = np.random.Generator
_Regions = tuple[Array, Array]

_GABLE = HULL
_WALLS = ("bricks", "surface", "noise", "leaves", "voronoi", "plain", "marble", "wood")
_FLOORS = ("bricks", "surface", "noise", "leaves", "voronoi", "wood", "checkers", "photo", "marble")
_SHAPES = (
    BOX,
    BOX,
    BOX,
    ELLIPSOID,
    CYLINDER,
    CYLINDER,
    CONE,
    ROUNDED,
    TORUS,
    *PRISMS[:2],
    STONES[0],
    IMPLICIT[0],
    IMPLICIT[0],
)


def _shape(rng: _Rng) -> int:
    kind = int(rng.choice(_SHAPES))
    if kind == PRISMS[0]:
        return int(rng.choice(PRISMS))
    if kind == IMPLICIT[0]:
        return int(rng.choice(IMPLICIT))
    return int(rng.choice(STONES)) if kind == STONES[0] else kind


def _stand(rng: _Rng, b: Builder, at: Array, size: float, floor: float, *, depth: int = 2) -> None:
    """Stand one random solid on the floor, sometimes with smaller ones on top."""
    kind = _shape(rng)
    half = size * rng.uniform(0.3, 1.0, 3)
    if kind != BOX and rng.random() < 0.7:
        half[1] = half[0]
    R = yaw_rotation(rng.uniform(0, 7))
    rise = float(half[2])
    if kind == TORUS:
        if rng.random() < 0.5:  # on its side; its canonical tube radius is 0.3
            R = R @ np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0.0]])
            rise = float(half[1])
        else:
            rise *= 0.3
    b.add(kind, [at[0], at[1], floor + rise], half, rotation=R)
    flat = kind in (BOX, CYLINDER) or kind in PRISMS[:2]
    if depth and flat and rng.random() < 0.4:
        small = float(half[:2].min() * rng.uniform(0.4, 0.9))
        _stand(rng, b, at, small, floor + 2 * rise, depth=depth - 1)


def _table_or_shelf(rng: _Rng, b: Builder, at: Array) -> None:
    R = yaw_rotation(rng.choice([0, np.pi / 2]) + rng.normal(0, 0.15))
    wood = b.random_material(0.5)
    w, d, h = rng.uniform(0.3, 0.8), rng.uniform(0.25, 0.5), rng.uniform(0.2, 0.5)

    def box(x: float, y: float, z: float, half: Sequence[float]) -> None:
        b.add(BOX, at + R @ np.array([x, y, z]), half, rotation=R, material=wood)

    if rng.random() < 0.5:
        leg = 0.03 * rng.uniform(0.8, 1.6)
        for sx, sy in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
            box(sx * (w - leg), sy * (d - leg), h, (leg, leg, h))
        box(0, 0, 2 * h, (w, d, 0.03))
        top = 2 * h + 0.03
    else:
        levels, d, h = int(rng.integers(2, 4)), d * 0.7, rng.uniform(0.5, 1.0)
        for sx in (-1, 1):
            box(sx * w, 0, h, (0.025, d, h))
        for level in range(levels + 1):
            z = 2 * h * level / levels
            box(0, 0, z + 0.02, (w, d, 0.02))
            if level < levels:
                _row(rng, b, at, R, w, d, z + 0.04, 0.8 * h / levels)
        top = 2 * h + 0.04
    for _ in range(int(rng.integers(0, 3))):
        place = at + R @ np.array([rng.uniform(-0.7, 0.7) * w, rng.uniform(-0.5, 0.5) * d, 0])
        _stand(rng, b, place, rng.uniform(0.06, 0.16), top)


def _row(
    rng: _Rng, b: Builder, at: Array, R: Array, w: float, d: float, floor: float, tall: float
) -> None:
    """Books on a board, or one odd thing."""
    if rng.random() < 0.5:
        place = at + R @ np.array([rng.uniform(-0.5, 0.5) * w, 0, 0])
        _stand(rng, b, place, min(tall, 0.6 * d), floor, depth=0)
        return
    x = -0.9 * w
    for _ in range(int(rng.integers(3, 8))):
        thick = rng.uniform(0.012, 0.04)
        high = tall * rng.uniform(0.6, 0.95)
        place = at + R @ np.array([x + thick, -0.2 * d, high + floor])
        b.add(BOX, place, [thick, 0.7 * d, high], rotation=R)
        x += 2 * thick + 0.002


def _on_wall(rng: _Rng, b: Builder, x: float, y: float, hx: float, hy: float, h: float) -> None:
    """Pictures, boards, windows, switches on one wall of a room."""
    for _ in range(int(rng.integers(1, 5))):
        along = rng.uniform(-0.8, 0.8) * max(hx, hy)
        size, tall = rng.uniform(0.08, 0.6), rng.uniform(0.1, 0.7)
        z, flat = rng.uniform(0.8, h - 0.4), rng.uniform(0.01, 0.06)
        out = [-np.sign(x) * flat, -np.sign(y) * flat]
        place = [along, y + out[1], z] if hx else [x + out[0], along, z]
        b.add(BOX, place, [size, flat, tall] if hx else [flat, size, tall])
        if rng.random() < 0.4:  # an inset in front: a frame with a picture
            step = 1.02
            inner = [along, y + step * out[1], z] if hx else [x + step * out[0], along, z]
            b.add(
                BOX,
                inner,
                [0.85 * size, flat, 0.85 * tall] if hx else [flat, 0.85 * size, 0.85 * tall],
            )


def room(rng: _Rng, b: Builder, difficulty: float) -> _Regions:
    """A closed room with things on the walls, furniture and clutter."""
    lx, ly, h = rng.uniform(1.6, 4.0), rng.uniform(1.6, 4.0), rng.uniform(2.3, 3.4)
    wall = b.random_material(1.5)
    for x, y, hx, hy in ((0, -ly, lx, 0), (0, ly, lx, 0), (-lx, 0, 0, ly), (lx, 0, 0, ly)):
        material = wall if rng.random() < 0.7 else b.random_material(1.5)
        centre = [x + np.sign(x) * 0.1, y + np.sign(y) * 0.1, h / 2]
        b.add(BOX, centre, [max(hx, 0.1), max(hy, 0.1), h / 2], material=material, casts=False)
        if rng.random() < 0.5:  # skirting board
            inner = [x - np.sign(x) * 0.01, y - np.sign(y) * 0.01, 0.06]
            b.add(BOX, inner, [max(hx, 0.012), max(hy, 0.012), 0.06])
        if rng.random() < 0.85:
            _on_wall(rng, b, x, y, hx, hy, h)
    for z in (-0.1, h + 0.1):
        material = b.random_material(1.2, prefer=_FLOORS if z < 0 else _WALLS)
        b.add(BOX, [0, 0, z], [lx + 0.2, ly + 0.2, 0.1], material=material, casts=False)
    for _ in range(int(rng.integers(0, 3))):  # beams and lamps
        x, y = rng.uniform(-0.8, 0.8, 2) * [lx, ly]
        if rng.random() < 0.5:
            b.add(BOX, [x, 0, h - 0.08], [0.08, ly, 0.08])
        else:
            b.add(CYLINDER, [x, y, h - 0.3], [0.01, 0.01, 0.3])
            b.add(int(rng.choice([ELLIPSOID, CONE])), [x, y, h - 0.65], [0.15, 0.15, 0.12])
    if rng.random() < 0.4:  # a rug
        x, y, turn = rng.uniform(-0.5, 0.5) * lx, rng.uniform(-0.5, 0.5) * ly, rng.uniform(0, 7)
        b.add(BOX, [x, y, 0], [lx * 0.4, ly * 0.3, 0.015], rotation=yaw_rotation(turn))
    for _ in range(int(4 + difficulty * rng.uniform(1, 12))):
        at = np.array([rng.uniform(-0.85, 0.85) * lx, rng.uniform(-0.85, 0.85) * ly, 0])
        if rng.random() < 0.4:
            _table_or_shelf(rng, b, at)
        else:
            _stand(rng, b, at, rng.uniform(0.15, 0.9), 0)
    region = np.array([[-0.92 * lx, -0.92 * ly, 0.5], [0.92 * lx, 0.92 * ly, min(2.2, h - 0.2)]])
    return region, np.array([[-0.8 * lx, -0.8 * ly, 0.1], [0.8 * lx, 0.8 * ly, 1.7]])


def _tree(rng: _Rng, b: Builder, at: Array) -> None:
    tall = rng.uniform(0.8, 2.5)
    b.add(CYLINDER, [*at, tall], [0.05 * tall + 0.03, 0.05 * tall + 0.03, tall])
    leaf = b.random_material(0.6, prefer=("leaves", "noise", "voronoi", "surface", "photo"))
    spread = 0.35 * tall
    for _ in range(int(rng.integers(1, 10))):
        place = [*(at + rng.normal(0, spread, 2)), 2 * tall + rng.normal(0, spread)]
        crown = spread * rng.uniform(0.3, 1.4, 3)
        kind = int(rng.choice([ELLIPSOID, *LUMPS, *STONES]))
        b.add(kind, place, crown, rotation=random_rotation(rng), material=leaf)


def _house(rng: _Rng, b: Builder, at: Array) -> None:
    R = yaw_rotation(rng.uniform(0, 7))
    w, d, h = rng.uniform(1, 2.5), rng.uniform(1, 2.5), rng.uniform(0.8, 1.8)
    base, floor = np.array([*at, 0.0]), np.array([0, 0, h])
    b.add(BOX, base + floor, [w, d, h], rotation=R, material=b.random_material(1.0, prefer=_WALLS))
    roof = rng.uniform(0.4, 1.0)
    b.add(_GABLE, base + np.array([0, 0, 2 * h + roof]), [w * 1.1, d * 1.1, roof], rotation=R)
    pane = b.random_material(0.4)
    for side in (-1, 1):
        for x in np.linspace(-0.6, 0.6, int(rng.integers(1, 4))) * w:
            place = base + R @ np.array([x, side * d, 0]) + floor * rng.uniform(0.9, 1.2)
            b.add(BOX, place, [0.15 * w, 0.04, 0.3 * h], rotation=R, material=pane)


def _stairs(rng: _Rng, b: Builder, base: Array, R: Array, width: float) -> None:
    material, steps = b.random_material(0.6, prefer=_WALLS), int(rng.integers(3, 7))
    rise, run = rng.uniform(0.08, 0.2), rng.uniform(0.15, 0.35)
    for n in range(steps):
        half = [width, run * (steps - n) / 2, rise / 2]
        centre = base + R @ np.array([0, -run * (steps - n) / 2, rise * (n + 0.5)])
        b.add(BOX, centre, half, rotation=R, material=material)


def ground(rng: _Rng, b: Builder, difficulty: float) -> _Regions:
    """Open ground with things, walls, fences, houses, trees and stones under the sky."""
    paving = b.random_material(1.0, prefer=_FLOORS)
    b.add(BOX, [0, 0, -0.5], [60, 60, 0.5], material=paving, casts=False)
    spread = rng.uniform(1.2, 3.5)
    for _ in range(int(rng.choice([0, 1, 3]))):  # rough ground
        reach, tall = rng.uniform(0.8, 2.5) * spread, rng.uniform(0.2, 0.8)
        # Its mean height a little below the ground, so that it rises from it without an edge.
        place, turn = [*rng.normal(0, spread, 2), -0.3 * tall], yaw_rotation(rng.uniform(0, 7))
        material = b.random_material(1.0, prefer=_FLOORS)
        b.add(int(rng.choice(HILLS)), place, [reach, reach, tall], rotation=turn, material=material)
    for _ in range(int(6 + difficulty * rng.uniform(2, 22))):
        _stand(rng, b, rng.normal(0, spread, 3), rng.uniform(0.15, 1.2), 0)
    for _ in range(int(rng.integers(0, 4))):
        half = [rng.uniform(0.7, 3.5), 0.15, rng.uniform(0.5, 2)]
        place = [*rng.normal(0, 2 * spread, 2), half[2]]
        b.add(BOX, place, half, rotation=yaw_rotation(rng.uniform(0, 7)))
    if rng.random() < 0.4:  # a fence
        R, material = yaw_rotation(rng.uniform(0, 7)), b.random_material(0.2)
        base = np.array([*rng.normal(0, spread, 2), 0.0])
        for n in range(int(rng.integers(4, 14))):
            b.add(
                BOX,
                base + R @ np.array([0.5 * n, 0, 0.5]),
                [0.05, 0.05, 0.5],
                rotation=R,
                material=material,
            )
        rail = base + R @ np.array([0.25 * n, 0, 0.8])
        b.add(BOX, rail, [0.25 * n + 0.2, 0.03, 0.05], rotation=R, material=material)
    for _ in range(int(rng.integers(0, 3))):
        _house(rng, b, rng.normal(0, 1.5 * spread, 2) + spread)
    for _ in range(int(rng.integers(0, 5))):
        _tree(rng, b, rng.normal(0, 1.5 * spread, 2))
    stone = b.random_material(0.2, prefer=_WALLS)
    for _ in range(int(difficulty * rng.uniform(0, 25))):
        size = rng.uniform(0.05, 0.3) * rng.uniform(0.5, 1, 3)
        place = [*rng.normal(0, spread, 2), 0.5 * size[2]]
        b.add(int(rng.choice(STONES)), place, size, rotation=random_rotation(rng), material=stone)
    far = 1.6 * spread + 1.5
    region = np.array([[-far, -far, 0.5], [far, far, rng.uniform(1.6, 3.5)]])
    return region, np.array([[-spread, -spread, 0], [spread, spread, 1.5]])


def table(rng: _Rng, b: Builder, difficulty: float) -> _Regions:
    """A table top with many things, floor and walls behind."""
    wx, wy = rng.uniform(0.5, 1.2, 2)
    b.add(BOX, [0, 0, -0.03], [wx, wy, 0.03])
    b.add(BOX, [0, 0, -0.85], [6, 6, 0.1], casts=False)
    for x, y in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        if rng.random() < 0.75:
            away = rng.uniform(1.8, 4.5)
            half = [5 if y else 0.1, 5 if x else 0.1, 2.5]
            b.add(BOX, [x * away, y * away, 1.0], half, casts=False)
            for _ in range(int(rng.integers(0, 4))):
                along, z = rng.uniform(-1.5, 1.5), rng.uniform(-0.5, 1.6)
                place = [x * (away - 0.15) + abs(y) * along, y * (away - 0.15) + abs(x) * along, z]
                size = rng.uniform(0.15, 0.6, 2)
                b.add(BOX, place, [size[0] if y else 0.08, size[0] if x else 0.08, size[1]])
    if rng.random() < 0.5:
        b.add(BOX, [*rng.normal(0, 0.2, 2), 0.002], [0.35, 0.25, 0.003])
    for _ in range(int(7 + difficulty * rng.uniform(3, 30))):
        at = np.array([rng.uniform(-0.75, 0.75) * wx, rng.uniform(-0.75, 0.75) * wy, 0])
        if rng.random() < 0.12:  # a stack of books
            z, size = 0.0, rng.uniform(0.06, 0.15, 2)
            for _ in range(int(rng.integers(2, 6))):
                thick = rng.uniform(0.008, 0.025)
                turn = yaw_rotation(rng.normal(0, 0.3))
                b.add(BOX, [at[0], at[1], z + thick], [*size, thick], rotation=turn)
                z += 2 * thick
        else:
            _stand(rng, b, at, rng.uniform(0.03, 0.2), 0)
    region = np.array([[-1.5, -1.5, 0.2], [1.5, 1.5, 1.3]])
    return region, np.array([[-0.6 * wx, -0.6 * wy, 0], [0.6 * wx, 0.6 * wy, 0.2]])


def pile(rng: _Rng, b: Builder, difficulty: float) -> _Regions:
    """Solids at random places and turns, some through others, over a floor or in the air."""
    if rng.random() < 0.7:
        b.add(BOX, [0, 0, -1.6], [30, 30, 0.5], casts=False)
    for _ in range(int(rng.integers(0, 3))):
        R = yaw_rotation(rng.uniform(0, 7))
        b.add(BOX, R @ np.array([0, 5.0, 1]), [12, 0.2, 5], rotation=R, casts=False)
    for _ in range(int(14 + difficulty * rng.uniform(5, 45))):
        half = rng.uniform(0.08, 0.6) * rng.uniform(0.2, 1.0, 3)
        if rng.random() < 0.15:  # thin parts
            half[:2] = rng.uniform(0.015, 0.04)
            half[2] = rng.uniform(0.3, 0.9)
        b.add(_shape(rng), rng.normal(0, 0.7, 3), half, rotation=random_rotation(rng))
    if rng.random() < 0.1 * difficulty:  # a heap of small things
        for _ in range(int(rng.uniform(80, 200))):
            half = rng.uniform(0.03, 0.15) * rng.uniform(0.3, 1.0, 3)
            kind = int(rng.choice([BOX, ELLIPSOID, *STONES]))
            b.add(kind, rng.normal(0, 0.6, 3), half, rotation=random_rotation(rng))
    region = np.array([[-3.5, -3.5, -0.9], [3.5, 3.5, 2.5]])
    return region, np.array([[-0.5, -0.5, -0.4], [0.5, 0.5, 0.4]])


def _window(
    b: Builder,
    x: float,
    z: float,
    hx: float,
    hz: float,
    rim: float,
    out: float,
    materials: list[Material],
) -> None:
    """Pane, frame, sill and mullion in the facade y = 0; materials: pane, frame, sill."""
    pane, frame, sill = materials
    b.add(BOX, [x, 0, z], [hx, 0.02, hz], material=pane)
    for s in (-1, 1):
        b.add(BOX, [x + s * hx, -out / 2, z], [rim, out / 2, hz + rim], material=frame)
    b.add(BOX, [x, -out / 2, z + hz], [hx, out / 2, rim], material=frame)
    b.add(BOX, [x, -out * 0.7, z - hz], [hx + 2 * rim, out, rim * 0.8], material=sill)
    b.add(BOX, [x, -0.02, z], [0.025, 0.03, hz], material=frame)


def facade(rng: _Rng, b: Builder, difficulty: float) -> _Regions:
    """A wall in the plane y = 0 seen from negative y, with relief standing out towards -y."""
    width, height = rng.uniform(4, 9), rng.uniform(4, 9)
    paving = b.random_material(1.0, prefer=_FLOORS)
    b.add(BOX, [0, 0, -0.5], [50, 50, 0.5], material=paving, casts=False)
    wall = b.random_material(1.0, prefer=_WALLS)
    b.add(BOX, [0, 1, height / 2], [width, 1, height / 2], material=wall)
    columns, rows = int(rng.integers(2, 4 + round(3 * difficulty))), int(rng.integers(1, 4))
    materials = [
        b.random_material(0.6),
        b.random_material(0.5, prefer=_WALLS),
        b.random_material(0.8, prefer=_WALLS),
    ]
    dx, dz = 2 * width / columns, height / rows
    hx, hz = dx * rng.uniform(0.15, 0.33), dz * rng.uniform(0.2, 0.36)
    rim, out = rng.uniform(0.05, 0.14), rng.uniform(0.06, 0.3)
    for i in range(columns):
        for j in range(rows):
            if rng.random() < 0.92:
                _window(b, -width + (i + 0.5) * dx, (j + 0.5) * dz, hx, hz, rim, out, materials)
    for j in range(1, rows + 1):
        if rng.random() < 0.6:
            half = [width, rng.uniform(0.1, 0.3), 0.08]
            b.add(BOX, [0, -0.1, j * dz - 0.05], half, material=materials[2])
    for i in range(columns + 1):  # columns or pilasters between the windows
        if rng.random() < 0.25:
            kind = int(rng.choice([BOX, CYLINDER, PRISMS[1]]))
            place = [-width + i * dx, -0.15, height / 2]
            b.add(kind, place, [0.22, 0.22, height / 2], material=materials[1])
    for side in (-1, 1):
        if rng.random() < 0.4:
            place = [side * (width + 0.3), -2, height / 2]
            b.add(BOX, place, [0.4, 3.5, height / 2], material=wall)
    if rng.random() < 0.4:
        base = np.array([rng.uniform(-0.5, 0.5) * width, 0, 0])
        _stairs(rng, b, base, np.eye(3), rng.uniform(0.6, 2))
    for _ in range(int(3 + difficulty * rng.uniform(1, 12))):
        at = np.array([rng.uniform(-1, 1) * width, rng.uniform(-4, -0.6), 0])
        _stand(rng, b, at, rng.uniform(0.15, 0.9), 0)
    for _ in range(int(rng.integers(0, 3))):
        _tree(rng, b, np.array([rng.uniform(-1, 1) * width, rng.uniform(-4, -1.5)]))
    away = rng.uniform(5, 9)
    region = np.array([[-width * 1.2, -away - 3, 0.8], [width * 1.2, -away * 0.4, 3.5]])
    return region, np.array([[-width * 0.7, -0.5, 0.8], [width * 0.7, 0, height * 0.6]])


LAYOUTS: dict[str, tuple[Callable[[_Rng, Builder, float], _Regions], float]] = {
    "room": (room, 0.32),
    "ground": (ground, 0.2),
    "table": (table, 0.18),
    "pile": (pile, 0.1),
    "facade": (facade, 0.2),
}
"""Layouts and how often each one is drawn."""
