"""Pairs of photos for the verdict: which are taken, and what is made of their pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import verdict_pairs
from benchmarks.verdict_pairs import cropped, judged_pairs, zoomed

WIDTH, HEIGHT = 160, 90


def _pictures() -> list[Image.Image]:
    """Return two pictures whose red and green tell the column and the row."""
    row, column = np.indices((HEIGHT, WIDTH))
    pixels = np.stack([column, row, np.zeros_like(row)], axis=-1).astype(np.uint8)
    return [Image.fromarray(pixels), Image.fromarray(pixels)]


def test_both_pictures_are_cropped_to_one_window_in_a_corner() -> None:
    first, second = (np.asarray(p) for p in cropped(_pictures(), np.random.default_rng(3)))
    assert (first == second).all()
    height, width = first.shape[:2]
    assert WIDTH / 2 - 1 <= width <= 0.85 * WIDTH and HEIGHT / 2 - 1 <= height <= 0.85 * HEIGHT
    assert first[0, 0, 0] in (0, WIDTH - width) and first[0, 0, 1] in (0, HEIGHT - height)


def test_one_picture_is_zoomed_about_its_middle() -> None:
    pictures = _pictures()
    changed = zoomed(pictures, np.random.default_rng(3))
    (near,) = (k for k in (0, 1) if changed[k] is not pictures[k])
    assert changed[near].size == (WIDTH, HEIGHT)
    red, green = np.asarray(changed[near])[..., :2].transpose(2, 0, 1).astype(np.float64)
    across = np.polyfit(np.arange(WIDTH), red[HEIGHT // 2], 1)
    down = np.polyfit(np.arange(HEIGHT), green[:, WIDTH // 2], 1)
    assert across[0] == pytest.approx(down[0], rel=0.02) and 1.15 < 1 / across[0] < 1.8
    assert np.polyval(across, WIDTH / 2 - 0.5) == pytest.approx(WIDTH / 2 - 0.5, abs=0.7)
    assert np.polyval(down, HEIGHT / 2 - 0.5) == pytest.approx(HEIGHT / 2 - 0.5, abs=0.7)


def test_pairs_look_one_way_and_those_not_placed_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = {}
    for k, degrees in enumerate((0, 20, 40, 180)):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        pose = [[c, 0, s, k], [0, 1, 0, 0], [-s, 0, c, 0], [0, 0, 0, 1]]
        K = [[100, 0, 80], [0, 100, 45], [0, 0, 1]]
        images[f"{k}.png"] = {"K": K, "cam_to_world": pose, "width": WIDTH, "height": HEIGHT}
    (tmp_path / "cameras.json").write_text(json.dumps({"images": images}))
    asked: list[tuple[str, ...]] = []

    def one(source: str, kind: str, files: list[Path], poses: object) -> str | None:
        asked.append(tuple(file.name for file in files))
        return None if "2.png" in asked[-1] else kind

    monkeypatch.setattr(verdict_pairs, "_judged", one)
    assert list(judged_pairs(tmp_path, 5, spoilt=False)) == ["as it is"]
    assert sorted(asked) == [("0.png", "1.png"), ("0.png", "2.png"), ("1.png", "2.png")]
