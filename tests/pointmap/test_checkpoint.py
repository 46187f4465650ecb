"""Reading and writing checkpoints, the official layouts, and every way a file can be bad."""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import json
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pointmap.checkpoint import (
    config_from_arguments,
    load_network,
    parse_constructor,
    save_checkpoint,
)
from pointmap.errors import InputError
from pointmap.network import (
    DUSt3R,
    DUSt3RConfig,
    MatchedConfig,
    MatchedNetwork,
    NetworkConfig,
    PointmapNetwork,
    build_network,
)
from pointmap.network.config import Mode
from pointmap.training.command import NETWORKS

DATA = Path(__file__).parents[1] / "data" / "network"
OFFICIAL = json.loads(gzip.decompress((DATA / "official_state_dicts.json.gz").read_bytes()))
CONFIG = DUSt3RConfig(
    enc_embed_dim=16,
    enc_depth=1,
    enc_num_heads=2,
    dec_embed_dim=8,
    dec_depth=4,
    dec_num_heads=1,
    head_type="dpt",
    feature_dim=8,
    layer_dims=(4, 4, 4, 4),
)
MAST3R = dataclasses.replace(
    CONFIG,
    head_type="catmlp+dpt",
    output_mode="pts3d+desc4",
    two_confs=True,
    desc_conf_mode=Mode("exp", 0.0, math.inf),
)
LINEAR = DUSt3RConfig(
    enc_embed_dim=16, enc_depth=1, enc_num_heads=2, dec_embed_dim=8, dec_depth=2, dec_num_heads=1
)
CONSTRUCTOR = (
    "AsymmetricCroCo3DStereo(enc_depth=1, dec_depth=2, enc_embed_dim=16, enc_num_heads=2, "
    "dec_embed_dim=8, dec_num_heads=1, pos_embed='RoPE100', patch_embed_cls='ManyAR_PatchEmbed', "
    "img_size=(512, 512), head_type='linear', output_mode='pts3d', "
    "depth_mode=('exp', -inf, inf), conf_mode=('exp', 1, inf), landscape_only=False)  "
)


def half_network(config: DUSt3RConfig) -> DUSt3R:
    """Random weights that float16 holds exactly."""
    torch.manual_seed(0)
    network = DUSt3R(config).eval()
    network.load_state_dict({k: v.half().float() for k, v in network.state_dict().items()})
    return network


def same(a: PointmapNetwork, b: PointmapNetwork) -> bool:
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    save_checkpoint(half_network(CONFIG), path, card={"name": "Tëst", "steps": 3})
    return path


def official_file(path: Path, network: DUSt3R, constructor: str = CONSTRUCTOR) -> Path:
    args = argparse.Namespace(model=constructor, lr=1e-4)
    torch.save({"model": network.state_dict(), "args": args, "epoch": 3}, path)
    return path


def test_what_is_saved_is_loaded(saved: Path) -> None:
    network = load_network(saved)
    assert network.config == CONFIG
    assert same(network, half_network(CONFIG))
    assert not network.training
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert {p.device.type for p in network.parameters()} == {"cpu"}
    with safe_open(saved, "pt") as file:
        assert json.loads(file.metadata()["card"]) == {"name": "Tëst", "steps": 3}


def test_a_loaded_network_can_be_trained_on(saved: Path) -> None:
    network = load_network(saved)
    assert network(torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32)).view1.pts3d.requires_grad
    parameters = dict(network.named_parameters(remove_duplicate=False))
    scratch = "downstream_head1.dpt.scratch"
    shared = parameters[f"{scratch}.layer1_rn.weight"]
    assert shared is parameters[f"{scratch}.layer_rn.0.weight"]


def test_a_file_holds_float16_under_one_name_each(saved: Path) -> None:
    tensors = load_file(saved)
    assert {t.dtype for t in tensors.values()} == {torch.float16}
    assert "downstream_head1.dpt.scratch.layer1_rn.weight" in tensors
    assert not any(".layer_rn." in name for name in tensors)


def test_a_failed_save_leaves_the_old_file_and_no_other(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def fail(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half a file")
        raise OSError("disk full")

    monkeypatch.setattr("pointmap.checkpoint.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(half_network(CONFIG), saved, card={})
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_weights_beyond_float16_are_not_saved(tmp_path: Path) -> None:
    network = half_network(LINEAR)
    network.decoder_embed.bias.data[0] = 1e6
    with pytest.raises(InputError, match=r"decoder_embed\.bias"):
        save_checkpoint(network, tmp_path / "net.safetensors", card={})
    assert not list(tmp_path.iterdir())


def test_official_files_load(tmp_path: Path) -> None:
    network = load_network(official_file(tmp_path / "dust3r.pth", half_network(LINEAR)))
    assert same(network, half_network(LINEAR))
    assert network.config.img_size == (512, 512)


def test_one_decoder_in_a_file_starts_both(tmp_path: Path) -> None:
    full = half_network(LINEAR)
    path = tmp_path / "net.safetensors"
    save_file(
        {k: v for k, v in full.state_dict().items() if "dec_blocks2" not in k},
        path,
        {"config": json.dumps(LINEAR.to_dict())},
    )
    network = load_network(path)
    first, second = network.dec_blocks.state_dict(), network.dec_blocks2.state_dict()
    assert all(torch.equal(first[k], second[k]) for k in first)
    first["0.norm1.bias"].add_(1)
    assert not torch.equal(first["0.norm1.bias"], second["0.norm1.bias"])


@pytest.mark.parametrize("dropped", [".layer_rn.", "scratch.layer1_rn", "refinenet4.resConfUnit1"])
def test_folders_load_whichever_name_shared_tensors_have(tmp_path: Path, dropped: str) -> None:
    network = half_network(CONFIG)
    tensors = {k: v.clone() for k, v in network.state_dict().items() if dropped not in k}
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG.to_dict() | {"freeze": "none"}))
    found = load_network(tmp_path).state_dict()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert all(value.isfinite().all() for value in found.values())


def hub_folder(folder: Path, network: DUSt3R) -> Path:
    """Write the layout of the hub's mixin: shared tensors once, infinities as bare words."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors, names = {}, {}
    for name, tensor in network.state_dict().items():
        number = name.partition(".layer_rn.")[2][:1]
        if number:
            names[name] = name.replace(f"layer_rn.{number}", f"layer{int(number) + 1}_rn")
        else:
            tensors[name] = tensor.contiguous()
    save_file(tensors, folder / "model.safetensors", names)
    config = network.config.to_dict() | {
        "freeze": "none",
        "landscape_only": False,
        "patch_embed_cls": "PatchEmbedDust3R",
    }
    text = json.dumps(config, indent=2, sort_keys=True)
    assert "-Infinity" in text
    (folder / "config.json").write_text(text)
    return folder


def outputs(network: DUSt3R) -> list[torch.Tensor]:
    photos = torch.rand(2, 1, 3, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        sides = network(*photos)
    return [x for p in sides for x in (p.pts3d, p.conf, p.desc, p.desc_conf) if x is not None]


@pytest.mark.parametrize("config", [LINEAR, CONFIG, MAST3R], ids=["linear", "dpt", "mast3r"])
@pytest.mark.parametrize("layout", ["pth", "folder"])
def test_official_layouts_reproduce(tmp_path: Path, layout: str, config: DUSt3RConfig) -> None:
    network = half_network(config)
    if layout == "folder":
        path = hub_folder(tmp_path / "net", network)
        assert "layer_rn" not in "".join(load_file(path / "model.safetensors"))
    else:
        name = "AsymmetricMASt3R" if config is MAST3R else "AsymmetricCroCo3DStereo"
        arguments = ", ".join(
            f"{key}={value!r}" for key, value in config.to_dict().items() if value is not None
        )
        path = official_file(tmp_path / "net.pth", network, f"{name}({arguments})")
    loaded = load_network(path)
    assert loaded.config == config
    for found, expected in zip(outputs(loaded), outputs(network), strict=True):
        assert torch.equal(found, expected)


class FakeHub:
    """Stands for hf_hub_download: files of one folder, or an error."""

    def __init__(self, folder: Path | None, error: Exception | None = None) -> None:
        self.folder, self.error = folder, error
        self.asked: list[str] = []

    def __call__(self, repository: str, name: str, revision: str | None) -> str:
        assert repository == "naver/Tiny_512-dpt"
        self.asked.append(name)
        if self.error:
            raise self.error
        assert self.folder is not None
        return str(self.folder / name)


def test_a_hub_id_loads_what_the_hub_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeHub(hub_folder(tmp_path / "net", half_network(CONFIG)))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", fake)
    assert same(load_network("naver/Tiny_512-dpt"), half_network(CONFIG))
    assert fake.asked == ["config.json", "model.safetensors"]


def test_a_network_of_another_kind_is_refused_before_its_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert", "hidden_size": 768}')
    fake = FakeHub(tmp_path)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", fake)
    with pytest.raises(InputError, match="hidden_size, model_type"):
        load_network("naver/Tiny_512-dpt")
    assert fake.asked == ["config.json"]


def test_a_download_that_breaks_off_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeHub(None, ConnectionError("reset by peer\nTraceback ..."))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", fake)
    with pytest.raises(InputError, match="try again") as caught:
        load_network("naver/Tiny_512-dpt")
    assert "\n" not in str(caught.value) and "reset by peer" in str(caught.value)


def test_offline_the_usual_cache_is_read_and_else_one_line_says_so(tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--naver--Tiny"
    snapshot = hub_folder(repository / "snapshots" / ("0" * 40), half_network(LINEAR))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    code = (
        "from pointmap import hub; from pointmap.errors import InputError\n"
        "print(hub.download('naver/Tiny', check=print))\n"
        "try: hub.download('naver/Absent', check=print)\n"
        "except InputError as error: print(error)\n"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    config, found, message = done.stdout.splitlines()
    assert Path(config) == snapshot / "config.json" and Path(found) == snapshot
    assert message.startswith("naver/Absent: config.json is not in the cache and")


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_constructor_strings_give_the_official_arguments(name: str) -> None:
    parsed = config_from_arguments(parse_constructor(OFFICIAL[name]["constructor"]))
    assert parsed == config_from_arguments(OFFICIAL[name]["hub"])


# What our files held while one class of configurations stood for both architectures.
BOTH_ARCHITECTURES = {
    "enc_embed_dim": 16, "enc_depth": 1, "enc_num_heads": 2,
    "dec_embed_dim": 8, "dec_depth": 2, "dec_num_heads": 1,
    "mlp_ratio": 4.0, "patch_size": 16, "img_size": [224, 224], "pos_embed": "RoPE100",
    "head_type": "linear", "output_mode": "pts3d", "depth_mode": ["exp", -math.inf, math.inf],
    "conf_mode": ["exp", 1.0, math.inf], "two_confs": False, "desc_mode": "norm",
    "desc_conf_mode": None, "feature_dim": 256, "last_dim": None,
    "layer_dims": [96, 192, 384, 768], "hooks": None,
}  # fmt: skip
MATCHED = MatchedConfig(
    enc_embed_dim=16,
    enc_depth=1,
    enc_num_heads=2,
    dec_embed_dim=8,
    dec_depth=2,
    dec_num_heads=1,
    match_dim=8,
)


@pytest.mark.parametrize(("match_dim", "config"), [(0, LINEAR), (8, MATCHED)])
def test_files_from_when_one_class_stood_for_both_architectures_load(
    tmp_path: Path, match_dim: int, config: NetworkConfig
) -> None:
    torch.manual_seed(0)
    network, path = build_network(config).eval(), tmp_path / "net.safetensors"
    stored = json.dumps(BOTH_ARCHITECTURES | {"match_dim": match_dim})
    save_file(network.state_dict(), path, {"config": stored})
    loaded = load_network(path)
    assert type(loaded) is type(network) and loaded.config == config
    assert same(loaded, network)
    # And so does what is written of it now.
    save_checkpoint(loaded, path, card={})
    assert load_network(path).config == config


@pytest.mark.parametrize(
    ("config", "of_its_own"),
    [
        (LINEAR, ["dec_blocks2", "downstream_head1", "downstream_head2"]),
        (MATCHED, ["matcher", "head"]),
    ],
)
def test_parameters_keep_their_order(config: NetworkConfig, of_its_own: list[str]) -> None:
    """The optimiser's part of a training state knows parameters by their number alone."""
    names = [name.partition(".")[0] for name, _ in build_network(config).named_parameters()]
    encoder = ["mask_token", "patch_embed", "enc_blocks", "enc_norm"]
    shared = [*encoder, "decoder_embed", "dec_blocks", "dec_norm"]
    assert list(dict.fromkeys(names)) == shared + of_its_own


def test_the_bundled_file_is_the_network_that_is_trained_as_base() -> None:
    network = load_network()
    assert isinstance(network, MatchedNetwork)
    assert network.config == NETWORKS["base"]


@pytest.mark.parametrize(
    "text",
    [
        "AsymmetricCroCo3DStereo(enc_depth=__import__('os').getpid())",
        "AsymmetricCroCo3DStereo(**{'enc_depth': 3})",
        "AsymmetricCroCo3DStereo(3)",
        "ResNet(depth=50)",
        "os.system('true')",
        "AsymmetricCroCo3DStereo(enc_depth=",
        "",
    ],
)
def test_other_constructor_strings_are_refused_and_never_run(text: str) -> None:
    with pytest.raises(InputError):
        config_from_arguments(parse_constructor(text))


class Evil:
    """Creates a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """Every kind of unusable checkpoint, with words that its message must hold."""
    network = half_network(LINEAR)
    state, config = network.state_dict(), {"config": json.dumps(LINEAR.to_dict())}
    kinds: dict[str, tuple[Path, str]] = {}

    def add(kind: str, name: str, words: str) -> Path:
        path = folder / name
        kinds[kind] = (path, words)
        return path

    add("missing", "absent.safetensors", "no such checkpoint")
    add("missing pth", "absent.pth", "no such checkpoint")
    whole = folder / "whole.safetensors"
    save_checkpoint(network, whole, card={})
    cut = add("truncated", "cut.safetensors", "truncated")
    cut.write_bytes(whole.read_bytes()[:-100])
    add("text", "text.safetensors", "not a checkpoint").write_text("hello")
    add("extension", "photo.jpg", "not a checkpoint").write_bytes(b"x")
    save_file(state, add("bare", "bare.safetensors", "config.json"))
    fewer = {k: v for k, v in state.items() if "norm1.bias" not in k}
    save_file(
        fewer,
        add(
            "lacking",
            "lacking.safetensors",
            "dec_blocks.0.norm1.bias, dec_blocks.1.norm1.bias, ",
        ),
        config,
    )
    more = state | {"prediction_head.weight": torch.zeros(2)}
    save_file(more, add("more", "more.safetensors", "unexpected (prediction_head"), config)
    other = state | {"enc_norm.bias": torch.zeros(3)}
    save_file(other, add("shape", "shape.safetensors", "another shape (enc_norm.bias"), config)
    nan = state | {"enc_norm.bias": torch.full((16,), torch.nan)}
    save_file(nan, add("nan", "nan.safetensors", "not finite (enc_norm.bias"), config)
    save_file(state, add("json", "json.safetensors", "damaged JSON"), {"config": "{"})
    add("empty folder", "folder", "config.json and model.safetensors").mkdir()
    for name, value in {
        "enc_depth": 100_000, "dec_depth": 4.5, "patch_size": True, "mlp_ratio": math.nan,
        "enc_embed_dim": "16", "conf_mode": ["exp", math.nan, 1], "img_size": [0, 0],
        "layer_dims": 10**400, "pos_embed": 100,
    }.items():  # fmt: skip
        wrong = {"config": json.dumps(LINEAR.to_dict() | {name: value})}
        save_file(state, add(f"{name} {value}"[:30], f"{name}.safetensors", ""), wrong)
    nested = add("nested", "nested.safetensors", "nested too deep")
    save_file(state, nested, {"config": "[" * 99_999})
    stretched = add("stretched", "stretched.pth", "tensors larger than the file")
    torch.save({"model": {"a": torch.zeros(1).expand(10**10)},
                "args": argparse.Namespace(model="ResNet()")}, stretched)  # fmt: skip
    nested = add("nested pth", "nested.pth", "another architecture")
    official_file(nested, network, f"AsymmetricCroCo3DStereo(enc_depth={'-' * 9999}1)")
    whole_pth = official_file(folder / "whole.pth", network)
    cut = add("truncated pth", "cut.pth", "truncated")
    cut.write_bytes(whole_pth.read_bytes()[:3000])
    torch.save(state, add("bare pth", "bare.pth", "args.model"))
    constructor = "ResNet(depth=50)"
    official_file(add("other pth", "resnet.pth", "another architecture"), network, constructor)
    path = add("evil", "evil.pth", "not a checkpoint")
    torch.save({"model": Evil(folder / "ran")}, path)
    add("pickle", "pickle.pth", "not a checkpoint").write_bytes(pickle.dumps(Evil(folder / "ran")))
    return kinds


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_every_bad_file_is_one_line_that_names_it(tmp_path: Path) -> None:
    for kind, (path, words) in bad_files(tmp_path).items():
        with pytest.raises(InputError) as caught:
            load_network(path)
        message = str(caught.value)
        assert str(path) in message and words in message, (kind, message)
        assert "\n" not in message and message.count(str(path)) == 1, (kind, message)
    assert not (tmp_path / "ran").exists()


def test_missing_own_weights_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pointmap.checkpoint.BUNDLED", "absent.safetensors")
    with pytest.raises(InputError, match="reinstall"):
        load_network()
