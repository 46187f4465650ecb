"""A function that makes pieces, on its way to other processes.

What it holds of a run is replaced on the way: the work folder by what stands for it there, the
network by its weights, which lie once in the shared memory of each node.
"""

from __future__ import annotations

import io
import pickle  # nosec B403
import secrets
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pointmap.images import Photo
from recon.cluster.run_home import RunHome, ShippedPhotos, ShippedWork
from recon.inputs import Frames, Inputs
from recon.scene import View
from recon.work.folder import Work

if TYPE_CHECKING:
    from pointmap.network import PointmapNetwork
    from pointmap.network.config import NetworkConfig


@dataclass(frozen=True)
class Job:
    """A function as bytes, its arrays beside it so that a node's processes share them; ``network``
    refers to :class:`Weights` in the object store, if there is one.
    """

    data: bytes
    arrays: list[NDArray[np.uint8]]
    network: Any = None

    @property
    def size_bytes(self) -> int:
        """What it takes, without the network."""
        return len(self.data) + sum(array.nbytes for array in self.arrays)


@dataclass(frozen=True)
class Weights:
    """A network's form and its weights."""

    config: NetworkConfig
    arrays: dict[str, NDArray[Any]]

    @staticmethod
    def of(network: PointmapNetwork) -> Weights:
        """Return those of a network."""
        state = network.state_dict()
        return Weights(network.config, {k: tensor.cpu().numpy() for k, tensor in state.items()})

    def network(self) -> PointmapNetwork:
        """Return the network, on the CPU; its weights stay where they are."""
        import torch

        from pointmap.network.build import build_network

        network = build_network(self.config)
        with warnings.catch_warnings():
            # They cannot be written to, and nobody does.
            warnings.simplefilter("ignore", UserWarning)
            state = {name: torch.from_numpy(array) for name, array in self.arrays.items()}
        network.load_state_dict(state, assign=True)
        return network.eval()


class Packer:
    """Makes jobs; ``work`` and ``photos`` are those of the last run that it packed something of.

    ``put`` keeps a value in the object store and returns a reference to it.
    """

    def __init__(self, put: Callable[[object], Any]) -> None:
        self._put = put
        self._networks: dict[int, tuple[PointmapNetwork, Any]] = {}
        self._inputs: dict[int, tuple[Inputs, str]] = {}
        self.work: Work | None = None
        self.photos: tuple[Photo, ...] = ()

    def job(self, make: Callable[..., object]) -> Job:
        """Return ``make`` as a job."""
        from ray import cloudpickle

        packer, networks = self, list[Any]()

        class Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]  # untyped
            def reducer_override(self, value: Any) -> Any:
                if isinstance(value, Work):
                    packer.work = value
                    return _work, ()
                if isinstance(value, Inputs):
                    packer.work, packer.photos = value.work, value.photos
                    networks[:] = [packer._network(value.network)]
                    return _inputs, (packer._name(value), _state(value))
                if isinstance(value, View):
                    return _view, (dict(vars(value)),)
                return super().reducer_override(value)

        stream, buffers = io.BytesIO(), list[pickle.PickleBuffer]()
        Pickler(stream, protocol=5, buffer_callback=buffers.append).dump(make)
        arrays = [np.frombuffer(buffer.raw(), np.uint8) for buffer in buffers]
        return Job(stream.getvalue(), arrays, networks[0] if networks else None)

    def _name(self, inputs: Inputs) -> str:
        """Return what the inputs are called, of which several jobs may be."""
        return self._inputs.setdefault(id(inputs), (inputs, secrets.token_hex(8)))[1]

    def _network(self, network: PointmapNetwork) -> Any:
        """Return the reference to a network's weights, which are put there once."""
        known = self._networks.get(id(network))
        if known is None:
            known = self._networks[id(network)] = network, self._put(Weights.of(network))
        return known[1]


_opening: list[tuple[ShippedWork, RunHome, Any]] = []


def open_job(job: Job, work: ShippedWork, home: RunHome) -> Callable[[Any], Any]:
    """Return the function of a job; what it keeps is kept in ``work``."""
    _opening.append((work, home, job.network))
    try:
        # Ours: whoever can send tasks to a Ray cluster can run any code there.
        make: Callable[[Any], Any] = pickle.loads(job.data, buffers=job.arrays)  # nosec B301
    finally:
        _opening.pop()
    return make


def _work() -> ShippedWork:
    return _opening[-1][0]


class ShippedInputs(Inputs):
    """The inputs of a run as tasks have them: photos are brought, and the network is made, when
    they are asked for.
    """

    def frames(self, long_side: int, *, multiple: int = 1) -> Frames:
        """Return all photos resized; those of the last size serve job after job."""
        last: Frames | None = self.__dict__.get("last_frames")
        if last is None or last.size != (long_side, multiple):
            last = self.__dict__["last_frames"] = super().frames(long_side, multiple=multiple)
        return last

    @cached_property
    def network(self) -> PointmapNetwork:  # type: ignore[override]  # a field there
        """The network, made of the weights in the object store."""
        import ray

        weights: Weights = ray.get(self.__dict__["network_reference"])
        return weights.network()


def _state(inputs: Inputs) -> dict[str, Any]:
    """Return what is sent of the inputs."""
    return {
        "photos": inputs.photos,
        "known": inputs.known,
        "maps": inputs.maps,
        "device": inputs.device,
        # Looked at by the driver, once for all.
        "_contents": inputs._contents,
        "photo_keys": inputs.photo_keys,
    }


# Those of the last job that had any, by their name.
_inputs_here: dict[str, ShippedInputs] = {}


def _inputs(name: str, state: dict[str, Any]) -> ShippedInputs:
    if name not in _inputs_here:
        work, home, network = _opening[-1]
        inputs = object.__new__(ShippedInputs)
        photos = ShippedPhotos(home, state["photos"], state["_contents"])
        more = {"photos": photos, "work": work, "network_reference": network}
        inputs.__dict__.update(state | more | {"depth_model": None, "matcher": None})
        _inputs_here.clear()
        _inputs_here[name] = inputs
    return _inputs_here[name]


class ShippedView(View):
    """A photo of the scene as a task has it: its file is brought when it is asked for."""

    @cached_property
    def path(self) -> Path:  # type: ignore[override]  # a field there
        """Where the photo lies here."""
        given, home = self.__dict__["given_path"], self.__dict__["home"]
        return given if given.is_file() else home.photo(given)


def _view(state: dict[str, Any]) -> ShippedView:
    view = object.__new__(ShippedView)
    given = state.pop("path")
    view.__dict__.update(state | {"given_path": given, "home": _opening[-1][1]})
    return view
