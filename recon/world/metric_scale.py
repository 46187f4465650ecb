"""From scene units to metres: what photos alone cannot tell and one known length can."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array, pixel_rays
from pointmap.errors import InputError
from pointmap.metrics import MAD_TO_SIGMA
from pointmap.outside.values import MAX_LENGTH
from recon.export.cameras_json import read_cameras
from recon.scene import Camera, Maps, Scene, View
from recon.stage_results import PhotoPrior

if TYPE_CHECKING:
    from pointmap.images import Photo
    from recon.depth_models import DepthModel
    from recon.prediction.given_maps import PriorMap

logger = logging.getLogger(__name__)

_FORMS = (
    "baseline:A.jpg,B.jpg,METRES or points:A.jpg,X1,Y1,X2,Y2,METRES or cameras:FILE or network or "
    "model"
)
# Photos agree on the metre if a model's scales for them differ by no more, typically.
_AGREE = 0.2

_LENGTHS = ("voxel_size", "truncation")
"""Statistics of the surface that are lengths."""


@dataclass(frozen=True)
class ScaleSource:
    """What tells the scale: ``photos`` and ``numbers`` of the form, or the ``file``."""

    kind: Literal["baseline", "points", "cameras", "network", "model"]
    photos: tuple[str, ...] = ()
    numbers: tuple[float, ...] = ()
    file: Path | None = None


def parse_scale(text: str) -> ScaleSource:
    """Return what ``--scale-from`` says; ``InputError`` when it is of no known form."""
    kind, _, rest = text.partition(":")
    try:
        if text == "network":
            return ScaleSource("network")
        if text == "model":
            return ScaleSource("model")
        if kind == "cameras" and rest:
            return ScaleSource("cameras", file=Path(rest))
        if kind == "baseline":
            names, metres = rest.rsplit(",", 1)
            first, second = names.split(",")
            source = ScaleSource("baseline", (first.strip(), second.strip()), (float(metres),))
        elif kind == "points":
            name, *numbers = rest.rsplit(",", 5)
            source = ScaleSource("points", (name.strip(),), tuple(map(float, numbers)))
            if len(numbers) != 5:
                raise ValueError
        else:
            raise ValueError
    except ValueError:
        raise InputError(f"--scale-from {text!r} is not understood; give {_FORMS}") from None
    if not all(abs(number) <= MAX_LENGTH for number in source.numbers):
        raise InputError(f"--scale-from {text!r}: no number in it may be beyond {MAX_LENGTH:g}")
    if not 1 / MAX_LENGTH <= source.numbers[-1]:
        raise InputError(f"--scale-from {text!r}: the length in metres must be above 0")
    if kind == "baseline":
        first, second = source.photos
        same = first == second
    else:
        same = source.numbers[:2] == source.numbers[2:4]
    if same:
        raise _no_length(source)
    return source


def check_scale_source(
    scale_from: str | None,
    photos: Sequence[Photo],
    *,
    weights: str | None,
    model: DepthModel | None = None,
) -> None:
    """Raise ``InputError`` when ``scale_from`` cannot be had of these ``photos``.

    ``weights``: the checkpoint given, None for the bundled one, which predicts no metres;
    ``model``: the depth model, if any. To be called before the long stages; what can only show
    later shows in :func:`in_metres`.
    """
    if scale_from is None:
        return
    source = parse_scale(scale_from)
    sizes = {photo.name: (photo.width, photo.height) for photo in photos}
    for name in source.photos:
        if name not in sizes:
            raise InputError(f"--scale-from: no photo of the scene is called {name}")
    if source.kind == "points":
        (name,), (x1, y1, x2, y2, _) = source.photos, source.numbers
        for x, y in ((x1, y1), (x2, y2)):
            width, height = sizes[name]
            if not (0 <= x < width and 0 <= y < height):
                raise InputError(
                    f"--scale-from: pixel {x:g},{y:g} is outside {name} ({width}x{height})"
                )
    if source.file is not None and not os.path.isfile(source.file):
        raise InputError(f"--scale-from: {source.file} does not exist")
    if source.kind == "model" and (model is None or model.kind != "metres"):
        raise InputError(
            "--scale-from model needs a --depth-model that predicts metres, such as zoedepth"
        )
    if source.kind == "network" and weights is None:
        raise InputError(
            "--scale-from network needs --weights of a network that predicts metres; "
            "the bundled one does not"
        )


def in_metres(
    scene: Scene,
    priors: Sequence[PhotoPrior],
    scale_from: str | None,
    *,
    maps: Sequence[PriorMap] | None = None,
) -> Scene:
    """Return the scene as ``scale_from`` says, in metres; unchanged when it says nothing.

    ``priors``: the network's pointmap of each of the scene's views; ``maps``: a depth model's map
    of each. Where the photos disagree on a model's metres, the scene keeps its units, with a
    warning. Raises ``InputError`` when the photos named were not placed, or nothing is known where
    the length should be measured.
    """
    if scale_from is None:
        return scene
    source = parse_scale(scale_from)
    if source.kind == "model":
        factor, spread = _model_factor(scene, maps or ())
        if spread > _AGREE:
            logger.warning(
                "--scale-from model: the model's metres differ by %.0f %% from photo to photo, so "
                "the scene keeps its own unit",
                100 * spread,
            )
            return scene
        return replace(rescale(scene, factor), scale_spread=spread)
    return rescale(scene, metric_factor(scene, priors, source))


def metric_factor(scene: Scene, priors: Sequence[PhotoPrior], source: ScaleSource) -> float:
    """Return the metres in one scene unit.

    - "baseline": the given distance over that of the two cameras;
    - "points": over that of the two pixels' points, at the view's depth;
    - "cameras": the ratio of the spreads of the centres known in both (the scale of Umeyama's fit
      is biased by noise; the ratio of spreads is symmetric, Horn 1987, section 2.D);
    - "network": the median over views of the median ratio of predicted to found depth.
    """
    if source.kind == "baseline":
        first, second = (_centre(_view(scene, name)) for name in source.photos)
        return _ratio(source.numbers[0], float(np.linalg.norm(first - second)), source)
    if source.kind == "points":
        view = _view(scene, source.photos[0])
        x1, y1, x2, y2, metres = source.numbers
        gap = _point(view, x1, y1) - _point(view, x2, y2)
        return _ratio(metres, float(np.linalg.norm(gap)), source)
    if source.kind == "cameras":
        return _spread_ratio(scene, source)
    return _network_factor(scene, priors)


def rescale(scene: Scene, factor: float) -> Scene:
    """Return the scene with every length times ``factor``, its units called metres."""

    def camera(old: Camera) -> Camera:
        if old.cam_to_world is None:
            return old
        pose = old.cam_to_world.copy()
        pose[:3, 3] *= factor
        return replace(old, cam_to_world=pose)

    small = np.float32(factor)
    textured = scene.textured
    if textured is not None:
        textured = replace(textured, vertices=textured.vertices * small)
    return replace(
        scene,
        views=tuple(
            replace(view, camera=camera(view.camera), maps=_ScaledMaps(view.maps, small))
            for view in scene.views
        ),
        tracks=replace(scene.tracks, points=scene.tracks.points * factor),
        cloud=replace(scene.cloud, points=scene.cloud.points * small),
        surface=replace(scene.surface, vertices=scene.surface.vertices * small),
        textured=textured,
        statistics={
            name: value * factor if name in _LENGTHS else value
            for name, value in scene.statistics.items()
        },
        units="metres",
    )


@dataclass(frozen=True)
class _ScaledMaps:
    """:class:`recon.scene.Maps` with depth times ``factor``, computed when it is asked for."""

    maps: Maps
    factor: np.float32

    @property
    def pixels(self) -> NDArray[np.uint8]:
        return self.maps.pixels

    @property
    def depth(self) -> NDArray[np.float32]:
        return self.maps.depth * self.factor

    @property
    def confidence(self) -> NDArray[np.float32]:
        return self.maps.confidence

    @property
    def usable(self) -> NDArray[np.bool_] | None:
        return self.maps.usable


def _view(scene: Scene, name: str) -> View:
    view = next(view for view in scene.views if view.name == name)
    if not view.registered:
        raise InputError(f"--scale-from: {name} could not be placed ({view.reason})")
    return view


def _centre(view: View) -> Array:
    assert view.camera.cam_to_world is not None
    return view.camera.cam_to_world[:3, 3]


def _point(view: View, x: float, y: float) -> Array:
    """Return the camera-frame point (3,) at pixel x, y of the original photo."""
    camera = view.camera
    height, width = view.depth.shape
    z = float(view.depth[int(y * height / camera.height), int(x * width / camera.width)])
    if not z > 0:
        raise InputError(
            f"--scale-from: the depth at pixel {x:g},{y:g} of {view.name} is not known; "
            "mark another one"
        )
    return z * pixel_rays(np.array([x, y]), camera.intrinsics, camera.lens)


def _ratio(metres: float, units: float, source: ScaleSource) -> float:
    if not units > 0:
        raise _no_length(source)
    return metres / units


def _no_length(source: ScaleSource) -> InputError:
    return InputError(f"--scale-from {source.kind}: both ends lie at one place of the scene")


def _spread_ratio(scene: Scene, source: ScaleSource) -> float:
    assert source.file is not None
    listed, _ = read_cameras(source.file)
    known = {
        name: camera.cam_to_world
        for name, camera in listed.items()
        if camera.cam_to_world is not None
    }
    both = [view for view in scene.views if view.registered and view.name in known]
    if len(both) < 2:
        raise InputError(
            f"--scale-from: {source.file} knows the position of {len(both)} placed photos; "
            "two are needed"
        )
    metres = np.stack([known[view.name][:3, 3] for view in both])
    units = np.stack([_centre(view) for view in both])
    spreads = [np.linalg.norm(centres - centres.mean(0)) for centres in (metres, units)]
    return _ratio(float(spreads[0]), float(spreads[1]), source)


def _network_factor(scene: Scene, priors: Sequence[PhotoPrior]) -> float:
    from recon.depth.anchored_prior import upsample_prior

    ratios = [
        _depth_ratio(upsample_prior(prior, *view.depth.shape).depth * prior.unit, view)
        for view, prior in zip(scene.views, priors, strict=True)
    ]
    told = [ratio for ratio in ratios if ratio is not None]
    if not told:
        raise InputError("--scale-from network: the network says nothing of any placed photo")
    return float(np.median(told))


def _model_factor(scene: Scene, maps: Sequence[PriorMap]) -> tuple[float, float]:
    """Return the metres in one scene unit and the typical deviation of the photos' own ones.

    The median over views of the median ratio of predicted to found depth, and the spread of their
    logarithms (1.48 x the median absolute deviation).
    """
    ratios = [
        _depth_ratio(map_.resized(*view.depth.shape).values, view)
        for view, map_ in zip(scene.views, maps, strict=True)
    ]
    logs = np.log([ratio for ratio in ratios if ratio is not None])
    if not len(logs):
        raise InputError("--scale-from model: the depth model says nothing of any placed photo")
    middle = float(np.median(logs))
    return float(np.exp(middle)), float(MAD_TO_SIGMA * np.median(np.abs(logs - middle)))


def _depth_ratio(predicted: NDArray[np.float32], view: View) -> float | None:
    """Return the median of ``predicted`` (h, w) over the view's depth, None where nothing tells."""
    both = (predicted > 0) & (view.depth > 0) & (view.confidence > 0)
    if not view.registered or not both.any():
        return None
    return float(np.median(predicted[both] / view.depth[both]))
