"""One step of COLMAP on the CPU, in a process of its own: started by benchmarks/scale.py.

python benchmarks/scale_colmap.py STEP WORK IMAGES THREADS. WORK holds photos.txt, the names of the
photos, one in a line in the order of the walk; steps leave their results there, mapping
METHOD.json, a cameras.json of the largest model with null for photos outside.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pycolmap

NEIGHBOURS = 10
"""Sequential matching: photos this far apart along the walk, and by powers of two beyond."""


def extract_features(work: Path, images: Path, names: Sequence[str], threads: int) -> None:
    """Find SIFT features; all photos are of one camera."""
    options = pycolmap.FeatureExtractionOptions(num_threads=threads, use_gpu=False)
    pycolmap.extract_features(
        work / "database.db", images, image_names=list(names), extraction_options=options,
        camera_mode=pycolmap.CameraMode.SINGLE, device=pycolmap.Device.cpu,
    )  # fmt: skip


def match(work: Path, names: Sequence[str], threads: int, *, sequential: bool) -> None:
    """Match all pairs, or those near each other in the order of ``names``."""
    options = pycolmap.FeatureMatchingOptions(num_threads=threads, use_gpu=False)
    database, device = work / "database.db", pycolmap.Device.cpu
    if not sequential:
        pycolmap.match_exhaustive(database, matching_options=options, device=device)
        return
    pairs = work / "pairs.txt"
    pairs.write_text("".join(f"{a} {b}\n" for a, b in sequential_pairs(names)), encoding="utf-8")
    pairing = pycolmap.ImportedPairingOptions(match_list_path=pairs)
    pycolmap.match_image_pairs(
        database, matching_options=options, pairing_options=pairing, device=device
    )


def sequential_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs that COLMAP's sequential matcher with quadratic overlap looks at."""
    far = [2**k for k in range(NEIGHBOURS) if 2**k > NEIGHBOURS]
    return [
        (names[i], names[i + gap])
        for i in range(len(names))
        for gap in (*range(1, NEIGHBOURS + 1), *far)
        if i + gap < len(names)
    ]


def map_photos(
    work: Path, images: Path, names: Sequence[str], threads: int, *, incremental: bool
) -> None:
    """Place the photos and write the cameras of the model with most of them."""
    out = work / ("incremental" if incremental else "global")
    out.mkdir(exist_ok=True)
    if incremental:
        options = pycolmap.IncrementalPipelineOptions(num_threads=threads, random_seed=0)
        models = pycolmap.incremental_mapping(work / "database.db", images, out, options)
    else:
        options = pycolmap.GlobalPipelineOptions(num_threads=threads, random_seed=0)
        models = pycolmap.global_mapping(work / "database.db", images, out, options)
    poses = dict.fromkeys(names)
    if models:
        largest = max(models.values(), key=lambda model: model.num_reg_images())
        for image in largest.images.values():
            if image.has_pose:
                cam_to_world = image.cam_from_world().inverse().matrix().tolist()
                poses[image.name] = [*cam_to_world, [0, 0, 0, 1]]
    listed = {name: {"K": None, "cam_to_world": pose} for name, pose in poses.items()}
    (work / f"{out.name}.json").write_text(json.dumps({"images": listed}), encoding="utf-8")


def main(arguments: Sequence[str]) -> None:
    """Run one step."""
    step, work, images, threads = arguments[0], *map(Path, arguments[1:3]), int(arguments[3])
    names = (work / "photos.txt").read_text(encoding="utf-8").split("\n")
    if step == "features":
        extract_features(work, images, names, threads)
    elif step in ("exhaustive", "sequential"):
        match(work, names, threads, sequential=step == "sequential")
    else:
        map_photos(work, images, names, threads, incremental=step == "incremental")


if __name__ == "__main__":
    main(sys.argv[1:])
