"""Plain regions that show two faces of a body."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from recon.stereo.box_edges import with_faces_apart

SHAPE = 96, 128
# Inverse depth 0.5 in the middle, rising to the right and to the left.
ROW, COLUMN = np.mgrid[: SHAPE[0], : SHAPE[1]]
RIGHT = 0.5 + 0.002 * (COLUMN - 60.0) + 0.0005 * (ROW - 48.0)
LEFT = 0.5 - 0.002 * (COLUMN - 60.0) + 0.0005 * (ROW - 48.0)


def region() -> NDArray[np.int16]:
    labels = np.zeros(SHAPE, np.int16)
    labels[20:76, 20:110] = 1
    return labels


def known_around(inverse: NDArray[np.float64], labels: NDArray[np.int16]) -> NDArray[np.float32]:
    """Return inverse depth where matching would know it: 3 pixels to either side of the outline
    (things in front come out wider), but for a stretch of it.
    """
    outline = cv2.morphologyEx(labels.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((7, 7)))
    outline[:, 30:40] = 0
    return np.where(outline > 0, inverse, 0).astype(np.float32)


def test_two_faces_of_a_box_are_two_regions() -> None:
    labels = region()
    found = with_faces_apart(labels, known_around(np.minimum(LEFT, RIGHT), labels), 0.85)
    assert found.max() == 2
    # The farther plane is seen: to the left the one that falls to the left.
    first, second = (COLUMN[found == number] for number in (1, 2))
    assert first.min() >= 59 and second.max() <= 61
    assert np.array_equal(found > 0, labels > 0)


def test_of_three_faces_most_come_apart() -> None:
    labels = region()
    three = np.stack([LEFT, RIGHT, 0.5 + 0.006 * (ROW - 40.0)])
    found = with_faces_apart(labels, known_around(three.min(axis=0), labels), 0.85)
    shown = three.argmin(axis=0)[labels > 0]
    faces = np.zeros((found.max() + 1, 3))
    np.add.at(faces, (found[labels > 0], shown), 1)
    # Of the region as one, 0.4.
    assert faces.max(axis=1).sum() > 0.85 * len(shown)


def test_one_face_and_the_corner_of_a_room_stay_whole() -> None:
    labels = region()
    for inverse in (RIGHT, np.maximum(LEFT, RIGHT)):
        assert np.array_equal(with_faces_apart(labels, known_around(inverse, labels), 0.85), labels)


def test_what_is_known_needs_no_faces() -> None:
    labels = region()
    known = np.minimum(LEFT, RIGHT).astype(np.float32)
    assert np.array_equal(with_faces_apart(labels, known, 0.85), labels)
    assert np.array_equal(with_faces_apart(labels, np.zeros_like(known), 0.85), labels)
