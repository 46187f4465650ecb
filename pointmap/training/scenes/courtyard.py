"""The courtyard of the sample photos: one hand-laid scene, everything in it procedural."""

from __future__ import annotations

import numpy as np

from pointmap.camera import Array
from pointmap.training.scenes.builder import Builder, Material, random_rotation, yaw_rotation
from pointmap.training.scenes.random_scene import Lights, Sky, SyntheticScene
from pointmap.training.scenes.solids import (
    BOX,
    CYLINDER,
    ELLIPSOID,
    HULL,
    PRISMS,
    ROUNDED,
    STONES,
    TORUS,
)
from pointmap.training.scenes.textures import TextureBank

_GABLE, _OCTAGON, _TAPERED = HULL, PRISMS[1], PRISMS[3]

TARGET = np.array([0.0, -3.2, 1.15])
"""What the cameras circle around: the fountain."""


class _Yard:
    """Lays parts with named materials."""

    def __init__(self, seed: int, bank: TextureBank) -> None:
        self.rng = np.random.default_rng([seed, 11])
        self.bank = bank
        self.b = Builder(self.rng, bank.groups)

    def material(
        self,
        name: str,
        metres: float,
        *,
        bright: float = 1.0,
        gloss: float = 0.0,
        dirt: float = 0.3,
        turn: float = 0.0,
    ) -> Material:
        """A material whose pattern repeats every ``metres``."""
        texture = self.bank.groups[name][0]
        grey = float(self.bank.mean[texture].mean()) * bright
        shift = self.rng.uniform(0, 1, 2)
        noise = self.bank.groups["noise"][0]
        toned = (0.8, 0.95)  # saturation and contrast
        return (
            texture,
            grey,
            grey,
            grey,
            1 / metres,
            *shift,
            turn,
            *toned,
            noise,
            dirt,
            gloss,
            40.0,
        )

    def add(
        self,
        kind: int,
        centre: tuple[float, ...] | Array,
        half: tuple[float, ...],
        material: Material,
        rotation: Array | None = None,
    ) -> None:
        """Add a part."""
        self.b.add(kind, np.asarray(centre), np.asarray(half), material=material, rotation=rotation)

    def walls(self) -> None:
        """Ground, three walls with pilasters and openings, and eaves."""
        self.add(BOX, (0, 0, -0.5), (40, 40, 0.5), self.material("cobbles", 1.6, dirt=0.5))
        plaster = self.material("plaster", 2.6, dirt=0.45)
        self.add(BOX, (0, 0.5, 3.2), (7.5, 0.5, 3.2), plaster)
        self.add(BOX, (-7.5, -4, 2.6), (0.5, 5, 2.6), self.material("bricks", 1.7, dirt=0.5))
        self.add(BOX, (7.5, -4, 2.6), (0.5, 5, 2.6), self.material("ashlar", 2.2, dirt=0.5))
        plinth, trim = self.material("ashlar", 2.0), self.material("marble", 1.3, dirt=0.4)
        self.add(BOX, (0, -0.06, 0.4), (7.0, 0.07, 0.4), plinth)
        self.add(BOX, (0, -0.1, 3.3), (7.0, 0.14, 0.09), trim)
        self.add(BOX, (0, -0.12, 6.3), (7.2, 0.25, 0.12), trim)
        tiles = self.material("tiles", 1.5, dirt=0.5)
        self.add(_GABLE, (0, 0.5, 7.3), (8.2, 1.3, 0.9), tiles)
        for side in (-1, 1):
            self.add(BOX, (side * 7.2, -4, 5.25), (0.9, 5.1, 0.07), tiles)
            for y in (-2.2, -4.8, -7.4):
                self.add(BOX, (side * 6.95, y, 2.6), (0.12, 0.28, 2.6), trim)
            self._opening(
                np.array([side * 7.0, -3.5, 1.5]), yaw_rotation(-side * np.pi / 2), trim, 0.55
            )
            self._opening(
                np.array([side * 7.0, -6.1, 1.5]), yaw_rotation(-side * np.pi / 2), trim, 0.55
            )

    def _opening(self, at: Array, R: Array, trim: Material, tall: float) -> None:
        """A window; its outside faces the rotated -y direction."""
        shutter = self.material("shutter", 0.9, dirt=0.3)
        glass = self.material("glass", 1.1, gloss=0.5, dirt=0.1)

        def box(x: float, y: float, z: float, half: tuple[float, ...], material: Material) -> None:
            self.add(BOX, at + R @ np.array([x, y, z]), half, material, R)

        box(0, -0.015, 0, (0.42, 0.02, tall), glass)
        box(0, -0.05, 0, (0.025, 0.04, tall), trim)
        box(0, -0.05, 0.1, (0.42, 0.035, 0.02), trim)
        for s in (-1, 1):
            box(s * 0.46, -0.08, 0, (0.06, 0.09, tall + 0.06), trim)
            box(s * 0.78, -0.06, 0, (0.24, 0.035, tall), shutter)
            for z in (-0.5, 0.5):
                box(s * 0.78, -0.1, z * tall, (0.22, 0.015, 0.03), shutter)
        box(0, -0.1, tall + 0.08, (0.56, 0.14, 0.07), trim)
        box(0, -0.14, -tall - 0.05, (0.62, 0.2, 0.05), trim)

    def facade(self) -> None:
        """Windows, a door with steps and pediment, pilasters, lamps, notices: the back wall."""
        trim = self.material("marble", 1.2, dirt=0.4)
        for x in (-5.2, -2.7, 2.7, 5.2):
            self._opening(np.array([x, 0, 1.95]), np.eye(3), trim, 0.75)
        for x in (-5.2, -2.7, 0, 2.7, 5.2):
            self._opening(np.array([x, 0, 4.75]), np.eye(3), trim, 0.75)
        self.add(BOX, (0, -0.03, 1.55), (0.62, 0.05, 1.15), self.material("oak", 1.0, dirt=0.3))
        iron = self.material("iron", 0.4, gloss=0.3)
        for z in (0.8, 1.6, 2.3):
            self.add(BOX, (0, -0.1, z), (0.6, 0.02, 0.035), iron)
        self.add(TORUS, (0.35, -0.16, 1.5), (0.09, 0.09, 0.07), iron, _TIP)
        stone = self.material("ashlar", 1.7)
        for s in (-1, 1):
            self.add(CYLINDER, (s * 0.92, -0.28, 1.6), (0.15, 0.15, 1.2), trim)
            self.add(BOX, (s * 0.92, -0.26, 2.87), (0.22, 0.24, 0.08), trim)
            self.add(BOX, (s * 0.92, -0.26, 0.42), (0.22, 0.24, 0.08), trim)
            for x in (1.5, 4.0, 6.6):
                self.add(BOX, (s * x, -0.09, 4.7), (0.16, 0.08, 1.5), trim)
            self.add(
                BOX,
                (s * 1.55, -0.2, 2.3),
                (0.09, 0.09, 0.16),
                self.material("glass", 0.3, gloss=0.6),
            )
            self.add(_GABLE, (s * 1.55, -0.2, 2.52), (0.14, 0.14, 0.06), iron)
            self.add(BOX, (s * 1.55, -0.1, 2.4), (0.02, 0.12, 0.02), iron)
        self.add(BOX, (0, -0.28, 3.03), (1.25, 0.3, 0.09), trim)
        self.add(_GABLE, (0, -0.26, 3.3), (1.25, 0.24, 0.2), trim)
        for n in range(3):
            self.add(
                BOX,
                (0, -0.25 - 0.15 * (3 - n), 0.07 + 0.14 * n),
                (1.5, 0.15 * (3 - n) + 0.2, 0.07),
                stone,
            )
        for x, z, w, h in (
            (-3.95, 1.85, 0.3, 0.4),
            (-3.9, 2.55, 0.22, 0.16),
            (3.95, 1.9, 0.26, 0.38),
        ):
            half = (w, 0.015, h)
            self.add(
                BOX,
                (x, -0.02, z),
                half,
                self.material("notices", 2 * max(w, h), dirt=0.2, turn=np.pi),
            )

    def fountain(self) -> None:
        """The octagonal basin with two bowls that stands in the middle."""
        x, y = TARGET[:2]
        marble, stone = (
            self.material("marble", 1.1, dirt=0.5),
            self.material("flags", 1.5, dirt=0.4),
        )
        turn = yaw_rotation(np.pi / 8)
        self.add(_OCTAGON, (x, y, 0.06), (1.75, 1.75, 0.06), stone, turn)
        self.add(_OCTAGON, (x, y, 0.36), (1.3, 1.3, 0.26), self.material("ashlar", 1.3), turn)
        self.add(_OCTAGON, (x, y, 0.66), (1.42, 1.42, 0.07), marble, turn)
        self.add(
            _OCTAGON,
            (x, y, 0.735),
            (1.18, 1.18, 0.01),
            self.material("leaves", 1.3, bright=0.6, gloss=0.3, dirt=0.6),
            turn,
        )
        self.add(_OCTAGON, (x, y, 0.9), (0.34, 0.34, 0.18), stone, turn)
        self.add(CYLINDER, (x, y, 1.25), (0.19, 0.19, 0.35), marble)
        self.add(TORUS, (x, y, 1.1), (0.3, 0.3, 0.25), marble)
        self.add(_TAPERED, (x, y, 1.62), (0.72, 0.72, 0.13), marble, _FLIP)
        self.add(TORUS, (x, y, 1.75), (0.76, 0.76, 0.16), marble)
        self.add(CYLINDER, (x, y, 1.95), (0.1, 0.1, 0.25), stone)
        self.add(_TAPERED, (x, y, 2.2), (0.36, 0.36, 0.08), marble, _FLIP)
        self.add(TORUS, (x, y, 2.28), (0.38, 0.38, 0.1), marble)
        self.add(ELLIPSOID, (x, y, 2.45), (0.17, 0.17, 0.21), self.material("stone", 0.5))

    def plant(self, x: float, y: float, size: float) -> None:
        """A shrub in a clay pot."""
        rng = self.rng
        clay = self.material("clay", 0.7, dirt=0.5)
        self.add(_TAPERED, (x, y, 0.3 * size), (0.3 * size, 0.3 * size, 0.3 * size), clay, _FLIP)
        self.add(TORUS, (x, y, 0.6 * size), (0.33 * size, 0.33 * size, 0.12 * size), clay)
        leaves = self.material("leaves", 0.45, bright=1.1, dirt=0.5)
        for _ in range(26):
            place = rng.normal(0, 0.2 * size, 3) * [1, 1, 1.25] + [x, y, 1.05 * size]
            half = size * rng.uniform(0.05, 0.17, 3)
            kind = int(rng.choice([ELLIPSOID, *STONES]))
            self.add(kind, place, tuple(half), leaves, random_rotation(rng))

    def clutter(self) -> None:
        """Crates, barrels, sacks, a bench, jars and stones."""
        # In this order: the random draws are the sample photos'.
        self._crates()
        self._barrels()
        self._sacks()
        self._bench()
        self._jars()
        self._pebbles()

    def _crates(self) -> None:
        for x, y, z, turn in (
            (-3.3, -1.5, 0.4, 0.3),
            (-3.2, -1.45, 1.1, -0.2),
            (-4.2, -1.25, 0.4, 0.05),
            (4.4, -4.4, 0.4, 0.7),
        ):
            size = 0.4 if z < 1 else 0.3
            R, wood = yaw_rotation(turn), self.material("planks", 0.8, dirt=0.4)
            self.add(BOX, (x, y, z), (size, size, size if z < 1 else 0.3), wood, R)
            for s in (-1, 1):
                dark = self.material("planks", 0.7, bright=0.7, turn=np.pi / 2)
                self.add(BOX, (x, y, z + s * 0.8 * size), (size * 1.03, size * 1.03, 0.05), dark, R)

    def _barrels(self) -> None:
        iron = self.material("iron", 0.5, gloss=0.3)
        for x, y in ((3.4, -1.2), (4.25, -1.3), (-4.9, -4.4)):
            oak = self.material("oak", 0.9, bright=1.5)
            self.add(CYLINDER, (x, y, 0.55), (0.36, 0.36, 0.55), oak)
            for z in (0.12, 0.4, 0.72, 1.0):
                self.add(CYLINDER, (x, y, z), (0.372, 0.372, 0.03), iron)

    def _sacks(self) -> None:
        rng = self.rng
        for x, y, low in (
            (2.6, -1.1, 0.2),
            (2.5, -1.5, 0.2),
            (2.6, -1.25, 0.52),
            (-4.3, -4.9, 0.2),
        ):
            sack = (rng.uniform(0.28, 0.36), rng.uniform(0.2, 0.26), 0.19)
            cloth = self.material("sack", 0.8, dirt=0.5)
            self.add(ROUNDED, (x, y, low), sack, cloth, yaw_rotation(rng.uniform(0, 6)))

    def _bench(self) -> None:
        wood = self.material("planks", 1.0, bright=1.15)
        R, seat = yaw_rotation(-0.5), np.array([4.6, -2.7, 0])
        self.add(BOX, seat + np.array([0, 0, 0.45]), (0.9, 0.22, 0.035), wood, R)
        self.add(BOX, seat + R @ np.array([0, 0.22, 0.75]), (0.9, 0.03, 0.14), wood, R)
        for x in (-0.75, 0.75):
            leg, stone = seat + R @ np.array([x, 0, 0.21]), self.material("stone", 0.6)
            self.add(BOX, leg, (0.05, 0.2, 0.21), stone, R)
            self.add(BOX, seat + R @ np.array([x, 0.22, 0.6]), (0.04, 0.03, 0.28), wood, R)

    def _jars(self) -> None:
        for x, y, size in (
            (-2.4, -1.0, 1.0),
            (1.95, -0.75, 0.7),
            (-1.9, -4.9, 0.6),
            (5.3, -5.0, 0.9),
        ):
            clay = self.material("clay", 0.6, dirt=0.5)
            self.add(ELLIPSOID, (x, y, 0.36 * size), (0.27 * size, 0.27 * size, 0.36 * size), clay)
            self.add(CYLINDER, (x, y, 0.74 * size), (0.1 * size, 0.1 * size, 0.1 * size), clay)
            self.add(TORUS, (x, y, 0.83 * size), (0.15 * size, 0.15 * size, 0.12 * size), clay)

    def _pebbles(self) -> None:
        """Stones around the fountain."""
        rng = self.rng
        stone = self.material("stone", 0.35, dirt=0.4)
        for _ in range(22):
            angle, away = rng.uniform(0, 2 * np.pi), rng.uniform(1.9, 3.6)
            pebble = rng.uniform(0.04, 0.13) * rng.uniform(0.6, 1, 3)
            place = (
                TARGET[0] + away * np.cos(angle),
                TARGET[1] + away * np.sin(angle),
                0.5 * pebble[2],
            )
            self.add(int(rng.choice(STONES)), place, tuple(pebble), stone, random_rotation(rng))


_FLIP = np.diag([1.0, -1.0, -1.0])
"""Turns a tapered solid upside down."""
_TIP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
"""Turns the axis of a solid from z to y."""


def make_courtyard(seed: int, bank: TextureBank) -> SyntheticScene:
    """Lay the courtyard; the seed moves only the small things."""
    yard = _Yard(seed, bank)
    yard.walls()
    yard.facade()
    yard.fountain()
    for x, y, size in (
        (-1.9, -0.7, 0.95),
        (-6.2, -1.0, 1.3),
        (6.2, -1.0, 1.25),
        (5.6, -3.9, 0.9),
        (-5.9, -5.5, 1.1),
    ):
        yard.plant(x, y, size)
    yard.clutter()
    parts = yard.b.parts
    sun = np.array([-0.55, -0.75, 0.85]) / np.linalg.norm([-0.55, -0.75, 0.85])
    everything = tuple(range(len(parts)))
    lights = Lights(
        ambient_low=np.array([0.30, 0.27, 0.23]),
        ambient_high=np.array([0.50, 0.58, 0.72]),
        position=sun[None],
        colour=np.array([[1.75, 1.6, 1.35]]),
        directional=np.array([True]),
        casters=(everything,),
        size=0.02,
    )
    sky = Sky(
        horizon=np.array([0.95, 1.0, 1.08]), zenith=np.array([0.28, 0.47, 0.9]),
        cloud=np.array([1.25, 1.25, 1.25]), cloud_texture=bank.groups["cloud"][0], cover=0.5,
        offset=np.array([0.3, 0.1]),
    )  # fmt: skip
    centre, half, rotation = (np.stack([np.asarray(p[i]) for p in parts]) for i in (1, 2, 3))
    return SyntheticScene(
        kind=np.array([p[0] for p in parts], np.int64), centre=centre, half=half, rotation=rotation,
        materials=yard.b.materials(), lights=lights, sky=sky,
        region=np.array([[-6, -11, 0.5], [6, -1, 4.0]]),
        focus=np.stack([TARGET - 0.5, TARGET + 0.5]),
    )  # fmt: skip
