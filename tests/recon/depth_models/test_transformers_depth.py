"""Depth models of transformers: loaded as what they are, run as the library runs them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

pytest.importorskip("transformers")
import transformers
from ramps import assert_in_place, ramps
from tiny_depth_models import MODELS, write_model

from pointmap.errors import InputError
from recon.depth_models import PromptedDepthModel, load_depth_model
from recon.depth_models.transformers_depth import TransformersDepth

CPU = torch.device("cpu")
KINDS = {"dpt": "disparity", "depth-anything": "disparity", "prompt-depth-anything": "depth"}
SIZES = ((97, 141), (150, 83), (64, 64), (97, 141))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def folder(folders: Path) -> Path:
    """A Depth Anything model, to be copied and spoilt."""
    return write_model("depth-anything", folders / "one")


def load(folder: Path) -> TransformersDepth:
    model = load_depth_model(str(folder), device=CPU)
    assert isinstance(model, TransformersDepth)
    return model


@pytest.mark.parametrize("name", MODELS)
def test_maps_are_those_of_the_librarys_own_pipeline(name: str, folders: Path) -> None:
    path = write_model(name, folders / name)
    model = load(path)
    pipeline = transformers.pipeline("depth-estimation", model=str(path), device="cpu")
    rng = np.random.default_rng(0)
    for height, width in SIZES:
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        expected = pipeline(Image.fromarray(pixels))
        found = model.predict(pixels)
        assert found.values.shape == (height, width) and found.values.dtype == np.float32
        spread = float(np.ptp(expected["predicted_depth"].numpy())) or 1.0
        off = np.abs(found.values - expected["predicted_depth"].numpy()).max()
        assert off <= 1e-5 * spread
    assert model.kind == KINDS.get(name, "metres")
    assert (found.focal_px is not None) == (name == "depth-pro")


def test_a_prompted_model_is_told_depth_as_the_library_has_it(folders: Path) -> None:
    path = write_model("prompt-depth-anything", folders / "prompted")
    model = load(path)
    assert isinstance(model, PromptedDepthModel)
    assert not isinstance(load(write_model("dpt", folders / "dpt")), PromptedDepthModel)
    processor = transformers.AutoImageProcessor.from_pretrained(path)
    network = transformers.AutoModelForDepthEstimation.from_pretrained(path).eval()
    rng = np.random.default_rng(0)
    for height, width in SIZES:
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        depth = rng.uniform(1, 4, (height // 4, width // 4)).astype(np.float32)
        given = processor(
            images=Image.fromarray(pixels),
            prompt_depth=(1000 * depth).astype(np.float32),  # millimetres
            return_tensors="pt",
        )
        with torch.inference_mode():
            outputs = network(**given)
        (expected,) = processor.post_process_depth_estimation(outputs, [(height, width)])
        found = model.predict_prompted(pixels, depth).values
        assert found.shape == (height, width)
        spread = float(np.ptp(expected["predicted_depth"].numpy()))
        np.testing.assert_allclose(
            found, expected["predicted_depth"].numpy(), atol=1e-5 * max(spread, 1)
        )
        # In whatever unit it is told.
        np.testing.assert_allclose(
            model.predict_prompted(pixels, 8 * depth).values, 8 * found, rtol=1e-4
        )


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("height", "width"), [(200, 301), (333, 190)])
def test_the_maps_grid_is_the_photos(name: str, folders: Path, height: int, width: int) -> None:
    """A network that hands on the brightness it sees gives a ramp back where it was."""

    class Brightness:
        def __call__(self, pixel_values: torch.Tensor) -> SimpleNamespace:
            # Above zero, where depth is.
            return SimpleNamespace(predicted_depth=pixel_values.mean(1) + 4, field_of_view=None)

    model = replace(load(write_model(name, folders / name)), network=Brightness())
    for ramp in ramps(height, width):
        pixels = np.repeat(np.rint(30 + 190 * ramp)[..., None], 3, 2).astype(np.uint8)
        found = model.predict(pixels).values
        # The library turns Depth Pro's inverse depth round.
        assert_in_place(1 / found if name == "depth-pro" else found, ramp)


def test_the_content_key_tells_weights_apart_and_not_folders(folder: Path, tmp_path: Path) -> None:
    first = load(folder)
    shutil.copytree(folder, tmp_path / "copy")
    assert load(tmp_path / "copy").content_key == first.content_key
    weights = load_file(tmp_path / "copy/model.safetensors")
    name = next(iter(weights))
    weights[name] = weights[name] + 1
    save_file(weights, tmp_path / "copy/model.safetensors", metadata={"format": "pt"})
    assert load(tmp_path / "copy").content_key != first.content_key


def test_the_model_card_tells_the_licence(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert load(folder).licence == "unknown"
    shutil.copytree(folder, tmp_path / "m")
    (tmp_path / "m/README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\nlicense: none\n")
    assert load(tmp_path / "m").licence == "cc-by-nc-4.0"
    assert "non-commercial use alone" in caplog.text


def spoilt(name: str, folder: Path) -> None:
    """Make the copy of a model in ``folder`` unusable in one way."""
    config, weights = folder / "config.json", folder / "model.safetensors"
    if name == "no weights":
        weights.unlink()
    elif name == "no config":
        config.unlink()
    elif name == "classifier":
        shutil.rmtree(folder)
        small = transformers.ViTConfig(
            hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
        )
        transformers.ViTForImageClassification(small).save_pretrained(folder)
    elif name == "segmentation":
        said = json.loads(config.read_text())
        config.write_text(json.dumps(said | {"architectures": ["DPTForSemanticSegmentation"]}))
    elif name == "wrong type":
        said = json.loads(config.read_text())
        config.write_text(json.dumps(said | {"head_hidden_size": "label2id"}))
    elif name == "truncated":
        weights.write_bytes(weights.read_bytes()[:5000])
    else:
        tensors = load_file(weights)
        last = sorted(tensors)[0]
        if name == "nan":
            tensors[last][0] = float("nan")
        else:
            del tensors[last]
        save_file(tensors, weights, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no weights", "no weights"),
        ("no config", "no config.json of a model of transformers"),
        ("classifier", "is no depth model that is known here but ViTForImageClassification"),
        ("segmentation", "is no depth model that is known here but DPTForSemanticSegmentation"),
        ("wrong type", "cannot be loaded by the library"),
        ("truncated", "cannot be loaded by the library"),
        ("nan", "weights are not finite"),
        ("missing", "1 weights are missing"),
    ],
)
def test_unusable_folders_are_named_with_the_remedy(
    name: str, says: str, folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "m")
    spoilt(name, tmp_path / "m")
    with pytest.raises(InputError) as caught:
        load(tmp_path / "m")
    assert says in str(caught.value) and str(tmp_path / "m") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_names_and_missing_libraries_are_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"neither a folder nor a known name.*depth-anything-v2"):
        load_depth_model("deptanything", device=CPU)
    monkeypatch.setattr("recon.pretrained.package.version", lambda name: "4.40.2")
    with pytest.raises(InputError, match=r"transformers 4\.40\.2 is too old"):
        load(folder)


def test_offline_the_command_that_fetches_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for given in ("somebody/some-model", "zoedepth", "moge-2-small", "marigold"):
        with pytest.raises(InputError, match=r"run: hf download [\w/-]+$"):
            load_depth_model(given, device=CPU)
    with pytest.raises(InputError, match=r"download Intel/zoedepth-nyu-kitti --revision 0f3a$"):
        load_depth_model("zoedepth@0f3a", device=CPU)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"model_type": NaN}', "\xff", ""])
def test_settings_that_are_no_settings_are_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"no config\.json of a model of transformers"):
        load_depth_model(str(tmp_path), device=CPU)


@pytest.mark.parametrize(
    ("name", "changed", "says"),
    [
        ("config.json", {"hidden_size": 10**400}, "hidden_size is beyond"),
        ("config.json", {"backbone_config": {"num_hidden_layers": 129}}, "num_hidden_layers is"),
        ("config.json", {"fusion_hidden_size": 20_000}, "and the files hold"),
        ("preprocessor_config.json", {"size": {"height": 70, "width": 10**6}}, "width is beyond"),
        ("preprocessor_config.json", {"ensure_multiple_of": 0}, "ZeroDivisionError"),
    ],
)
def test_settings_that_would_take_all_memory_or_fail_later_are_one_line(
    name: str, changed: dict[str, object], says: str, folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "m")
    path = tmp_path / "m" / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(InputError, match=says):
        load(tmp_path / "m").predict(np.zeros((40, 60, 3), np.uint8))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
@pytest.mark.parametrize("name", ["config.json", "model_index.json", "README.md"])
def test_a_pipe_among_a_models_files_is_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match=r"config\.json"):
        load_depth_model(str(tmp_path), device=CPU)
