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
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import psutil
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pointmap import hub
from pointmap.errors import InputError, first_line
from pointmap.network import (
    DUSt3RConfig,
    MatchedConfig,
    NetworkConfig,
    PointmapNetwork,
    build_network,
)
from pointmap.network.config import Mode
from pointmap.outside.json_object import parse_object
from pointmap.outside.regular_file import check_regular, home_expanded, read_regular
from pointmap.outside.typed import as_type
from pointmap.outside.values import number

BUNDLED = "pointmap-base.safetensors"
# A configuration is a few hundred bytes.
_MOST_CONFIG_BYTES = 1 << 20
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
    with _errors_name(path), _one_thread():
        arguments, stored = _read(path)
        return _assemble(path, config_from_arguments(arguments), stored).eval()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread meanwhile: of hundreds of small tensors, several would mostly wait
    for each other, at full speed.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def locate(weights: str | Path | None = None) -> Path:
    """Return the file or folder of a checkpoint, downloaded if need be.

    ``weights`` is a ``.safetensors`` file of ours, an official ``.pth``, a folder with config.json
    and model.safetensors, or the Hugging Face id of such a folder; None is the checkpoint that
    comes with the package. Raises ``InputError`` where there is none.
    """
    if weights is None:
        return _bundled()
    path = home_expanded(weights)
    if os.path.exists(path):
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
        temporary.touch()
        rights = temporary.stat().st_mode
        save_file(tensors, temporary, metadata=metadata)
        # The library makes files that only their owner can read, whatever the user's new ones are.
        temporary.chmod(rights)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _bundled() -> Path:
    path = Path(str(importlib.resources.files("pointmap.weights") / BUNDLED))
    if not path.exists():
        raise InputError(f"{path}: the package's own weights are missing; reinstall pointmap")
    return path


class _Stored(NamedTuple):
    """The tensors of a file: their shapes, and how to read them all as float32 on the CPU."""

    shapes: dict[str, torch.Size]
    read: Callable[[], dict[str, Tensor]]


def _read(path: Path) -> tuple[Mapping[str, Any], _Stored]:
    """Return the constructor's arguments and the tensors of a checkpoint of any known kind."""
    if path.is_dir():
        missing = [name for name in hub.FILES if not (path / name).is_file()]
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
    return _json(path, read_regular(path, most_bytes=_MOST_CONFIG_BYTES))


def _json(path: Path, text: str | bytes) -> dict[str, Any]:
    try:
        # Official files write the bounds of activations as bare infinities.
        return parse_object(text, infinite=True)
    except ValueError as error:
        raise InputError(f"{path}: damaged JSON; fetch it again ({error})") from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a safetensors file; the library compares sizes that the header claims with the file."""
    try:
        check_regular(path)
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise InputError(_damaged(path, error)) from error


def _metadata(path: Path) -> dict[str, str]:
    with _opened(path) as file:
        return file.metadata() or {}


def _safetensors(path: Path) -> _Stored:
    def read() -> dict[str, Tensor]:
        with _opened(path) as file:
            # Copied one by one: the file's own memory map must not outlive this call.
            return {k: file.get_tensor(k).to(torch.float32, copy=True) for k in file.keys()}

    with _opened(path) as file:
        shapes = {k: torch.Size(file.get_slice(k).get_shape()) for k in file.keys()}
    return _Stored(shapes, read)


def _damaged(path: Path, error: object) -> str:
    return f"{path}: truncated or not a checkpoint; fetch it again ({first_line(error)})"


def _torch_file(path: Path) -> tuple[Mapping[str, Any], _Stored]:
    """Read an official file: {'model': state dict, 'args': Namespace(model='Constructor(...)')}."""
    try:
        check_regular(path)
        with torch.serialization.safe_globals([argparse.Namespace]):
            # As a memory map: shapes are compared before any tensor is read.
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch's unpickler raises whatever a crafted file leads it to
        # Its own words would tell to load the file without a check.
        reason = error.strerror if isinstance(error, OSError) else "no archive of weights alone"
        raise InputError(_damaged(path, reason)) from error
    state = content.get("model") if isinstance(content, dict) else None
    constructor = getattr(content.get("args"), "model", None) if state else None
    if not isinstance(state, dict) or not isinstance(constructor, str):
        raise InputError(f"{path}: no 'model' and 'args.model' inside; give an official checkpoint")
    tensors = {str(k): v for k, v in state.items() if isinstance(v, Tensor) and not v.is_sparse}
    # A few bytes can be stretched to a tensor of any size.
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if claimed > 4 * path.stat().st_size:
        raise InputError(_damaged(path, "tensors larger than the file"))
    shapes = {k: tensor.shape for k, tensor in tensors.items()}
    return parse_constructor(constructor), _Stored(
        shapes, lambda: {k: v.to(torch.float32, copy=True) for k, v in tensors.items()}
    )


def parse_constructor(text: str) -> dict[str, Any]:
    """Return the keyword arguments of an official constructor string, without evaluating it.

    Values are literals, ``inf``, ``-inf`` and tuples of them. Raises ``InputError`` otherwise.
    """
    try:
        if len(text) > _MOST_CONFIG_BYTES:
            raise ValueError("too long")
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise ValueError("not a call")
        if call.func.id not in _CONSTRUCTORS:
            raise ValueError(f"{call.func.id} is not one of {', '.join(_CONSTRUCTORS)}")
        if call.args:
            raise ValueError("positional arguments")
        return {str(keyword.arg): _literal(keyword.value) for keyword in call.keywords}
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        # The last two are of a text nested too deep.
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
        hints = get_type_hints(kind)
        return kind(**{k: _plain(k, v, hints[k]) for k, v in arguments.items() if k in hints})
    except ValueError as error:
        raise InputError(f"network arguments of the wrong kind: {error}") from error


def _names(config: type[NetworkConfig]) -> frozenset[str]:
    return frozenset(field.name for field in dataclasses.fields(config))


def _plain(name: str, value: Any, kind: Any) -> Any:
    """Return an argument as the configurations hold it; ``ValueError`` when it is none."""
    if name == "img_size" and isinstance(value, int):
        value = (value, value)
    if name not in _MODES:
        return as_type(value, kind, name)
    if (name, value) == ("desc_conf_mode", None):
        return None
    if not isinstance(value, (list, tuple)) or len(value) != 3:
        raise ValueError(f"{name} must be a kind and two bounds")
    return Mode(as_type(value[0], str, name), *(_bound(bound, name) for bound in value[1:]))


def _bound(value: Any, name: str) -> float:
    if isinstance(value, (str, float)) and str(value) in ("inf", "-inf"):
        return float(value)
    return number(value, name, -1e30, 1e30)


def _assemble(path: Path, config: NetworkConfig, stored: _Stored) -> PointmapNetwork:
    """Return the network with the tensors in it, every name and shape checked before any is read.

    Raises ``InputError`` when they are of another network, not finite, or too large for the memory.
    """
    # Of each parameter the name it has in the file.
    stored_as = {_ALIAS.sub(_numbered, name): name for name in stored.shapes}
    two_decoders = any(name.startswith("dec_blocks2.") for name in stored_as)
    if isinstance(config, DUSt3RConfig) and not two_decoders:
        # CroCo's files have one decoder, which starts both sides.
        for name in [name for name in stored_as if name.startswith("dec_blocks.")]:
            stored_as[name.replace("dec_blocks.", "dec_blocks2.", 1)] = stored_as[name]
    with torch.device("meta"):
        network = build_network(config)
    shapes = {k: v.shape for k, v in network.state_dict().items() if not _ALIAS.search(k)}
    unused = {name for name in filter(_UNUSED.fullmatch, shapes) if name not in stored_as}
    faults = {
        "missing": shapes.keys() - stored_as.keys() - unused,
        "unexpected": stored_as.keys() - shapes.keys(),
        "of another shape": {
            k for k in shapes.keys() & stored_as.keys() if shapes[k] != stored.shapes[stored_as[k]]
        },
    }
    if any(faults.values()):
        text = "; ".join(f"{len(v)} {kind} ({_few(v)})" for kind, v in faults.items() if v)
        raise InputError(f"{path}: weights of another architecture, give a DUSt3R one: {text}")
    needed = 4 * sum(math.prod(shape) for shape in shapes.values())
    free = psutil.virtual_memory().available
    if needed > free:
        raise InputError(
            f"{path}: takes {needed / 2**30:.1f} GB of memory, of which {free / 2**30:.1f} GB are "
            "free; close other programs or use another checkpoint"
        )
    read = stored.read()
    first_use = {name: ours for ours, name in reversed(stored_as.items())}
    tensors = {
        ours: read[name] if first_use[name] == ours else read[name].clone()
        for ours, name in stored_as.items()
    } | {name: torch.zeros(shapes[name]) for name in unused}
    _check_finite(path, tensors)
    # Assigned, not copied: a large checkpoint is in memory once.
    network.load_state_dict(tensors, strict=False, assign=True)
    return network


def _numbered(match: re.Match[str]) -> str:
    return f".scratch.layer{int(match[1]) + 1}_rn."


def _check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    # Their sum is finite only if all are, and a float64 holds that of any float32s.
    sums = {name: tensor.sum(dtype=torch.float64) for name, tensor in tensors.items()}
    bad = [name for name, total in sums.items() if not torch.isfinite(total)]
    if bad:
        raise InputError(
            f"{path}: {len(bad)} weights are not finite ({_few(bad)}); use another checkpoint"
        )


def _few(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:5]) + (", ..." if len(ordered) > 5 else "")
