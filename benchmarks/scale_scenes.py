"""Renders the photos of the scale benchmark: python -m benchmarks.scale_scenes SET... --cache DIR.

Sets: street-N, N photos of a walk through a town in loops of about 100 photos that meet at street
crossings; ring-N, one loop of N photos; doppelganger-N, half of the photos of either of two equal
house fronts that stand in different places; two-places-N, of two unlike ones. Every set is a folder
DIR/SET-SEED-vVERSION with images/, cameras.json and depth/, as benchmarks/README.md describes
scenes. What is already there is not rendered again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.streets import layouts, walks
from benchmarks.streets.rendering import Renderer
from benchmarks.streets.world import World
from pointmap.training.rendering.ray_tracing import PinholeCamera

VERSION = 1
"""To be raised whenever a set's pictures change."""
CACHE = Path(".cache/streets")
LOOP = 100
"""Photos of one loop of a street."""
SHORTEST_WALK = 40
_JPEG_QUALITY = 92
_FARTHEST_M = 65.0
"""Depth is kept up to here: 16 bits of millimetres end soon after."""


@dataclass(frozen=True)
class PhotoSet:
    """A set to be rendered: its ``kind`` ("street", "ring", "doppelganger" or "two-places"), the
    number of photos, the ``seed`` of everything random in it. ``ordered``: the names of the photos
    follow the walk; otherwise they are drawn like lots.
    """

    kind: str
    count: int
    seed: int = 0
    ordered: bool = False

    @property
    def folder_name(self) -> str:
        """Return the name of its folder in the cache."""
        order = "-ordered" if self.ordered else ""
        return f"{self.kind}-{self.count}{order}-{self.seed}-v{VERSION}"

    @staticmethod
    def parse(text: str, *, seed: int = 0, ordered: bool = False) -> PhotoSet:
        """Return the set of a name like "street-100"; raises ``ValueError`` for another form."""
        kind, _, count = text.rpartition("-")
        if kind not in ("street", "ring", "doppelganger", "two-places") or not count.isdigit():
            raise ValueError(f"{text} is no set: give street-100, ring-300, doppelganger-24 or so")
        if kind in ("street", "ring") and int(count) < SHORTEST_WALK:
            raise ValueError(f"{text}: walking round a house takes {SHORTEST_WALK} photos or more")
        return PhotoSet(kind, int(count), seed, ordered)


def lay_out(photos: PhotoSet) -> tuple[World, list[PinholeCamera]]:
    """Return the world of a set and its cameras in the order of the walk."""
    kinds = {"street": 1, "ring": 2, "doppelganger": 3, "two-places": 4}
    rng = np.random.default_rng([photos.seed, kinds[photos.kind], photos.count])
    if photos.kind in ("street", "ring"):
        blocks = max(1, round(photos.count / LOOP)) if photos.kind == "street" else 1
        pitch = walks.pitch_of(photos.count, blocks)
        cameras = walks.street(rng, count=photos.count, blocks=blocks)
        return layouts.street_world(rng, blocks=blocks, pitch=pitch), cameras
    world = layouts.two_places_world(rng, equal=photos.kind == "doppelganger")
    halves = (photos.count + 1) // 2, photos.count // 2
    cameras = walks.arc(rng, count=halves[0], x=0.0)
    return world, cameras + walks.arc(rng, count=halves[1], x=layouts.PLACE_APART)


def photo_names(photos: PhotoSet) -> list[str]:
    """Return the file names of a set's photos in the order of the walk."""
    numbers = np.arange(photos.count)
    if not photos.ordered:
        numbers = np.random.default_rng([photos.seed, 5, photos.count]).permutation(numbers)
    return [f"photo_{number:04d}.jpg" for number in numbers]


def render_set(photos: PhotoSet, cache: Path) -> Path:
    """Render what is missing of a set into ``cache`` and return its folder.

    Photos are written under another name first, so that a broken-off run can be continued.
    """
    folder = cache / photos.folder_name
    if (folder / "cameras.json").is_file():
        return folder
    for part in ("images", "depth"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    world, cameras = lay_out(photos)
    names, renderer = photo_names(photos), Renderer(world)
    start, done = time.perf_counter(), 0
    for number, (name, camera) in enumerate(zip(names, cameras, strict=True)):
        image, depth_file = folder / "images" / name, (folder / "depth" / name).with_suffix(".png")
        if image.is_file() and depth_file.is_file():
            continue
        pixels, depth = develop_photo(renderer, camera, photos.seed, number)
        _write_picture(depth_file, _millimetres(depth))
        _write_picture(image, pixels)
        done += 1
        if done % 25 == 0:
            each = (time.perf_counter() - start) / done
            print(f"{folder.name}: {number + 1} of {len(names)}, {each:.2f} s each", flush=True)
    _write_cameras(folder / "cameras.json", photos, names, cameras)
    return folder


def develop_photo(
    renderer: Renderer, camera: PinholeCamera, seed: int, number: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the photo (h, w, 3) uint8 RGB, with an exposure and noise of its own, and its depth
    (h, w) in metres along z, 0 = sky.
    """
    import torch

    from pointmap.training.sample_photos import develop

    light, depth = renderer.photograph(camera)
    rng = np.random.default_rng([seed, 6, number])
    linear = torch.from_numpy(light * np.exp(rng.normal(0, 0.08))).permute(2, 0, 1)
    return develop(linear, rng), depth


def _millimetres(depth: NDArray[np.float32]) -> NDArray[np.uint16]:
    return np.where(depth < _FARTHEST_M, np.rint(depth * 1000), 0).astype(np.uint16)


def _write_picture(path: Path, pixels: NDArray[np.generic]) -> None:
    from PIL import Image

    part = path.with_name(f".{path.name}.part")
    kind = "JPEG" if path.suffix == ".jpg" else "PNG"
    Image.fromarray(pixels).save(part, kind, quality=_JPEG_QUALITY, subsampling=0)
    part.replace(path)


def _write_cameras(
    path: Path, photos: PhotoSet, names: Sequence[str], cameras: Sequence[PinholeCamera]
) -> None:
    """Write the truth last: a set with ``cameras.json`` is whole. ``walk`` is a photo's number."""
    images = {
        name: {
            "K": camera.intrinsics.tolist(),
            "cam_to_world": camera.cam_to_world.tolist(),
            "width": camera.width,
            "height": camera.height,
            "walk": number,
        }
        for number, (name, camera) in enumerate(zip(names, cameras, strict=True))
    }
    record = {
        "images": images,
        "units": "metres",
        "source": f"python -m benchmarks.scale_scenes {photos.kind}-{photos.count}"
        f"{' --ordered' if photos.ordered else ''} --seed {photos.seed}, version {VERSION}",
        "licence": "CC0-1.0",
        "ground_truth": True,
        "pixel_centre": 0.5,
        "conventions": "camera axes x right, y down, z forward; cam_to_world maps camera to world",
    }
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    """Render the sets and print their folders."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale_scenes", description=__doc__)
    parser.add_argument("sets", nargs="+", metavar="SET", help="street-100, doppelganger-24, ...")
    parser.add_argument("--cache", type=Path, default=CACHE, help=f"folder of sets ({CACHE})")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (0)")
    parser.add_argument("--ordered", action="store_true", help="names follow the walk, as a video")
    given = parser.parse_args(arguments)
    try:
        sets = [PhotoSet.parse(s, seed=given.seed, ordered=given.ordered) for s in given.sets]
    except ValueError as error:
        parser.error(str(error))
    for photos in sets:
        print(render_set(photos, given.cache))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
