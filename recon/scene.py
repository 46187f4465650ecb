"""What a reconstruction is: the dataclasses that every later stage, file and viewer takes.

Frames, pixels and matrices follow :mod:`pointmap.camera`. Lengths are in scene units unless
``Scene.units`` says "metres".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array, scale_intrinsics
from pointmap.lens import PINHOLE, Lens


@dataclass(frozen=True)
class Camera:
    """One photo's camera, in the coordinates of the ORIGINAL photo after EXIF orientation.

    ``intrinsics`` (3, 3); ``width``, ``height`` in pixels; ``cam_to_world`` (4, 4), or None when
    the photo could not be placed; the ``lens``, of the photo at any size. Pixels and points meet in
    ``pointmap.camera.project`` and ``pixel_rays``.
    """

    intrinsics: Array
    width: int
    height: int
    cam_to_world: Array | None
    lens: Lens = PINHOLE

    def intrinsics_at(self, width: int, height: int) -> Array:
        """Return K (3, 3) of this photo resized to ``width`` x ``height``."""
        return scale_intrinsics(self.intrinsics, width / self.width, height / self.height)


class Maps(Protocol):
    """What a :class:`View` knows pixel by pixel, at one resolution that covers the whole photo.

    Scenes of hundreds of photos don't fit into memory: there these are read from files each time
    that they are asked for (:class:`recon.assemble.StoredMaps`).
    """

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The photo, (h, w, 3) RGB."""

    @property
    def depth(self) -> NDArray[np.float32]:
        """Depth (h, w) along z, 0 = unknown."""

    @property
    def confidence(self) -> NDArray[np.float32]:
        """Confidence (h, w) in [0, 1]."""

    @property
    def usable(self) -> NDArray[np.bool_] | None:
        """Which pixels (h, w) are neither masked nor transparent; None: all."""


@dataclass(frozen=True)
class LoadedMaps:
    """:class:`Maps` in memory."""

    pixels: NDArray[np.uint8]
    depth: NDArray[np.float32]
    confidence: NDArray[np.float32]
    usable: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class View:
    """One photo of the reconstruction with its camera and depth.

    ``reason`` says in words why the photo has no ``cam_to_world``; None when it has one.
    ``turned``: the file holds the picture turned or mirrored, and its EXIF orientation says so.
    ``video``: the file name of the video that the photo is a frame of, or None; ``mask``: the
    picture that is 0 where the photo is to be ignored, or None.
    """

    name: str
    path: Path
    camera: Camera
    maps: Maps
    reason: str | None = None
    turned: bool = False
    video: str | None = None
    mask: Path | None = None

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The photo, (h, w, 3) RGB, at the resolution of ``depth``; may be read from a file."""
        return self.maps.pixels

    @property
    def depth(self) -> NDArray[np.float32]:
        """Depth (h, w) along z, 0 = unknown; may be read from a file."""
        return self.maps.depth

    @property
    def confidence(self) -> NDArray[np.float32]:
        """Confidence (h, w) in [0, 1]; may be read from a file."""
        return self.maps.confidence

    @property
    def usable(self) -> NDArray[np.bool_] | None:
        """Which pixels (h, w) are neither masked nor transparent; None: all. May be read from a
        file.
        """
        return self.maps.usable

    @property
    def registered(self) -> bool:
        """Whether the photo was placed in the scene."""
        return self.camera.cam_to_world is not None

    @property
    def depth_intrinsics(self) -> Array:
        """K (3, 3) at the resolution of ``depth``."""
        height, width = self.depth.shape
        return self.camera.intrinsics_at(width, height)

    def _repr_png_(self) -> bytes:
        # A notebook shows this where a view ends a cell: the photo, its depth, how sure that is.
        from recon.export.colour import confidence_to_rgb, depth_to_rgb, png

        maps = [self.pixels, depth_to_rgb(self.depth), confidence_to_rgb(self.confidence)]
        return png(np.hstack(maps))


@dataclass(frozen=True)
class Tracks:
    """Scene points with the photo positions where they were seen (structure from motion).

    ``points`` (P, 3) float64 world; ``colours`` (P, 3) uint8; one row per observation in
    ``point_index`` (M,) int, ``view_index`` (M,) int, ``xy`` (M, 2) float64 original pixels.
    """

    points: Array
    colours: NDArray[np.uint8]
    point_index: NDArray[np.int64]
    view_index: NDArray[np.int64]
    xy: Array

    def seen_by(self, view: int) -> NDArray[np.int64]:
        """Return the rows of the observations in one view."""
        order, ends = self._by_view
        if view + 1 >= len(ends):
            return order[:0]
        return order[ends[view] : ends[view + 1]]

    @cached_property
    def _by_view(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return all rows, view by view, and where each view's begin."""
        counts = np.bincount(self.view_index)
        order = np.argsort(self.view_index, kind="stable")
        return order, np.concatenate([[0], np.cumsum(counts)])

    @staticmethod
    def empty() -> Tracks:
        """Return tracks without a point."""
        none = np.zeros(0, np.int64)
        return Tracks(np.zeros((0, 3)), np.zeros((0, 3), np.uint8), none, none, np.zeros((0, 2)))


def cameras_and_maps(views: Iterable[View]) -> list[tuple[Camera, Maps]]:
    """Return what results made of the views depend on: cameras and maps, not names or paths."""
    return [(view.camera, view.maps) for view in views]


@dataclass(frozen=True)
class PointCloud:
    """Coloured points: ``points``, ``normals`` (N, 3) float32, ``colours`` (N, 3) uint8,
    ``confidence`` (N,) float32 in [0, 1]. World frame; normals face the cameras.
    """

    points: NDArray[np.float32]
    colours: NDArray[np.uint8]
    normals: NDArray[np.float32]
    confidence: NDArray[np.float32]

    @staticmethod
    def empty() -> PointCloud:
        """Return a cloud without a point."""
        none = np.zeros((0, 3), np.float32)
        return PointCloud(none, none.astype(np.uint8), none, np.zeros(0, np.float32))


@dataclass(frozen=True)
class Mesh:
    """Triangles: ``vertices``, ``normals`` (V, 3) float32, ``colours`` (V, 3) uint8,
    ``faces`` (F, 3) int32. World frame.
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]
    colours: NDArray[np.uint8]
    normals: NDArray[np.float32]

    @staticmethod
    def empty() -> Mesh:
        """Return a mesh without a triangle."""
        none = np.zeros((0, 3), np.float32)
        return Mesh(none, np.zeros((0, 3), np.int32), none.astype(np.uint8), none)


@dataclass(frozen=True)
class TexturedMesh:
    """Triangles under a picture: ``vertices``, ``normals`` (V, 3) float32, ``faces`` (F, 3) int32,
    ``texture`` (h, w, 3) uint8 RGB, ``uv`` (V, 2) float32 in it, from (0, 0) at the outer corner of
    its top-left texel to (1, 1). Vertices are doubled where the texture has a seam. World frame.
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]
    normals: NDArray[np.float32]
    uv: NDArray[np.float32]
    texture: NDArray[np.uint8]


@dataclass(frozen=True)
class StageRecord:
    """What one stage cost: wall ``seconds``, the process's ``peak_memory_mb`` at its end, and the
    ``cpu_seconds`` of all its threads and finished children, 0 in scenes written before these were
    counted.
    """

    name: str
    seconds: float
    peak_memory_mb: float
    cpu_seconds: float = 0.0


@dataclass(frozen=True)
class PairRecord:
    """How two photos relate, for the report: indices into ``views`` and match counts."""

    i: int
    j: int
    matches: int
    inliers: int
    method: str
    used: bool


@dataclass(frozen=True)
class ModelRecord:
    """A pretrained model that had a say: what it was ``used`` for, the ``name`` that was given,
    the ``licence`` of its weights, and a ``digest`` of them.
    """

    used: str
    name: str
    licence: str
    digest: str


WorldKind = Literal["upright", "first-camera", "given"]
"""How a scene's world came about, see :class:`World`."""


@dataclass(frozen=True)
class World:
    """The frame of a scene's coordinates.

    ``kind``: "upright" has z up, the floor near z = 0, and y the way that the photos look, along
    the main walls where there are some; "first-camera" is the first placed photo's camera; "given"
    is that of known cameras. ``up`` (3,) is the unit direction away from the ground in it, as
    far as the photos tell, None where that was not asked; ``up_sigma_deg``: how far off it may be,
    one standard deviation.
    """

    kind: WorldKind = "first-camera"
    up: tuple[float, float, float] | None = None
    up_sigma_deg: float | None = None

    @property
    def in_words(self) -> str:
        """What the frame is, in a sentence."""
        if self.kind == "upright" and self.up is not None and self.up[1] > self.up[2]:
            return "y is up, the floor near y = 0; -z is the way the photos look"
        return _WORLDS[self.kind]


_WORLDS: dict[WorldKind, str] = {
    "upright": "z is up, the floor near z = 0; y is the way the photos look, along the main walls",
    "first-camera": "the first placed photo's camera, by name: x right, y down, z forward",
    "given": "that of the known cameras",
}


VerdictWord = Literal["sound", "doubtful", "wrong"]


@dataclass(frozen=True)
class PhotoVerdict:
    """How far one placed photo can be believed: a ``word``, and the error that is to be expected
    (median) of its rotation and direction relative to the others, in degrees, None where nothing
    tells. ``reason``: what speaks against this photo, and what to do, in one line; None where
    nothing does, or what speaks against the whole scene.
    """

    name: str
    word: VerdictWord
    rotation_error_deg: float | None
    direction_error_deg: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Verdict:
    """How far a scene's cameras can be believed: a ``word``, the ``reason`` with what to do, in one
    line, and the ``probability_wrong`` that the median pair of photos is off by more than 5
    degrees.

    The errors, in degrees, are what is to be expected (median) of a pair of photos, None where
    nothing tells. ``photos``: of each of the scene's photos, None where it was not placed.
    """

    word: VerdictWord
    reason: str
    probability_wrong: float
    rotation_error_deg: float | None
    direction_error_deg: float | None
    photos: tuple[PhotoVerdict | None, ...] = ()

    @property
    def in_doubt(self) -> list[PhotoVerdict]:
        """The placed photos that are not sound."""
        return [photo for photo in self.photos if photo is not None and photo.word != "sound"]


@dataclass(frozen=True)
class Scene:
    """One reconstructed scene, in the order in which the photos were given: data alone.

    :class:`recon.reconstruction.Reconstruction` is a scene that can write itself to a folder.
    """

    views: tuple[View, ...]
    tracks: Tracks
    cloud: PointCloud
    surface: Mesh
    units: str = "scene"
    world: World = World()
    pairs: tuple[PairRecord, ...] = ()
    stages: tuple[StageRecord, ...] = ()
    warnings: tuple[str, ...] = ()
    options: dict[str, object] = field(default_factory=dict)
    models: tuple[ModelRecord, ...] = ()
    """Pretrained models that were asked for beside the network."""
    scale_spread: float | None = None
    """Typical relative deviation of the photos' metres where a depth model told them."""
    textured: TexturedMesh | None = None
    """The surface under the photos, when ``FusionOptions.texture`` asked for it."""
    statistics: dict[str, float] = field(default_factory=dict)
    """Of the surface: voxel size, pieces found, floaters removed and the like, by name."""
    other_places: tuple[tuple[str, ...], ...] = ()
    """Names of photos that have no place here, but show another place together: largest first."""
    verdict: Verdict | None = None
    """How far the cameras can be believed; None of one photo, and of scenes written before."""
    further: tuple[Scene, ...] = ()
    """The scenes of those, where ``Options.all_scenes`` asked for them."""
    holds: object | None = field(default=None, repr=False, compare=False)
    """Keeps frames of videos on disk until the scene goes; a saved scene has copies of its own."""

    @property
    def cameras(self) -> dict[str, Camera]:
        """Cameras by photo name."""
        return {view.name: view.camera for view in self.views}

    def points(self) -> PointCloud:
        """Return the coloured, confidence-filtered cloud."""
        return self.cloud

    def mesh(self) -> Mesh:
        """Return the coloured surface."""
        return self.surface
