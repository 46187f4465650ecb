"""Planes of plain regions: by their outline in other photos, by their rim, and by other regions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from recon.stereo.agreed_regions import Judge, agreed_regions
from recon.stereo.cross_check import Estimate
from recon.stereo.fill_unconfirmed import fill_unconfirmed
from recon.stereo.flat_places import flat_parts
from recon.stereo.lent_planes import lent_planes
from recon.stereo.photo import Photo2D
from recon.stereo.plain_region import RegionPhoto
from recon.stereo.plain_regions import plain_regions, spread_regions, with_unknown_parts
from recon.stereo.plane_frames import in_photo, in_world
from recon.stereo.region_planes import (
    Candidates,
    RegionPlanes,
    region_candidates,
    regions_of,
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


def door_plane(
    reference: RegionPhoto, prior: np.ndarray, sources: list[RegionPhoto], directions: np.ndarray
) -> np.ndarray:
    """The plane (3,) that the door is found on, all 0 for none."""
    labels = plain_regions(reference.colours)
    number = int(labels[48, 64])
    region = regions_of(labels, reference, prior, sources)[number]
    found = region.candidates(np.zeros((0, 3)), directions)
    costs = region.costs(found) if len(found) else np.zeros(0)
    return found[costs.argmin()] if len(found) else np.zeros(3)


def error_of(plane: np.ndarray, inverse: np.ndarray, where: np.ndarray) -> float:
    rows, columns = np.nonzero(where)
    found = plane @ [np.ones(len(rows)), columns, rows]
    return float(np.median(np.abs(found / inverse[where] - 1)))


NO_DIRECTION = np.zeros((0, 3))


def test_plain_regions_end_at_their_outlines_and_noise_leaves_no_holes() -> None:
    reference, _, door = photo_of(POSES[0])
    textured = np.where(door[..., None], reference.colours, 120).astype(np.float32)
    rows, columns = np.mgrid[:HEIGHT, :20]
    textured[:, :20] += (20 * ((rows // 2 + columns // 2) % 2))[..., None]
    labels = plain_regions(textured)
    assert not labels[:, :18].any()
    assert (labels[28:68, 42:88] == labels[48, 64]).mean() > 0.99
    assert (labels == labels[48, 64])[~door].mean() < 0.01


def test_region_with_a_plane_goes_on_over_faint_marks_and_ends_at_edges() -> None:
    colours = np.full((HEIGHT, WIDTH, 3), 120, np.float32)
    colours[:, 60:64] += [[2.2], [4.4], [6.6], [8.8]]
    colours[:, 64:] += 8.8
    colours[:, 100:] += 60
    labels = np.zeros((HEIGHT, WIDTH), np.int16)
    labels[:, :50], labels[:20, 70:90] = 1, 2
    spread = spread_regions(labels, np.array([True, False]), colours)
    assert (spread[25:, :85] == 1).all()
    assert (spread[:15, 72:88] == 2).all()
    assert not spread[:, 102:].any()


def test_outline_and_soft_light_tell_the_plane_of_a_door_on_which_nothing_is_known() -> None:
    (reference, inverse, door), *sources = (photo_of(pose) for pose in POSES)
    prior = wrong_prior(inverse)
    plane = door_plane(reference, prior, [source for source, _, _ in sources], NO_DIRECTION)
    before = np.median(np.abs(prior * inverse - 1)[door])
    assert error_of(plane, inverse, door) < 0.02 < before / 3


def test_photos_may_be_of_several_sizes() -> None:
    """Taken upright and across, or by several lenses: here two were cut, at the right and below."""
    (reference, inverse, door), *sources = (photo_of(pose) for pose in POSES)
    cut = []
    for (source, _, _), part in zip(sources, (np.s_[:, :100], np.s_[:80], np.s_[:]), strict=True):
        photo = replace(source.photo, grey=source.photo.grey[part])
        cut.append(RegionPhoto(photo, source.colours[part], source.known[part]))
    plane = door_plane(reference, wrong_prior(inverse), cut, NO_DIRECTION)
    assert error_of(plane, inverse, door) < 0.02


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
    plane = door_plane(replace(reference, known=known), prior, shiny, NO_DIRECTION)
    assert error_of(plane, inverse, door) < 0.01
    planes = RegionPlanes(door.astype(np.int16), plane[None])

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
    others = [source for source, _, _ in sources]
    assert not door_plane(replace(reference, known=known), 1 / column, others, NO_DIRECTION).any()
    flat = np.where(known > 0, inverse, 0).astype(np.float32)
    assert door_plane(replace(reference, known=flat), 1 / inverse, others, NO_DIRECTION).any()


def true_plane(pose: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """The door's plane (1, 3) in a photo, with depth ``scale`` times too large."""
    _, inverse, _ = photo_of(pose)
    at = np.stack([np.ones((HEIGHT, WIDTH)), *np.mgrid[:HEIGHT, :WIDTH][::-1]], axis=-1)
    return np.linalg.lstsq(at.reshape(-1, 3), inverse.ravel() / scale, rcond=None)[0][None]


def blinded(sources: list[RegionPhoto]) -> list[RegionPhoto]:
    """Photos of nothing but noise, from the same cameras."""
    rng = np.random.default_rng(5)
    return [
        replace(s, colours=rng.uniform(0, 255, s.colours.shape).astype(np.float32)) for s in sources
    ]


def test_direction_alone_tells_a_plane_of_which_an_edge_is_known() -> None:
    (reference, inverse, door), *sources = (photo_of(pose) for pose in POSES)
    _, x = np.nonzero(door)
    edge = door & (np.arange(WIDTH) > x.max() - 4)
    noise = np.random.default_rng(0).normal(1, 0.006, inverse.shape)
    known = np.where(edge, inverse * noise, 0).astype(np.float32)
    shiny = blinded([source for source, _, _ in sources])
    reference, prior = replace(reference, known=known), wrong_prior(inverse)
    region = regions_of(door.astype(np.int16), reference, prior, shiny)[1]

    def least_error(directions: np.ndarray) -> float:
        planes = region.candidates(NO_DIRECTION, directions)
        return min(error_of(plane, inverse, door) for plane in planes)

    assert least_error(3 * true_plane(POSES[0])) < 0.01
    assert least_error(NO_DIRECTION) > 0.02


def judge(
    pose: np.ndarray,
    *scales: float,
    blind: bool = False,
    known: np.ndarray | None = None,
    less: float = 0.02,
) -> Judge:
    """A photo that holds the door's planes of some ``scales`` for likely; a ``blind`` one sees
    nothing in common with others. By ``less`` each costs less, as confirmed points lie on it.
    """
    (own, inverse, door), *others = (
        photo_of(p) for p in (pose, *(p for p in POSES if p is not pose))
    )
    sources = [source for source, _, _ in others]
    if blind:
        sources = blinded(sources)
    labels = door.astype(np.int16) if known is None else np.zeros_like(door, np.int16)
    regions = regions_of(labels, own, wrong_prior(inverse), sources)
    planes = np.concatenate([np.zeros((0, 3)), *(true_plane(pose, scale) for scale in scales)])
    least = np.array([region.costs(planes).min() - less for region in regions.values()])
    its_less = np.full(len(planes), less)
    candidates = Candidates(labels, in_world(planes, own.photo), its_less, least)
    return Judge(own.photo, regions, candidates, own.known if known is None else known)


def chosen_error(own: Judge, others: list[Judge]) -> float:
    """How far off the chosen plane of the door is in the first photo, infinite for none."""
    (plane,) = agreed_regions(own, others).planes
    _, inverse, door = photo_of(POSES[0])
    return error_of(plane, inverse, door) if plane.any() else np.inf


def test_other_photos_tell_which_plane_a_region_is_on() -> None:
    own = judge(POSES[0], 0.93, 1.0, blind=True)
    others = [judge(pose, 1.0) for pose in POSES[1:]]
    assert chosen_error(own, others) < 1e-4
    # Nobody else sees it, or all see noise and the priors lie between: no plane is clearly best.
    assert chosen_error(own, []) == np.inf
    noise = [judge(pose, 0.87, 0.95, blind=True) for pose in POSES]
    assert chosen_error(noise[0], noise[1:]) == np.inf
    # Each photo finds another plane.
    seen = [judge(pose, scale) for pose, scale in zip(POSES[1:], (0.85, 1.15, 0.9), strict=True)]
    assert chosen_error(judge(POSES[0], 0.93), seen[:1]) > 0.05


def test_region_takes_a_plane_that_only_others_found() -> None:
    own = judge(POSES[0], 0.93, blind=True)
    assert chosen_error(own, [judge(pose, 1.0) for pose in POSES[1:]]) < 1e-4


@pytest.mark.parametrize("factor", [1.0, 1.2])
def test_known_depth_bears_out_a_plane_and_looking_past_it_speaks_against(factor: float) -> None:
    others = []
    for pose in POSES[1:]:
        _, inverse, _ = photo_of(pose)
        others.append(judge(pose, known=(inverse / factor).astype(np.float32)))
    error = chosen_error(judge(POSES[0], 1.0), others)
    assert error < 1e-4 if factor == 1.0 else error == np.inf


def lending(pose: np.ndarray, scale: float, part: slice) -> tuple[RegionPhoto, RegionPlanes]:
    """A photo in which a ``part`` of the door's columns has its plane, depth ``scale`` times too
    large.
    """
    photo, _, door = photo_of(pose)
    labels = np.zeros_like(door, np.int16)
    labels[:, part] = door[:, part]
    return photo, RegionPlanes(labels, true_plane(pose, scale))


def lent_error(
    own: Judge, others: list[tuple[RegionPhoto, RegionPlanes]], had: np.ndarray | None = None
) -> float:
    """How far off the plane is that the first photo's door ends up with, infinite for none."""
    had = np.zeros((1, 3)) if had is None else had
    _, inverse, door = photo_of(POSES[0])
    (plane,) = lent_planes(own, RegionPlanes(own.candidates.labels, had), others).planes
    return error_of(plane, inverse, door) if plane.any() else np.inf


WHOLE = slice(None)


def test_region_without_a_plane_is_lent_that_of_another_photo() -> None:
    own = judge(POSES[0], 0.93, blind=True)
    assert lent_error(own, [lending(POSES[1], 1.0, WHOLE), lending(POSES[3], 1.0, WHOLE)]) < 1e-4
    assert lent_error(own, []) == np.inf
    # It takes none on which its own colours are off.
    assert lent_error(judge(POSES[0], 1.0), [lending(POSES[1], 0.8, WHOLE)]) == np.inf


@pytest.mark.parametrize(("part", "lent"), [(WHOLE, True), (slice(0, 45), False)])
def test_plane_that_others_have_all_over_a_region_may_be_dearer(part: slice, lent: bool) -> None:
    """As where the region shows an image, on which its colours match better."""
    own = judge(POSES[0], 1.0)
    cheaper = replace(own.candidates, least=own.candidates.least - 0.17)
    error = lent_error(replace(own, candidates=cheaper), [lending(POSES[1], 1.0, part)])
    assert error < 1e-4 if lent else error == np.inf


@pytest.mark.parametrize(("scale", "kept"), [(0.8, False), (1.2, True)])
def test_plane_past_which_others_look_gives_way_to_theirs(scale: float, kept: bool) -> None:
    """The others have the door on its plane: they see that nothing is before it, and know nothing
    of what is behind.
    """
    others = [lending(pose, 1.0, WHOLE) for pose in POSES[1:]]
    error = lent_error(judge(POSES[0], 1.0), others, true_plane(POSES[0], scale))
    assert error == pytest.approx(1 / 6, rel=0.01) if kept else error < 1e-4


def test_planes_of_one_surface_are_averaged_and_another_surface_has_no_say() -> None:
    own, had = judge(POSES[0], 0.98), true_plane(POSES[0], 0.98)
    near = [lending(POSES[1], 1.0, WHOLE), lending(POSES[2], 1.0, WHOLE)]
    far = [lending(POSES[3], 1.1, WHOLE)]
    assert lent_error(own, [*near, *far], had) == pytest.approx(0.02 / 3, rel=0.3)
    assert lent_error(own, far, had) == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("factor", [1.0, 1.2])
def test_no_plane_is_lent_past_most_of_which_another_photo_looks(factor: float) -> None:
    """Photos have a plane for a third of the door; of the rest another knows the depth."""
    photo, inverse, _ = photo_of(POSES[3])
    nothing = RegionPlanes(np.zeros(inverse.shape, np.int16), np.zeros((0, 3)))
    knows = replace(photo, known=(inverse / factor).astype(np.float32)), nothing
    error = lent_error(judge(POSES[0], 1.0), [lending(POSES[1], 1.0, slice(0, 45)), knows])
    assert error < 1e-4 if factor == 1.0 else error == np.inf


@pytest.mark.parametrize(("every", "plausible"), [(30, True), (3, False)])
def test_depth_known_by_chance_inside_a_region_refuses_no_plane(
    every: int, plausible: bool
) -> None:
    (reference, inverse, door), *sources = (photo_of(pose) for pose in POSES)
    numbers = np.arange(door.size).reshape(door.shape)
    known = np.where(door & (numbers % every == 0), 1.03 * inverse, 0).astype(np.float32)
    others = [source for source, _, _ in sources]
    reference = replace(reference, known=known)
    region = regions_of(door.astype(np.int16), reference, wrong_prior(inverse), others)[1]
    assert region.is_plausible(true_plane(POSES[0])[0]) == plausible


@pytest.mark.parametrize(("farthest", "plausible"), [(1.5, True), (1.06, False)])
def test_image_that_begins_on_a_plane_does_not_refuse_it(farthest: float, plausible: bool) -> None:
    """A floor that a door mirrors is on the door's plane at its foot and far behind it at its top;
    a surface that leans back a little is not on that plane.
    """
    (reference, inverse, door), *sources = (photo_of(pose) for pose in POSES)
    rows, _ = np.nonzero(door)
    up = (rows.max() - np.arange(HEIGHT)) / np.ptp(rows)
    image = inverse / (1 + (farthest - 1) * up.clip(0, 1))[:, None]
    numbers = np.arange(door.size).reshape(door.shape)
    known = np.where(door & (numbers % 3 == 0), image, 0).astype(np.float32)
    others = [source for source, _, _ in sources]
    reference = replace(reference, known=known)
    region = regions_of(door.astype(np.int16), reference, wrong_prior(inverse), others)[1]
    assert region.is_plausible(true_plane(POSES[0])[0]) == plausible


def test_candidates_lie_where_confirmed_points_do() -> None:
    (reference, inverse, door), *sources = (photo_of(pose) for pose in POSES)
    # The wall around the door is known, and the door in it is a part of that wall.
    known = np.where(door, 0, inverse).astype(np.float32)
    confidence = (known > 0).astype(np.float32)
    reference = replace(reference, known=known)
    around = [flat_parts(reference.photo, known, confidence)]
    sources = [source for source, _, _ in sources]
    found = region_candidates(reference, confidence, wrong_prior(inverse), sources, around)
    best = in_photo(found.planes, reference.photo)[found.less.argmax()]
    assert found.less.max() > 0
    assert error_of(best, inverse, door) < 0.005
    assert np.isfinite(found.least[found.labels[48, 64] - 1])


def test_what_is_not_plain_and_not_known_is_parted_at_edges_of_colour() -> None:
    rng = np.random.default_rng(3)
    colours = (120 + rng.normal(0, 3, (HEIGHT, WIDTH, 3))).astype(np.float32)
    colours[:, 60:] += 70
    known = np.zeros((HEIGHT, WIDTH), bool)
    known[:, 100:], known[:, 30:33] = True, True
    labels = np.zeros((HEIGHT, WIDTH), np.int16)
    labels[60:, :40] = 1
    parts = with_unknown_parts(labels, known, colours)
    assert (parts[labels > 0] == 1).all()
    assert not parts[known & (labels == 0)].any()
    numbers = [int(parts[40, x]) for x in (15, 45, 80)]
    assert min(numbers) > 1
    assert len(set(numbers)) == 3
    # The largest first, and none of specks.
    assert parts[40, 80] == 2
    assert parts.max() == 4


def test_part_on_which_photos_agree_on_nothing_may_be_on_the_plane_around_it() -> None:
    rng = np.random.default_rng(4)
    photos = [photo_of(pose) for pose in POSES]
    reference, *sources = (
        replace(p, colours=(p.colours + rng.normal(0, 3, p.colours.shape)).astype(np.float32))
        for p, _, _ in photos
    )
    _, inverse, door = photos[0]
    known = np.where(door, 0, inverse).astype(np.float32)
    confidence = (known > 0).astype(np.float32)
    reference = replace(reference, known=known)
    assert not plain_regions(reference.colours)[door].any()
    around = [flat_parts(reference.photo, known, confidence)]
    found = region_candidates(reference, confidence, wrong_prior(inverse), sources, around)
    assert len(found.planes)
    (least,) = found.least
    assert np.isfinite(least)
    assert min(error_of(p, inverse, door) for p in in_photo(found.planes, reference.photo)) < 0.005


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
    plane = true_plane(POSES[0])
    in_space = in_world(plane, here.photo)
    np.testing.assert_allclose(in_space[0], [*DOOR, 1] / np.linalg.norm(DOOR), rtol=1e-5)
    moved = in_photo(in_space, there)[0]
    points = np.array([[0.3, 0.2], [-0.5, 0.4], [0.1, -0.6]])
    z = (1 - points @ DOOR[:2]) / DOOR[2]
    world = np.column_stack([points, z])
    x, y, depth = ((world - turned[:3, 3]) @ turned[:3, :3]).T
    u, v = K[0, 0] * x / depth + K[0, 2] - 0.5, K[1, 1] * y / depth + K[1, 2] - 0.5
    np.testing.assert_allclose(moved @ [np.ones(3), u, v], 1 / depth, rtol=1e-5)
    np.testing.assert_allclose(in_photo(in_space, here.photo), plane, rtol=1e-6)
