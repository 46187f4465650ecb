"""The network against stored outputs of the reference implementation, and its own contracts."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_network import assert_same
from torch import Tensor

from benchmarks import parity
from benchmarks.recipe import build_network
from pointmap.checkpoint import config_from_arguments, load_network
from pointmap.errors import InputError
from pointmap.network import DUSt3R, DUSt3RConfig
from pointmap.network.config import Mode
from pointmap.network.layers import Grid

DATA = Path(__file__).parents[2] / "data" / "network"
OFFICIAL = json.loads(gzip.decompress((DATA / "official_state_dicts.json.gz").read_bytes()))
SIZES = {
    "landscape": ((48, 64), (48, 64)),
    "landscape_dup_dec": ((48, 64), (48, 64)),
    "portrait": ((64, 48), (64, 48)),
    "land_port": ((48, 64), (64, 48)),
    "odd_80x112": ((80, 112), (80, 112)),
}
LINEAR = DUSt3RConfig(
    enc_embed_dim=48,
    enc_depth=2,
    enc_num_heads=4,
    dec_embed_dim=32,
    dec_depth=4,
    dec_num_heads=4,
)
DPT = DUSt3RConfig(
    enc_embed_dim=32,
    enc_depth=2,
    enc_num_heads=4,
    dec_embed_dim=24,
    dec_depth=12,
    dec_num_heads=2,
    head_type="dpt",
)
MAST3R = DUSt3RConfig(
    enc_embed_dim=24,
    enc_depth=2,
    enc_num_heads=2,
    dec_embed_dim=16,
    dec_depth=12,
    dec_num_heads=2,
    head_type="catmlp+dpt",
    output_mode="pts3d+desc24",
    two_confs=True,
    desc_conf_mode=Mode("exp", 0.0, float("inf")),
)


@pytest.fixture
def stored() -> dict[str, Tensor]:
    return load_file(DATA / "parity.safetensors")


DPT_GAINS = [("dpt.head.4", 0.2)]
MAST3R_GAINS = [*DPT_GAINS, ("head_local_features.fc2", 0.8)]


def linear_network(stored: dict[str, Tensor]) -> DUSt3R:
    network = DUSt3R(LINEAR).eval()
    prefix = "weights/"
    network.load_state_dict(
        {k.removeprefix(prefix): v.float() for k, v in stored.items() if k.startswith(prefix)}
    )
    return network


def run(network: DUSt3R, stored: dict[str, Tensor], case: str) -> dict[str, Tensor]:
    size1, size2 = SIZES[case]
    photos = [
        stored[f"images/img{n}_{h}x{w}"] for n, (h, w) in zip((1, 2), (size1, size2), strict=True)
    ]
    with torch.inference_mode():
        first, second = network(*photos)
    found = {
        "pts3d": first.pts3d,
        "pts3d_in_other_view": second.pts3d,
        "conf1": first.conf,
        "conf2": second.conf,
        "desc1": first.desc,
        "desc2": second.desc,
        "desc_conf1": first.desc_conf,
        "desc_conf2": second.desc_conf,
    }
    return {name: value for name, value in found.items() if value is not None}


def compare(found: dict[str, Tensor], stored: dict[str, Tensor], prefix: str) -> None:
    names = {k.removeprefix(prefix) for k in stored if k.startswith(prefix)}
    assert found.keys() <= names
    for name, value in found.items():
        # Descriptors were stored in float16.
        tolerance = 6e-4 if name in ("desc1", "desc2") else 2e-5
        assert_same(value[:, ::4, ::4], stored[prefix + name], tolerance)


@pytest.mark.parametrize("case", ["landscape", "portrait", "land_port"])
def test_linear_network_gives_the_reference_outputs(stored: dict[str, Tensor], case: str) -> None:
    compare(run(linear_network(stored), stored, case), stored, f"linear/{case}/")


def test_tokens_of_every_stage_are_the_reference_ones(stored: dict[str, Tensor]) -> None:
    network = linear_network(stored)
    with torch.inference_mode():
        tokens = [network.encode(stored[f"images/img{n}_48x64"]) for n in (1, 2)]
        layers = network.decode_tokens(tokens[0], tokens[1])
    for side in (1, 2):
        assert len(layers[side - 1]) == LINEAR.dec_depth + 1
        assert_same(tokens[side - 1].values, stored[f"linear/landscape/enc{side}"])
        for k in (1, 4):
            assert_same(layers[side - 1][k], stored[f"linear/landscape/dec{side}_layer{k}"])


@pytest.mark.parametrize("case", ["landscape", "odd_80x112"])
def test_dpt_network_gives_the_reference_outputs(stored: dict[str, Tensor], case: str) -> None:
    network = build_network(DPT, DPT_GAINS)
    compare(run(network, stored, case), stored, f"dpt/{case}/")


def test_local_features_are_the_reference_ones(stored: dict[str, Tensor]) -> None:
    network = build_network(MAST3R, MAST3R_GAINS)
    found = run(network, stored, "landscape")
    assert found["desc1"].shape == (1, 48, 64, 24)
    compare(found, stored, "mast3r/landscape/")


def test_a_file_with_one_decoder_gives_the_reference_outputs(
    stored: dict[str, Tensor], tmp_path: Path
) -> None:
    weights = {k.removeprefix("weights/"): v for k, v in stored.items() if k.startswith("weights/")}
    save_file(
        {k: v for k, v in weights.items() if not k.startswith("dec_blocks2")},
        tmp_path / "croco.safetensors",
        {"config": json.dumps(LINEAR.to_dict())},
    )
    network = load_network(tmp_path / "croco.safetensors")
    case = "landscape_dup_dec"
    compare(run(network, stored, case), stored, f"linear/{case}/")


@pytest.mark.skipif("POINTMAP_SHARED" not in os.environ, reason="POINTMAP_SHARED is not set")
def test_all_reference_cases() -> None:
    folder = Path(os.environ["POINTMAP_SHARED"]) / "parity"
    rows = list(parity.check(folder, ["tiny"]))
    assert len(rows) == 16
    assert {row.case: row.error for row in rows if row.error > row.tolerance} == {}


def parity_folder(folder: Path, stored: dict[str, Tensor]) -> Path:
    """Write a small folder as the parity benchmark reads it."""
    images = {
        k.removeprefix("images/"): v.contiguous() for k, v in stored.items() if "images/" in k
    }
    case = {k.removeprefix("linear/"): v for k, v in stored.items() if k.startswith("linear/land")}
    weights = {k.removeprefix("weights/"): v for k, v in stored.items() if k.startswith("weights/")}
    save_file(images, folder / "tiny_images.safetensors")
    save_file(case, folder / "tiny_linear_io.safetensors")
    save_file(weights, folder / "tiny_linear_weights.safetensors")
    configs = {"tiny_linear": {"model_args": LINEAR.to_dict()}, "note": "no configuration"}
    (folder / "configs.json").write_text(json.dumps({"configs": configs}))
    return folder


def test_the_parity_benchmark_tells_right_from_wrong(
    stored: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = parity_folder(tmp_path, stored)
    assert parity.main([str(folder), "tiny"]) == 0
    assert "3 of 3 cases within tolerance" in capsys.readouterr().out
    stored["linear/landscape/conf2"][0, 3, 5] *= 1.001
    parity_folder(tmp_path, stored)
    assert parity.main([str(folder), "tiny"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[3] for line in lines if "FAILED" in line] == ["conf2"]


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_keys_and_shapes(name: str) -> None:
    with torch.device("meta"):
        network = DUSt3R(config_from_arguments(OFFICIAL[name]["hub"]))
    found = {key: list(value.shape) for key, value in network.state_dict().items()}
    assert found == OFFICIAL[name]["keys"]
    assert sum(p.numel() for p in network.parameters()) == OFFICIAL[name]["parameters"]


def test_rotation_depends_on_the_distance_between_patches_alone() -> None:
    torch.manual_seed(0)
    grid = Grid(5, 7, 100.0)
    vectors = torch.randn(2, 1, 16).expand(2, 35, 16)
    query, key = (grid.rotate(v[None, :, None].contiguous())[0, :, 0] for v in vectors)
    product = (query @ key.T).view(5, 7, 5, 7)
    # Two steps down and three to the right, from different places.
    steps = torch.stack([product[y, x, y + 2, x + 3] for y in range(3) for x in range(4)])
    assert torch.allclose(steps, steps[:1].expand(12), atol=1e-5)
    assert (product[0, 0, 2, 3] - product[0, 0, 3, 2]).abs() > 1e-2


def test_a_step_of_training_after_inference_reaches_every_used_weight() -> None:
    torch.manual_seed(0)
    network = DUSt3R(LINEAR)
    photo = torch.rand(1, 3, 32, 48) * 2 - 1
    with torch.inference_mode():  # What this caches must be of use to autograd afterwards.
        network(photo, photo)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        first, second = network(photo, photo.flip(3))
    (first.pts3d.mean() + second.pts3d.mean() + (first.conf + second.conf).mean()).backward()
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("config", [LINEAR, DPT, MAST3R])
def test_heads_answer_alike_with_and_without_gradients_and_photo_maps(
    config: DUSt3RConfig,
) -> None:
    network = build_network(config, DPT_GAINS)
    photos = torch.rand(2, 1, 3, 80, 112, generator=torch.Generator().manual_seed(0)) * 2 - 1
    plain = network(*photos)
    assert plain.view1.pts3d.requires_grad
    with torch.inference_mode():
        tokens = [network.encode(photo) for photo in photos]
        told = [dataclasses.replace(photo, maps=network.photo_maps(photo)) for photo in tokens]
        assert all((x is None) == (config is LINEAR) for photo in told for x in photo.maps)
        quick = network.decode(*told)
    for a, b in zip(quick, plain, strict=True):
        assert_same(a.pts3d, b.pts3d.detach(), 1e-5)
        assert_same(a.conf, b.conf.detach(), 1e-5)


@pytest.mark.parametrize("config", [LINEAR, DPT])
def test_bfloat16_is_close_and_heads_stay_in_float32(config: DUSt3RConfig) -> None:
    torch.manual_seed(0)
    network = DUSt3R(config).eval()
    photos = torch.rand(2, 1, 3, 48, 64) * 2 - 1
    with torch.inference_mode():
        exact = network(*photos)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = network(*photos)
    for a, b in zip(rough, exact, strict=True):
        assert a.pts3d.dtype == a.conf.dtype == torch.float32
        assert (a.pts3d - b.pts3d).norm() < 0.03 * b.pts3d.norm()


def test_each_side_sees_the_other_photo_and_order_matters(stored: dict[str, Tensor]) -> None:
    network = linear_network(stored)
    one, two = stored["images/img1_48x64"], stored["images/img2_48x64"]
    with torch.inference_mode():
        first, second = network(one, two)
        of_two, _ = network(two, one)
        alone, _ = network(one, one)
    assert (second.pts3d - of_two.pts3d).abs().max() > 0.1
    assert (first.pts3d - alone.pts3d).abs().max() > 1e-3


def test_a_photo_that_is_no_multiple_of_a_patch_is_refused() -> None:
    with pytest.raises(ValueError, match="50x64"):
        DUSt3R(LINEAR).encode(torch.zeros(1, 3, 50, 64))


def test_arguments_survive_json_and_unknown_ones_are_named() -> None:
    assert config_from_arguments(json.loads(json.dumps(MAST3R.to_dict()))) == MAST3R
    assert config_from_arguments({"freeze": "none", "img_size": 224}).img_size == (224, 224)
    with pytest.raises(InputError, match="pose_head"):
        config_from_arguments({"pose_head": True})


@pytest.mark.parametrize(
    "arguments",
    [
        {"enc_embed_dim": 100, "enc_num_heads": 12},
        {"enc_num_heads": 0},
        {"dec_num_heads": -2},
        {"head_type": "dpt", "last_dim": -1},
        {"pos_embed": "cosine"},
        {"head_type": "gaussians"},
        {"head_type": "catmlp+dpt"},
        {"depth_mode": ["linear", "-inf", "inf"]},
        {"conf_mode": 7},
        {"conf_mode": None},
        {"dec_depth": "twelve"},
        {"head_type": "dpt", "hooks": [0, 4, 6, 9]},
    ],
)
def test_a_network_that_cannot_be_built_is_an_input_error(arguments: dict) -> None:
    with pytest.raises(InputError):
        config_from_arguments(arguments)


def test_the_network_needs_torch_alone() -> None:
    code = (
        "import sys; import pointmap.network; "
        "heavy = {'cv2', 'scipy', 'open3d', 'PIL', 'safetensors', 'trimesh'}; "
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
