"""Reading and writing checkpoints. Nothing in a file is ever executed.

Our own format is one safetensors file: float16 tensors under the official names, and in its
metadata the network's arguments (``config``) and a model card (``card``), both JSON. Official
``.pth`` files and Hugging Face folders (config.json + model.safetensors) are read too; of the hub,
see :mod:`pointmap.hub`.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import dataclasses
import importlib.resources
import json
import math
import os
import pickle
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pointmap import hub
from pointmap.errors import InputError
from pointmap.network import (
    DUSt3RConfig,
    MatchedConfig,
    NetworkConfig,
    PointmapNetwork,
    build_network,
)
from pointmap.network.config import Mode

BUNDLED = "pointmap-base.safetensors"
_CONSTRUCTORS = ("AsymmetricCroCo3DStereo", "AsymmetricMASt3R")
# Constructor arguments of official files that say how the network was trained. At inference the
# tensor's shape is the photo's shape, so none of them changes a result.
_TRAINING_ONLY = frozenset({"freeze", "landscape_only", "patch_embed_cls", "mask_ratio"})
_MODES = frozenset({"depth_mode", "conf_mode", "desc_conf_mode"})
# Never read by a forward pass: files may leave them out.
_UNUSED = re.compile(r"mask_token|.*\.refinenet4\.resConfUnit1\..*")
# The official state dict has two names for each of these tensors; the numbered module is ours.
_ALIAS = re.compile(r"\.scratch\.layer_rn\.(\d)\.")


def load_network(weights: str | Path | None = None) -> PointmapNetwork:
    """Return the network of a checkpoint: float32, on the CPU, in eval mode.

    ``weights`` is what ``locate`` takes. Raises ``InputError`` for anything else, a damaged file,
    or weights that are not of the network that the file describes.
    """
    path = locate(weights)
    with _errors_name(path):
        arguments, tensors = _read(path)
        return _assemble(path, config_from_arguments(arguments), tensors).eval()


def locate(weights: str | Path | None = None) -> Path:
    """Return the file or folder of a checkpoint, downloaded if need be.

    ``weights`` is a ``.safetensors`` file of ours, an official ``.pth``, a folder with config.json
    and model.safetensors, or the Hugging Face id of such a folder; None is the checkpoint that
    comes with the package. Raises ``InputError`` where there is none.
    """
    if weights is None:
        return _bundled()
    path = Path(weights).expanduser()
    if path.exists():
        return path
    if hub.is_repository(str(weights)):
        return hub.download(str(weights), check=_check_config)
    raise InputError(
        f"{path}: no such checkpoint; give a .safetensors or .pth file, a folder, or an id on the "
        "Hugging Face hub"
    )


def _check_config(path: Path) -> None:
    with _errors_name(path):
        config_from_arguments(_config_file(path))


@contextlib.contextmanager
def _errors_name(path: Path) -> Iterator[None]:
    """Turn errors into ``InputError`` whose line begins with ``path``."""
    try:
        yield
    except (InputError, OSError) as error:
        text = str(error)
        raise InputError(text if text.startswith(str(path)) else f"{path}: {text}") from error


def read_card(weights: str | Path | None = None) -> dict[str, Any]:
    """Return the model card of a checkpoint of ours (None: the one in the package)."""
    path = locate(weights)
    return _json(path, _metadata(path).get("card", "{}"))


def save_checkpoint(network: PointmapNetwork, path: str | Path, *, card: dict[str, Any]) -> None:
    """Write the network as float16 with its arguments and ``card`` (JSON types), atomically.

    Raises ``InputError`` where a weight is not finite in float16: such a file could not be used.
    """
    path = Path(path)
    tensors = {
        name: tensor.detach().to("cpu", torch.float16).contiguous()
        for name, tensor in network.state_dict().items()
        if not _ALIAS.search(name)
    }
    _check_finite(path, tensors)
    metadata = {
        "config": json.dumps(network.config.to_dict()),
        "card": json.dumps(card, ensure_ascii=False),
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file(tensors, temporary, metadata=metadata)
        # The library makes files that only their owner can read, of no use in a package.
        temporary.chmod(0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _bundled() -> Path:
    path = Path(str(importlib.resources.files("pointmap.weights") / BUNDLED))
    if not path.exists():
        raise InputError(f"{path}: the package's own weights are missing; reinstall pointmap")
    return path


def _read(path: Path) -> tuple[Mapping[str, Any], dict[str, Tensor]]:
    """Return the constructor's arguments and the tensors of a checkpoint of any known kind."""
    if path.is_dir():
        missing = [name for name in hub.FILES if not (path / name).exists()]
        if missing:
            raise InputError(f"{path}: the folder lacks {' and '.join(missing)}; not a checkpoint")
        config, weights = (path / name for name in hub.FILES)
        return _config_file(config), _safetensors(weights)
    if path.suffix == ".safetensors":
        metadata = _metadata(path)
        if "config" not in metadata:
            raise InputError(
                f"{path}: no network arguments in the file; give the folder that also holds its "
                "config.json"
            )
        return _json(path, metadata["config"]), _safetensors(path)
    if path.suffix in (".pth", ".pt"):
        return _torch_file(path)
    raise InputError(f"{path}: not a checkpoint; give a .safetensors or .pth file or a folder")


def _config_file(path: Path) -> dict[str, Any]:
    return _json(path, path.read_text(encoding="utf-8", errors="replace"))


def _json(path: Path, text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise InputError(f"{path}: damaged JSON; fetch it again ({error})") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: not a JSON object; fetch it again")
    return values


def _metadata(path: Path) -> dict[str, str]:
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(_damaged(path, error)) from error


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            # Copied one by one: the file's own memory map must not outlive this call.
            return {k: file.get_tensor(k).to(torch.float32, copy=True) for k in file.keys()}
    except (SafetensorError, OSError) as error:
        raise InputError(_damaged(path, error)) from error


def _damaged(path: Path, error: Exception) -> str:
    reason = str(error).strip().partition("\n")[0][:200]
    return f"{path}: truncated or not a checkpoint; fetch it again ({reason})"


def _torch_file(path: Path) -> tuple[Mapping[str, Any], dict[str, Tensor]]:
    """Read an official file: {'model': state dict, 'args': Namespace(model='Constructor(...)')}."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise InputError(_damaged(path, error)) from error
    state = content.get("model") if isinstance(content, dict) else None
    constructor = getattr(content.get("args"), "model", None) if state else None
    if not isinstance(state, dict) or not isinstance(constructor, str):
        raise InputError(f"{path}: no 'model' and 'args.model' inside; give an official checkpoint")
    tensors = {k: v.float() for k, v in state.items() if isinstance(v, Tensor)}
    return parse_constructor(constructor), tensors


def parse_constructor(text: str) -> dict[str, Any]:
    """Return the keyword arguments of an official constructor string, without evaluating it.

    Values are literals, ``inf``, ``-inf`` and tuples of them. Raises ``InputError`` otherwise.
    """
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise ValueError("not a call")
        if call.func.id not in _CONSTRUCTORS:
            raise ValueError(f"{call.func.id} is not one of {', '.join(_CONSTRUCTORS)}")
        if call.args:
            raise ValueError("positional arguments")
        return {str(keyword.arg): _literal(keyword.value) for keyword in call.keywords}
    except (ValueError, SyntaxError) as error:
        raise InputError(f"another architecture or damaged: {text[:80]!r} ({error})") from error


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Name) and node.id == "inf":
        return math.inf
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_literal(node.operand)
    if isinstance(node, ast.Tuple | ast.List):
        return tuple(_literal(item) for item in node.elts)
    return ast.literal_eval(node)


def config_from_arguments(arguments: Mapping[str, Any]) -> NetworkConfig:
    """Return the configuration for which a checkpoint's arguments stand.

    They are those of the official constructors or of ``NetworkConfig.to_dict``, JSON lists and the
    words 'inf' and '-inf' included. ``match_dim`` tells the two architectures apart: above 0 it is
    the bundled network's, otherwise DUSt3R's. Files from when one class stood for both hold the
    other one's arguments, too, which are dropped like those that only concern training. Raises
    ``InputError`` for unknown arguments, since a network built without them would be another
    network, and for values of which no network can be built.
    """
    kind = MatchedConfig if arguments.get("match_dim") else DUSt3RConfig
    known = _names(DUSt3RConfig) | _names(MatchedConfig)
    unknown = sorted(arguments.keys() - known - _TRAINING_ONLY)
    if unknown:
        raise InputError(f"network argument(s) not known here: {', '.join(unknown[:5])}")
    try:
        return kind(**{k: _plain(k, v) for k, v in arguments.items() if k in _names(kind)})
    except (TypeError, ValueError, LookupError, ArithmeticError) as error:
        raise InputError(f"network arguments of the wrong kind: {error}") from error


def _names(config: type[NetworkConfig]) -> frozenset[str]:
    return frozenset(field.name for field in dataclasses.fields(config))


def _plain(name: str, value: Any) -> Any:
    """Return an argument as the configurations hold it."""
    if name == "img_size" and isinstance(value, int):
        return (value, value)
    if name in _MODES and (name, value) != ("desc_conf_mode", None):
        return Mode(*map(_number, value))
    return tuple(value) if isinstance(value, list) else value


def _number(value: Any) -> Any:
    return float(value) if value in ("inf", "-inf") else value


def _assemble(path: Path, config: NetworkConfig, tensors: dict[str, Tensor]) -> PointmapNetwork:
    """Return the network with the tensors in it, every name and shape checked."""
    tensors = {_ALIAS.sub(_numbered, name): tensor for name, tensor in tensors.items()}
    two_decoders = any(name.startswith("dec_blocks2.") for name in tensors)
    if isinstance(config, DUSt3RConfig) and not two_decoders:
        # CroCo's files have one decoder, which starts both sides.
        for name in [name for name in tensors if name.startswith("dec_blocks.")]:
            tensors[name.replace("dec_blocks.", "dec_blocks2.", 1)] = tensors[name].clone()
    with torch.device("meta"):
        network = build_network(config)
    shapes = {k: v.shape for k, v in network.state_dict().items() if not _ALIAS.search(k)}
    for name in filter(_UNUSED.fullmatch, shapes):
        tensors.setdefault(name, torch.zeros(shapes[name]))
    faults = {
        "missing": shapes.keys() - tensors.keys(),
        "unexpected": tensors.keys() - shapes.keys(),
        "of another shape": {
            k for k in shapes.keys() & tensors.keys() if shapes[k] != tensors[k].shape
        },
    }
    if any(faults.values()):
        text = "; ".join(f"{len(v)} {kind} ({_few(v)})" for kind, v in faults.items() if v)
        raise InputError(f"{path}: weights of another architecture, give a DUSt3R one: {text}")
    _check_finite(path, tensors)
    # Assigned, not copied: a large checkpoint is in memory once.
    network.load_state_dict(tensors, strict=False, assign=True)
    return network


def _numbered(match: re.Match[str]) -> str:
    return f".scratch.layer{int(match[1]) + 1}_rn."


def _check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    bad = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise InputError(
            f"{path}: {len(bad)} weights are not finite ({_few(bad)}); use another checkpoint"
        )


def _few(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:5]) + (", ..." if len(ordered) > 5 else "")
