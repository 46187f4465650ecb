"""A CUDA device that there is not: what runs on it is computed on the CPU and kept apart from it.

Tensors of the device hold a tensor of the CPU and say that they are elsewhere, so that code takes
the branches it takes on a GPU. What CUDA refuses raises here, too: an operation on tensors of both
devices, an array of a tensor that is not on the CPU, a generator of the other device. Waits of the
host for the device are counted by the line of code that causes them. No statement is made about
speed, kernels or the last bits of a result.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

GPU = torch.device("cuda", 0)
# C++ takes tensors of the device for ones of "meta", see PretendTensor.
_THERE = ("cuda", "meta")
_PROJECT = Path(__file__).parents[2]
aten = torch.ops.aten

# The host waits until the device is done and has told what came out: a number, or how many.
_WAITING = {
    aten._local_scalar_dense.default: "a number",
    aten.nonzero.default: "how many",
    aten.masked_select.default: "how many",
    aten._unique2.default: "how many",
    aten.unique_dim.default: "how many",
    aten.unique_consecutive.default: "how many",
    aten.repeat_interleave.Tensor: "how many",
    aten._linalg_check_errors.default: "errors",
    aten.equal.default: "a number",
}
_BY_INDEX = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}
# Copies between devices are what these are for; indices may come from the CPU.
_MAY_MIX = {aten._to_copy.default, aten.copy_.default, aten.copy.default, *_BY_INDEX}
_PINNING = {aten._pin_memory.default, aten.is_pinned.default}


class PretendTensor(Tensor):
    """A tensor of the device that there is not; ``held`` has its values."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> PretendTensor:
        made: PretendTensor = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            # Not of CUDA: a build of torch without it cannot even take an item of such a tensor.
            device=torch.device("meta"),
        )
        made.held = held
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return GPU

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    is_meta = is_cpu = False

    def tolist(self) -> Any:
        waits[f"{_place()} a number"] += 1
        return self.held.tolist()

    def new_tensor(self, data: Any, *, dtype: Any = None, **given: Any) -> Tensor:  # type: ignore[override]
        return torch.tensor(data, dtype=dtype or self.dtype, device=GPU, **given)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.held.detach().__reduce_ex__(protocol)

    def numpy(self, **_: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy; use Tensor.cpu()")

    def __array__(self, *_: Any) -> Any:
        return self.numpy()

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __repr__(self, **_: Any) -> str:
        return f"on the GPU: {self.held}"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


waits: Counter[str] = Counter()
"""How often the host waited for the device, by the line of this project: "file:line what for"."""


class _Mode(TorchDispatchMode):
    """Sees what makes tensors on the device, too."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
    there = any(isinstance(x, PretendTensor) for x in tensors)
    asked = kwargs.get("device")
    # Of a number on the CPU, a kernel gets the value.
    alien = [x for x in tensors if not isinstance(x, PretendTensor) and x.ndim]
    if there and alien and func not in _MAY_MIX:
        raise RuntimeError(
            f"{func}: expected all tensors to be on the same device, but found at least two, "
            f"cuda:0 and cpu {tuple(alien[0].shape)}"
        )
    _count_wait(func, args, kwargs, there, alien)
    gpu = there if asked is None else torch.device(asked).type in _THERE
    generator = kwargs.get("generator")
    if gpu and generator is not None and generator.device.type == "cpu":
        raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
    if func is aten._fused_sdp_choice.default and there:
        return 0  # explicit products: the kernels are CUDA's own
    if func in _PINNING:
        return args[0] if func is aten._pin_memory.default else False
    inner_args, inner_kwargs = tree_map(_held, (args, kwargs))
    if asked is not None:
        inner_kwargs["device"] = torch.device("cpu")
    if inner_kwargs.get("pin_memory"):
        inner_kwargs["pin_memory"] = False
    found = func(*inner_args, **inner_kwargs)
    if func is aten._to_copy.default and found is inner_args[0]:
        found = found.clone()
    return _returned(func, args, kwargs, found, gpu)


def _held(x: Any) -> Any:
    return x.held if isinstance(x, PretendTensor) else x


def _returned(func: Any, args: Any, kwargs: dict[str, Any], found: Any, gpu: bool) -> Any:
    """Wrap what came out, or return the argument that was written to."""
    written = []
    for k, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            written.append(args[k] if k < len(args) else kwargs.get(argument.name))
    returns = func._schema.returns
    if written and returns and all(r.alias_info and r.alias_info.is_write for r in returns):
        return written[0] if len(returns) == 1 else tuple(written)
    return tree_map(lambda x: PretendTensor(x) if gpu and type(x) is Tensor else x, found)


def _count_wait(func: Any, args: Any, kwargs: Any, there: bool, alien: list[Tensor]) -> None:
    why, asked = _WAITING.get(func) if there else None, kwargs.get("device")
    if func is aten._to_copy.default and asked is not None and not kwargs.get("non_blocking"):
        if there != (torch.device(asked).type in _THERE):
            why = "a copy"
    elif func is aten.copy_.default and there:
        one_side = len({isinstance(x, PretendTensor) for x in args[:2]}) == 2
        why = "a copy" if one_side and not (len(args) > 2 and args[2]) else None
    elif func in _BY_INDEX and there:
        masks = [x for x in args[1] if isinstance(x, Tensor) and x.dtype in (torch.bool,)]
        why = "a mask" if masks else "indices" if alien else None
    if why:
        waits[f"{_place()} {why}"] += 1


def _place() -> str:
    frame = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path != Path(__file__) and _PROJECT in path.parents and ".venv" not in path.parts:
            return f"{path.relative_to(_PROJECT)}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "?"


def _enter_without_gradients(mode: torch.inference_mode) -> None:
    mode._inference_mode_context = torch.set_grad_enabled(  # type: ignore[assignment]
        torch.is_grad_enabled() and not mode.mode
    )


@contextlib.contextmanager
def pretend_cuda() -> Iterator[torch.device]:
    """Have one CUDA device until the end of the block, one without bfloat16 (no autocast here).

    Inference mode only turns gradients off: in it, torch hands over whole operations in place of
    the parts that are looked at here.
    """
    waits.clear()
    run = threading.Thread.run

    def run_in_mode(thread: threading.Thread) -> None:
        with _Mode():
            run(thread)

    cuda = "torch.cuda."
    answers: dict[str, Any] = {
        "is_available": True,
        "device_count": 1,
        "is_bf16_supported": False,
        "_lazy_init": None,
        "synchronize": None,
        "reset_peak_memory_stats": None,
        "max_memory_allocated": 0,
        "get_device_name": "a pretended GPU",
        "current_stream": mock.MagicMock(),
    }
    with contextlib.ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(mock.patch(cuda + name, lambda *a, _x=answer, **k: _x))
        stack.enter_context(mock.patch.object(threading.Thread, "run", run_in_mode))
        # Nothing is gained here, and Inductor would ask the device for its properties.
        stack.enter_context(mock.patch.object(torch.nn.Module, "compile", lambda *a, **k: None))
        stack.enter_context(mock.patch.object(Tensor, "pin_memory", lambda x, *a: x))
        mode = torch.inference_mode
        stack.enter_context(mock.patch.object(mode, "__enter__", _enter_without_gradients))
        # As FakeTensorMode does: literals become tensors of the CPU first, then go to the device.
        before = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)
        stack.callback(torch._C._set_only_lift_cpu_tensors, before)
        stack.enter_context(_Mode())
        yield GPU
