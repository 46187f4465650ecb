"""The ways to a pair's pose that a user can choose, on a room whose predictions are exact."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from alignment_scenes import evidence, pose_errors_deg
from rooms import Taken, room
from tiny_network import tiny_config

from benchmarks.pointmap_scenes import EXACT
from pointmap.camera import Array, invert_rigid, project, transform_points
from pointmap.network import DUSt3R
from recon.alignment import align
from recon.inputs import Inputs
from recon.inputs.known_cameras import KnownCameras
from recon.stage_results import NetworkResult, PairEdge, PairEvidence, PhotoFeatures
from recon.two_view.chosen_pose import PoseFrom, pointmap_edge, with_feature_matches
from recon.two_view.epipolar import angles_between_deg, fundamental_from_pose, sampson_px
from recon.two_view.features import match_features
from recon.two_view.focal_lengths import FocalOptions
from recon.two_view.gather_evidence import Matched, gather_evidence

WAYS = ("procrustes", "pnp")


@pytest.fixture(scope="module")
def taken() -> Taken:
    return room(4, EXACT)


def edge_of(taken: Taken, way: str, i: int = 0, j: int = 1) -> PairEdge | None:
    by_pair = {(s.i, s.j): s for s in taken.sketches}
    there, back = by_pair[i, j], by_pair[j, i]
    return pointmap_edge(way, there, back, taken.scene.photos, taken.priors, taken.focals)


def truth(taken: Taken, i: int = 0, j: int = 1) -> Array:
    poses = taken.scene.cam_to_world
    return invert_rigid(poses[i]) @ poses[j]


@pytest.mark.parametrize("way", WAYS)
def test_a_pairs_pose_is_that_of_its_pointmaps(taken: Taken, way: str) -> None:
    edge = edge_of(taken, way)
    assert edge is not None and edge.pose.method == way
    rotation, direction = angles_between_deg(edge.pose.cam2_to_cam1, truth(taken))
    assert rotation < 0.05 and direction < 0.3
    # Its matches are what the pointmaps say of pixels: they lie on the true epipolar lines.
    assert edge.pose.inliers.all() and len(edge.matches) > 100
    K = taken.scene.intrinsics
    F = fundamental_from_pose(truth(taken), K, K)
    assert sampson_px(F, edge.matches.xy_i, edge.matches.xy_j).max() < 0.5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recon.two_view.chosen_pose.FEW_MATCHES", len(edge.matches) + 1)
        assert edge_of(taken, way) is None


@pytest.mark.parametrize("way", WAYS)
def test_such_edges_place_the_photos(taken: Taken, way: str) -> None:
    pairs = [(i, j) for j in range(4) for i in range(j)]
    edges = [edge for i, j in pairs if (edge := edge_of(taken, way, i, j)) is not None]
    assert len(edges) == len(pairs)
    found = align(taken.scene.photos, evidence(taken.scene.photos, edges, taken.focals))
    rotations, directions = pose_errors_deg(found, taken.scene.cam_to_world)
    assert rotations.max() < 0.2 and directions.max() < 0.5


@pytest.mark.parametrize("way", WAYS)
def test_unsure_pixels_make_no_edge(taken: Taken, way: str) -> None:
    none = np.zeros_like(taken.sketches[0].confidence_i)
    unsure = [replace(s, confidence_i=none, confidence_j=none) for s in taken.sketches]
    assert edge_of(replace(taken, sketches=unsure), way) is None


def test_matches_of_features_take_the_place_of_the_pointmaps_own(taken: Taken) -> None:
    edge = edge_of(taken, "pnp")
    assert edge is not None
    features = edge.matches.select(np.arange(len(edge.matches)) < 50)
    verified = PairEdge(features, replace(edge.pose, inliers=np.arange(50) < 30))
    both = with_feature_matches(edge, verified)
    assert both is not None and both.matches is features
    assert both.pose.method == "pnp" and both.pose.inliers.sum() == 30
    assert with_feature_matches(edge, None) is edge
    assert with_feature_matches(None, verified) is None


def evidence_of(taken: Taken, pose_from: PoseFrom) -> PairEvidence:
    """What the matching stage makes of key points with a descriptor each, and these pointmaps."""
    scene = taken.scene
    rng = np.random.default_rng(0)
    # Points on a sphere about the room's middle, seen by all photos.
    points = rng.normal(size=(150, 3)) * 0.2 + [0, 0, 3]
    descriptors = rng.normal(size=(150, 128)).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    world = transform_points(scene.cam_to_world[0], points)
    features = []
    for pose in scene.cam_to_world:
        xy = project(transform_points(invert_rigid(pose), world), scene.intrinsics)
        features.append(PhotoFeatures(xy, descriptors, np.zeros((150, 3), np.uint8)))
    nothing = (None,) * len(scene.photos)
    network = DUSt3R(tiny_config(64))
    inputs = Inputs(
        tuple(scene.photos), KnownCameras(nothing, nothing), None, network, torch.device("cpu")
    )
    pairs = tuple((i, j) for j in range(len(nothing)) for i in range(j))
    seen = NetworkResult(pairs, taken.priors, taken.sketches, {})
    matches = [match_features(features[i], features[j], i, j) for i, j in pairs]
    focal = FocalOptions(focal_px=float(taken.focals[0]))
    matched = Matched(inputs, features, matches, seen)
    return gather_evidence(matched, focal, pose_from=pose_from)


def test_the_stage_does_what_is_chosen(taken: Taken) -> None:
    methods = {
        "auto": "essential", "matches": "essential", "procrustes": "procrustes", "pnp": "pnp",
    }  # fmt: skip
    for chosen, method in methods.items():
        found = evidence_of(taken, chosen)  # type: ignore[arg-type]
        assert {edge.pose.method for edge in found.edges} == {method}
        assert len(found.edges) == 6
        # Of matches alone, nothing of the pointmaps reaches the alignment.
        assert bool(found.sketches) == (chosen != "matches")
