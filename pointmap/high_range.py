"""Colours of high dynamic range, HLG and PQ, and of wide gamuts as sRGB shows them.

Transfer functions: ITU-R BT.2100-2, tables 4 and 5, HLG on its reference display of 1,000 cd/m2.
White that reflects is at 203 cd/m2 (BT.2408-7), which is what sRGB's white stands for here; what is
brighter is compressed by the EETF of BT.2390-11, section 5.4.1.1, of the brightest channel, so that
hues stay. Other transfer functions are taken for sRGB's, as nearly all programs do.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array

PQ, HLG = 16, 18
"""Numbers of the transfer functions (ITU-T H.273, table 3)."""
BT2020, DISPLAY_P3 = 9, 12
"""Numbers of the primaries of wide gamuts (ITU-T H.273, table 2)."""

_PEAK, _WHITE = 1000.0, 203.0  # cd/m2
# BT.2100, table 4.
_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
# BT.2100, table 5.
_A, _B, _C, _GAMMA = 0.17883277, 0.28466892, 0.55991073, 1.2
# By primaries, linear light: to those of sRGB (BT.2087-0 and SMPTE EG 432-1 give the inverse).
_TO_SRGB = {
    BT2020: np.array(
        [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
        np.float32,
    ),
    DISPLAY_P3: np.array(
        [[1.2249, -0.2249, 0.0], [-0.0420, 1.0420, 0.0], [-0.0196, -0.0786, 1.0982]], np.float32
    ),
}
# Luminance of those of sRGB, of whatever primaries the light was.
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)
_FINEST, _ROWS = 65535, 64


def is_srgb(primaries: int, transfer: int) -> bool:
    """Return whether levels of these primaries and transfer function are taken for sRGB's."""
    return primaries not in _TO_SRGB and transfer not in (PQ, HLG)


def as_srgb(
    pixels: NDArray[np.uint8] | NDArray[np.uint16], transfer: int, primaries: int
) -> NDArray[np.uint8]:
    """Return pixels (h, w, 3) of a ``transfer`` function and ``primaries``, their numbers, as sRGB.

    Transfer functions but ``PQ`` and ``HLG``, and primaries but ``BT2020`` and ``DISPLAY_P3``, are
    taken for sRGB's.
    """
    most = np.iinfo(pixels.dtype).max
    signal = np.arange(most + 1) / most
    to_light = {PQ: _pq_to_light, HLG: _hlg_to_scene}.get(transfer, _srgb_to_light)
    linear = to_light(signal).astype(np.float32)
    to_srgb = _TO_SRGB.get(primaries, np.eye(3, dtype=np.float32))
    shown = np.empty(pixels.shape, np.uint8)
    # In strips: of 8K, all of it at once takes more than a GB.
    for start in range(0, len(pixels), _ROWS):
        light = linear[pixels[start : start + _ROWS]]
        if transfer == HLG:
            luminance = light @ (_LUMINANCE @ to_srgb)
            light *= _PEAK * np.power(luminance, _GAMMA - 1)[..., None]
        if transfer in (PQ, HLG):
            brightest = np.minimum(light.max(axis=-1) * (_FINEST / _PEAK), _FINEST)
            light *= _gains()[brightest.astype(np.int32)][..., None]
        light = light @ to_srgb.T
        shown[start : start + _ROWS] = _levels()[
            (light.clip(0, 1) * _FINEST + 0.5).astype(np.int32)
        ]
    return shown


def _srgb_to_light(signal: Array) -> Array:
    """Return light, 0 to 1, of sRGB's signal, 0 to 1 (IEC 61966-2-1)."""
    return np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)


def _pq_to_light(signal: Array) -> Array:
    """Return cd/m2 of PQ's signal, 0 to 1."""
    power = signal ** (1 / _M2)
    return 10000 * (np.maximum(power - _C1, 0) / (_C2 - _C3 * power)) ** (1 / _M1)


def _light_to_pq(light: Array) -> Array:
    power = (light / 10000) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2


def _hlg_to_scene(signal: Array) -> Array:
    """Return the scene's light, 0 to 1, of HLG's signal, 0 to 1."""
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - _C) / _A) + _B) / 12)


@lru_cache(maxsize=1)
def _gains() -> NDArray[np.float32]:
    """Return what light of each of so many levels up to the peak is multiplied with, so that white
    is 1.
    """
    light = np.arange(_FINEST + 1, dtype=np.float64) * (_PEAK / _FINEST)
    light[0] = light[1] / 2
    peak, white = _light_to_pq(np.array([_PEAK, _WHITE]))
    signal, most = _light_to_pq(light) / peak, white / peak
    knee = 1.5 * most - 0.5
    t = ((signal - knee) / (1 - knee)).clip(0, 1)
    bent = (
        (2 * t**3 - 3 * t**2 + 1) * knee
        + (t**3 - 2 * t**2 + t) * (1 - knee)
        + (3 * t**2 - 2 * t**3) * most
    )
    shown = _pq_to_light(np.where(signal < knee, signal, bent) * peak)
    return np.asarray(shown / light / _WHITE, np.float32)


@lru_cache(maxsize=1)
def _levels() -> NDArray[np.uint8]:
    """Return sRGB's level of light of each of so many levels (IEC 61966-2-1)."""
    light = np.arange(_FINEST + 1) / _FINEST
    level = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(255 * level).astype(np.uint8)
