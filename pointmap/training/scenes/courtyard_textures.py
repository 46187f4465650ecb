"""The procedural textures of the courtyard: paving, masonry, plaster, wood, leaves, glass."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array
from pointmap.training.scenes.textures import (
    TEXTURE_SIZE,
    Image,
    TextureBank,
    pack_textures,
    spectrum_noise,
    to_bytes,
)

_Rng = np.random.Generator


def _grain(rng: _Rng, exponent: float, strength: float) -> Image:
    return np.asarray(1 + strength * (spectrum_noise(rng, exponent) * 2 - 1), np.float32)


def _cells(rng: _Rng, rows: int, columns: int, jitter: float) -> tuple[NDArray[np.int64], Image]:
    """Tiling Voronoi cells of a jittered grid: cell numbers and distance to the joint, (S, S)."""
    y, x = np.mgrid[:TEXTURE_SIZE, :TEXTURE_SIZE] / TEXTURE_SIZE
    i, j = np.mgrid[:rows, :columns]
    sx = ((j + 0.5 + 0.5 * (i % 2) + rng.uniform(-jitter, jitter, i.shape)) / columns).ravel()
    sy = ((i + 0.5 + rng.uniform(-jitter, jitter, i.shape)) / rows).ravel()
    dx = (np.abs(x[..., None] - sx + 0.5) % 1 - 0.5) * columns
    dy = (np.abs(y[..., None] - sy + 0.5) % 1 - 0.5) * rows
    dx, dy = np.minimum(np.abs(dx), columns - np.abs(dx)), np.minimum(np.abs(dy), rows - np.abs(dy))
    distance = np.hypot(dx, dy)
    two = np.partition(distance, 1, axis=-1)[..., :2]
    return distance.argmin(-1), np.asarray(two[..., 1] - two[..., 0], np.float32)


def _paving(rng: _Rng, colour: Array, rows: int, columns: int, spread: float) -> Image:
    cell, joint = _cells(rng, rows, columns, 0.25)
    tone = rng.normal(1, spread, (rows * columns, 1)) * (
        1 + rng.normal(0, 0.02, (rows * columns, 3))
    )
    dome = np.clip(joint * 3.0, 0, 1)[..., None] ** 0.5
    stone = colour * tone[cell] * _grain(rng, 0.9, 0.35) * _grain(rng, 0.3, 0.2)
    earth = np.array([0.42, 0.39, 0.34]) * _grain(rng, 0.5, 0.3)
    return np.asarray(earth * (1 - dome) + stone * dome, np.float32)


def _masonry(
    rng: _Rng, colour: Array, rows: int, columns: int, joint: Array, spread: float
) -> Image:
    y, x = np.mgrid[:TEXTURE_SIZE, :TEXTURE_SIZE] / TEXTURE_SIZE
    row = np.floor(y * rows)
    across = x * columns + 0.5 * (row % 2)
    warp = (spectrum_noise(rng, 1.5)[..., 0] - 0.5) * 0.06
    fx, fy = (across + warp) % 1, (y * rows + warp) % 1
    edge = np.minimum(np.minimum(fx, 1 - fx) * rows / columns * 1.6, np.minimum(fy, 1 - fy))
    number = (row % rows * columns + np.floor(across) % columns).astype(int)
    tone = rng.normal(1, spread, (rows * columns, 1)) * (
        1 + rng.normal(0, 0.025, (rows * columns, 3))
    )
    inside = np.clip((edge - 0.05) * 18, 0, 1)[..., None]
    block = colour * tone[number] * _grain(rng, 0.8, 0.4) * _grain(rng, 0.2, 0.15)
    return np.asarray(joint * _grain(rng, 0.4, 0.25) * (1 - inside) + block * inside, np.float32)


def _plaster(rng: _Rng, colour: Array) -> Image:
    stain = _grain(rng, 1.6, 0.35) * _grain(rng, 0.9, 0.25) * _grain(rng, 0.2, 0.12)
    bare = np.clip((spectrum_noise(rng, 1.4) - 0.72) * 12, 0, 1)
    under = np.array([0.55, 0.42, 0.35]) * _grain(rng, 0.4, 0.4)
    return np.asarray(colour * stain * (1 - bare) + under * bare, np.float32)


def _planks(rng: _Rng, colour: Array, boards: int) -> Image:
    x = np.mgrid[:TEXTURE_SIZE, :TEXTURE_SIZE][1] / TEXTURE_SIZE
    board = np.floor(x * boards).astype(int)
    streak = spectrum_noise(rng, 0.5)[:, :, 0]
    lines = np.fft.irfft2(
        np.fft.rfft2(streak - 0.5) * np.exp(-np.abs(np.fft.fftfreq(TEXTURE_SIZE))[:, None] * 60),
        s=streak.shape,
    )
    fibre = 1 + 3.0 * lines[..., None] / (lines.std() * 12)
    knots = 1 - 0.5 * np.clip((spectrum_noise(rng, 1.3) - 0.75) * 9, 0, 1)
    gap = np.minimum(x * boards % 1, 1 - x * boards % 1)[..., None] < 0.03
    tone = rng.normal(1, 0.14, (boards, 1))[board]
    wood = colour * fibre * knots * tone * _grain(rng, 0.6, 0.2)
    return np.asarray(np.where(gap, 0.25 * colour, wood), np.float32)


def _foliage(rng: _Rng) -> Image:
    size, count, reach = TEXTURE_SIZE, 420, 14
    v, u = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    image = np.zeros((size, size, 3)) + np.array([0.12, 0.18, 0.08])
    for n in range(count):
        cx, cy, turn = *rng.uniform(0, size, 2), rng.uniform(0, np.pi)
        x, y = u + int(cx), v + int(cy)
        a = np.cos(turn) * (x - cx) + np.sin(turn) * (y - cy)
        b = np.cos(turn) * (y - cy) - np.sin(turn) * (x - cx)
        inside = (a / 13) ** 2 + (b / 5) ** 2 < 1
        lit = 0.35 + 0.65 * n / count
        shade = lit * (1 - 0.25 * (np.abs(b) < 0.8)) * (0.85 + 0.25 * (b > 0))
        leaf = np.array([0.42, 0.58, 0.24]) * rng.normal(1, 0.16) + rng.normal(0, 0.03, 3)
        image[y[inside] % size, x[inside] % size] = shade[inside, None] * leaf
    return np.asarray(image, np.float32)


def _pane(rng: _Rng) -> Image:
    y, _ = np.mgrid[:TEXTURE_SIZE, :TEXTURE_SIZE] / TEXTURE_SIZE
    cloud = spectrum_noise(rng, 1.8)
    glass = np.array([0.22, 0.28, 0.34]) + 0.35 * np.clip(cloud - 0.4, 0, 1) + 0.1 * y[..., None]
    return np.asarray(glass, np.float32)


def _notices(rng: _Rng) -> Image:
    image = _grain(rng, 0.8, 0.08) * np.array([0.88, 0.85, 0.76])
    for y in range(18, TEXTURE_SIZE - 20, 15):
        x = 20
        high = 9 if y > 50 else 13
        while x < TEXTURE_SIZE - 30 and rng.random() > 0.06:
            for _ in range(3):
                at = x + int(rng.integers(0, 6))
                image[y : y + high, at : at + 2] *= 0.3
            at = y + int(rng.integers(0, high))
            image[at : at + 2, x : x + 7] *= 0.3
            x += 10 + 6 * (rng.random() < 0.2)
    return np.asarray(image, np.float32)


def make_courtyard_bank(seed: int) -> TextureBank:
    """Draw the textures of the courtyard; ``groups`` names them."""
    rng = np.random.default_rng([seed, 10])
    brown, grey = np.array([0.60, 0.47, 0.34]), np.array([0.62, 0.59, 0.54])
    mortar = np.array([0.66, 0.63, 0.57])
    images = {
        "cobbles": _paving(rng, np.array([0.60, 0.57, 0.53]), 12, 12, 0.14),
        "flags": _paving(rng, np.array([0.70, 0.65, 0.57]), 5, 5, 0.1),
        "plaster": _plaster(rng, np.array([0.74, 0.65, 0.5])),
        "ashlar": _masonry(
            rng, np.array([0.72, 0.66, 0.56]), 8, 4, np.array([0.5, 0.46, 0.4]), 0.09
        ),
        "bricks": _masonry(rng, np.array([0.62, 0.38, 0.30]), 22, 8, mortar, 0.16),
        "stone": np.asarray(grey * _grain(rng, 1.0, 0.45) * _grain(rng, 0.2, 0.25), np.float32),
        "marble": np.asarray(
            np.array([0.78, 0.75, 0.7]) * _grain(rng, 1.3, 0.35) * _grain(rng, 0.4, 0.2), np.float32
        ),
        "planks": _planks(rng, brown, 5),
        "shutter": _planks(rng, np.array([0.34, 0.43, 0.41]), 8),
        "oak": _planks(rng, np.array([0.42, 0.30, 0.20]), 7),
        "clay": np.asarray(
            np.array([0.74, 0.46, 0.33]) * _grain(rng, 1.0, 0.4) * _grain(rng, 0.2, 0.2), np.float32
        ),
        "tiles": _masonry(
            rng, np.array([0.66, 0.42, 0.32]), 12, 10, np.array([0.2, 0.14, 0.1]), 0.16
        ),
        "leaves": _foliage(rng),
        "glass": _pane(rng),
        "iron": np.asarray(np.array([0.33, 0.32, 0.31]) * _grain(rng, 0.7, 0.5), np.float32),
        "sack": np.asarray(np.array([0.72, 0.63, 0.47]) * _grain(rng, 0.3, 0.4), np.float32),
        "notices": _notices(rng),
        "noise": spectrum_noise(rng, 1.1) * np.ones(3, np.float32),
        "cloud": spectrum_noise(rng, 1.6) * np.ones(3, np.float32),
    }
    groups: dict[str, tuple[int, ...]] = {name: (n,) for n, name in enumerate(images)}
    return pack_textures([to_bytes(i) for i in images.values()], groups, [False] * len(images))
