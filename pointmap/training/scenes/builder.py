"""Building blocks of the layouts: a part list, and what parts are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array

Material = tuple[float, ...]
"""One row of :class:`Materials`, in the order of its fields."""


@dataclass(frozen=True)
class Materials:
    """What all parts are made of; arrays over parts."""

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


@dataclass
class Builder:
    """Collects parts while a layout is drawn. ``groups``: texture numbers by pattern."""

    rng: np.random.Generator
    groups: dict[str, tuple[int, ...]]
    parts: list[tuple[int, Array, Array, Array]] = field(default_factory=list)
    material_rows: list[Material] = field(default_factory=list)
    shadowless: set[int] = field(default_factory=set)

    def add(
        self,
        kind: int,
        centre: Sequence[float] | Array,
        half: Sequence[float] | Array,
        *,
        rotation: Array | None = None,
        material: Material | None = None,
        casts: bool = True,
    ) -> None:
        """Add a solid; without a material it gets a random one."""
        if not casts:
            self.shadowless.add(len(self.parts))
        R = np.eye(3) if rotation is None else rotation
        self.parts.append((kind, np.asarray(centre, float), np.asarray(half, float), R))
        size = float(np.sort(np.asarray(half, float))[1])
        self.material_rows.append(self.random_material(size) if material is None else material)

    def random_material(self, size: float, *, prefer: Sequence[str] = ()) -> Material:
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
        value = rng.uniform(0.12, 0.75) if rng.random() < 0.9 else rng.uniform(0.02, 0.1)
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
        """Return the materials of all parts as arrays."""
        t = np.array(self.material_rows, float)
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
