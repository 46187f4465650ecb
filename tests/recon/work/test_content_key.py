"""Names of results: equal for equal content, different for everything else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointmap.file_digest import file_sha256
from recon.work.content_key import content_key, item_key
from recon.work.folder import Work


@dataclass(frozen=True)
class Pose:
    angle: float
    shift: np.ndarray


DIFFERENT = [
    *(None, True, 1, 1.0, "1", b"1", ("1",), ("1", ""), ("", "1"), [], {}, {"a": 1}, {"a": "1"}),
    *(np.zeros(2), np.zeros(2, np.float32), np.zeros((1, 2)), np.zeros((2, 1)), np.zeros(0)),
    *(Pose(1.0, np.zeros(2)), Pose(1.0, np.ones(2)), Pose(2.0, np.zeros(2)), Path("1")),
    *(frozenset({"a"}), frozenset({"a", "b"}), float("nan"), float("inf")),
]


def test_every_content_has_a_name_of_its_own() -> None:
    keys = [content_key("stage", 1, value) for value in DIFFERENT]
    assert len(set(keys)) == len(DIFFERENT)
    assert keys == [content_key("stage", 1, value) for value in DIFFERENT]


def test_the_stage_its_version_and_the_release_count() -> None:
    keys = {content_key("a", 1), content_key("a", 2), content_key("b", 1), content_key("a", 1, 1)}
    assert len(keys) == 4
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pointmap.__version__", "99.0")
        assert content_key("a", 1) not in keys


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
def test_texts_never_run_into_each_other(first: list[str], second: list[str]) -> None:
    assert (content_key("s", 1, *first) == content_key("s", 1, *second)) == (first == second)


def test_order_in_memory_does_not_count() -> None:
    array = np.arange(6.0).reshape(2, 3)
    assert content_key("s", 1, array) == content_key("s", 1, np.asfortranarray(array))


def test_what_has_no_content_is_refused() -> None:
    with pytest.raises(TypeError, match="no content"):
        content_key("s", 1, object())


def test_kept_results_are_named_without_being_read(tmp_path: Path) -> None:
    work = Work(tmp_path / "work")
    kept = work.each(["0" * 64, "1" * 64], lambda n: np.full(3, n))
    names = [item_key(kept, n) for n in range(2)]
    work.forget(["0" * 64, "1" * 64])
    assert names == [item_key(kept, n) for n in range(2)] and names[0] != names[1]
    assert item_key([1.0, 2.0], 0) != item_key([1.0, 2.0], 1)


def test_digest_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    # From FIPS 180-2, appendix B.1.
    assert file_sha256(tmp_path / "a").startswith("ba7816bf8f01cfea414140de5dae2223")
