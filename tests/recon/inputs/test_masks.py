"""Masks found by the photos' names, and bad ones."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pointmap.errors import InputError
from pointmap.images import Photo, open_photos
from recon.export.nerfstudio_cameras import read_transforms
from recon.inputs.masks import with_masks, without_masks

SIZE = (64, 48)


def save(path: Path, value: int | Sequence[int] = 255, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L" if isinstance(value, int) else "RGB", size, value).save(path)  # type: ignore[arg-type]
    return path


@pytest.fixture
def photos(tmp_path: Path) -> list[Photo]:
    names = ("left/0.jpg", "right/0.jpg", "right/1.jpg")
    return open_photos([save(tmp_path / "photos" / name, (9, 90, 9)) for name in names])[0]


def masks_of(photos: Sequence[Photo], folder: Path) -> list[str | None]:
    return [
        None if photo.mask is None else photo.mask.relative_to(folder).as_posix()
        for photo in with_masks(folder, photos)
    ]


def test_masks_are_found_by_name_and_folder(photos: list[Photo], tmp_path: Path) -> None:
    folder = tmp_path / "masks"
    for name in ("left/0.jpg.png", "right/0.png", "1.jpg.png", "0.jpg.png"):
        save(folder / name)
    assert masks_of(photos, folder) == ["left/0.jpg.png", "right/0.png", "1.jpg.png"]
    assert with_masks(None, photos) == photos


def test_masks_beside_the_photos_are_no_photos(tmp_path: Path) -> None:
    paths = [save(tmp_path / name) for name in ("a.jpg", "a.jpg.png", "b.jpg", "b.jpg.png")]
    assert [photo.name for photo in without_masks(tmp_path, open_photos(paths)[0])] == [
        "a.jpg",
        "b.jpg",
    ]


@pytest.mark.parametrize(
    "called",
    [
        *("0.png", "0.jpg", "0.TIF", "0.JPG.png", "0_mask.jpg", "0.mask.png", "0.jpg.mask.png"),
        *("mask_0.png", "dynamic_mask_0.png"),
    ],
)
def test_masks_may_be_called_as_other_programs_do(
    called: str, photos: list[Photo], tmp_path: Path
) -> None:
    folder = tmp_path / "masks"
    save(folder / called)
    assert masks_of([photos[0]], folder) == [called]


def test_the_surest_name_is_the_masks(photos: list[Photo], tmp_path: Path) -> None:
    # A copy of the photo as PNG may lie beside its mask, and capitals tell two photos apart.
    folder = tmp_path / "masks"
    for name in ("0.png", "0_mask.png", "left/0.jpg.png", "left/0.JPG.png"):
        save(folder / name)
    upper = open_photos([save(tmp_path / "photos/left/0.JPG", (9, 90, 9))])[0]
    assert masks_of([photos[0], *upper, photos[1]], folder) == [
        "left/0.jpg.png",
        "left/0.JPG.png",
        "0_mask.png",
    ]


def test_a_photo_of_the_same_name_is_no_mask(photos: list[Photo], tmp_path: Path) -> None:
    save(tmp_path / "masks/0.jpg", (90, 120, 60))
    with pytest.raises(InputError, match="has no photo's mask"):
        with_masks(tmp_path / "masks", photos)


def test_masks_among_photos_are_left_out_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("a.jpg", "a_mask.jpg", "b.jpg", "b.jpg.mask.png", "c_mask.jpg", "masks/a.png")
    names += ("masks/d.png", "odd/b.png")
    opened = open_photos([save(tmp_path / "photos" / name) for name in names])[0]
    # Nor is a photo of somebody's mask one.
    stripes = np.full((48, 64), 120, np.uint8)
    for name in ("d.png", "d_mask.png"):
        Image.fromarray(stripes).save(tmp_path / "photos" / name)
        opened += open_photos([tmp_path / "photos" / name])[0]
    with caplog.at_level(logging.WARNING):
        left = without_masks(None, opened)
    assert [photo.path.relative_to(tmp_path / "photos").as_posix() for photo in left] == [
        *("a.jpg", "b.jpg", "c_mask.jpg", "odd/b.png", "d.png", "d_mask.png")
    ]
    assert caplog.messages == [
        "4 pictures are left out, as masks of photos by their names; --masks FOLDER uses them: "
        "a_mask.jpg, b.jpg.mask.png, a.png, ..."
    ]


def test_photos_without_a_mask_are_used_whole_and_counted(
    photos: list[Photo], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path / "masks/right/0.jpg.png")
    with caplog.at_level(logging.WARNING):
        assert masks_of(photos, tmp_path / "masks") == [None, "right/0.jpg.png", None]
    assert caplog.messages == [
        f"2 photos have no mask in {tmp_path}/masks: left/0.jpg, right/1.jpg"
    ]


def test_photos_masked_everywhere_are_left_out(
    photos: list[Photo], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for photo, value in zip(photos, (0, 255, 1), strict=True):
        save(tmp_path / "masks" / f"{photo.name}.png", value)
    with caplog.at_level(logging.WARNING):
        assert masks_of(photos, tmp_path / "masks") == ["right/0.jpg.png", "right/1.jpg.png"]
    assert caplog.messages == ["1 photo is left out, as masked everywhere: left/0.jpg"]


def test_masks_that_are_dark_grey_in_parts_are_told_of(
    photos: list[Photo], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    levels = np.full(SIZE[::-1], 235, np.uint8)
    levels[:, :20] = 16
    soft = np.clip(255 * (np.arange(SIZE[0]) - 20) / 3, 0, 255).astype(np.uint8)
    edge = np.broadcast_to(soft, SIZE[::-1]).copy()
    for name, values in (("left/0.jpg", levels), ("right/0.jpg", edge), ("1.jpg", levels > 99)):
        path = tmp_path / f"masks/{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path)
    with caplog.at_level(logging.WARNING):
        with_masks(tmp_path / "masks", photos)
    assert [record.getMessage() for record in caplog.records] == [
        "1 mask is dark grey in parts, which are ignored as if they were black: 0.jpg.png"
    ]


def test_masks_that_leave_hardly_anything_may_be_the_wrong_way_round(
    photos: list[Photo], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    figure = np.zeros(SIZE[::-1], np.uint8)
    figure[20:40, 30:36] = 255
    for photo in photos:
        path = tmp_path / f"masks/{photo.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(figure).save(path)
    with caplog.at_level(logging.WARNING):
        with_masks(tmp_path / "masks", photos)
        assert [record.getMessage() for record in caplog.records] == [
            "the masks leave 3.9 % of the photos, as what is black (0) is ignored: if it is the "
            "other part that shall be, invert them"
        ]
        caplog.clear()
        for photo in photos:
            Image.fromarray(255 - figure).save(tmp_path / f"masks/{photo.name}.png")
        with_masks(tmp_path / "masks", photos)
    assert not caplog.records


def nothing(folder: Path) -> None:
    save(folder / "other.png")


def ambiguous(folder: Path) -> None:
    save(folder / "0.jpg.png")


def other_size(folder: Path) -> None:
    save(folder / "left/0.jpg.png", size=(48, 48))


def all_black(folder: Path) -> None:
    for name in ("left/0", "right/0", "right/1"):
        save(folder / f"{name}.jpg.png", 0)


def damaged(folder: Path) -> None:
    save(folder / "left/0.jpg.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (nothing, r"has no photo's mask: that of 0\.jpg would be called 0\.jpg\.png"),
        (ambiguous, r"0\.jpg\.png may be the mask of several photos"),
        (other_size, r"left/0\.jpg\.png: 48x48 pixels, but the photo has 64x48"),
        (all_black, "leave nothing of any photo"),
        (damaged, r"left/0\.jpg\.png: not a picture"),
        (lambda folder: None, "is no folder"),
    ],
)
def test_bad_masks_are_errors(
    make: Callable[[Path], None], message: str, photos: list[Photo], tmp_path: Path
) -> None:
    make(tmp_path / "masks")
    with pytest.raises(InputError, match=message):
        with_masks(tmp_path / "masks", photos)


def test_a_transforms_json_names_masks(tmp_path: Path) -> None:
    frame = {"file_path": "a.jpg", "transform_matrix": np.eye(4).tolist()}
    data = {"frames": [frame | {"mask_path": "masks/a.png"}, frame | {"file_path": "b.jpg"}]}
    listed = read_transforms(tmp_path / "transforms.json", json.loads(json.dumps(data)))
    assert listed["a.jpg"].mask == tmp_path / "masks/a.png" and listed["b.jpg"].mask is None


def test_accents_are_the_same_however_they_are_written(tmp_path: Path) -> None:
    composed, apart = "Küche.jpg", "Ku\u0308che.jpg"
    for name, mask in ((composed, apart), (apart, composed)):
        photos, _ = open_photos([save(tmp_path / name[:3] / "photos" / name)])
        save(tmp_path / name[:3] / "masks" / f"{mask}.png")
        assert masks_of(photos, tmp_path / name[:3] / "masks") == [f"{mask}.png"]
