"""Alignment of a long walk: loops close, and the work per photo is bounded."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from benchmarks.alignment_scale import scored
from benchmarks.walk_scenes import Walk, make_walk
from recon.alignment import align, positive_system, refinement
from recon.alignment.bundle_adjustment import BundleResult
from recon.alignment.camera_model import BundleOptions, BundleProblem
from recon.alignment.rotations import _triangles
from recon.stage_results import Alignment

COUNT = 76


@pytest.fixture(scope="module")
def walk() -> Walk:
    return make_walk(COUNT, loop=60, seed=1)


def counted_alignment(walk: Walk, **settings) -> tuple[Alignment, list[int]]:
    """Return the alignment, and how many observations each of its bundle adjustments had."""
    sizes: list[int] = []
    adjust = refinement.bundle_adjust

    def counted(problem: BundleProblem, options: BundleOptions) -> BundleResult:
        sizes.append(len(problem.xy))
        return adjust(problem, options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refinement, "bundle_adjust", counted)
        return align(walk.photos, walk.evidence, **settings), sizes


@pytest.fixture(scope="module")
def first(walk: Walk) -> tuple[Alignment, list[int]]:
    return counted_alignment(walk)


def test_a_loop_closes(walk: Walk, first: tuple[Alignment, list[int]]):
    assert len(walk.revisits) > 10
    found = scored(walk, first[0])
    assert found.placed >= COUNT - 1  # One stands at a corner and sees next to nothing.
    assert found.max_rotation_deg < 0.5 and found.max_position_m < 0.1
    assert found.gap_m < 0.02
    assert found.focal_percent < 0.3


def test_only_the_last_round_adjusts_all_points(first: tuple[Alignment, list[int]]):
    _, sizes = first
    assert len(sizes) == 5 and max(sizes[:-1]) < 0.7 * sizes[-1]


def test_a_second_alignment_goes_on_from_the_first(walk: Walk, first: tuple[Alignment, list[int]]):
    second, sizes = counted_alignment(walk, start=first[0])
    assert len(sizes) == 2
    there, here = scored(walk, first[0]), scored(walk, second)
    assert here.placed == there.placed
    assert here.max_position_m < 1.2 * there.max_position_m


def test_a_wrong_start_does_no_harm(walk: Walk, first: tuple[Alignment, list[int]]):
    order = np.random.default_rng(0).permutation(COUNT)
    mixed = replace(first[0], cam_to_world=tuple(first[0].cam_to_world[k] for k in order))
    found = scored(walk, counted_alignment(walk, start=mixed)[0])
    assert found.placed >= COUNT - 1 and found.max_position_m < 0.1


def test_alignment_is_deterministic(walk: Walk, first: tuple[Alignment, list[int]]):
    again, _ = counted_alignment(walk)
    for mine, other in zip(again.cam_to_world, first[0].cam_to_world, strict=True):
        assert np.array_equal(mine, other) if mine is not None else other is None


def test_sparse_and_dense_systems_agree(monkeypatch):
    rng = np.random.default_rng(0)
    A = sparse.random_array((900, 300), density=0.01, rng=rng)
    S = (A.T @ A + sparse.eye_array(300)).tocsc()
    b = rng.normal(size=300)
    dense = positive_system.solve_positive(S, b)
    monkeypatch.setattr(positive_system, "_DENSE", 0)
    found = positive_system.solve_positive(S, b)
    assert np.allclose(found, dense, rtol=1e-9, atol=1e-12)
    assert np.allclose(S @ found, b)


def test_a_singular_system_has_no_solution():
    assert positive_system.solve_positive(sparse.csc_array((3, 3)), np.ones(3)) is None


def test_triangles_are_those_of_a_table_of_all_pairs():
    rng = np.random.default_rng(2)
    edges = rng.integers(0, 12, (60, 2))
    edges = edges[edges[:, 0] != edges[:, 1]]
    number = {}
    for e, (i, j) in enumerate(edges.tolist()):
        number[i, j], number[j, i] = (e, 1), (e, -1)
    expected = set()
    for a in range(12):
        for b in range(a + 1, 12):
            for c in range(b + 1, 12):
                legs = ((a, b), (b, c), (c, a))
                if all(leg in number for leg in legs):
                    expected.add(tuple(number[leg] for leg in legs))
    triangles, signs = _triangles(12, edges)
    found = {
        tuple(zip(t, s, strict=True))
        for t, s in zip(triangles.tolist(), signs.tolist(), strict=True)
    }
    assert len(expected) > 10 and found == expected
