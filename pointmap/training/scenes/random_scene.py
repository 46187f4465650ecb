"""Procedural scenes: rooms, open ground, table tops, piles and facades built of simple solids.

World axes: x, y along the ground, z up; units are roughly metres but mean nothing in training.
Every random number comes from one NumPy generator seeded by the scene's seed, so a seed gives the
same scene on every device.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array
from pointmap.training.scenes.builder import Builder, Materials
from pointmap.training.scenes.layouts import LAYOUTS
from pointmap.training.scenes.solids import inside_solid


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
    size: float = 0.0
    """Radius of the lamps in world units, of suns as a tangent: softens shadows where asked for."""


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
class SyntheticScene:
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

    def inside_any(self, points: Array, *, margin: float = 0.0) -> NDArray[np.bool_]:
        """Return (M,) whether points (M, 3) lie in a part grown by ``margin`` world units."""
        inside = np.zeros(len(points), bool)
        for n, kind in enumerate(self.kind):
            local = (points - self.centre[n]) @ self.rotation[n] / (self.half[n] + margin)
            inside |= inside_solid(int(kind), local)
        return inside


def make_scene(
    seed: int, groups: dict[str, tuple[int, ...]], *, difficulty: float, style: str | None = None
) -> SyntheticScene:
    """Draw a scene.

    groups: texture numbers by group, of the bank it will be rendered with; difficulty in [0, 1]
    sets the number of parts; style: one of the layouts, drawn at random if not given.
    """
    rng = np.random.default_rng([seed, 1])
    names = list(LAYOUTS)
    drawn = names[int(rng.choice(len(names), p=[LAYOUTS[n][1] for n in names]))]
    style = style or drawn
    builder = Builder(rng, groups)
    region, focus = LAYOUTS[style][0](rng, builder, difficulty)
    kind = np.array([p[0] for p in builder.parts], np.int64)
    centre, half, rotation = (np.stack([p[i] for p in builder.parts]) for i in (1, 2, 3))  # type: ignore[arg-type]
    indoors = style == "room"
    return SyntheticScene(
        kind=kind,
        centre=centre,
        half=half,
        rotation=rotation,
        materials=builder.materials(),
        lights=_lights(rng, builder, region, indoors=indoors),
        sky=_sky(rng, groups),
        region=region,
        focus=focus,
    )


def _lights(rng: np.random.Generator, b: Builder, region: Array, *, indoors: bool) -> Lights:
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
