"""The network against stored outputs of the reference implementation: the largest error per case.

python -m benchmarks.parity PARITY_DIR [CASE ...]

PARITY_DIR holds random weights or recipes for them, photos, and what the reference made of them;
its README describes the files. Weights that are stored come in through the loader of checkpoints. A
case is one network on photos of one size. An error is relative to the largest value of its array.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.recipe import build_network, random_photo
from pointmap.checkpoint import config_from_arguments, load_network
from pointmap.network import DUSt3R, PointmapNetwork

TOLERANCE, FULL_SIZE_TOLERANCE = 2e-5, 2e-4
SIZES = {
    "landscape": ((48, 64), (48, 64)),
    "landscape_dup_dec": ((48, 64), (48, 64)),
    "mixed_landscape_only": ((48, 64), (48, 64)),
    "portrait": ((64, 48), (64, 48)),
    "land_port": ((48, 64), (64, 48)),
    "odd_80x112": ((80, 112), (80, 112)),
}
FULL_SIZE = {
    "full_224_linear": {"img_size": 224, "head_type": "linear"},
    "full_512_dpt": {"img_size": 512, "head_type": "dpt"},
}
VIT_LARGE = {
    "enc_embed_dim": 1024,
    "enc_depth": 24,
    "enc_num_heads": 16,
    "dec_embed_dim": 768,
    "dec_depth": 12,
    "dec_num_heads": 12,
}


@dataclass(frozen=True)
class CaseError:
    """The largest error over the outputs of a case, and the output it is in."""

    case: str
    error: float
    output: str
    outputs: int
    tolerance: float


def check(
    folder: Path, only: Sequence[str] = (), device: torch.device | None = None
) -> Iterator[CaseError]:
    """Yield the error of every case in ``folder`` whose name begins with one of ``only``.

    On a ``device`` other than the CPU its short cuts in float32 (TF32) have to be off.
    """
    device = device or torch.device("cpu")
    configs = json.loads((folder / "configs.json").read_text())["configs"]
    photos = load_file(folder / "tiny_images.safetensors")
    for name, settings in configs.items():
        stored = _stored(folder, name)
        if stored is None or not _wanted(name, only):
            continue
        arguments = settings["model_args"] | settings.get("dpt_knobs", {})
        for case in sorted({key.rpartition("/")[0] for key in stored}):
            network = _tiny_network(folder, name, case, arguments, settings.get("gains", []))
            arrays = _of_case(stored, case)
            pairs = _tiny_photos(photos, case, arrays)
            yield _error(f"{name} {case}", network.to(device), pairs, arrays)
    for name, arguments in FULL_SIZE.items():
        if not _wanted(name, only):
            continue
        stored = load_file(folder / f"{name}_recipe.safetensors")
        network = build_network(
            config_from_arguments(VIT_LARGE | arguments), configs["recipe_gains_full"][name]
        )
        for case in sorted({key.partition("/")[0] for key in stored}):
            height, width = map(int, case.split("x"))
            pair = [(random_photo(f"img{k}", height, width), False) for k in (1, 2)]
            arrays = _of_case(stored, case)
            arrays = {k: v if "tokens" in k else v[None] for k, v in arrays.items()}
            yield _error(f"{name} {case}", network.to(device), [pair], arrays, FULL_SIZE_TOLERANCE)


def _wanted(name: str, only: Sequence[str]) -> bool:
    return not only or any(name.startswith(start) for start in only)


def _stored(folder: Path, name: str) -> dict[str, Tensor] | None:
    """Return the reference's outputs of a configuration; some entries of configs.json are none."""
    files = [folder / f"{name}_io.safetensors", folder / f"{name}.safetensors"]
    return next((load_file(path) for path in files if path.exists()), None)


def _of_case(stored: Mapping[str, Tensor], case: str) -> dict[str, Tensor]:
    prefix = case + "/"
    return {k.removeprefix(prefix): v for k, v in stored.items() if k.startswith(prefix)}


def _tiny_network(
    folder: Path, name: str, case: str, arguments: dict[str, Any], gains: Any
) -> PointmapNetwork:
    if gains:
        return build_network(config_from_arguments(arguments), gains)
    tensors = load_file(folder / f"{name}_weights.safetensors")
    if case == "landscape_dup_dec":  # CroCo's files have one decoder.
        tensors = {k: v for k, v in tensors.items() if not k.startswith("dec_blocks2")}
    with tempfile.TemporaryDirectory() as checkpoint:
        save_file(tensors, Path(checkpoint) / "model.safetensors")
        (Path(checkpoint) / "config.json").write_text(json.dumps(arguments))
        return load_network(checkpoint)


Photo = tuple[Tensor, bool]
"""A photo (1, 3, H, W), and whether the reference stores it and its outputs transposed."""


def _tiny_photos(
    photos: Mapping[str, Tensor], case: str, arrays: Mapping[str, Tensor]
) -> list[list[Photo]]:
    """Return the pairs of a case. In storage all photos of a mixed batch are landscape."""
    sizes = SIZES[case.rpartition("/")[2]]
    pairs = []
    for sample in range(len(arrays["pts3d"])):
        pair = []
        for k, (height, width) in enumerate(sizes, 1):
            photo = photos[f"img{k}_{height}x{width}"][sample : sample + 1]
            shape = arrays.get(f"true_shape{k}")
            transposed = shape is not None and shape[sample].tolist() == [width, height] != [
                height,
                width,
            ]
            pair.append((photo.transpose(2, 3) if transposed else photo, transposed))
        pairs.append(pair)
    return pairs


@torch.inference_mode()
def _outputs(network: PointmapNetwork, pair: Sequence[Photo]) -> dict[str, Tensor]:
    """Return everything the fixtures may hold of one pair, by their names."""
    assert isinstance(network, DUSt3R), "the reference is DUSt3R"
    device = network.mask_token.device
    tokens = [network.encode(photo.to(device)) for photo, _ in pair]
    layers = network.decode_tokens(tokens[0], tokens[1])
    heads = (network.downstream_head1, network.downstream_head2)
    found: dict[str, Tensor] = {}
    for k, (_, transposed) in enumerate(pair):
        side = heads[k](layers[k], tokens[k].size)
        maps = {
            "pts3d_in_other_view" if k else "pts3d": side.pts3d,
            f"conf{k + 1}": side.conf,
            f"desc{k + 1}": side.desc,
            f"desc_conf{k + 1}": side.desc_conf,
        }
        for name, value in maps.items():
            if value is not None:
                found[name] = value.transpose(1, 2) if transposed else value
        found[f"enc{k + 1}"] = tokens[k].values
        found[f"enc_tokens{k + 1}"] = tokens[k].values[0, ::97, ::16]
        found[f"dec_last_tokens{k + 1}"] = layers[k][-1][0, ::97, ::16]
        found |= {f"dec{k + 1}_layer{n}": layer for n, layer in enumerate(layers[k])}
    return {name: value.cpu() for name, value in found.items()}


def _error(
    case: str,
    network: PointmapNetwork,
    pairs: Sequence[Sequence[Photo]],
    expected: Mapping[str, Tensor],
    tolerance: float = TOLERANCE,
) -> CaseError:
    made = [_outputs(network, pair) for pair in pairs]
    errors = {}
    for name, value in expected.items():
        if not name.startswith(("true_shape", "tokens_pos")):
            found = torch.cat([sample[name] for sample in made]) if "tokens" not in name else None
            errors[name] = _relative(made[0][name] if found is None else found, value)
    worst = max(errors, key=lambda name: errors[name])
    return CaseError(case, errors[worst], worst, len(errors), tolerance)


def _relative(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference over the largest value, beyond the rounding of what is stored.

    Large maps are stored at every n-th pixel.
    """
    if found.ndim >= 3 and found.shape != expected.shape:
        step = found.shape[1] // expected.shape[1]
        found = found[:, ::step, ::step]
    if found.shape != expected.shape:
        raise ValueError(f"{tuple(found.shape)} here, {tuple(expected.shape)} in the reference")
    difference = (found.double() - expected.double()).abs()
    if expected.dtype == torch.float16:
        half_step = torch.finfo(torch.float16).eps / 2
        difference = (difference - half_step * expected.double().abs()).clamp_min(0)
    return float(difference.max() / expected.double().abs().max())


def main(arguments: Sequence[str]) -> int:
    """Print the errors; exit code 1 when one is above its tolerance."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parity", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="PARITY_DIR")
    parser.add_argument("cases", nargs="*", metavar="CASE", help="beginnings of the cases to run")
    given = parser.parse_args(arguments)
    print("| case | arrays | largest relative error | in | tolerance |")
    print("| --- | --- | --- | --- | --- |")
    failed = count = 0
    for row in check(given.folder, given.cases):
        count += 1
        failed += not row.error <= row.tolerance
        mark = "" if row.error <= row.tolerance else " FAILED"
        print(
            f"| {row.case} | {row.outputs} | {row.error:.1e}{mark} | {row.output} | "
            f"{row.tolerance:.0e} |",
            flush=True,
        )
    print(f"{count - failed} of {count} cases within tolerance")
    return int(failed > 0 or not count)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
