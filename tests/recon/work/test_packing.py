"""Results through their files: equal bit by bit, or refused."""

from __future__ import annotations

import json
import zlib
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

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
        orders = [(a.flags.c_contiguous, a.flags.f_contiguous) for a in (first, second)]
        assert orders[0] == orders[1] and second.flags.writeable
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
        np.arange(6.0).reshape(2, 3).T,
        np.arange(4, dtype=np.uint16),
    ],
)
def test_comes_back_as_it_was(value: object) -> None:
    assert_equal(unpack(pack(value)), value)


def test_every_other_column_comes_back_in_rows() -> None:
    found = unpack(pack(np.arange(12.0).reshape(3, 4)[:, ::2]))

    np.testing.assert_array_equal(found, [[0, 2], [4, 6], [8, 10]])
    assert found.flags.c_contiguous


def test_what_cannot_be_kept_is_refused_when_it_is_written() -> None:
    for value in (object(), {1: 2}, {"a": object}, np.array(["a"]), np.array([object()])):
        with pytest.raises(TypeError):
            pack(value)


def test_no_damage_goes_unnoticed() -> None:
    data = pack(PairEdge(MATCHES, POSE))
    rng = np.random.default_rng(0)
    for cut in (0, 3, 4, *rng.integers(0, len(data), 40)):
        with pytest.raises(Damaged):
            unpack(data[:cut])
    for place in rng.integers(0, len(data), 300):
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(rng.integers(8))
        with pytest.raises(Damaged):
            unpack(bytes(damaged))


def with_checksum(data: bytes) -> bytes:
    """A file that its checksum says is whole."""
    return data + zlib.crc32(data).to_bytes(4, "little")


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
    with pytest.raises(Damaged):
        unpack(with_checksum(save({"tree": np.frombuffer(tree.encode(), np.uint8)})))


@pytest.mark.parametrize("tree", ['{"array": 1}', '{"array": 0', '{"tuple": 3}', "[" * 100_000])
def test_a_tree_that_is_none_is_damage(tree: str) -> None:
    arrays = {"0": np.zeros(2), "tree": np.frombuffer(tree.encode(), np.uint8)}
    with pytest.raises(Damaged):
        unpack(with_checksum(save(arrays)))


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F64", "shape": [10**12], "data_offsets": [0, 8 * 10**12]},
        {"dtype": "F64", "shape": [10**12], "data_offsets": [0, 8]},
        {"dtype": "F64", "shape": [-1], "data_offsets": [0, 8]},
        {"dtype": "O", "shape": [1], "data_offsets": [0, 8]},
    ],
)
def test_an_array_that_claims_other_than_it_holds_is_damage(entry: dict[str, Any]) -> None:
    tree = b'{"array": 0}'
    header = {"0": entry, "tree": {"dtype": "U8", "shape": [12], "data_offsets": [8, 20]}}
    text = json.dumps(header).encode()
    with pytest.raises(Damaged):
        unpack(with_checksum(len(text).to_bytes(8, "little") + text + bytes(8) + tree))


def test_size_is_that_of_all_arrays() -> None:
    assert size_of((np.zeros(4), [np.zeros((2, 2), np.uint8)], "text")) == 36
