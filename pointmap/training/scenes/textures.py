"""Textures of the procedural scenes: a bank of square images with their mip levels.

A bank holds every texture of a run in one tensor, so that a renderer fetches all hits of a view in
one gather whatever their textures are. Colours are stored gamma encoded (gamma 2) as packed RGBX
bytes. Lookups are trilinear: without mip levels distant surfaces shimmer, and a network learns to
read depth from the shimmer.

Needs torch and numpy only; PIL is imported when photographs are read from a folder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pointmap.errors import InputError, UnusablePicture

Image = NDArray[np.float32]

TEXTURE_SIZE = 256
"""Side of the finest level in texels, a power of two."""

_LEVELS = TEXTURE_SIZE.bit_length()
_LEVEL_STARTS = np.cumsum([0] + [(TEXTURE_SIZE >> level) ** 2 for level in range(_LEVELS)])


@dataclass(frozen=True)
class TextureBank:
    """All textures of a run on one device."""

    texels: Tensor
    """(textures * texels of one mip chain,) int32, packed RGBX, gamma 2."""
    mean: Tensor
    """(textures, 3) float32 mean colour, linear light."""
    groups: dict[str, tuple[int, ...]]
    """Texture numbers by kind of pattern ("noise", "bricks", "photo", ...)."""
    mirrored: Tensor
    """(textures,) float32, 1 where the pattern repeats by mirroring (it does not tile)."""

    @property
    def count(self) -> int:
        """Number of textures."""
        return int(self.mean.shape[0])

    def sample(self, texture: Tensor, u: Tensor, v: Tensor, level: Tensor) -> Tensor:
        """Return gamma-encoded colours (3, R) float32 in [0, 1].

        texture: (R,) int64; u, v: (R,) float32 in repeats of the texture; level: (R,) float32, log2
        of the footprint in texels of the finest level (negative = magnified).
        """
        mirrored = self.mirrored[texture]
        u, v = _wrap(u, mirrored), _wrap(v, mirrored)
        level = level.clamp(0, _LEVELS - 1.001)
        lower = level.floor()
        starts = _starts(texture.device)
        base = texture * int(_LEVEL_STARTS[-1])
        fine = self._bilinear(base, u, v, lower.long(), starts)
        coarse = self._bilinear(base, u, v, lower.long() + 1, starts)
        return torch.lerp(fine, coarse, (level - lower)[None])

    def _bilinear(
        self, base: Tensor, u: Tensor, v: Tensor, level: Tensor, starts: Tensor
    ) -> Tensor:
        side = torch.bitwise_right_shift(torch.full_like(level, TEXTURE_SIZE), level)
        base = base + starts[level]
        x, y = u * side - 0.5, v * side - 0.5
        x0, y0 = x.floor(), y.floor()
        fx, fy = x - x0, y - y0
        mask = side - 1
        xa = torch.bitwise_and(x0.long(), mask)
        ya = torch.bitwise_and(y0.long(), mask)
        xb = torch.bitwise_and(xa + 1, mask)
        row_a = base + ya * side
        row_b = base + torch.bitwise_and(ya + 1, mask) * side
        top = torch.lerp(self._fetch(row_a + xa), self._fetch(row_a + xb), fx)
        low = torch.lerp(self._fetch(row_b + xa), self._fetch(row_b + xb), fx)
        return torch.lerp(top, low, fy)

    def _fetch(self, index: Tensor) -> Tensor:
        packed = self.texels[index]
        channels = [torch.bitwise_and(packed >> shift, 255) for shift in (0, 8, 16)]
        return torch.stack(channels).float().mul_(1 / 255)


def _wrap(u: Tensor, mirrored: Tensor) -> Tensor:
    """Bring coordinates into [0, 1): by repeating, or by a triangle wave of period 2."""
    repeated = u - u.floor()
    half = u * 0.5
    wave = 1 - ((half - half.floor()) * 2 - 1).abs()
    return torch.where(mirrored > 0, wave, repeated)


_START_CACHE: dict[torch.device, Tensor] = {}


def _starts(device: torch.device) -> Tensor:
    if device not in _START_CACHE:
        _START_CACHE[device] = torch.tensor(_LEVEL_STARTS, device=device)
    return _START_CACHE[device]


def spectrum_noise(rng: np.random.Generator, exponent: float) -> Image:
    """Tiling noise with power falling as frequency^-exponent, (S, S, 1) in [0, 1]."""
    size = TEXTURE_SIZE
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]) * size
    frequency[0, 0] = 1.0
    white = rng.standard_normal((1, size, size))
    noise = np.fft.irfft2(np.fft.rfft2(white) * frequency**-exponent, s=(size, size))
    noise -= noise.mean((1, 2), keepdims=True)
    noise /= noise.std((1, 2), keepdims=True) + 1e-9
    return np.clip(0.5 + 0.2 * noise, 0, 1).transpose(1, 2, 0).astype(np.float32)


def _palette(rng: np.random.Generator, count: int) -> Image:
    """Mostly desaturated colours (count, 3), gamma encoded."""
    value = rng.uniform(0.15, 0.95, (count, 1))
    hue = rng.uniform(0, 1, (1, 1)) + rng.normal(0, 0.08 if rng.random() < 0.6 else 0.5, (count, 1))
    saturation = rng.beta(1.2, 3.5, (count, 1)) * rng.uniform(0.3, 1.0)
    wheel = np.clip(np.abs((hue + np.array([0, 2 / 3, 1 / 3])) % 1 * 6 - 3) - 1, 0, 1)
    return (value * (1 - saturation + saturation * wheel)).astype(np.float32)


def _grid() -> tuple[Image, Image]:
    y, x = np.mgrid[:TEXTURE_SIZE, :TEXTURE_SIZE].astype(np.float32) / TEXTURE_SIZE
    return x, y


def _noise(rng: np.random.Generator) -> Image:
    level = spectrum_noise(rng, rng.uniform(0.7, 2.0))
    a, b = _palette(rng, 2)
    return np.asarray(a + (b - a) * level, np.float32)


def _marble(rng: np.random.Generator) -> Image:
    x, y = _grid()
    warp = spectrum_noise(rng, 1.7)[..., 0]
    turns = rng.integers(1, 5, 2)
    wave = 0.5 + 0.5 * np.sin(2 * np.pi * (turns[0] * x + turns[1] * y) + 14 * warp)
    a, b = _palette(rng, 2)
    return np.asarray(a + (b - a) * (wave ** rng.uniform(0.5, 3))[..., None], np.float32)


def _dead_leaves(rng: np.random.Generator) -> Image:
    """Overlapping discs or rectangles with power-law sizes, the statistics of natural clutter."""
    image = np.tile(_palette(rng, 1)[0], (TEXTURE_SIZE, TEXTURE_SIZE, 1))
    discs = rng.random() < 0.5
    for colour in _palette(rng, 1000):
        radius = 3.0 / np.sqrt(rng.uniform(0.003, 1.0))
        cx, cy = rng.integers(0, TEXTURE_SIZE, 2)
        aspect = rng.uniform(0.4, 1.0)
        reach = int(radius) + 1
        y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        far = np.hypot(x, y / aspect) if discs else np.maximum(np.abs(x), np.abs(y) / aspect)
        rows, columns = (far < radius).nonzero()
        image[(rows + cy) % TEXTURE_SIZE, (columns + cx) % TEXTURE_SIZE] = colour
    return image


def _voronoi(rng: np.random.Generator) -> Image:
    x, y = _grid()
    sites = rng.uniform(0, 1, (int(rng.integers(15, 120)), 2))
    first, second = np.full_like(x, 9), np.full_like(x, 9)
    cell = np.zeros(x.shape, np.int64)
    for n, (sx, sy) in enumerate(sites):
        dx, dy = np.abs(x - sx), np.abs(y - sy)
        distance = np.hypot(np.minimum(dx, 1 - dx), np.minimum(dy, 1 - dy))
        cell[distance < first] = n
        second = np.minimum(second, np.maximum(first, distance))
        first = np.minimum(first, distance)
    image = _palette(rng, len(sites))[cell]
    joint = np.clip((second - first) * rng.uniform(20, 90), 0, 1)
    return np.asarray(image * (0.35 + 0.65 * joint[..., None]), np.float32)


def _bricks(rng: np.random.Generator) -> Image:
    x, y = _grid()
    rows = 2 * int(rng.integers(2, 9))
    columns = max(1, int(rows * rng.uniform(0.3, 1.0)))
    shift = rng.choice([0.0, 0.5, 0.33])
    row = np.floor(y * rows)
    across = x * columns + shift * (row % 2)
    column = np.floor(across) % columns
    edge = np.minimum.reduce([across % 1, 1 - across % 1, y * rows % 1, 1 - y * rows % 1])
    palette = _palette(rng, 1) * rng.normal(1, rng.uniform(0.02, 0.25), (rows * columns, 1))
    bricks = palette[(row * columns + column).astype(int) % len(palette)]
    joint = (edge < rng.uniform(0.02, 0.1))[..., None]
    grain = 0.8 + 0.4 * spectrum_noise(rng, 1.0)
    return np.asarray(np.where(joint, _palette(rng, 1)[0], bricks) * grain, np.float32)


def _stripes(rng: np.random.Generator) -> Image:
    x, y = _grid()
    turns = rng.integers(1, 14)
    along = x if rng.random() < 0.5 else y
    bands = int(rng.integers(2, 5))
    index = np.floor(along * turns * bands).astype(int) % bands
    grain = 0.85 + 0.3 * spectrum_noise(rng, rng.uniform(0.5, 1.5))
    return np.asarray(_palette(rng, bands)[index] * grain, np.float32)


def _checkers(rng: np.random.Generator) -> Image:
    x, y = _grid()
    cells = 2 * int(rng.integers(1, 8))
    index = (np.floor(x * cells) * 31 + np.floor(y * cells) * 17).astype(int)
    count = 2 if rng.random() < 0.5 else 97
    parity = (np.floor(x * cells) + np.floor(y * cells)).astype(int) % 2
    colours = _palette(rng, count)
    chosen = colours[parity] if count == 2 else colours[index % count]
    return np.asarray(chosen * (0.9 + 0.2 * spectrum_noise(rng, 1.2)), np.float32)


def _marks(rng: np.random.Generator) -> Image:
    """Lines of short strokes that look like print, some larger, as on labels and posters."""
    paper, ink, accent = _palette(rng, 3)
    image = np.broadcast_to(paper, (TEXTURE_SIZE, TEXTURE_SIZE, 3)).copy()
    y = int(rng.integers(4, 20))
    while y < TEXTURE_SIZE - 12:
        height = int(rng.choice([5, 7, 10, 18, 30], p=[0.35, 0.3, 0.2, 0.1, 0.05]))
        colour = accent if rng.random() < 0.15 else ink
        x = int(rng.integers(4, 24))
        end = int(rng.integers(80, TEXTURE_SIZE - 4))
        while x < end:
            width = max(2, int(height * rng.uniform(0.35, 0.8)))
            for _ in range(3):  # a glyph: three strokes in its cell
                if rng.random() < 0.5:
                    at = x + int(rng.integers(0, width))
                    image[y : y + height, at : at + max(1, height // 6)] = colour
                else:
                    at = y + int(rng.integers(0, height))
                    image[at : at + max(1, height // 6), x : x + width] = colour
            x += width + max(1, height // 5) + (height // 2 if rng.random() < 0.2 else 0)
        y += int(height * rng.uniform(1.3, 2.2))
    return image


def _gradient(rng: np.random.Generator) -> Image:
    x, y = _grid()
    a, b = _palette(rng, 2)
    wave = 0.5 + 0.25 * (np.cos(2 * np.pi * x + rng.uniform(0, 6)) + np.cos(2 * np.pi * y))
    return np.asarray(a + (b - a) * wave[..., None], np.float32)


def _wood(rng: np.random.Generator) -> Image:
    x, _ = _grid()
    boards = int(rng.integers(1, 7))
    board = np.floor(x * boards).astype(int)
    warp = spectrum_noise(rng, 2.0)[..., 0]
    fine = spectrum_noise(rng, 0.6)[..., 0]
    fine = np.repeat(fine[:: TEXTURE_SIZE // 8], TEXTURE_SIZE // 8, axis=0)
    offset = rng.uniform(0, 1, boards)[board]
    turns = rng.uniform(4, 12)
    rings = 0.5 + 0.5 * np.sin(2 * np.pi * (turns * (x * 2 + offset) + 5 * np.roll(warp, 40, 0)))
    level = np.clip(0.35 + 0.3 * rings + 0.6 * (fine - 0.5), 0, 1)[..., None]
    dark = np.array([0.35, 0.24, 0.16]) * rng.uniform(0.6, 1.3)
    light = np.array([0.72, 0.57, 0.42]) * rng.uniform(0.7, 1.2)
    gap = (np.minimum(x * boards % 1, 1 - x * boards % 1) < 0.012 * boards)[..., None] & (
        boards > 1
    )
    shade = rng.normal(1, 0.08, boards)[board][..., None]
    return np.asarray(
        np.where(gap, dark * 0.5, (dark + (light - dark) * level) * shade), np.float32
    )


def _plain(rng: np.random.Generator) -> Image:
    grain = rng.uniform(0.0, 0.06) * (spectrum_noise(rng, rng.uniform(0, 1.5)) - 0.5)
    return np.asarray(_palette(rng, 1)[0] + grain, np.float32)


_PATTERNS: dict[str, tuple[Callable[[np.random.Generator], Image], int]] = {
    "noise": (_noise, 14),
    "marble": (_marble, 6),
    "leaves": (_dead_leaves, 10),
    "voronoi": (_voronoi, 8),
    "bricks": (_bricks, 14),
    "stripes": (_stripes, 6),
    "checkers": (_checkers, 8),
    "marks": (_marks, 12),
    "gradient": (_gradient, 4),
    "wood": (_wood, 10),
    "plain": (_plain, 6),
}
_TILING_PHOTOS = ("ambientcg", "playcanvas")


def make_texture_bank(
    seed: int, *, folder: Path | None = None, device: torch.device | str = "cpu"
) -> TextureBank:
    """Draw the procedural textures and read photographs, if any.

    folder: photographs (jpg, png; needs PIL), or a ``.npz`` written by :func:`save_photographs`
    for machines without PIL. Takes a few seconds; build it once per process.
    """
    rng = np.random.default_rng(seed)
    images: list[NDArray[np.uint8]] = []
    groups: dict[str, tuple[int, ...]] = {}
    for name, (draw, count) in _PATTERNS.items():
        groups[name] = tuple(range(len(images), len(images) + count))
        images += [to_bytes(draw(rng)) for _ in range(count)]
    mirrored = [False] * len(images)
    if folder is not None:
        photos, tiling = read_photographs(Path(folder))
        first = len(images)
        images += list(photos)
        mirrored += [not tile for tile in tiling]
        surfaces = tuple(first + i for i, tile in enumerate(tiling) if tile)
        pictures = tuple(first + i for i, tile in enumerate(tiling) if not tile)
        groups |= {"surface": surfaces} if surfaces else {}
        groups |= {"photo": pictures} if pictures else {}
    return pack_textures(images, groups, mirrored, device=device)


def pack_textures(
    images: Sequence[NDArray[np.uint8]],
    groups: dict[str, tuple[int, ...]],
    mirrored: Sequence[bool],
    *,
    device: torch.device | str = "cpu",
) -> TextureBank:
    """Build a bank of images (S, S, 3); groups and mirrored as in :class:`TextureBank`."""
    chains = [_mip_chain(image) for image in images]
    linear = [np.square(image.astype(np.float32) / 255).mean((0, 1)) for image in images]
    return TextureBank(
        texels=torch.from_numpy(np.concatenate(chains)).to(device),
        mean=torch.from_numpy(np.stack(linear).astype(np.float32)).to(device),
        groups=groups,
        mirrored=torch.tensor(mirrored, dtype=torch.float32, device=device),
    )


def to_bytes(image: Image) -> NDArray[np.uint8]:
    """Return colours in [0, 1] as bytes."""
    return np.asarray(np.clip(image, 0, 1) * 255 + 0.5, np.uint8)


def _mip_chain(image: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return the packed texels of all levels, finest first; each level halves the one before."""
    level = image.astype(np.float32)
    packed = []
    while True:
        rgb = (level + 0.5).astype(np.int32)
        packed.append((rgb[..., 0] | rgb[..., 1] << 8 | rgb[..., 2] << 16).ravel())
        side = len(level)
        if side == 1:
            return np.concatenate(packed).astype(np.int32)
        level = level.reshape(side // 2, 2, side // 2, 2, 3).mean((1, 3))


def read_photographs(source: Path) -> tuple[NDArray[np.uint8], list[bool]]:
    """Return photographs (n, S, S, 3), cropped to squares, and whether each one tiles.

    Raises ``InputError`` for a folder without JPEG or PNG files, or with one that cannot be read.
    """
    if source.suffix == ".npz":
        with np.load(source) as stored:
            return stored["images"], [bool(tile) for tile in stored["tiling"]]
    paths = sorted(p for p in source.glob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not paths:
        raise InputError(f"no jpg or png textures in {source}: give a folder of photographs")
    from PIL import Image as PilImage
    from PIL import ImageOps

    from pointmap.decoding import open_picture

    images = []
    for path in paths:
        try:
            with open_picture(path, ("JPEG", "PNG")) as photo:
                square = ImageOps.fit(
                    photo.convert("RGB"), (TEXTURE_SIZE, TEXTURE_SIZE), PilImage.Resampling.LANCZOS
                )
        except UnusablePicture as error:
            raise InputError(f"{path}: {error}; mend or remove it") from error
        images.append(np.asarray(square))
    return np.stack(images), [path.name.startswith(_TILING_PHOTOS) for path in paths]


def save_photographs(folder: Path, target: Path) -> None:
    """Pack a folder of photographs into one ``.npz`` that :func:`make_texture_bank` reads."""
    images, tiling = read_photographs(folder)
    np.savez(target, images=images, tiling=np.array(tiling))
