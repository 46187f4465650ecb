from dataclasses import replace

import numpy as np
import pytest
from alignment_scenes import FOCAL, HEIGHT, WIDTH, Scene, arc_scene, turn

from pointmap.camera import (
    Array,
    fit_similarity,
    invert_rigid,
    project,
    rotation_angle_deg,
    transform_points,
)
from recon.alignment import camera_model, normal_equations, positive_system
from recon.alignment.bundle_adjustment import BundleResult, bundle_adjust
from recon.alignment.camera_model import BundleOptions, BundleProblem
from recon.alignment.normal_equations import NormalEquations


def perturbed(scene: Scene, *, focal: float = 1.1, amount: float = 1.0, seed: int = 0):
    """A problem that starts off: turned by 2 degrees, moved by 0.05, focal 10 % too long."""
    rng = np.random.default_rng(seed)
    camera_index, point_index = np.nonzero(np.isfinite(scene.xy[..., 0]))
    count = len(scene.cam_to_world)
    start = scene.cam_to_world.copy()
    for k in range(1, count):
        start[k, :3, :3] = start[k, :3, :3] @ turn(2.0 * amount, rng)
        start[k, :3, 3] += rng.normal(0, 0.05 * amount, 3)
    return BundleProblem(
        cam_to_world=start,
        principal=np.tile([WIDTH / 2, HEIGHT / 2], (count, 1)),
        focals_px=np.array([FOCAL * focal]),
        focal_index=np.zeros(count, int),
        points=scene.points + rng.normal(0, 0.05 * amount, scene.points.shape),
        camera_index=camera_index,
        point_index=point_index,
        xy=scene.xy[camera_index, point_index],
        sigma_px=np.ones(len(camera_index)),
        fixed_pose=np.zeros(count, bool),
        fixed_focal=np.zeros(1, bool),
        focal_prior_px=np.array([FOCAL]),
        focal_log_sigma=np.array([np.inf]),
        k1=np.zeros(1),
        k1_sigma=np.zeros(1),
    )


def off_px(problem: BundleProblem, result: BundleResult) -> Array:
    """How far each observation (M,) of a pinhole's scene is from where the result has it."""
    found = np.zeros(len(problem.xy))
    for n, (k, p) in enumerate(zip(problem.camera_index, problem.point_index, strict=True)):
        K = np.diag([result.focals_px[0], result.focals_px[0], 1.0])
        K[:2, 2] = problem.principal[k]
        point = transform_points(invert_rigid(result.cam_to_world[k]), result.points[p])
        found[n] = np.linalg.norm(project(point, K) - problem.xy[n])
    return found


def errors(result: BundleResult, scene: Scene) -> tuple[float, float]:
    """Largest rotation error in degrees and centre error relative to the scene, gauge removed."""
    found = result.cam_to_world
    scale, R, t = fit_similarity(found[:, :3, 3], scene.cam_to_world[:, :3, 3])
    rotation = rotation_angle_deg(
        (R @ found[:, :3, :3]).transpose(0, 2, 1) @ scene.cam_to_world[:, :3, :3]
    )
    centres = scale * found[:, :3, 3] @ R.T + t - scene.cam_to_world[:, :3, 3]
    return float(rotation.max()), float(np.linalg.norm(centres, axis=1).max())


# So far from there that Cauchy's loss is the square.
SQUARE = 1e9


@pytest.mark.parametrize("loss_scale", [2.0, SQUARE])
def test_noise_free_scene_is_recovered_exactly(loss_scale):
    scene = arc_scene(8, 150)
    problem = perturbed(scene)
    options = BundleOptions(loss_scale=loss_scale, tolerance=1e-12, max_iterations=100)
    result = bundle_adjust(problem, options)
    rotation, centre = errors(result, scene)
    assert rotation < 1e-6 and centre < 1e-6
    assert result.focals_px[0] == pytest.approx(FOCAL, rel=1e-7)
    assert off_px(problem, result).max() < 1e-5
    assert result.converged


def test_the_robust_loss_shrugs_off_outliers():
    scene = arc_scene(8, 150)
    problem = perturbed(scene, focal=1.02, amount=0.3)
    rng = np.random.default_rng(1)
    wrong = rng.random(len(problem.xy)) < 0.1
    xy = np.where(wrong[:, None], problem.xy + rng.normal(0, 60, problem.xy.shape), problem.xy)
    problem = replace(problem, xy=xy)
    robust, square = (
        errors(bundle_adjust(problem, BundleOptions(loss_scale=scale)), scene)[0]
        for scale in (1.0, SQUARE)
    )
    assert robust < 0.02 < 0.05 < square


def test_the_order_of_observations_does_not_matter():
    scene = arc_scene(4, 40)
    problem = perturbed(scene)
    shuffle = np.random.default_rng(0).permutation(len(problem.xy))
    shuffled = replace(
        problem,
        camera_index=problem.camera_index[shuffle],
        point_index=problem.point_index[shuffle],
        xy=problem.xy[shuffle],
    )
    options = BundleOptions(max_iterations=1)
    first, second = bundle_adjust(problem, options), bundle_adjust(shuffled, options)
    assert np.allclose(first.points, second.points, atol=1e-9)
    assert np.allclose(first.cam_to_world, second.cam_to_world, atol=1e-9)
    assert off_px(problem, first).max() > 0.1


def state_of(problem: BundleProblem) -> camera_model.State:
    first = camera_model.State.first(problem)
    return replace(first, log_scale=np.linspace(-0.2, 0.3, len(problem.cam_to_world)))


def with_known_z(problem: BundleProblem) -> BundleProblem:
    """Depths that are known of two points in three, a little off."""
    rng = np.random.default_rng(3)
    known = rng.uniform(2, 5, len(problem.xy)) * (np.arange(len(problem.xy)) % 3 > 0)
    return replace(problem, known_z=known, known_z_log_sigma=0.4)


@pytest.mark.parametrize("known_z", [False, True])
@pytest.mark.parametrize("k1", [0.0, -0.1])
@pytest.mark.parametrize("more", [None, "radial", "fisheye"])
def test_jacobian_agrees_with_finite_differences(k1: float, known_z: bool, more: str | None):
    scene = arc_scene(4, 30)
    problem = replace(perturbed(scene), k1=np.array([k1]))
    if more is not None:
        one = np.ones(1)
        asked = camera_model.RichLenses(np.array([more == "fisheye"]), 0.05 * one, one, one)
        problem = replace(problem, more=asked)
    if known_z:
        problem = with_known_z(problem)
    state = state_of(problem)
    linear = camera_model.linearise(problem, state, BundleOptions(loss_scale=SQUARE))
    cameras, step = len(problem.cam_to_world), 1e-6

    def residuals(camera: Array, points: Array) -> Array:
        moved = state.moved(problem, camera, points)
        found = camera_model.residuals(problem, moved)[0]
        if not known_z:
            return found
        depths = camera_model._z_residuals(problem, moved)[0]
        return np.concatenate([found, depths[:, None]], 1)

    own, lenses = problem.own_columns, problem.lens_columns
    assert own == (7 if known_z else 6)
    none = np.zeros(own * cameras + lenses), np.zeros_like(problem.points)
    for k in range(own + lenses):
        camera = none[0].copy()
        camera[np.arange(cameras) * own + k if k < own else k - own - lenses] = step
        slope = (residuals(camera, none[1]) - residuals(-camera, none[1])) / (2 * step)
        assert np.allclose(linear.camera[:, :, k], slope, rtol=1e-5, atol=1e-4)
    for k in range(3):
        points = none[1].copy()
        points[:, k] = step
        slope = (residuals(none[0], points) - residuals(none[0], -points)) / (2 * step)
        assert np.allclose(linear.point[:, :, k], slope, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("lens_of", [[0, 0, 0, 0], [1, 0, 1, 0], [0, 1, 2, 3]])
@pytest.mark.parametrize("dense_up_to", [0, 400])
@pytest.mark.parametrize("known_z", [False, True])
def test_the_schur_step_is_the_full_newton_step(
    monkeypatch: pytest.MonkeyPatch, known_z: bool, dense_up_to: int, lens_of: list[int]
):
    monkeypatch.setattr(positive_system, "_DENSE", dense_up_to)
    problem = perturbed(arc_scene(4, 12))
    lenses = np.zeros(max(lens_of) + 1)
    problem = replace(
        problem,
        focal_index=np.array(lens_of),
        focals_px=problem.focals_px + lenses,
        fixed_focal=lenses > 0,
        focal_prior_px=problem.focal_prior_px + lenses,
        focal_log_sigma=problem.focal_log_sigma + lenses,
        k1=lenses,
        k1_sigma=lenses + 1e6,
    )
    rows = 2
    if known_z:
        problem, rows = with_known_z(problem), 3
    state = state_of(problem)
    order = np.lexsort((problem.focal_index[problem.camera_index], problem.point_index))
    problem = replace(
        problem,
        camera_index=problem.camera_index[order],
        point_index=problem.point_index[order],
        xy=problem.xy[order],
        known_z=None if problem.known_z is None else problem.known_z[order],
    )
    linear = camera_model.linearise(problem, state, BundleOptions())
    system = NormalEquations(problem)
    system.build(state, BundleOptions())
    damping = 1e-3
    first, step = system.solve(damping), system.solve(damping)
    assert step is not None and first is not None
    # The second time in the order that the first one found.
    assert np.allclose(first[0], step[0], rtol=1e-9, atol=1e-12)
    size, points = system.size, len(problem.points)
    J = np.zeros((rows * len(problem.xy), size + 3 * points))
    for row, (camera, point) in enumerate(
        zip(problem.camera_index, problem.point_index, strict=True)
    ):
        mine = slice(rows * row, rows * row + rows)
        J[mine, system.columns[camera]] = linear.camera[row]
        J[mine, size + 3 * point : size + 3 * point + 3] = linear.point[row]
    free = np.concatenate([system.free, np.isin(np.arange(3 * points) // 3, problem.point_index)])
    J = J[:, free]
    normal = J.T @ J
    normal += damping * np.diag(np.diag(normal))
    expected = -np.linalg.solve(normal, J.T @ linear.residual.ravel())
    found = np.concatenate([step[0], step[1].ravel()])[free]
    assert np.allclose(found, expected, rtol=1e-4, atol=1e-7)


def test_fixed_poses_and_focals_are_bit_equal():
    scene = arc_scene(6, 100, noise_px=0.5)
    problem = perturbed(scene, focal=1.0)
    fixed = np.array([False, True, False, True, False, False])
    poses = np.where(fixed[:, None, None], scene.cam_to_world, problem.cam_to_world)
    problem = replace(problem, cam_to_world=poses, fixed_pose=fixed, fixed_focal=np.array([True]))
    result = bundle_adjust(problem)
    assert np.array_equal(result.cam_to_world[fixed], poses[fixed])
    assert np.array_equal(result.focals_px, problem.focals_px)
    # Two known poses fix frame and scale: the others follow without any alignment.
    centres = result.cam_to_world[:, :3, 3] - scene.cam_to_world[:, :3, 3]
    assert 0 < np.abs(centres[~fixed]).max() < 0.02


def test_the_first_camera_and_the_scale_stay():
    scene = arc_scene(6, 100, noise_px=0.5)
    problem = perturbed(scene)
    result = bundle_adjust(problem)
    assert np.allclose(result.cam_to_world[0], problem.cam_to_world[0], atol=1e-12)
    spans = [np.linalg.norm(p[:, :3, 3] - p[0, :3, 3], axis=1).max() for p in
             (result.cam_to_world, problem.cam_to_world)]  # fmt: skip
    assert spans[0] == pytest.approx(spans[1], rel=0.1)


def test_focal_prior_holds_what_the_pictures_leave_open():
    """Two photos side by side say next to nothing about the focal length."""
    scene = arc_scene(2, 60, span_deg=8.0, noise_px=1.0, visible=1.0)
    problem = perturbed(scene, focal=1.0, amount=0.1)
    problem = replace(problem, focal_prior_px=np.array([FOCAL]))
    tight = bundle_adjust(replace(problem, focal_log_sigma=np.array([0.01])))
    loose = bundle_adjust(replace(problem, focal_log_sigma=np.array([10.0])))
    assert abs(np.log(tight.focals_px[0] / FOCAL)) < 0.02
    assert abs(np.log(loose.focals_px[0] / FOCAL)) > 2 * abs(np.log(tight.focals_px[0] / FOCAL))


def test_focals_of_two_cameras_are_told_apart():
    scene = arc_scene(8, 150)
    problem = perturbed(scene)
    second = np.arange(8) % 2 == 1
    xy = problem.xy.copy()
    rows = second[problem.camera_index]
    centre = np.array([WIDTH / 2, HEIGHT / 2])
    xy[rows] = (xy[rows] - centre) * 1.3 + centre
    problem = replace(
        problem,
        xy=xy,
        focals_px=np.array([600.0, 650.0]),
        focal_index=second.astype(int),
        fixed_focal=np.zeros(2, bool),
        focal_prior_px=np.full(2, FOCAL),
        focal_log_sigma=np.full(2, np.inf),
        k1=np.zeros(2),
        k1_sigma=np.zeros(2),
    )
    result = bundle_adjust(problem, BundleOptions(tolerance=1e-12))
    assert np.allclose(result.focals_px, [FOCAL, 1.3 * FOCAL], rtol=1e-6)


@pytest.mark.parametrize("k1", [-0.2, 0.15])
def test_radial_distortion_is_recovered(k1: float):
    scene = arc_scene(8, 150, k1=k1)
    problem = replace(perturbed(scene), k1_sigma=np.array([1e6]))
    result = bundle_adjust(problem, BundleOptions(tolerance=1e-12, max_iterations=100))
    assert result.k1[0] == pytest.approx(k1, abs=1e-6)
    assert result.focals_px[0] == pytest.approx(FOCAL, rel=1e-6)
    assert errors(result, scene)[0] < 1e-5


def test_distortion_is_held_by_its_prior_where_little_is_seen_and_let_go_where_much_is():
    few = replace(perturbed(arc_scene(2, 30, noise_px=0.5), focal=1.0), k1_sigma=np.array([3e-3]))
    assert abs(bundle_adjust(few).k1[0]) < 5e-3
    assert abs(bundle_adjust(replace(few, k1_sigma=np.array([1.0]))).k1[0]) > 1e-2
    scene = arc_scene(8, 400, noise_px=0.5, k1=-0.1, extent=2.0)
    much = replace(perturbed(scene, focal=1.0), k1_sigma=np.array([3e-3]))
    assert bundle_adjust(much).k1[0] == pytest.approx(-0.1, abs=5e-3)
    held = replace(much, k1=np.array([-0.0123]), k1_sigma=np.zeros(1))
    assert bundle_adjust(held).k1[0] == -0.0123


def test_points_behind_a_camera_do_not_break_it():
    scene = arc_scene(6, 100)
    problem = perturbed(scene)
    points = problem.points.copy()
    points[:3] = [0, 0, -30]
    result = bundle_adjust(replace(problem, points=points))
    assert all(np.isfinite(a).all() for a in (result.cam_to_world, result.focals_px, result.points))
    assert errors(result, scene)[0] < 0.1


def test_nothing_observed_comes_back_as_it_was():
    problem = perturbed(arc_scene(3, 10))
    none = np.zeros(0, int)
    empty = replace(
        problem, camera_index=none, point_index=none, xy=np.zeros((0, 2)), sigma_px=np.zeros(0)
    )
    result = bundle_adjust(empty)
    assert not result.converged
    assert np.allclose(result.cam_to_world, problem.cam_to_world, atol=1e-12)


def test_the_same_problem_gives_the_same_bits():
    problem = perturbed(arc_scene(6, 100, noise_px=0.5))
    first, second = bundle_adjust(problem), bundle_adjust(problem)
    assert np.array_equal(first.cam_to_world, second.cam_to_world)
    assert np.array_equal(first.points, second.points)


@pytest.mark.parametrize("at_once", [1, 7, 100])
def test_how_many_observations_are_linearised_at_a_time_changes_no_bit(
    monkeypatch: pytest.MonkeyPatch, at_once: int
):
    problem = with_known_z(perturbed(arc_scene(6, 50, noise_px=0.5)))
    whole = bundle_adjust(problem)
    monkeypatch.setattr(normal_equations, "_AT_ONCE", at_once)
    parts = bundle_adjust(problem)
    assert np.array_equal(whole.cam_to_world, parts.cam_to_world)
    assert np.array_equal(whole.points, parts.points)


def test_agrees_with_pycolmap():
    pycolmap = pytest.importorskip("pycolmap")
    scene = arc_scene(6, 120, noise_px=0.5)
    problem = perturbed(scene, amount=0.3)
    mine = bundle_adjust(problem, BundleOptions(loss_scale=SQUARE, tolerance=1e-12))
    reconstruction = pycolmap.Reconstruction()
    camera = pycolmap.Camera.create_from_model_name(
        1, "SIMPLE_PINHOLE", float(problem.focals_px[0]), WIDTH, HEIGHT
    )
    reconstruction.add_camera_with_trivial_rig(camera)
    numbers = np.zeros(len(problem.xy), int)
    world_to_cam = invert_rigid(problem.cam_to_world)
    for k in range(6):
        rows = np.flatnonzero(problem.camera_index == k)
        numbers[rows] = np.arange(len(rows))
        image = pycolmap.Image(
            name=f"{k}.png", keypoints=problem.xy[rows], camera_id=1, image_id=k + 1
        )
        motion = pycolmap.Rigid3d(
            pycolmap.Rotation3d(world_to_cam[k, :3, :3]), world_to_cam[k, :3, 3]
        )
        reconstruction.add_image_with_trivial_frame(image, motion)
    for point, xyz in enumerate(problem.points):
        track = pycolmap.Track()
        for row in np.flatnonzero(problem.point_index == point):
            track.add_element(int(problem.camera_index[row]) + 1, int(numbers[row]))
        if track.length() >= 2:
            reconstruction.add_point3D(xyz, track, np.zeros(3, np.uint8))
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    pycolmap.bundle_adjustment(reconstruction, options)
    theirs = np.stack(
        [
            invert_rigid(
                np.vstack([reconstruction.images[k + 1].cam_from_world().matrix(), [0, 0, 0, 1]])
            )
            for k in range(6)
        ]
    )
    assert mine.focals_px[0] == pytest.approx(reconstruction.cameras[1].params[0], rel=1e-4)
    rotation, centre = errors(mine, replace(scene, cam_to_world=theirs))
    assert rotation < 2e-3 and centre < 2e-4
