"""What a camera does to light: exposure, colour, vignetting, defocus, shake, noise, compression.

Applied to batches at load time, so that the same render is never seen twice in the same guise. All
random numbers are drawn on the CPU and only few per photo; noise comes from one fixed tile at a
random offset, because drawing normal numbers per pixel costs more than everything else here.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

_BLUR_SIDE = 384
"""Long side of photos, in pixels, for which the blur is given; others are blurred in proportion."""
_REACH = 4
"""Pixels that a blur reaches."""
_NOISE_TILE = 512
_BLOCK = 8


def photograph(images: Tensor, generator: torch.Generator, *, strength: float = 1.0) -> Tensor:
    """Return augmented photos (B, 3, H, W) float32 in [-1, 1] of uint8 renders (B, 3, H, W).

    generator: a CPU generator; strength 0 only converts, 1 is a wide range of cameras.
    """
    batch, device = len(images), images.device
    photo = images.float().mul_(1 / 255)
    if strength <= 0:
        return photo.mul_(2).sub_(1)

    def draw(low: float, high: float, *shape: int) -> Tensor:
        values = torch.rand(shape, generator=generator) * (high - low) + low
        return (values * strength).to(device)

    # Exposure and white balance multiply light; on gamma-2 values that is a multiplication as well.
    gain = torch.exp(draw(-0.3, 0.25, batch, 1, 1, 1) + draw(-0.07, 0.07, batch, 3, 1, 1))
    photo.mul_(gain * _vignette(images.shape[-2:], draw(0, 0.3, batch), device)).clamp_(0, 1)
    photo = _tone(photo, draw(-0.5, 0.5, batch, 1, 1, 1))
    # Half of the photos are a little out of focus, a third shaken.
    scale = max(images.shape[-2:]) / _BLUR_SIDE
    angle = draw(0, 2 * math.pi, batch)
    shake = draw(-12.0, 6.0, batch).clamp_min(0) * scale
    photo = blur(
        photo,
        draw(-1.8, 1.8, batch).clamp_min(0) * scale,
        torch.stack([shake * angle.cos(), shake * angle.sin()], dim=1),
    )
    _add_noise(photo, draw(0, 1, batch, 1, 1, 1).pow(3) * 0.04, generator)
    compressed = (torch.rand(batch, generator=generator) < 0.25 * strength).nonzero()[:, 0]
    if len(compressed) and not (images.shape[-2] % _BLOCK or images.shape[-1] % _BLOCK):
        chosen = compressed.to(device)
        step = draw(0.02, 0.12, len(compressed))
        photo[chosen] = _compress(photo[chosen], step)
    return photo.clamp_(0, 1).mul_(2).sub_(1)


def _vignette(size: tuple[int, int] | torch.Size, fall: Tensor, device: torch.device) -> Tensor:
    """Return gains (B, 1, H, W): 1 in the centre, 1 - fall in the corners."""
    y = torch.linspace(-1, 1, size[0], device=device)[:, None]
    x = torch.linspace(-1, 1, size[1], device=device)[None]
    return 1 - fall[:, None, None, None] * ((x * x + y * y) / 2)


def _tone(photo: Tensor, curve: Tensor) -> Tensor:
    """Lift or lower the middle tones: x + c x (1 - x), a cheap stand-in for a gamma change."""
    return photo * (1 + curve - curve * photo)


def blur(photo: Tensor, sigma: Tensor, shake: Tensor) -> Tensor:
    """Blur by standard deviations (B,) and by straight movements (B, 2), all in pixels."""
    index = ((sigma > 0.2) | (shake.norm(dim=1) > 0.5)).nonzero()[:, 0]
    if not len(index):
        return photo
    soft = photo[index]
    step = torch.arange(-_REACH, _REACH + 1, device=photo.device, dtype=photo.dtype)
    along = torch.linspace(-0.5, 0.5, 2 * _REACH + 1, device=photo.device)
    # A movement is a row of places; each leaves a spot no smaller than the light of one pixel.
    spot = -0.5 / (sigma[index].square() + 0.3**2)[:, None, None]
    place = along[:, None] * shake[index][:, None]
    across, down = (
        (spot * (step - place[..., k, None]).square()).exp() for k in range(2)
    )  # (B, places, side)
    kernel = down.transpose(1, 2) @ across
    kernel = (kernel / kernel.sum(dim=(1, 2), keepdim=True))[:, None].repeat_interleave(3, dim=0)
    wide = F.pad(soft, (_REACH,) * 4, mode="replicate").flatten(0, 1)[None]
    photo[index] = F.conv2d(wide, kernel, groups=len(kernel)).view_as(soft)
    return photo


@lru_cache(maxsize=4)
def _noise_tile(device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, _NOISE_TILE, _NOISE_TILE, generator=generator).to(device)


def _add_noise(photo: Tensor, sigma: Tensor, generator: torch.Generator) -> None:
    tile = _noise_tile(photo.device)
    height, width = photo.shape[-2:]
    down = (height + _NOISE_TILE - 1) // _NOISE_TILE + 1
    across = (width + _NOISE_TILE - 1) // _NOISE_TILE + 1
    big = tile.repeat(1, down, across) if height > 256 or width > 256 else tile
    top = torch.randint(0, big.shape[1] - height + 1, (len(photo),), generator=generator).tolist()
    left = torch.randint(0, big.shape[2] - width + 1, (len(photo),), generator=generator).tolist()
    for n, (y, x) in enumerate(zip(top, left, strict=True)):
        photo[n].addcmul_(big[:, y : y + height, x : x + width], sigma[n])


@lru_cache(maxsize=4)
def _cosines(device: torch.device) -> Tensor:
    """The orthonormal 8-point DCT-II matrix (frequency, place)."""
    k, n = torch.arange(_BLOCK)[:, None], torch.arange(_BLOCK)[None]
    matrix = torch.cos(math.pi * (2 * n + 1) * k / (2 * _BLOCK)) * math.sqrt(2 / _BLOCK)
    matrix[0] /= math.sqrt(2)
    return matrix.to(device)


def _compress(photo: Tensor, step: Tensor) -> Tensor:
    """Quantise 8x8 cosine blocks, coarser at high frequencies: the look of JPEG, without chroma."""
    batch, channels, height, width = photo.shape
    C = _cosines(photo.device)
    blocks = photo.reshape(batch, channels, height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK)
    spectrum = torch.einsum("ui,bcyixj,vj->bcyuxv", C, blocks, C)
    order = torch.arange(_BLOCK, device=photo.device)
    coarse = (1 + order[:, None] + order[None])[None, None, None, :, None, :]
    table = step[:, None, None, None, None, None] * coarse * 0.7
    spectrum = torch.round(spectrum / table) * table
    return torch.einsum("ui,bcyuxv,vj->bcyixj", C, spectrum, C).reshape(photo.shape)
