import numpy as np
import pytest
from alignment_scenes import arc_scene, random_rotation, scene_edges

from pointmap.camera import Array, rotation_angle_deg, rotation_exp
from recon.alignment.rotations import average_rotations, closing_rotations, cycle_errors_deg


def pose_graph(wrong: float, noise_deg: float, cameras: int = 12, seed: int = 0):
    scene = arc_scene(cameras, 60, seed=seed)
    edges, good = scene_edges(scene, wrong=wrong, rotation_noise_deg=noise_deg, seed=seed)
    pairs = np.array([(e.matches.i, e.matches.j) for e in edges])
    relative = np.stack([e.pose.cam2_to_cam1[:3, :3] for e in edges])
    weights = np.array([len(e.matches) for e in edges], float)
    return scene.cam_to_world[:, :3, :3], pairs, relative, weights, np.array(good)


def errors_deg(found: Array, truth: Array) -> Array:
    """Errors once both are in the frame of photo 0."""
    return rotation_angle_deg((truth[0].T @ truth).transpose(0, 2, 1) @ (found[0].T @ found))


def test_noise_free_rotations_are_exact_with_wrong_edges():
    truth, pairs, relative, weights, good = pose_graph(wrong=0.4, noise_deg=0.0)
    found, residual = average_rotations(12, pairs, relative, weights)
    assert errors_deg(found, truth).max() < 0.05
    assert residual[good].max() < 0.1 and residual[~good].min() > 10
    found, residual = average_rotations(12, pairs[good], relative[good], weights[good])
    assert errors_deg(found, truth).max() < 1e-8
    assert residual.max() < 1e-8


@pytest.mark.parametrize("seed", range(5))
def test_wrong_edges_hardly_add_to_the_error(seed: int):
    errors = {}
    for wrong in (0.0, 0.2, 0.4):
        truth, *graph, _ = pose_graph(wrong=wrong, noise_deg=1.0, seed=seed)
        errors[wrong] = np.median(errors_deg(average_rotations(12, *graph)[0], truth))
    assert max(errors[0.2], errors[0.4]) < 2 * errors[0.0] + 0.1


def test_averaging_beats_the_chain():
    truth, pairs, relative, weights, _ = pose_graph(wrong=0.0, noise_deg=2.0)
    chain = [np.eye(3)]
    for k in range(11):
        step = relative[(pairs == (k, k + 1)).all(axis=1)][0]
        chain.append(chain[-1] @ step)
    averaged = average_rotations(12, pairs, relative, weights)[0]
    assert errors_deg(averaged, truth).max() < 0.5 * errors_deg(np.stack(chain), truth).max()


def test_components_stay_apart_and_start_at_the_identity():
    rng = np.random.default_rng(0)
    R = np.stack([random_rotation(rng) for _ in range(5)])
    pairs = np.array([(0, 3), (1, 4)])
    relative = np.stack([R[0].T @ R[3], R[1].T @ R[4]])
    found, residual = average_rotations(5, pairs, relative, np.ones(2))
    assert np.allclose(found[[0, 1, 2]], np.eye(3))
    assert np.allclose(found[3], R[0].T @ R[3]) and np.allclose(found[4], R[1].T @ R[4])
    assert residual.max() < 1e-8


def test_swapped_edges_give_the_same_rotations():
    _, pairs, relative, weights, _ = pose_graph(wrong=0.2, noise_deg=1.0)
    flip = np.arange(len(pairs)) % 2 == 0
    pairs_2 = np.where(flip[:, None], pairs[:, ::-1], pairs)
    relative_2 = np.where(flip[:, None, None], relative.transpose(0, 2, 1), relative)
    first = average_rotations(12, pairs, relative, weights)[0]
    second = average_rotations(12, pairs_2, relative_2, weights)[0]
    assert rotation_angle_deg(first.transpose(0, 2, 1) @ second).max() < 1e-4


def test_repeated_pairs_are_averaged_not_summed_up():
    """A pair may have an edge from features and one from pointmaps."""
    truth, pairs, relative, weights, _ = pose_graph(wrong=0.0, noise_deg=0.0)
    twice = [np.concatenate([a, a]) for a in (pairs, relative, weights)]
    assert errors_deg(average_rotations(12, *twice)[0], truth).max() < 1e-6


def test_cycles_tell_wrong_edges_from_right_ones():
    _, pairs, relative, _, good = pose_graph(wrong=0.2, noise_deg=0.5)
    error, agreeing = cycle_errors_deg(12, pairs, relative)
    assert error[good].max() < 3 and agreeing[good].min() > 0
    assert agreeing[~good].max() < agreeing[good].min()


def test_an_edge_outside_all_triangles_has_no_cycle_error():
    pairs = np.array([(0, 1), (1, 2), (0, 2), (2, 3)])
    error, agreeing = cycle_errors_deg(4, pairs, np.tile(np.eye(3), (4, 1, 1)))
    assert np.isinf(error[3]) and agreeing[3] == 0
    assert np.allclose(error[:3], 0) and (agreeing[:3] == 1).all()


@pytest.mark.parametrize("seed", range(5))
def test_of_two_rotations_the_one_is_taken_that_closes_triangles(seed: int):
    rng = np.random.default_rng(seed)
    _, pairs, right, _, _ = pose_graph(wrong=0.0, noise_deg=0.5, seed=seed)
    flat = rng.random(len(pairs)) < 0.5
    # As the second pose of a plane is off that fills a picture seen from two places.
    axis = rng.normal(size=(len(pairs), 3))
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    wrong = right @ rotation_exp(np.radians(rng.uniform(11, 40, (len(pairs), 1))) * axis)
    first_is_wrong = flat & (rng.random(len(pairs)) < 0.5)
    first = np.where(first_is_wrong[:, None, None], wrong, right)
    second = np.where((flat & ~first_is_wrong)[:, None, None], wrong, right)
    second[~flat] = first[~flat]

    taken = closing_rotations(12, pairs, first, second)

    assert flat.sum() > 10 and np.array_equal(taken, first_is_wrong)


def test_without_a_triangle_that_tells_the_first_rotation_stays():
    pairs = np.array([(0, 1), (1, 2), (0, 2), (2, 3)])
    first, second = np.tile(np.eye(3), (2, 4, 1, 1))
    # Two edges of the one triangle have two rotations each, and so has one in no triangle.
    second[[0, 1, 3]] = rotation_exp(np.array([0.0, 0.5, 0.0]))

    assert not closing_rotations(4, pairs, second, first)[[0, 1, 3]].any()
    assert not closing_rotations(2, np.zeros((0, 2), int), *np.zeros((2, 0, 3, 3))).any()


def test_no_edges():
    found, residual = average_rotations(3, np.zeros((0, 2), int), np.zeros((0, 3, 3)), np.zeros(0))
    assert np.allclose(found, np.eye(3)) and len(residual) == 0
