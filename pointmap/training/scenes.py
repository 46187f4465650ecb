"""Procedural scenes: rooms, open ground, table tops, piles and facades built of simple solids.

World axes: x, y along the ground, z up; units are roughly metres but mean nothing in training.
Every random number comes from one NumPy generator seeded by the scene's seed, so a seed gives the
same scene on every device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

BOX, ELLIPSOID, CYLINDER, CONE = range(4)


@dataclass(frozen=True)
class Materials:
    """Looks of all parts; arrays over parts."""

    texture: NDArray[np.int64]
    tint: Array
    """(N, 3) mean colour, linear."""
    scale: Array
    """Texture repeats per world unit."""
    offset: Array
    """(N, 2) in repeats."""
    turn: Array
    """Rotation of the texture, radians."""
    saturation: Array
    contrast: Array
    dirt_texture: NDArray[np.int64]
    dirt: Array
    """Strength in [0, 1] of a second, four times larger pattern that breaks repetition."""
    gloss: Array
    shininess: Array


@dataclass(frozen=True)
class Lights:
    """Hemisphere ambient light and some lamps."""

    ambient_low: Array
    """(3,) light from below."""
    ambient_high: Array
    """(3,) light from above."""
    position: Array
    """(L, 3) place, or unit direction towards a directional light."""
    colour: Array
    """(L, 3)."""
    directional: NDArray[np.bool_]
    casters: tuple[tuple[int, ...], ...]
    """Per light, the parts that can throw shadows."""


@dataclass(frozen=True)
class Sky:
    """Colour gradient with clouds; linear colours (3,)."""

    horizon: Array
    zenith: Array
    cloud: Array
    cloud_texture: int
    cover: float
    offset: Array


@dataclass(frozen=True)
class Scene:
    """Solids, looks, light, and where cameras may stand."""

    kind: NDArray[np.int64]
    centre: Array
    """(N, 3)."""
    half: Array
    """(N, 3) half sizes along the part's axes."""
    rotation: Array
    """(N, 3, 3) part axes to world."""
    materials: Materials
    lights: Lights
    sky: Sky
    region: Array
    """(2, 3) lowest and highest corner of where cameras may be."""
    focus: Array
    """(2, 3) box of the things worth looking at."""
    style: str
    """Which layout this is ("room", "ground", "table", "pile", "facade")."""

    def inside_any(self, points: Array, *, margin: float = 0.0) -> NDArray[np.bool_]:
        """Return (M,) whether points (M, 3) lie in a part grown by ``margin`` world units."""
        offset = points[:, None] - self.centre
        local = np.einsum("nij,mni->mnj", self.rotation, offset) / (self.half + margin)
        x, y, z = np.moveaxis(local, -1, 0)
        radius = np.hypot(x, y)
        within = np.select(
            [self.kind == BOX, self.kind == ELLIPSOID, self.kind == CYLINDER],
            [
                np.abs(local).max(-1) < 1,
                np.sum(local**2, -1) < 1,
                (radius < 1) & (np.abs(z) < 1),
            ],
            default=(radius < (1 - z) / 2 + 0.05) & (np.abs(z) < 1),
        )
        return np.asarray(within.any(1))


@dataclass
class _Builder:
    """Collects parts while a layout is drawn."""

    rng: np.random.Generator
    groups: dict[str, tuple[int, ...]]
    parts: list[tuple[int, Array, Array, Array]] = field(default_factory=list)
    looks: list[tuple[float, ...]] = field(default_factory=list)
    shadowless: set[int] = field(default_factory=set)

    def add(
        self,
        kind: int,
        centre: Sequence[float] | Array,
        half: Sequence[float] | Array,
        *,
        rotation: Array | None = None,
        look: tuple[float, ...] | None = None,
        casts: bool = True,
    ) -> None:
        """Add a solid; without a look it gets a random one."""
        if not casts:
            self.shadowless.add(len(self.parts))
        R = np.eye(3) if rotation is None else rotation
        self.parts.append((kind, np.asarray(centre, float), np.asarray(half, float), R))
        size = float(np.sort(np.asarray(half, float))[1])
        self.looks.append(self.look(size) if look is None else look)

    def look(self, size: float, *, prefer: Sequence[str] = ()) -> tuple[float, ...]:
        """Draw a material for a part of this half size; ``prefer`` names texture groups."""
        rng = self.rng
        names = [name for name in prefer if name in self.groups]
        if not names:
            plain = rng.random() < 0.2
            names = ["plain", "gradient", "noise"] if plain else list(self.groups)
            if not plain and "photo" in self.groups and rng.random() < 0.6:
                names = ["photo", "surface"] if "surface" in self.groups else ["photo"]
        group = names[int(rng.integers(len(names)))]
        texture = int(rng.choice(self.groups[group]))
        value = rng.uniform(0.1, 0.75) if rng.random() < 0.85 else rng.uniform(0.02, 0.1)
        tint = value * (1 + rng.beta(1, 5) * rng.uniform(-0.8, 0.8, 3))
        repeat = (
            1 / (size * 2) if group in ("photo", "marks", "gradient") else 1 / rng.uniform(0.3, 2.5)
        )
        repeat *= float(np.exp(rng.normal(0, 0.4)))
        contrast = rng.uniform(0.5, 1.2) if rng.random() < 0.8 else rng.uniform(0.0, 0.4)
        gloss = rng.uniform(0.05, 0.5) if rng.random() < 0.25 else 0.0
        turn = rng.choice([0, np.pi / 2]) if rng.random() < 0.8 else rng.uniform(0, 2 * np.pi)
        dirt = rng.uniform(0, 0.6) if rng.random() < 0.6 else 0.0
        return (
            texture, *tint, repeat, *rng.uniform(0, 1, 2), turn, rng.uniform(0.1, 1.0), contrast,
            int(rng.choice(self.groups["noise"])), dirt, gloss, float(np.exp(rng.uniform(2, 5))),
        )  # fmt: skip

    def materials(self) -> Materials:
        """Return the looks as arrays."""
        t = np.array(self.looks, float)
        return Materials(
            texture=t[:, 0].astype(np.int64), tint=t[:, 1:4], scale=t[:, 4], offset=t[:, 5:7],
            turn=t[:, 7], saturation=t[:, 8], contrast=t[:, 9],
            dirt_texture=t[:, 10].astype(np.int64), dirt=t[:, 11], gloss=t[:, 12],
            shininess=t[:, 13],
        )  # fmt: skip


def yaw_rotation(angle: float) -> Array:
    """Return the rotation (3, 3) by ``angle`` radians about z."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


def random_rotation(rng: np.random.Generator) -> Array:
    """Return a uniformly random rotation (3, 3) (QR of a Gaussian matrix)."""
    q, r = np.linalg.qr(rng.standard_normal((3, 3)))
    q = q * np.sign(np.diag(r))
    return np.asarray(q if np.linalg.det(q) > 0 else -q)


def _upright(rng: np.random.Generator, b: _Builder, at: Array, size: float, floor: float) -> float:
    """Stand one random solid, sometimes with another on top, on the floor. Returns its top."""
    kind = int(rng.choice([BOX, BOX, BOX, ELLIPSOID, CYLINDER, CYLINDER, CONE]))
    half = size * rng.uniform(0.3, 1.0, 3)
    if kind != BOX and rng.random() < 0.7:
        half[1] = half[0]
    b.add(kind, [at[0], at[1], floor + half[2]], half, rotation=yaw_rotation(rng.uniform(0, 7)))
    top = floor + 2 * half[2]
    if kind in (BOX, CYLINDER) and rng.random() < 0.35:
        small = half.min() * rng.uniform(0.4, 0.9, 3)
        shape = int(rng.choice([BOX, ELLIPSOID, CYLINDER, CONE]))
        b.add(
            shape, [at[0], at[1], top + small[2]], small, rotation=yaw_rotation(rng.uniform(0, 7))
        )
        top += 2 * small[2]
    return float(top)


def _furniture(rng: np.random.Generator, b: _Builder, at: Array, floor: float) -> None:
    """A table, a shelf or a chair of several boxes, with things on it."""
    R = yaw_rotation(rng.choice([0, np.pi / 2]) + rng.normal(0, 0.15))
    wood = b.look(0.5)
    w, d, h = rng.uniform(0.3, 0.8), rng.uniform(0.25, 0.5), rng.uniform(0.2, 0.5)

    def box(x: float, y: float, z: float, half: Sequence[float]) -> None:
        b.add(BOX, at + R @ np.array([x, y, z + floor]), half, rotation=R, look=wood)

    if rng.random() < 0.5:
        leg = 0.03 * rng.uniform(0.8, 1.6)
        for sx in (-1, 1):
            for sy in (-1, 1):
                box(sx * (w - leg), sy * (d - leg), h, (leg, leg, h))
        box(0, 0, 2 * h, (w, d, 0.03))
        top = 2 * h + 0.03
    else:
        levels = int(rng.integers(2, 4))
        d *= 0.7
        h = rng.uniform(0.5, 1.0)
        for sx in (-1, 1):
            box(sx * w, 0, h, (0.025, d, h))
        for level in range(levels + 1):
            box(0, 0, 2 * h * level / levels + 0.02, (w, d, 0.02))
            place = at + R @ np.array([rng.uniform(-0.5, 0.5) * w, 0, 0])
            if level < levels:
                _upright(
                    rng,
                    b,
                    place,
                    min(0.7 * h / levels, 0.6 * d),
                    floor + 2 * h * level / levels + 0.04,
                )
        top = 2 * h + 0.04
    for _ in range(int(rng.integers(0, 3))):
        place = at + R @ np.array([rng.uniform(-0.7, 0.7) * w, rng.uniform(-0.5, 0.5) * d, 0])
        _upright(rng, b, place, rng.uniform(0.06, 0.16), floor + top)


_Layout = tuple[Array, Array]


def _room(rng: np.random.Generator, b: _Builder, difficulty: float) -> _Layout:
    lx, ly, h = rng.uniform(1.6, 4.0), rng.uniform(1.6, 4.0), rng.uniform(2.3, 3.4)
    wall = b.look(1.5)
    walls = [(0, -ly, lx, 0), (0, ly, lx, 0), (-lx, 0, 0, ly), (lx, 0, 0, ly)]
    for x, y, hx, hy in walls:
        one = wall if rng.random() < 0.7 else b.look(1.5)
        grow = 0.1
        centre = [x + np.sign(x) * grow, y + np.sign(y) * grow, h / 2]
        b.add(BOX, centre, [max(hx, grow), max(hy, grow), h / 2], look=one, casts=False)
        if rng.random() < 0.8:  # things on the wall: pictures, boards, windows, doors
            for _ in range(int(rng.integers(1, 4))):
                along = rng.uniform(-0.8, 0.8) * max(hx, hy)
                size, tall = rng.uniform(0.1, 0.6), rng.uniform(0.15, 0.7)
                z = rng.uniform(0.9, h - 0.5)
                flat = rng.uniform(0.01, 0.06)
                place = (
                    [along, y - np.sign(y) * flat, z] if hx else [x - np.sign(x) * flat, along, z]
                )
                half = [size, flat, tall] if hx else [flat, size, tall]
                b.add(BOX, place, half)
    b.add(BOX, [0, 0, -0.1], [lx + 0.2, ly + 0.2, 0.1], casts=False)
    b.add(BOX, [0, 0, h + 0.1], [lx + 0.2, ly + 0.2, 0.1], casts=False)
    for _ in range(int(4 + difficulty * rng.uniform(1, 12))):
        at = np.array([rng.uniform(-0.85, 0.85) * lx, rng.uniform(-0.85, 0.85) * ly, 0])
        if rng.random() < 0.4:
            _furniture(rng, b, at, 0)
        else:
            _upright(rng, b, at, rng.uniform(0.2, 0.9), 0)
    region = np.array([[-0.92 * lx, -0.92 * ly, 0.5], [0.92 * lx, 0.92 * ly, min(2.2, h - 0.2)]])
    focus = np.array([[-0.7 * lx, -0.7 * ly, 0.1], [0.7 * lx, 0.7 * ly, 1.6]])
    return region, focus


def _ground(rng: np.random.Generator, b: _Builder, difficulty: float) -> _Layout:
    b.add(BOX, [0, 0, -0.5], [60, 60, 0.5], casts=False)
    spread = rng.uniform(1.5, 5)
    for _ in range(int(8 + difficulty * rng.uniform(2, 26))):
        at = rng.normal(0, spread, 3)
        _upright(rng, b, at, rng.uniform(0.2, 1.3), 0)
    for _ in range(int(rng.integers(0, 5))):  # walls and posts
        at = rng.normal(0, 2 * spread, 2)
        if rng.random() < 0.6:
            half = [rng.uniform(1, 5), 0.15, rng.uniform(0.5, 2)]
            b.add(BOX, [*at, half[2]], half, rotation=yaw_rotation(rng.uniform(0, 7)))
        else:
            b.add(CYLINDER, [*at, 1.5], [0.1, 0.1, 1.5])
    for _ in range(int(rng.integers(0, 5))):  # trees
        at = rng.normal(0, 2 * spread, 2)
        tall = rng.uniform(1, 2.5)
        b.add(CYLINDER, [*at, tall], [0.15, 0.15, tall])
        leaf = b.look(0.6)
        for _ in range(int(rng.integers(1, 5))):
            crown = rng.uniform(0.4, 1.1, 3)
            place = [*(at + rng.normal(0, 0.4, 2)), 2 * tall + rng.normal(0, 0.3)]
            b.add(ELLIPSOID, place, crown, rotation=random_rotation(rng), look=leaf)
    far = 2.2 * spread + 2
    region = np.array([[-far, -far, 0.6], [far, far, rng.uniform(1.8, 4)]])
    return region, np.array([[-spread, -spread, 0], [spread, spread, 1.5]])


def _table(rng: np.random.Generator, b: _Builder, difficulty: float) -> _Layout:
    wx, wy = rng.uniform(0.5, 1.2, 2)
    b.add(BOX, [0, 0, -0.03], [wx, wy, 0.03], casts=False)
    b.add(BOX, [0, 0, -0.85], [6, 6, 0.1], casts=False)
    for x, y in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        if rng.random() < 0.7:
            away = rng.uniform(1.8, 4.5)
            half = np.array([5 if y else 0.1, 5 if x else 0.1, 2.5])
            b.add(BOX, [x * away, y * away, 1.0], half, casts=False)
    for _ in range(int(7 + difficulty * rng.uniform(3, 26))):
        at = np.array([rng.uniform(-0.75, 0.75) * wx, rng.uniform(-0.75, 0.75) * wy, 0])
        _upright(rng, b, at, rng.uniform(0.04, 0.22), 0)
    region = np.array([[-1.6, -1.6, 0.15], [1.6, 1.6, 1.3]])
    return region, np.array([[-0.5 * wx, -0.5 * wy, 0], [0.5 * wx, 0.5 * wy, 0.2]])


def _pile(rng: np.random.Generator, b: _Builder, difficulty: float) -> _Layout:
    if rng.random() < 0.7:
        b.add(BOX, [0, 0, -1.6], [30, 30, 0.5], casts=False)
    if rng.random() < 0.5:
        R = yaw_rotation(rng.uniform(0, 7))
        b.add(BOX, R @ np.array([0, 5.0, 1]), [12, 0.2, 5], rotation=R, casts=False)
    for _ in range(int(14 + difficulty * rng.uniform(5, 40))):
        kind = int(rng.choice([BOX, BOX, ELLIPSOID, CYLINDER, CONE]))
        half = rng.uniform(0.08, 0.6) * rng.uniform(0.25, 1.0, 3)
        b.add(kind, rng.normal(0, 0.7, 3), half, rotation=random_rotation(rng))
    region = np.array([[-3.5, -3.5, -0.9], [3.5, 3.5, 2.5]])
    return region, np.array([[-0.5, -0.5, -0.4], [0.5, 0.5, 0.4]])


def _facade(rng: np.random.Generator, b: _Builder, difficulty: float) -> _Layout:
    """A wall in the plane y = 0 seen from negative y, with relief standing out towards -y."""
    width, height = rng.uniform(4, 9), rng.uniform(4, 9)
    b.add(BOX, [0, 0, -0.5], [50, 50, 0.5], casts=False)
    solid = ("bricks", "surface", "noise", "leaves", "voronoi", "plain", "marble")
    wall = b.look(1.0, prefer=solid)
    b.add(BOX, [0, 1, height / 2], [width, 1, height / 2], look=wall)
    columns, rows = int(rng.integers(2, 4 + round(3 * difficulty))), int(rng.integers(1, 4))
    frame, pane, ledge = b.look(0.5, prefer=solid), b.look(0.6), b.look(0.8, prefer=solid)
    dx, dz = 2 * width / columns, height / rows
    hx, hz = dx * rng.uniform(0.15, 0.33), dz * rng.uniform(0.2, 0.36)
    rim, out = rng.uniform(0.05, 0.14), rng.uniform(0.06, 0.3)
    for i in range(columns):
        for j in range(rows):
            x, z = -width + (i + 0.5) * dx, (j + 0.5) * dz + rng.choice([0, 0.05])
            b.add(BOX, [x, 0, z], [hx, 0.02, hz], look=pane)
            for s in (-1, 1):
                b.add(BOX, [x + s * hx, -out / 2, z], [rim, out / 2, hz + rim], look=frame)
            b.add(BOX, [x, -out / 2, z + hz], [hx, out / 2, rim], look=frame)
            b.add(BOX, [x, -out * 0.7, z - hz], [hx + 2 * rim, out, rim * 0.8], look=ledge)
    for j in range(1, rows + 1):
        if rng.random() < 0.6:
            b.add(BOX, [0, -0.1, j * dz - 0.05], [width, rng.uniform(0.1, 0.3), 0.08], look=ledge)
    for side in (-1, 1):
        if rng.random() < 0.4:  # a wing, or a free-standing pillar
            b.add(BOX, [side * (width + 0.3), -2, height / 2], [0.4, 3.5, height / 2], look=wall)
        elif rng.random() < 0.5:
            b.add(CYLINDER, [side * width * 0.9, -0.5, height / 2], [0.25, 0.25, height / 2])
    for _ in range(int(3 + difficulty * rng.uniform(1, 12))):
        at = np.array([rng.uniform(-1, 1) * width, rng.uniform(-4, -0.6), 0])
        _upright(rng, b, at, rng.uniform(0.2, 0.9), 0)
    away = rng.uniform(5, 9)
    region = np.array([[-width * 1.2, -away - 3, 0.8], [width * 1.2, -away * 0.4, 3.5]])
    return region, np.array([[-width * 0.7, -0.5, 0.8], [width * 0.7, 0, height * 0.6]])


_LAYOUTS: dict[str, tuple[Callable[[np.random.Generator, _Builder, float], _Layout], float]] = {
    "room": (_room, 0.3),
    "ground": (_ground, 0.2),
    "table": (_table, 0.18),
    "pile": (_pile, 0.12),
    "facade": (_facade, 0.2),
}


def make_scene(
    seed: int, groups: dict[str, tuple[int, ...]], *, difficulty: float, style: str | None = None
) -> Scene:
    """Draw a scene.

    groups: texture numbers by group, of the bank it will be rendered with; difficulty in [0, 1]
    sets the number of parts; style: one of the layouts, drawn at random if not given.
    """
    rng = np.random.default_rng([seed, 1])
    names = list(_LAYOUTS)
    drawn = names[int(rng.choice(len(names), p=[_LAYOUTS[n][1] for n in names]))]
    style = style or drawn
    builder = _Builder(rng, groups)
    region, focus = _LAYOUTS[style][0](rng, builder, difficulty)
    kind = np.array([p[0] for p in builder.parts], np.int64)
    centre, half, rotation = (np.stack([p[i] for p in builder.parts]) for i in (1, 2, 3))  # type: ignore[arg-type]
    indoors = style == "room"
    return Scene(
        kind=kind,
        centre=centre,
        half=half,
        rotation=rotation,
        materials=builder.materials(),
        lights=_lights(rng, builder, region, indoors=indoors),
        sky=_sky(rng, groups),
        region=region,
        focus=focus,
        style=style,
    )


def _lights(rng: np.random.Generator, b: _Builder, region: Array, *, indoors: bool) -> Lights:
    ambient = rng.uniform(0.15, 0.6) * (1 + rng.uniform(-0.12, 0.12, 3))
    count = int(rng.choice([1, 2, 3], p=[0.5, 0.4, 0.1]))
    positions, colours, directional = [], [], []
    middle, span = region.mean(0), region[1] - region[0]
    for n in range(count):
        sun = not indoors and (n == 0 or rng.random() < 0.3)
        directional.append(sun)
        warmth = np.array([1, 0.95, 0.85]) if rng.random() < 0.6 else np.ones(3)
        tone = warmth * (1 + rng.uniform(-0.08, 0.08, 3))
        if sun:
            azimuth, up = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 1.4)
            direction = [np.cos(azimuth) * np.cos(up), np.sin(azimuth) * np.cos(up), np.sin(up)]
            positions.append(np.array(direction))
            colours.append(tone * rng.uniform(0.4, 1.3))
        else:
            place = middle + span * rng.uniform(-0.45, 0.45, 3)
            place[2] = region[1, 2] + (0.0 if indoors else rng.uniform(0, span[2]))
            positions.append(place)
            reach = float(np.linalg.norm(span) / 3)
            colours.append(tone * rng.uniform(0.3, 0.9) * (0.3 + reach**2))
    casters = tuple(n for n in range(len(b.parts)) if n not in b.shadowless)
    return Lights(
        ambient_low=ambient * rng.uniform(0.4, 0.9),
        ambient_high=ambient,
        position=np.stack(positions),
        colour=np.stack(colours),
        directional=np.array(directional),
        casters=(casters,) * count,
    )


def _sky(rng: np.random.Generator, groups: dict[str, tuple[int, ...]]) -> Sky:
    blue = rng.uniform(0, 1)
    bright = rng.uniform(0.5, 1.1)
    zenith = bright * np.array([1 - 0.75 * blue, 1 - 0.5 * blue, 1.0])
    return Sky(
        horizon=bright * np.array([1, 1, 1]) * rng.uniform(0.8, 1.1),
        zenith=zenith,
        cloud=bright * np.full(3, rng.uniform(0.7, 1.2)),
        cloud_texture=int(rng.choice(groups["noise"])),
        cover=rng.uniform(0.3, 0.8),
        offset=rng.uniform(0, 1, 2),
    )
