"""The colour space of cameras that are set to Adobe RGB, as an ICC profile.

Such cameras often name it by an EXIF tag alone (DCF 2.0: an interoperability index of R03).
Numbers: Adobe RGB (1998) Color Image Encoding, version 2005-05. Form: ICC.1, a display profile of
three primaries and a gamma.
"""

from __future__ import annotations

_PRIMARIES = {
    b"rXYZ": (0.60974, 0.31111, 0.01947),
    b"gXYZ": (0.20528, 0.62567, 0.06087),
    b"bXYZ": (0.14919, 0.06322, 0.74457),
}
_WHITE = (0.9642, 1.0, 0.8249)
_GAMMA_256THS = 563


def adobe_rgb_profile() -> bytes:
    """Return the ICC profile."""
    curve = b"curv" + _words(0, 1) + _GAMMA_256THS.to_bytes(2, "big") + bytes(2)
    tags = {name: b"XYZ " + _words(0) + _fixed(xyz) for name, xyz in _PRIMARIES.items()}
    tags |= {b"wtpt": b"XYZ " + _words(0) + _fixed(_WHITE)}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    table, data = _words(len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + _words(start + len(data), len(content))
        data += content
    header = bytes(4) + _words(0x02100000) + b"mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(28)
    header += _fixed(_WHITE) + bytes(48)
    size = _words(len(header) + 4 + len(table) + len(data))
    return size + header + table + data


def _words(*values: int) -> bytes:
    return b"".join(value.to_bytes(4, "big") for value in values)


def _fixed(values: tuple[float, ...]) -> bytes:
    """Return s15Fixed16 numbers."""
    return b"".join(round(65536 * value).to_bytes(4, "big", signed=True) for value in values)
