"""Planes of plain regions: by their outline in other photos, by their rim, and by other regions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from recon.stereo.agreed_regions import agreed_regions
from recon.stereo.cross_check import Estimate
from recon.stereo.fill_unconfirmed import fill_unconfirmed
from recon.stereo.photo import Photo2D
from recon.stereo.plain_regions import plain_regions
from recon.stereo.region_planes import (
    RegionPhoto,
    RegionPlanes,
    region_planes,
    seen_by,
    shared_planes,
)

HEIGHT, WIDTH = 96, 128
K = np.array([[110.0, 0, 64], [0, 110.0, 48], [0, 0, 1]])
# normal . X = 1: a door 4 before the first camera, turned a little, in a wall of other colour.
DOOR = np.array([0.05, 0.02, 0.25])


def camera(x: float, y: float) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, 3] = x, y, 0
    return pose


def photo_of(pose: np.ndarray) -> tuple[RegionPhoto, np.ndarray, np.ndarray]:
    """A photo of the door with nothing known, its true inverse depth (h, w), and where (h, w) the
    door is.
    """
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    rays = np.stack([x, y, np.ones_like(x)], axis=-1) @ np.linalg.inv(K).T
    centre = pose[:3, 3]
    inverse = (rays @ DOOR) / (1 - centre @ DOOR)
    place = centre + rays / inverse[..., None]
    door = (np.abs(place[..., 0]) < 1.1) & (np.abs(place[..., 1]) < 0.9)
    colours = np.where(door[..., None], [170.0, 50, 60], [120.0, 120, 125]).astype(np.float32)
    # Light that falls off softly: less than a level from pixel to pixel.
    colours += (9 * np.cos(2.5 * place[..., :1] + 0.4) * np.cos(2 * place[..., 1:2])).astype("f4")
    rng = np.random.default_rng(int(1e4 * (centre[0] + 2 * centre[1] + 5)))
    colours += rng.normal(size=colours.shape).astype(np.float32) * 0.1
    grey = torch.from_numpy(colours.mean(axis=-1) / 255)
    photo = Photo2D(grey, torch.from_numpy(K), torch.from_numpy(pose))
    nothing = np.zeros((HEIGHT, WIDTH), np.float32)
    return RegionPhoto(photo, colours, nothing), inverse.astype(np.float32), door


POSES = [camera(0, 0), camera(0.5, 0), camera(-0.5, 0.1), camera(0, 0.4)]


def wrong_prior(inverse: np.ndarray) -> np.ndarray:
    """Depth that is too near, the more so on the left."""
    return (np.linspace(0.84, 0.98, WIDTH) / inverse).astype(np.float32)


def door_error(planes: RegionPlanes, inverse: np.ndarray, door: np.ndarray) -> float:
    found = planes.inverse(HEIGHT, WIDTH)
    return float(np.median(np.abs(found / inverse - 1)[door & (planes.labels > 0)]))


def test_plain_regions_end_at_their_outlines_and_noise_leaves_no_holes() -> None:
    reference, _, door = photo_of(POSES[0])
    textured = np.where(door[..., None], reference.colours, 120).astype(np.float32)
    rows, columns = np.mgrid[:HEIGHT, :20]
    textured[:, :20] += (20 * ((rows // 2 + columns // 2) % 2))[..., None]
    labels = plain_regions(textured)
    assert not labels[:, :18].any()
    assert (labels[28:68, 42:88] == labels[48, 64]).mean() > 0.99
    assert (labels == labels[48, 64])[~door].mean() < 0.01


def test_outline_and_soft_light_tell_the_plane_of_a_door_on_which_nothing_is_known() -> None:
    (reference, inverse, door), *sources = (photo_of(pose) for pose in POSES)
    nothing = np.zeros((HEIGHT, WIDTH), np.float32)
    planes = region_planes(
        reference, nothing, wrong_prior(inverse), [source for source, _, _ in sources]
    )
    before = np.median(np.abs(wrong_prior(inverse) * inverse - 1)[door])
    assert door_error(planes, inverse, door) < 0.02 < before / 3


def test_photos_may_be_of_several_sizes() -> None:
    """Taken upright and across, or by several lenses: here two were cut, at the right and below."""
    (reference, inverse, door), *sources = (photo_of(pose) for pose in POSES)
    cut = []
    for (source, _, _), part in zip(sources, (np.s_[:, :100], np.s_[:80], np.s_[:]), strict=True):
        photo = replace(source.photo, grey=source.photo.grey[part])
        cut.append(RegionPhoto(photo, source.colours[part], source.known[part]))
    nothing = np.zeros((HEIGHT, WIDTH), np.float32)
    planes = region_planes(reference, nothing, wrong_prior(inverse), cut)
    assert door_error(planes, inverse, door) < 0.02


def test_rim_tells_the_plane_of_a_door_that_mirrors_what_is_far_behind() -> None:
    (reference, inverse, door), *sources = (photo_of(pose) for pose in POSES)
    rim = np.zeros((HEIGHT, WIDTH), bool)
    y, x = np.nonzero(door)
    top, left = y.min(), x.min()
    for known in (np.s_[top - 3 : top + 1, left : x.max()], np.s_[top : y.max(), left - 3 : left]):
        rim[known] = True
    mirror = np.zeros((HEIGHT, WIDTH), bool)
    mirror[40:60, 50:70] = True
    known = np.where(mirror, inverse / 1.4, np.where(rim, inverse, 0)).astype(np.float32)
    # Reflections: no two photos have the colours in common but for the outline.
    rng = np.random.default_rng(3)
    shiny = [
        replace(s, colours=s.colours + rng.normal(size=(HEIGHT, WIDTH, 1)).astype(np.float32) * 6)
        for s, _, _ in sources
    ]
    confidence = (known > 0).astype(np.float32)
    prior = wrong_prior(inverse)
    planes = region_planes(replace(reference, known=known), confidence, prior, shiny)
    assert door_error(planes, inverse, door) < 0.01

    checked = Estimate(
        torch.from_numpy(np.where(known > 0, 1 / np.maximum(known, 1e-9), 0).astype(np.float32)),
        torch.from_numpy(confidence),
    )
    sure = Estimate(torch.from_numpy(prior), torch.full((HEIGHT, WIDTH), 0.5))
    on_planes = torch.from_numpy(planes.inverse(HEIGHT, WIDTH))
    filled = fill_unconfirmed(checked, sure, planes=on_planes)
    off = np.abs(filled.depth.numpy() * inverse - 1)
    assert off[mirror].max() < 0.03
    assert np.median(off[door]) < 0.01
    assert filled.confidence[torch.from_numpy(mirror)].max() <= 0.3
    mirrored = fill_unconfirmed(checked, sure).depth.numpy()
    assert np.abs(mirrored * inverse - 1)[mirror].min() > 0.3


def test_curved_region_gets_no_plane() -> None:
    (reference, inverse, door), *sources = (photo_of(pose) for pose in POSES)
    x = np.linspace(-1, 1, WIDTH)
    column = (inverse * (1 - 0.06 * x**2)).astype(np.float32)
    rows = np.arange(HEIGHT)[:, None]
    known = np.where(door & (rows % 3 == 0), column, 0).astype(np.float32)
    confidence = (known > 0).astype(np.float32)
    others = [source for source, _, _ in sources]
    planes = region_planes(replace(reference, known=known), confidence, 1 / column, others)
    assert not planes.planes[planes.labels[48, 64] - 1].any()
    flat = np.where(known > 0, inverse, 0).astype(np.float32)
    planes = region_planes(replace(reference, known=flat), confidence, 1 / inverse, others)
    assert planes.planes[planes.labels[48, 64] - 1].any()


def true_regions(pose: np.ndarray, scale: float = 1.0, sharpness: float = 0.03) -> RegionPlanes:
    """The door as one region on its plane, with depth ``scale`` times too large."""
    _, inverse, door = photo_of(pose)
    at = np.stack([np.ones((HEIGHT, WIDTH)), *np.mgrid[:HEIGHT, :WIDTH][::-1]], axis=-1)
    plane = np.linalg.lstsq(at.reshape(-1, 3), inverse.ravel() / scale, rcond=None)[0]
    return RegionPlanes(door.astype(np.int16), plane[None], np.array([sharpness]))


def asked(pose: np.ndarray, scale: float = 1.0) -> tuple[RegionPlanes, Photo2D, np.ndarray]:
    photo, _, _ = photo_of(pose)
    return true_regions(pose, scale), photo.photo, photo.known


def test_planes_that_other_photos_bear_out_stay_and_others_go() -> None:
    own, photo, _ = asked(POSES[0])
    agreeing, differing = asked(POSES[1]), asked(POSES[2], 1.1)
    assert agreed_regions(own, photo, [agreeing, asked(POSES[3]), differing]).planes.any()
    assert not agreed_regions(own, photo, [agreeing, differing]).planes.any()
    assert not agreed_regions(own, photo, []).planes.any()
    # Sharp enough to stand alone, unless contradicted; so dull that all may follow their priors.
    sharp = true_regions(POSES[0], sharpness=0.2)
    assert agreed_regions(sharp, photo, []).planes.any()
    assert not agreed_regions(sharp, photo, [differing]).planes.any()
    dull = true_regions(POSES[0], sharpness=0.001)
    assert not agreed_regions(dull, photo, [agreeing, asked(POSES[3])]).planes.any()


@pytest.mark.parametrize("known", [1.0, 1.2])
def test_known_depth_bears_out_a_plane_and_looking_past_it_speaks_against(known: float) -> None:
    own, photo, _ = asked(POSES[0])
    others = []
    for pose in POSES[1:]:
        regions, other, _ = asked(pose)
        _, inverse, _ = photo_of(pose)
        none = replace(regions, labels=np.zeros_like(regions.labels))
        others.append((none, other, (inverse / known).astype(np.float32)))
    assert agreed_regions(own, photo, others).planes.any() == (known == 1.0)


def test_planes_move_between_photos_as_their_points_do() -> None:
    turned = camera(0.4, -0.2)
    angle = 0.3
    turned[:3, :3] = [
        [np.cos(angle), 0, np.sin(angle)],
        [0, 1, 0],
        [-np.sin(angle), 0, np.cos(angle)],
    ]
    here, _, _ = photo_of(POSES[0])
    there = Photo2D(here.photo.grey, torch.from_numpy(K), torch.from_numpy(turned))
    plane = true_regions(POSES[0]).planes
    moved = seen_by(plane, here.photo, there)[0]
    points = np.array([[0.3, 0.2], [-0.5, 0.4], [0.1, -0.6]])
    z = (1 - points @ DOOR[:2]) / DOOR[2]
    world = np.column_stack([points, z])
    x, y, depth = ((world - turned[:3, 3]) @ turned[:3, :3]).T
    u, v = K[0, 0] * x / depth + K[0, 2] - 0.5, K[1, 1] * y / depth + K[1, 2] - 0.5
    np.testing.assert_allclose(moved @ [np.ones(3), u, v], 1 / depth, rtol=1e-5)
    np.testing.assert_allclose(seen_by(moved[None], there, here.photo), plane, rtol=1e-6)


def test_region_takes_a_plane_agreed_on_elsewhere_if_its_photos_allow_it() -> None:
    (reference, inverse, door), *sources = (photo_of(pose) for pose in POSES)
    others = [source for source, _, _ in sources]
    own = true_regions(POSES[0], 1.02)
    none = own.only(np.array([False]))
    right, wrong = true_regions(POSES[0]).planes, true_regions(POSES[0], 1.2).planes
    prior = wrong_prior(inverse)
    taken = shared_planes(reference, prior, others, own, none, np.concatenate([wrong, right]))
    np.testing.assert_array_equal(taken.planes, right)
    assert not shared_planes(reference, prior, others, own, none, wrong).planes.any()
    assert door_error(taken, inverse, door) < 1e-5
