"""Damage to files, drawn from a seed: the same seed gives the same bytes."""

from __future__ import annotations

import io
import random
import re
import struct
import zipfile
import zlib

# Values at the edges of what fields hold, as bytes of either order.
_EDGES = [
    value.to_bytes(size, order, signed=False)
    for size in (1, 2, 4, 8)
    for value in {0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1), 2 ** (8 * size - 1) - 1}
    for order in ("little", "big")
] + [bytes.fromhex("000000000000f87f"), bytes.fromhex("000000000000f07f"), b"\x00\x00\xc0\x7f"]
_WORDS = [
    b"NaN", b"Infinity", b"-Infinity", b"1e308", b"1e-308", b"-1", b"0", b"true", b"null", b'""',
    b"[]", b"{}", b"[" * 2000, b'{"a":' * 2000, b"9" * 400, b"9" * 5000, b"9223372036854775808",
    b"nan", b"inf", b"1e999", b'"\\ud800"', b"\xff\xfe", b"../../../../etc/passwd", b"\x00",
    b"/dev/zero", b"",
]  # fmt: skip
_TOKEN = re.compile(rb'-?\d+\.?\d*(?:[eE][-+]?\d+)?|"[^"\n]{0,80}"|[A-Za-z_]+|[\[\]{}(),:]')


_PNG = b"\x89PNG\r\n\x1a\n"


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Return ``data`` with one to four damages, of text or of bytes by what it looks like.

    In half of the zip archives and pictures in PNG, what is inside is damaged and its checksum put
    right: else none of their readers would get any further.
    """
    if data[:4] == b"PK\x03\x04" and rng.random() < 0.5:
        return _in_zip(data, rng)
    if data[:8] == _PNG and rng.random() < 0.5:
        return _in_png(data, rng)
    text = len(data) < 200_000 and _is_text(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        data = _text(data, rng) if text and rng.random() < 0.7 else _bytes(data, rng)
    return data


def _in_zip(data: bytes, rng: random.Random) -> bytes:
    """Return an archive one member of which is damaged."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as whole, zipfile.ZipFile(stream, "w") as written:
        chosen = rng.choice(whole.infolist())
        for info in whole.infolist():
            content = whole.read(info)
            written.writestr(info, mutated(content, rng) if info is chosen else content)
    return stream.getvalue()


def _in_png(data: bytes, rng: random.Random) -> bytes:
    """Return a PNG one chunk of which is damaged: its rows unpacked, or anything else as it is."""
    chunks, at = list[tuple[bytes, bytes]](), len(_PNG)
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    number = rng.randrange(len(chunks))
    kind, content = chunks[number]
    if kind == b"IDAT" and rng.random() < 0.5:
        content = zlib.compress(_bytes(zlib.decompress(content), rng), 1)
    else:
        content = _bytes(content, rng)
    chunks[number] = kind, content
    parts = [
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    ]
    return _PNG + b"".join(parts)


def _is_text(data: bytes) -> bool:
    return sum(byte < 9 for byte in data[:512]) == 0


def _text(data: bytes, rng: random.Random) -> bytes:
    tokens = list(_TOKEN.finditer(data))
    if not tokens:
        return _bytes(data, rng)
    first, second = rng.choice(tokens), rng.choice(tokens)
    kind = rng.randrange(4)
    if kind == 0:
        new = second.group()
    elif kind == 1:
        new = first.group() * 2
    else:
        new = rng.choice(_WORDS)
    return data[: first.start()] + new + data[first.end() :]


def _bytes(data: bytes, rng: random.Random) -> bytes:
    # Headers say more than the rest.
    at = rng.randrange(min(len(data), rng.choice((64, 1024, 1 << 30))) + 1)
    match rng.randrange(7):
        case 0:
            return data[:at]
        case 1:
            return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        case 2:
            byte = data[at] ^ (1 << rng.randrange(8)) if at < len(data) else 0
            return data[:at] + bytes([byte]) + data[at + 1 :]
        case 3:
            edge = rng.choice(_EDGES)
            return data[:at] + edge + data[at + len(edge) :]
        case 4:
            return data[:at] + data[at + rng.randrange(1, 64) :]
        case 5:
            start = rng.randrange(len(data) + 1)
            return data[:at] + data[start : start + rng.randrange(1, 256)] + data[at:]
        case _:
            return data[:at] + rng.randbytes(rng.randrange(1, 32)) + data[at:]
