"""Masks and transparency: which pixels of a photo count, and what stands in the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pointmap.errors import InputError, UnusablePicture
from pointmap.images import Photo, load_photo, open_photos
from pointmap.masks import continued, eroded, read_mask, resized_mask

WIDTH, HEIGHT = 90, 60


def photo(folder: Path, mask: np.ndarray | Image.Image | None, **options: object) -> Photo:
    """Return a photo of noise with a mask beside it."""
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(noise).save(folder / "a.png", **options)
    ((opened,), _) = open_photos([folder / "a.png"])
    if mask is None:
        return opened
    picture = mask if isinstance(mask, Image.Image) else Image.fromarray(mask)
    picture.save(folder / "a.png.png")
    fields = {name: getattr(opened, name) for name in opened.__dataclass_fields__}
    return Photo(**(fields | {"mask": folder / "a.png.png"}))


def left_third() -> np.ndarray:
    counts = np.ones((HEIGHT, WIDTH), np.uint8)
    counts[:, : WIDTH // 3] = 0
    return counts


@pytest.mark.parametrize(
    "mask",
    [
        pytest.param(255 * left_third(), id="black and white"),
        pytest.param(left_third(), id="0 and 1"),
        pytest.param(257 * left_third().astype(np.uint16), id="16 bits"),
        pytest.param(Image.fromarray(255 * left_third()).convert("1"), id="1 bit"),
        pytest.param(Image.fromarray(255 * left_third()).convert("RGB"), id="colour"),
        pytest.param(Image.fromarray(255 * left_third()).convert("P"), id="palette"),
        pytest.param(
            Image.fromarray(np.dstack([0 * left_third()] * 3 + [255 * left_third()])), id="cut-out"
        ),
        pytest.param(Image.fromarray(255 * left_third()[::2, ::2]), id="half the size"),
        pytest.param(16 + 219 * left_third(), id="black as films have it"),
        pytest.param(np.dstack([200 * left_third(), 16 * left_third()]), id="grey with alpha"),
        pytest.param(np.dstack([left_third() * c for c in (64, 0, 0)]), id="a class in colour"),
        pytest.param(3 * left_third() * (1 + np.eye(HEIGHT, WIDTH, dtype=np.uint8)), id="classes"),
    ],
)
def test_a_mask_of_any_kind_leaves_out_what_is_0(
    tmp_path: Path, mask: np.ndarray | Image.Image
) -> None:
    loaded = load_photo(photo(tmp_path, mask), long_side=WIDTH)
    assert loaded.usable is not None and (loaded.usable == left_third().astype(bool)).all()
    # Nothing of what is masked can be seen.
    noise = np.asarray(Image.open(tmp_path / "a.png"))
    assert (loaded.pixels[:, 30:] == noise[:, 30:]).all()
    assert loaded.pixels[:, :24].astype(int).std() < noise.astype(int).std() / 3


def test_soft_edges_end_half_way(tmp_path: Path) -> None:
    soft = np.clip(255 * (np.arange(WIDTH) - 24.2) / 11, 0, 255).astype(np.uint8)
    mask = np.broadcast_to(soft, (HEIGHT, WIDTH)).copy()
    for picture in (mask, 257 * mask.astype(np.uint16), np.dstack([mask] * 3)):
        loaded = load_photo(photo(tmp_path, picture), long_side=WIDTH)
        assert loaded.usable is not None and (loaded.usable == left_third().astype(bool)).all()


@pytest.mark.parametrize("size", [(45, 30), (37, 25), (16, 16), (96, 64)])
def test_at_another_size_a_pixel_counts_if_all_that_it_covers_does(size: tuple[int, int]) -> None:
    counts = np.random.default_rng(1).random((HEIGHT, WIDTH)) > 0.02
    small = resized_mask(counts, *size)
    rows, columns = (
        (np.arange(n * side) // n).reshape(side, n) for n, side in ((1, size[1]), (1, size[0]))
    )
    assert small.shape == (size[1], size[0]) and small.any() and not small.all()
    for r in rows[:, 0]:
        for c in columns[:, 0]:
            inner = counts[
                int(np.ceil(r * HEIGHT / size[1])) : max(
                    int((r + 1) * HEIGHT / size[1]), int(np.ceil(r * HEIGHT / size[1]))
                ),
                int(np.ceil(c * WIDTH / size[0])) : int((c + 1) * WIDTH / size[0]),
            ]
            assert inner.all() or not small[r, c]


def test_a_mask_of_another_shape_is_refused_with_both_sizes(tmp_path: Path) -> None:
    masked = photo(tmp_path, np.ones((60, 60), np.uint8))
    with pytest.raises(UnusablePicture, match="60x60 pixels, but the photo has 90x60"):
        read_mask(masked.mask or Path(), (90, 60), 1)
    with pytest.raises(InputError, match=r"a\.png\.png: 60x60 pixels"):
        load_photo(masked, long_side=90)


def test_masks_of_turned_photos_are_upright_or_as_the_photo_is_stored(tmp_path: Path) -> None:
    counts = left_third()
    Image.fromarray(counts).save(tmp_path / "stored.png")
    Image.fromarray(np.rot90(counts, -1)).save(tmp_path / "upright.png")
    for name in ("stored.png", "upright.png"):
        found = read_mask(tmp_path / name, (HEIGHT, WIDTH), 6)
        assert (found == np.rot90(counts, -1)).all()


def test_a_mask_that_says_itself_how_it_is_turned_is_turned_so(tmp_path: Path) -> None:
    counts = left_third()
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down, which the shape does not tell
    Image.fromarray(255 * counts[::-1, ::-1]).save(tmp_path / "a.png", exif=exif)
    assert (read_mask(tmp_path / "a.png", (WIDTH, HEIGHT), 3) == counts).all()


def test_transparency_counts_beside_a_mask_and_when_everything_is_transparent_it_does_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rgba = np.random.default_rng(2).integers(1, 255, (HEIGHT, WIDTH, 4), np.uint8)
    rgba[..., 3] = 255
    rgba[:20, :, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "b.png")
    Image.fromarray(left_third()).save(tmp_path / "b.png.png")
    ((opened,), _) = open_photos([tmp_path / "b.png"])
    fields = {name: getattr(opened, name) for name in opened.__dataclass_fields__}
    both = load_photo(Photo(**(fields | {"mask": tmp_path / "b.png.png"})), long_side=WIDTH)
    assert both.usable is not None and (both.usable[20:, 30:]).all()
    assert both.usable.sum() == 40 * 60
    assert not caplog.messages
    rgba[..., 3] = 0
    Image.fromarray(rgba).save(tmp_path / "c.png")
    ((invisible,), _) = open_photos([tmp_path / "c.png"])
    found = load_photo(invisible, long_side=WIDTH)
    assert found.usable is None
    # Its colours are all there, and not white paper.
    assert np.array_equal(found.pixels, rgba[..., :3])
    assert caplog.messages == ["c.png is transparent everywhere: its transparency is ignored"]


def test_colours_are_continued_smoothly() -> None:
    x = np.linspace(0, 255, WIDTH).astype(np.uint8)
    ramp = np.broadcast_to(x[:, None], (HEIGHT, WIDTH, 3)).copy()
    usable = np.ones((HEIGHT, WIDTH), bool)
    usable[20:40, 30:60] = False
    noise = ramp.copy()
    noise[~usable] = np.random.default_rng(0).integers(0, 255, (600, 3))
    filled = continued(noise, usable)
    assert (filled[usable] == ramp[usable]).all()
    assert np.abs(filled.astype(int) - ramp.astype(int)).max() < 60
    step = np.abs(np.diff(filled.astype(int), axis=1))
    assert step[20:40, 28:62].max() < 40
    assert (continued(noise, np.zeros_like(usable)) == 128).all()


def test_the_rim_goes_but_not_at_the_photos_edge() -> None:
    usable = left_third().astype(bool)
    assert eroded(usable, 2)[:, 32:].all() and not eroded(usable, 2)[:, :32].any()
