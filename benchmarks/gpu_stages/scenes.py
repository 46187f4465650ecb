"""Stereo and fusion per photo, and scenes from end to end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.gpu_stages.row import Row, StageOptions
from benchmarks.inference import Meter
from benchmarks.stereo import TrueView, courtyard, score_rendered
from recon.scene import StageRecord

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "examples" / "courtyard" / "images"
_SEED = 21
FRAMES_GOAL = "60 for 100 photos of 640x480"


def rows(options: StageOptions) -> Iterator[Row]:
    """Yield seconds per photo by size, then those of whole scenes, stage by stage."""
    sizes = [(48, 64)] if options.tiny else [(384, 512), (768, 1024)]
    for size in sizes:
        views = courtyard(_SEED, views=3 if options.tiny else 5, size=size)
        yield from _stereo(views, size, options.device)
        yield from _fusion(views, size, options.device)
    if options.tiny:
        return
    yield from _end_to_end("sample photos", SAMPLE, options.device)
    if options.frames is None:
        yield Row("frames end to end", "no --frames DIR given", goal=FRAMES_GOAL)
    else:
        yield from _end_to_end("frames", options.frames, options.device)


def _stereo(
    views: Sequence[TrueView], size: tuple[int, int], device: torch.device
) -> Iterator[Row]:
    meter, what = Meter(device), f"stereo {size[1]}x{size[0]}"
    if device.type == "cuda":  # Libraries choose their kernels when they are first called.
        score_rendered(what, views[:2], device=str(device))
    with meter.running():
        scores = score_rendered(what, views, device=str(device))
    yield Row(f"{what} a photo", meter.seconds / len(views), "s")
    yield Row(f"{what}: error left", scores.after, "% AbsRel", f"{scores.before:.2f} before")
    yield Row(f"{what}: memory", meter.peak_gb, "GB")


def _fusion(
    views: Sequence[TrueView], size: tuple[int, int], device: torch.device
) -> Iterator[Row]:
    """Yield what the volume of true depth takes; meshes are drawn from it on the CPU."""
    from recon.fusion.options import FusionOptions
    from recon.fusion.tsdf import integrate, touched_blocks
    from recon.fusion.usable_depth import usable_depths
    from recon.fusion.voxel_size import automatic_voxel_size
    from recon.scene import Camera, LoadedMaps
    from recon.scene import View as SceneView

    height, width = size
    scene = [
        SceneView(
            f"{k}", Path(f"{k}"), Camera(v.intrinsics, width, height, v.cam_to_world),
            LoadedMaps(v.pixels, v.depth, (v.depth > 0).astype(np.float32)),
        )
        for k, v in enumerate(views)
    ]  # fmt: skip
    options, meter = FusionOptions(), Meter(device)
    depths = usable_depths(scene, options)
    voxel = automatic_voxel_size(depths, options)
    blocks = touched_blocks(depths, voxel, 4 * voxel)
    with meter.running():
        volume = integrate([d.frame() for d in depths], blocks, voxel, 4 * voxel, str(device))
    what = f"fusion {width}x{height}"
    yield Row(f"{what} a photo, {len(blocks)} blocks", meter.seconds / len(views), "s")
    seen = float((volume.weight > 0).float().mean())
    yield Row(f"{what}: voxels that were measured", seen, "share")


def _end_to_end(name: str, photos: Path, device: torch.device) -> Iterator[Row]:
    """Yield the seconds of each stage; without Open3D the surface's is the one that fails."""
    from recon.options import Options
    from recon.pipeline import reconstruct

    stages, meter = _Stages(), Meter(device)
    missing = None
    with meter.running():
        try:
            reconstruct(photos, Options(device=str(device)), listener=stages)
        except ModuleNotFoundError as error:
            missing = error.name
    for stage, seconds in stages.seconds.items():
        yield Row(f"{name}: {stage}", seconds, "s")
    goal = FRAMES_GOAL if name == "frames" else ""
    until = "" if missing is None else f" until {missing} was missing"
    yield Row(f"{name}: in all{until}", meter.seconds, "s", goal)
    yield Row(f"{name}: memory", meter.peak_gb, "GB")


class _Stages:
    """A :class:`recon.progress.StageListener` that keeps what each stage took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def started(self, name: str) -> None:
        """Nothing is to be known before it has ended."""

    def advanced(self, done: int, total: int) -> None:
        """Nor on the way."""

    def finished(self, record: StageRecord) -> None:
        """Keep the seconds of a stage."""
        self.seconds[record.name] = record.seconds
