"""Results through their files: equal bit by bit, or refused."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import numpy as np
import pytest

from pointmap.camera import pinhole
from recon.scene import Camera, PointCloud
from recon.stage_results import PairEdge, PairMatches, RelativePose
from recon.work.packing import Damaged, pack, size_of, unpack

NONE = np.zeros(0, np.int64)
XY = np.random.default_rng(0).random((5, 2))
MATCHES = PairMatches(0, 1, XY, XY + 1, NONE, NONE, 0.5)
POSE = RelativePose(
    np.eye(4), "essential", np.array([True, False]), 0.1 + 0.2, frozenset({"planar", "few_matches"})
)


def assert_equal(first: Any, second: Any) -> None:
    assert type(first) is type(second)
    if isinstance(first, np.ndarray):
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(first, second)
    elif hasattr(first, "__dataclass_fields__"):
        for name in first.__dataclass_fields__:
            assert_equal(getattr(first, name), getattr(second, name))
    elif isinstance(first, dict):
        assert_equal(list(first.items()), list(second.items()))
    elif isinstance(first, (tuple, list)):
        assert len(first) == len(second)
        for a, b in zip(first, second, strict=True):
            assert_equal(a, b)
    else:
        assert first == second or (first != first and second != second)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "ä\n",
        (1, [2.5, True, None], {"a": np.float32([[1, 2]])}),
        (float("nan"), float("-inf"), 1e-308, 0.1),
        PairEdge(MATCHES, POSE),
        Camera(pinhole(500.0, 64, 48), 64, 48, None, -0.1),
        PointCloud(*(np.zeros((0, 3), kind) for kind in ("f4", "u1", "f4", "f4"))),
        np.array(5),
    ],
)
def test_comes_back_as_it_was(value: object) -> None:
    assert_equal(unpack(pack(value)), value)


def test_what_cannot_be_kept_is_refused_when_it_is_written() -> None:
    for value in (object(), {1: 2}, {"a": object}):
        with pytest.raises(TypeError):
            pack(value)


def test_no_damage_goes_unnoticed() -> None:
    data = pack(PairEdge(MATCHES, POSE))
    rng = np.random.default_rng(0)
    for cut in rng.integers(0, len(data), 40):
        with pytest.raises(Damaged):
            unpack(data[:cut])
    for place in rng.integers(0, len(data), 300):
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(rng.integers(8))
        try:
            found = unpack(bytes(damaged))
        except Damaged:
            continue
        # A bit that means nothing, such as one of a time stamp.
        assert_equal(found, PairEdge(MATCHES, POSE))


@pytest.mark.parametrize(
    "kind",
    [
        ["os", "system"],
        ["recon.scene", "np"],
        ["recon.scene", "Scene.points"],
        ["subprocess", "Popen"],
    ],
)
def test_a_file_makes_nothing_but_our_dataclasses(kind: list[str]) -> None:
    tree = json.dumps({"kind": kind, "fields": {"command": "true"}})
    stream = io.BytesIO()
    np.savez(stream, tree=np.frombuffer(tree.encode(), np.uint8))
    with pytest.raises(Damaged):
        unpack(stream.getvalue())


@pytest.mark.parametrize(
    ("kind", "shape"), [("<f8", "(10**12,)"), ("<f8", "(999999999999,)"), ("|O", "(1,)"), ("", "(")]
)
def test_an_array_that_claims_other_than_it_holds_is_damage(kind: str, shape: str) -> None:
    stream = io.BytesIO()
    tree = np.frombuffer(b'{"array": 0}', np.uint8)
    np.savez(stream, tree=tree)
    head = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}, }}".encode() + b"\n"
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr("a0.npy", b"\x93NUMPY\x01\x00" + bytes([len(head), 0]) + head + bytes(8))
    with pytest.raises(Damaged):
        unpack(stream.getvalue())


def test_size_is_that_of_all_arrays() -> None:
    assert size_of((np.zeros(4), [np.zeros((2, 2), np.uint8)], "text")) == 36
