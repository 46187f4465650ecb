"""Pairs per second and memory: the reference's way against ours, with the same weights.

python -m benchmarks.inference [--network 512_dpt] [--photos 2 8 16] [--device cuda] [--json FILE]

The reference's way takes one ordered pair after the other and encodes both its photos, in float32,
with plain layers. Ours encodes each photo once and decodes pairs in batches, both orders, in the
precision that suits the hardware. Both give the same complete graph: every pair in both orders.

On a CPU the two ways take turns, so that other load on the machine meets both alike, and the
reference's way is measured on some of the pairs: it takes the same time for each. Then both
precisions of ours are compared on two photos.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from benchmarks.figures import write_figures
from benchmarks.parity import VIT_LARGE
from benchmarks.recipe import build_network
from pointmap.camera import Array, rotation_angle_deg
from pointmap.checkpoint import config_from_arguments, load_network
from pointmap.images import Photo, ResizedPhoto, load_photo, open_photos
from pointmap.inference import (
    PairPrediction,
    choose_device,
    choose_dtype,
    encode_photos,
    predict_pairs,
)
from pointmap.network import PointmapNetwork
from pointmap.photo_files import find_photos
from recon.stage_results import RelativePose
from recon.two_view.pose_from_pointmaps import both_frames, procrustes

NETWORKS: dict[str, tuple[dict[str, Any], tuple[int, int]]] = {
    "512_dpt": ({"img_size": 512, "head_type": "dpt"}, (384, 512)),
    "224_linear": ({"img_size": 224, "head_type": "linear"}, (224, 224)),
}
GAINS = [("dpt.head.4", 0.2), ("dpt.", 1.0), ("downstream_head", 0.7)]
COLUMNS = ("network", "photos", "way", "precision", "pairs measured", "pairs/s", "CPU s/pair")


class Meter:
    """Adds up what a way costs over the times that it is running."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.pairs, self.seconds, self.cpu_seconds, self.peak_gb = 0, 0.0, 0.0, 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time until the end of the block; on a GPU until it has finished."""
        stop = threading.Event()
        watch = threading.Thread(target=self._watch, args=(stop,))
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
        watch.start()
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
        finally:
            self.seconds += time.perf_counter() - wall
            self.cpu_seconds += time.process_time() - cpu
            stop.set()
            watch.join()
            if self.device.type == "cuda":
                self.peak_gb = max(self.peak_gb, torch.cuda.max_memory_allocated(self.device) / 1e9)

    def _watch(self, stop: threading.Event) -> None:
        """Follow the process's resident memory; a GPU counts its own."""
        process = psutil.Process()
        while self.device.type != "cuda":
            self.peak_gb = max(self.peak_gb, process.memory_info().rss / 1e9)
            if stop.wait(0.02):
                return


@dataclass(frozen=True)
class Row:
    """What one way cost for one number of photos."""

    network: str
    photos: int
    way: str
    precision: str
    pairs: int
    pairs_per_second: float
    cpu_seconds_per_pair: float
    peak_gb: float


def reference_way(
    network: PointmapNetwork,
    photos: Sequence[ResizedPhoto],
    pairs: Sequence[tuple[int, int]],
    device: torch.device,
) -> None:
    """Predict ordered pairs one by one, as the reference does, results on the CPU."""
    for pair in pairs:
        first, second = (
            torch.from_numpy(photos[k].pixels).permute(2, 0, 1)[None].to(device) / 127.5 - 1
            for k in pair
        )
        # No weight asks for a gradient, so this costs nothing; it keeps to torch's own layers.
        with torch.enable_grad():
            sides = network(first, second)
        for side in sides:
            side.pts3d.cpu()
            side.conf.cpu()


def compare(
    name: str,
    network: PointmapNetwork,
    photos: Sequence[ResizedPhoto],
    device: torch.device,
    reference_pairs: int | None,
    dtype: torch.dtype | None = None,
) -> list[Row]:
    """Measure both ways on the complete graph of ``photos``.

    The reference's on so many pairs (None: all), ours in ``dtype`` (None: what suits the device).
    """
    dtype = dtype or choose_dtype(device)
    pairs = list(combinations(range(len(photos)), 2))
    ordered = [*pairs, *((j, i) for i, j in pairs)]
    if reference_pairs is not None and len(ordered) > reference_pairs:
        some = np.linspace(0, len(ordered) - 1, reference_pairs).astype(int)
        ordered = [ordered[k] for k in some]
    theirs, ours = Meter(device), Meter(device)
    if device.type == "cuda":  # Its libraries choose their kernels when they are first called.
        reference_way(network, photos, ordered[:2], device)
        our_way(network, photos, pairs, device, dtype)
    turns = len(ordered) if device.type == "cpu" else 1
    with ours.running():
        encoded = encode_photos(network, photos, device=device, dtype=dtype)
    stream = predict_pairs(network, encoded, pairs, device=device, dtype=dtype)
    for turn in range(turns):
        share = ordered[turn * len(ordered) // turns : (turn + 1) * len(ordered) // turns]
        with theirs.running():
            reference_way(network, photos, share, device)
        theirs.pairs += len(share)
        until = 2 * len(pairs) * (turn + 1) // turns
        with ours.running():
            while ours.pairs < until and next(stream, None) is not None:
                ours.pairs += 1
    precision = str(dtype).removeprefix("torch.")
    return [
        _row(name, len(photos), "reference", "float32", theirs),
        _row(name, len(photos), "ours", precision, ours),
    ]


def our_way(
    network: PointmapNetwork,
    photos: Sequence[ResizedPhoto],
    pairs: Sequence[tuple[int, int]],
    device: torch.device,
    dtype: torch.dtype | None = None,
) -> list[PairPrediction]:
    """Return the predictions of ``pairs`` as the pipeline makes them."""
    encoded = encode_photos(network, photos, device=device, dtype=dtype)
    return list(predict_pairs(network, encoded, pairs, device=device, dtype=dtype))


def _row(name: str, photos: int, way: str, precision: str, meter: Meter) -> Row:
    return Row(
        name,
        photos,
        way,
        precision,
        meter.pairs,
        meter.pairs / meter.seconds,
        meter.cpu_seconds / meter.pairs,
        meter.peak_gb,
    )


@dataclass(frozen=True)
class PrecisionGap:
    """Differences between the two precisions of ours on one pair of photos."""

    network: str
    precision: str
    largest_point: float
    """Of a point, over the largest distance of a point from the camera."""
    median_point: float
    """Of a point, over its distance from the camera."""
    rotation_deg: float
    """Of the two-view poses that register the pair's two frames."""
    inliers: float
    """Share of pixels that agree with the float32 pose: near 0 (random weights say nothing of a
    scene) no pose is defined and the rotation means nothing."""
    drift_deg: float
    """Largest rotation that registers a pointmap on its float32 version, for any weights."""


def precision_gap(
    name: str, network: PointmapNetwork, photos: Sequence[ResizedPhoto], device: torch.device
) -> PrecisionGap:
    """Compare the default precision with float32 on the first two photos."""
    dtype = choose_dtype(device)
    photos = photos[:2]
    exact = our_way(network, photos, [(0, 1)], device, torch.float32)
    rough = our_way(network, photos, [(0, 1)], device, dtype)
    largest, medians, drifts = 0.0, [], []
    for a, b in zip(rough, exact, strict=True):
        sides = ((a.points_i, b.points_i, b.confidence_i), (a.points_j, b.points_j, b.confidence_j))
        for found, truth, confidence in sides:
            gap, reach = (np.linalg.norm(x, axis=-1) for x in (found - truth, truth))
            largest = max(largest, float(gap.max() / reach.max()))
            medians.append(float(np.median(gap / reach.clip(min=1e-9))))
            few = (slice(None, None, 4),) * 2
            flat, target = (x[few].reshape(-1, 3).astype(np.float64) for x in (found, truth))
            registered = procrustes(target, flat, confidence[few].ravel())
            drifts.append(_rotation_between(np.eye(3), registered))
    poses = [procrustes(*both_frames(*predictions)) for predictions in (exact, rough)]
    rotation, inliers = float("nan"), 0.0
    if poses[0] is not None:
        rotation = _rotation_between(poses[0].cam2_to_cam1[:3, :3], poses[1])
        inliers = float(poses[0].inliers.mean())
    precision = str(dtype).removeprefix("torch.")
    middle = float(np.median(medians))
    return PrecisionGap(name, precision, largest, middle, rotation, inliers, max(drifts))


def _rotation_between(rotation: Array, pose: RelativePose | None) -> float:
    if pose is None:
        return float("nan")
    return float(rotation_angle_deg(rotation.T @ pose.cam2_to_cam1[:3, :3]))


def table(rows: Sequence[Row]) -> str:
    """Return a Markdown table; the peak includes the weights."""
    lines = [(*COLUMNS, "peak GB", "times the reference"), ("---",) * (len(COLUMNS) + 2)]
    for row in rows:
        rates = {r.way: r for r in rows if (r.network, r.photos) == (row.network, row.photos)}
        gain = row.pairs_per_second / rates["reference"].pairs_per_second
        cpu = rates["reference"].cpu_seconds_per_pair / row.cpu_seconds_per_pair
        lines.append(
            (
                row.network,
                str(row.photos),
                row.way,
                row.precision,
                str(row.pairs),
                f"{row.pairs_per_second:.3g}",
                f"{row.cpu_seconds_per_pair:.3g}",
                f"{row.peak_gb:.2f}",
                f"{gain:.2f} (CPU time: {cpu:.2f})" if row.way == "ours" else "",
            )
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def gap_table(gaps: Sequence[PrecisionGap]) -> str:
    """Return a Markdown table of the differences between the precisions."""
    lines = [
        "| network | precision | largest point | median point | rotation deg | inliers | drift deg "
        "|\n|" + " --- |" * 7
    ]
    lines += [
        f"| {g.network} | {g.precision} | {g.largest_point:.1e} | {g.median_point:.1e} | "
        f"{g.rotation_deg:.4f} | {g.inliers:.2f} | {g.drift_deg:.4f} |"
        for g in gaps
    ]
    return "\n".join(lines)


def benchmark_network(name: str) -> tuple[PointmapNetwork, tuple[int, int]]:
    """Return a random network of official size, or a checkpoint, and the size of its photos."""
    if name in NETWORKS:
        arguments, size = NETWORKS[name]
        return build_network(config_from_arguments(VIT_LARGE | arguments), GAINS), size
    network = load_network(None if name == "bundled" else name)
    side = max(network.config.img_size)
    return network, (side * 3 // 4 // 16 * 16, side)


def benchmark_photos(
    images: Sequence[str], count: int, size: tuple[int, int]
) -> list[ResizedPhoto]:
    """Return photos of ``size``: those given, over and over, or noise."""
    height, width = size
    noise = np.random.default_rng(0)
    opened = open_photos(find_photos(images))[0] if images else []
    photos = []
    for k in range(count):
        if opened:
            real = opened[k % len(opened)]
            pixels = load_photo(real, long_side=max(size)).pixels
            top, left = ((a - b) // 2 for a, b in zip(pixels.shape, size, strict=False))
            if top < 0 or left < 0:
                raise SystemExit(f"{real.name} does not hold {width}x{height} pixels; leave it out")
            pixels = np.ascontiguousarray(pixels[top : top + height, left : left + width])
        else:
            pixels = noise.integers(0, 256, (height, width, 3), np.uint8)
        photos.append(ResizedPhoto(Photo(Path(f"{k}"), f"{k}", width, height, None, "one"), pixels))
    return photos


def main(arguments: Sequence[str]) -> int:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.inference",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--network",
        nargs="+",
        default=list(NETWORKS),
        help=f"{', '.join(NETWORKS)} (random weights), bundled, or a checkpoint",
    )
    parser.add_argument(
        "--photos", nargs="*", type=int, default=[2, 8, 16], help="how many (2 8 16)"
    )
    parser.add_argument("--images", nargs="+", default=[], help="photos to take instead of noise")
    parser.add_argument("--device", help="cpu or cuda; the best one by default")
    parser.add_argument("--reference-pairs", type=int, default=8, help="that many are measured")
    parser.add_argument("--json", type=Path, help="file for all figures")
    given = parser.parse_args(arguments)
    device = choose_device(given.device)
    rows: list[Row] = []
    gaps: list[PrecisionGap] = []
    for name in given.network:
        network, size = benchmark_network(name)
        network.requires_grad_(False).to(device)
        gaps.append(precision_gap(name, network, benchmark_photos(given.images, 2, size), device))
        print(gap_table(gaps[-1:]), file=sys.stderr, flush=True)
        for count in given.photos:
            photos = benchmark_photos(given.images, count, size)
            # A GPU is quick enough for all of them.
            some = given.reference_pairs if device.type == "cpu" else None
            rows += compare(name, network, photos, device, some)
            print(table(rows[-2:]), file=sys.stderr, flush=True)
    print(table(rows), gap_table(gaps), sep="\n\n")
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    write_figures(given.json, device=str(device), gpu=gpu, rows=rows, gaps=gaps)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
