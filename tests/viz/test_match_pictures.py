"""The report's pictures of matches: true counts, true places, and nothing where nothing matches."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from scene_factory import make_scene
from view_maps import with_maps

from recon.reconstruction import Reconstruction
from recon.scene import Tracks
from viz.pages.match_pictures import (
    SharedPoints,
    match_picture,
    match_section,
    shared_counts,
    shared_points,
)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Reconstruction:
    return make_scene(tmp_path_factory.mktemp("photos"), track_noise_px=0.0)


def test_counts_are_those_of_the_points_seen_by_both(scene: Reconstruction) -> None:
    tracks = scene.tracks
    counts = shared_counts(scene)
    seen = [set(tracks.point_index[tracks.view_index == k]) for k in range(len(scene.views))]
    for i in range(len(seen)):
        for j in range(len(seen)):
            assert counts[i, j] == len(seen[i] & seen[j])
    # An observation held twice is no second match.
    doubled = Tracks(
        tracks.points,
        tracks.colours,
        *(np.concatenate([a, a]) for a in (tracks.point_index, tracks.view_index, tracks.xy)),
    )
    np.testing.assert_array_equal(shared_counts(dataclasses.replace(scene, tracks=doubled)), counts)


def test_shared_points_are_the_same_place_of_the_scene(scene: Reconstruction) -> None:
    shared = shared_points(scene, 0, 3)
    assert len(shared.xy_i) == shared_counts(scene)[0, 3] > 5

    def colour(view: int, xy: np.ndarray) -> np.ndarray:
        camera, pixels = scene.views[view].camera, scene.views[view].pixels
        column, row = np.floor(
            xy.T * [[pixels.shape[1] / camera.width], [pixels.shape[0] / camera.height]]
        ).astype(int)
        return pixels[row, column].astype(int)

    # Photos of the factory's pattern: one place has one colour in both, others have another.
    here = np.abs(colour(0, shared.xy_i) - colour(3, shared.xy_j)).mean()
    shuffled = np.abs(colour(0, shared.xy_i) - colour(3, np.roll(shared.xy_j, 5, axis=0))).mean()
    assert here < 0.5 * shuffled


def test_lines_join_the_places_in_both_photos(scene: Reconstruction) -> None:
    """Landscape beside portrait, at one height."""
    views = [with_maps(v, pixels=np.full_like(v.pixels, 90)) for v in scene.views]
    plain = dataclasses.replace(scene, views=tuple(views))
    one = SharedPoints(0, 1, np.array([[320.0, 120.0]]), np.array([[120.0, 480.0]]))
    picture = match_picture(plain, one, height=240).astype(int)
    left = 320 + 8
    assert picture.shape == (240, left + 180, 3)
    line = np.ptp(picture, axis=-1) > 60  # coloured on grey
    rows, columns = np.nonzero(line)
    start, end = np.array([160.0, 60.0]), np.array([left + 45.0, 180.0])
    np.testing.assert_allclose([columns.min(), columns.max()], [start[0], end[0]], atol=4)
    np.testing.assert_allclose([rows.min(), rows.max()], [start[1], end[1]], atol=4)
    middle = ((start + end) / 2).astype(int)
    assert line[middle[1] - 2 : middle[1] + 3, middle[0]].any()


def test_the_section_shows_the_strongest_and_the_weakest_pairs(scene: Reconstruction) -> None:
    counts = shared_counts(scene)
    ordered = sorted(counts[np.triu_indices(4, 1)], reverse=True)
    section = match_section(scene)
    shown = [
        (kind, int(number))
        for kind, number in re.findall(r"(Strong|Weak): [^<]*, (\d+) match", section)
    ]
    assert shown == [
        ("Strong", ordered[0]),
        ("Strong", ordered[1]),
        ("Weak", ordered[-2]),
        ("Weak", ordered[-1]),
    ]
    assert section.count("<img") == 4


@pytest.mark.parametrize("names", [("a.jpg",), ("a.jpg", "b.jpg")])
def test_scenes_without_much_to_match(tmp_path: Path, names: tuple[str, ...]) -> None:
    scene = make_scene(tmp_path, names=names)
    assert match_section(scene).count("<img") == len(names) - 1
    assert match_section(dataclasses.replace(scene, tracks=Tracks.empty())) == ""
