"""Judges the verdict on two photos: python -m benchmarks.verdict_pairs SCENE_DIR...

Pairs of the photos of every scene folder (``images/``, ``cameras.json`` with true poses) are solved
as the program solves them, with features and the network's pointmaps of their own, up to the
verdict before there is depth. They are drawn from pairs whose cameras look within 45 degrees of one
way; those that come out as two photos placed are counted. ``--spoilt``: each of these once more, in
turn as if both photos had been cropped off the centre, or one of them zoomed.

Wrong: rotation or direction is off by more than 5 degrees; clear: by less than 2.5 or more than 10.
``--fit`` fits the figures for :mod:`recon.verdict.probability`, and tells those of each place that
was held out; folders of one place have names alike up to ``@``.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.verdict import CLEAR_DEG, hash_of
from benchmarks.verdict_fit import DOUBTFUL, Judged, Rates, fitted, held_out
from pointmap.camera import Array
from pointmap.decoding import open_picture
from recon.alignment.compared_pictures import compare_pictures
from recon.camera_stages import solved_cameras, solved_with_lenses, solved_with_zooms
from recon.evaluation.poses import relative_pose_errors
from recon.evaluation.scene import read_truth
from recon.evaluation.tables import markdown
from recon.inputs import read_inputs
from recon.options import Options
from recon.prediction.network_pairs import network_pairs
from recon.prediction.predict_scene import predict_scene
from recon.progress import Run
from recon.two_view.find_features import find_features
from recon.two_view.gather_evidence import Matched
from recon.two_view.match_photos import match_photos
from recon.verdict.evidence import scene_evidence, with_pictures
from recon.verdict.judge import loosely_held, show_two_places
from recon.verdict.probability import probability_wrong

Change = Callable[[list[Image.Image], np.random.Generator], list[Image.Image]]

# Cosine of how far the ways that two photos look may be apart.
_ALIKE = np.cos(np.radians(45))
# Pairs tried for each that is asked for.
_TRIED = 2


def judged_pairs(folder: Path, count: int, *, spoilt: bool) -> Iterator[Judged]:
    """Yield ``count`` pairs of a scene's photos, solved and compared with the truth; ``spoilt``:
    and each of them changed.
    """
    truth = {
        name: camera.cam_to_world
        for name, camera in read_truth(folder / "cameras.json").cameras.items()
        if camera.cam_to_world is not None
    }
    names = sorted(truth)
    pairs = [
        (a, b)
        for number, a in enumerate(names)
        for b in names[number + 1 :]
        if truth[a][:3, 2] @ truth[b][:3, 2] > _ALIKE
    ]
    rng = np.random.default_rng(hash_of(folder.resolve().name))
    found = 0
    for number in rng.permutation(len(pairs))[: _TRIED * count].tolist():
        files = [folder / "images" / name for name in pairs[number]]
        poses = [truth[file.name] for file in files]
        one = _judged(folder.resolve().name, "as it is", files, poses)
        if one is None:
            continue
        yield one
        if spoilt:
            kind = list(CHANGES)[found % len(CHANGES)]
            with tempfile.TemporaryDirectory() as kept:
                changed = _changed(files, CHANGES[kind], rng, Path(kept))
                one = _judged(folder.resolve().name, kind, changed, poses)
                if one is not None:
                    yield one
        found += 1
        if found == count:
            return


def _changed(
    files: Sequence[Path], change: Change, rng: np.random.Generator, folder: Path
) -> list[Path]:
    pictures = []
    for file in files:
        with open_picture(file) as opened:
            pictures.append(opened.convert("RGB"))
    pictures = change(pictures, rng)
    changed = [(folder / file.name).with_suffix(".png") for file in files]
    for picture, file in zip(pictures, changed, strict=True):
        picture.save(file, compress_level=1)
    return changed


def _judged(source: str, kind: str, files: Sequence[Path], poses: Sequence[Array]) -> Judged | None:
    """Return two photos as the program solves them, None where it does not place both."""
    options, run = Options(device="cpu", matcher="sift"), Run(None)
    inputs = read_inputs(files, options)
    features = find_features(inputs, limit=options.features, long_side=options.feature_size)
    matches = match_photos(inputs, features, options.graph)
    seen = predict_scene(inputs, network_pairs(inputs, matches))
    matched = Matched(inputs, features, matches, seen)
    matched, found = solved_with_zooms(matched, solved_cameras(matched, options, run), options, run)
    photos, alignment = inputs.photos, solved_with_lenses(matched, found, options, run)[1]
    if not alignment.placed.all():
        return None
    evidence, compared = scene_evidence(photos, alignment), compare_pictures(photos, alignment)
    evidence = with_pictures(evidence, photos, alignment, compared, seen)
    errors = relative_pose_errors(list(alignment.cam_to_world), list(poses))
    by_rule = alignment.cut_out or loosely_held(evidence) is not None
    by_rule |= show_two_places(photos, alignment)
    off = float(errors.rotation_deg[0]), float(errors.translation_deg[0])
    return Judged(source, kind, evidence, max(off), np.array([off, off]), 2, by_rule)


def cropped(pictures: list[Image.Image], rng: np.random.Generator) -> list[Image.Image]:
    """Return one and the same window of each picture, in a corner."""
    share, corner = rng.uniform(0.5, 0.85), rng.integers(0, 2, 2)

    def window(picture: Image.Image) -> Image.Image:
        size = np.array(picture.size)
        kept = np.floor(size * share).astype(int)
        x, y = ((size - kept) * corner).tolist()
        return picture.crop((x, y, x + int(kept[0]), y + int(kept[1])))

    return [window(picture) for picture in pictures]


def zoomed(pictures: list[Image.Image], rng: np.random.Generator) -> list[Image.Image]:
    """Return the pictures with one of them zoomed, of the size it had."""
    zoom, which = rng.uniform(1.15, 1.8), int(rng.integers(len(pictures)))
    size = np.array(pictures[which].size)
    box = np.concatenate([size * (1 - 1 / zoom) / 2, size * (1 + 1 / zoom) / 2])
    near = pictures[which].resize(
        pictures[which].size, Image.Resampling.BICUBIC, box=tuple(box.tolist())
    )
    return [near if k == which else picture for k, picture in enumerate(pictures)]


CHANGES: dict[str, Change] = {"crops": cropped, "zooms": zoomed}


def rates_table(scenes: Sequence[Judged], doubted: Sequence[bool]) -> str:
    """Return a Markdown table: rates of each kind of pair, all and clear ones, and of each place as
    it is.
    """
    pairs = list(zip(scenes, doubted, strict=True))
    least, most = CLEAR_DEG
    rows = []
    for kind in dict.fromkeys(scene.kind for scene in scenes):
        of_kind = [(s, d) for s, d in pairs if s.kind == kind]
        rows.append((kind, of_kind))
        rows.append((f"{kind}, clear", [p for p in of_kind if not least < p[0].error_deg < most]))
    for source in dict.fromkeys(scene.source for scene in scenes):
        mine = [(s, d) for s, d in pairs if s.source == source and s.kind == "as it is"]
        rows.append((f"*{source}*", mine))
    cells = [
        (name, *Rates.of([s.error_deg for s, _ in those], [d for _, d in those]).cells())
        for name, those in rows
    ]
    return markdown(("pairs", "wrong", "doubted", "right", "doubted"), cells)


def main(arguments: Sequence[str]) -> int:
    """Make the pairs, judge them, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verdict_pairs", description=__doc__)
    parser.add_argument("scenes", nargs="+", type=Path, metavar="SCENE_DIR")
    parser.add_argument("--pairs", type=int, default=12, help="pairs of each scene")
    parser.add_argument("--spoilt", action="store_true", help="changed pictures, too")
    parser.add_argument("--fit", action="store_true", help="fit the figures, print them")
    given = parser.parse_args(arguments)
    logging.disable(logging.WARNING)
    scenes: list[Judged] = []
    for folder in given.scenes:
        scenes += judged_pairs(folder, given.pairs, spoilt=given.spoilt)
        print(f"{folder.name}: {len(scenes)} pairs so far", file=sys.stderr, flush=True)
    scenes = [scene for scene in scenes if np.isfinite(scene.evidence.shift_deg)]
    if given.fit:
        told = [scene for scene in scenes if scene.evidence.network is not None]
        model = fitted(told)
        print(f"weights {np.round(model.weights, 2).tolist()}, offset {model.offset:.2f}")
        places = list(dict.fromkeys(scene.source.split("@")[0] for scene in told))
        family = {scene.source: places.index(scene.source.split("@")[0]) for scene in told}
        print("\nHeld out:\n")
        print(rates_table(told, held_out(told, family)))
    print("\nAs the program judges:\n")
    doubted = [s.by_rule or probability_wrong(s.evidence) >= DOUBTFUL for s in scenes]
    print(rates_table(scenes, doubted))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
