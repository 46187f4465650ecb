"""Matchers of transformers: loaded from folders, their pixels where the library's own are."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

pytest.importorskip("transformers")
import transformers
from tiny_matchers import MATCHERS, write_matcher

from pointmap.errors import InputError
from recon.matchers import load_matcher
from recon.matchers.transformers_matchers import TransformersMatcher

CPU = torch.device("cpu")
SIDE = 192


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("matchers")
    for name in MATCHERS:
        write_matcher(name, root / name)
    return root


def load(folder: Path) -> TransformersMatcher:
    """Load a matcher, to be given small pictures."""
    matcher = load_matcher(str(folder), device=CPU)
    assert isinstance(matcher, TransformersMatcher)
    return replace(matcher, kind=replace(matcher.kind, long_side=SIDE))


@pytest.fixture(scope="module")
def texture() -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (32, 32, 3), np.uint8)
    return cv2.resize(noise, (256, 256), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("name", MATCHERS)
@pytest.mark.parametrize(
    "sizes", [((97, 141), (97, 141)), ((150, 83), (101, 177)), ((64, 64),) * 2]
)
def test_matches_are_the_librarys_own(
    name: str, sizes: tuple[tuple[int, int], ...], folders: Path, texture: NDArray[np.uint8]
) -> None:
    matcher = load(folders / name)
    pictures = [texture[8 * n : h + 8 * n, 8 * n : w + 8 * n] for n, (h, w) in enumerate(sizes)]
    found = matcher.match(*pictures)
    squares = [
        np.pad(p, ((0, SIDE - p.shape[0]), (0, SIDE - p.shape[1]), (0, 0)), mode="edge")
        for p in pictures
    ]
    processor = transformers.AutoImageProcessor.from_pretrained(folders / name)
    with torch.inference_mode():
        outputs = matcher.network(**processor(squares, do_resize=False, return_tensors="pt"))
    (expected,) = processor.post_process_keypoint_matching(outputs, [[(SIDE, SIDE)] * 2])
    xy = [expected[f"keypoints{n}"].numpy() for n in (0, 1)]
    inside = np.all(
        [(p < size[::-1]).all(1) & (p >= 0).all(1) for p, size in zip(xy, sizes, strict=True)], 0
    )
    assert len(found.xy_i) and abs(len(found.xy_i) - inside.sum()) <= 1
    # The library cuts fractions off, of numbers that were whole before they were shares, too.
    ours = np.concatenate([found.xy_i, found.xy_j], 1) - matcher.kind.first_centre
    theirs = np.concatenate(xy, 1)[inside]
    for match in ours:
        off = match - theirs
        assert ((off > -1e-3) & (off < 1 + 1e-3)).all(1).any()
    for xy_k, (height, width) in zip((found.xy_i, found.xy_j), sizes, strict=True):
        assert (xy_k >= 0).all() and (xy_k < [width, height]).all()
    numbered = found.index_i is not None and found.index_j is not None
    assert numbered == (name != "efficientloftr")


@pytest.mark.parametrize(("right", "down"), [(0, 0), (8, 0), (8, 16), (16, -8)])
def test_efficientloftr_refines_both_cells_of_a_match(
    right: int, down: int, folders: Path, texture: NDArray[np.uint8]
) -> None:
    """The same texture elsewhere: the library's own lists pair other cells than its matches'."""
    matcher = load(folders / "efficientloftr")
    first = texture[32 : 32 + 160, 32 : 32 + 128]
    second = texture[32 + down : 32 + down + 160, 32 + right : 32 + right + 128]
    found = matcher.match(first, second)
    assert len(found.xy_i) > 15
    off = np.abs(found.xy_i - found.xy_j - [right, down]).max(1)
    # What a match of such weights is off by is half the step of its finest grid.
    assert (off < 1.5).mean() > 0.9


def test_cells_of_a_match_stand_side_by_side(folders: Path) -> None:
    network = load(folders / "efficientloftr").network
    network.config.coarse_matching_border_removal = 0
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    scores = torch.zeros(16, 16)
    scores[torch.arange(16), order] = 0.9
    scores[3] = 0  # one that has no match
    cells, weights = network._get_matches_from_scores(scores.view(1, 4, 4, 4, 4))
    kept = cells[0, 0] >= 0
    assert kept.sum() == 15 and not kept[3] and (weights[0, :, kept] > 0.5).all()
    assert (order[cells[0, 0, kept]] == cells[0, 1, kept]).all()


@pytest.mark.parametrize("name", ["lightglue", "superglue"])
def test_key_points_have_their_numbers_in_every_pair(
    name: str, folders: Path, texture: NDArray[np.uint8]
) -> None:
    matcher = load(folders / name)
    middle, tall, wide = texture[:128, :160], texture[20:200, :96], texture[:96, 30:220]
    one, other = matcher.match(tall, middle), matcher.match(wide, middle)
    assert one.index_j is not None and other.index_j is not None
    places = dict(zip(one.index_j.tolist(), one.xy_j.tolist(), strict=True))
    again = dict(zip(other.index_j.tolist(), other.xy_j.tolist(), strict=True))
    assert all(places[n] == again[n] for n in places.keys() & again.keys())
    assert len({tuple(xy) for xy in (places | again).values()}) == len(places | again)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no weights", "no weights"),
        ("no config", "no config.json of a model of transformers"),
        ("depth model", "is no matcher that is known here but DPTForDepthEstimation; known are "),
        ("nan", "weights are not finite"),
        ("truncated", "cannot be loaded by the library"),
    ],
)
def test_unusable_folders_are_named_with_the_remedy(
    name: str, says: str, folders: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "m"
    shutil.copytree(folders / "superglue", folder)
    weights = folder / "model.safetensors"
    if name == "no weights":
        weights.unlink()
    elif name == "no config":
        (folder / "config.json").unlink()
    elif name == "depth model":
        config = '{"model_type": "dpt", "architectures": ["DPTForDepthEstimation"]}'
        (folder / "config.json").write_text(config)
    elif name == "truncated":
        weights.write_bytes(weights.read_bytes()[:5000])
    else:
        tensors = load_file(weights)
        next(t for t in tensors.values() if t.is_floating_point() and t.ndim)[0] = float("nan")
        save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(InputError) as caught:
        load(folder)
    assert says in str(caught.value) and str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_versions_licences_and_missing_networks_are_said(
    folders: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for given in ("efficientloftr", "somebody/some-matcher"):
        with pytest.raises(InputError, match=r"run: hf download [\w/-]+$"):
            load_matcher(given, device=CPU)
    (folders / "superglue/README.md").write_text("---\nlicense: other\nlicense_name: x-nc\n---\n")
    assert load(folders / "superglue").licence == "x-nc"
    assert "non-commercial use alone" in caplog.text
    monkeypatch.setattr("recon.pretrained.package.version", lambda name: "4.40.2")
    with pytest.raises(InputError, match=r"transformers 4\.40\.2 is too old for --matcher"):
        load(folders / "superglue")
