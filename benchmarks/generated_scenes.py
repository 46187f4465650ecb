"""Writes rendered scenes as folders: python -m benchmarks.generated_scenes SCENE... --out DIR.

SCENE: "+60" and the like, a seed of the training generator, counted from those kept from training
(rooms, open ground, table tops, piles, facades); "courtyard+1", the sample photos' courtyard under
another seed. Each becomes a folder with ``images/`` and ``cameras.json``, as benchmarks/README.md
describes scenes. What is already there is not rendered again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from benchmarks.stereo import VIEWS, courtyard, generated
from pointmap.training.rendering.render_views import HELD_OUT_SEED

_COURTYARD = "courtyard"


def write_scene(name: str, out: Path) -> Path:
    """Render the scene called ``name`` into a folder of ``out``, and return that folder.

    The truth is written last: a folder with ``cameras.json`` is whole.
    """
    kind = _COURTYARD if name.startswith(_COURTYARD) else "generated"
    seed = int(name.removeprefix(_COURTYARD))
    folder = out / f"{kind}-{seed}"
    if (folder / "cameras.json").is_file():
        return folder
    render = courtyard if kind == _COURTYARD else generated
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images = {}
    for number, view in enumerate(render(HELD_OUT_SEED + seed, views=VIEWS)):
        photo = f"{number:02}.png"
        Image.fromarray(view.pixels).save(folder / "images" / photo)
        height, width = view.depth.shape
        images[photo] = {
            "K": view.intrinsics.tolist(),
            "cam_to_world": view.cam_to_world.tolist(),
            "width": width,
            "height": height,
        }
    record = {
        "images": images,
        "units": "metres",
        "source": f"python -m benchmarks.generated_scenes {name}",
        "licence": "CC0-1.0",
        "ground_truth": True,
        "pixel_centre": 0.5,
        "conventions": "camera axes x right, y down, z forward; cam_to_world maps camera to world",
    }
    (folder / "cameras.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return folder


def main(arguments: Sequence[str]) -> int:
    """Render the scenes and print their folders."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.generated_scenes", description=__doc__
    )
    parser.add_argument("scenes", nargs="+", metavar="SCENE", help="+60, courtyard+1, ...")
    parser.add_argument("--out", type=Path, required=True, help="folder of the scenes' folders")
    given = parser.parse_args(arguments)
    for name in given.scenes:
        print(write_scene(name, given.out), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
