"""``python -m recon.evaluation scene | mesh | two-view | depth``: scores of what was found."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from pointmap.command_line import run_subcommand
from pointmap.commands import run_command
from pointmap.errors import InputError
from pointmap.version import answer_version
from recon.evaluation.scene import SceneTruth, read_truth, score_scene
from recon.evaluation.two_view_data import HELD_OUT_SCENES


def scene(folder: tyro.conf.Positional[Path], /, *, truth: Path, depth: Path | None = None) -> None:
    """Score a saved scene and write the scores to standard output as JSON.

    Args:
        folder: Folder that run_recon.py wrote.
        truth: cameras.json with the true K and cam_to_world of each photo.
        depth: Folder of true depth maps; by default depth/ beside the truth, if there.
    """
    scores = score_scene(folder, _truth(truth, depth))
    sys.stdout.write(json.dumps(asdict(scores), indent=2) + "\n")


def _truth(file: Path, depth: Path | None) -> SceneTruth:
    if not os.path.isfile(file):
        raise InputError(f"{file} is no file: give the cameras.json of the true cameras")
    return read_truth(file, depth)


def mesh(
    folder: tyro.conf.Positional[Path],
    /,
    *,
    truth: Path,
    depth: Path | None = None,
    cloud: Path | None = None,
    tolerances: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    file: str = "mesh.ply",
) -> None:
    """Score the mesh of a saved scene and write the scores to standard output as JSON.

    The true cameras bring it into the truth's frame. Depth is right within 0.05 units of the truth
    or 2.5 %.

    Args:
        folder: Folder that run_recon.py wrote.
        truth: cameras.json with the true K and cam_to_world of each photo.
        depth: Folder of true depth maps; by default depth/ beside the truth, if there.
        cloud: PLY with points of the true surface, in the frame of the true cameras.
        tolerances: Distances from that cloud at which accuracy and completeness are told.
        file: The mesh in the folder.
    """
    from recon.evaluation.mesh import mesh_in_truth, score_by_cloud, score_by_depth

    if not all(0 < tolerance < np.inf for tolerance in tolerances):
        raise InputError("--tolerances must be above 0")
    known = _truth(truth, depth)
    surface = mesh_in_truth(folder, known, file=file)
    by_depth = score_by_depth(surface, known)
    by_cloud = None if cloud is None else score_by_cloud(surface, cloud, tolerances)
    if by_depth is None and by_cloud is None:
        raise InputError(f"nothing to score the mesh by: {truth} has no depth maps, and no --cloud")
    scores = {
        "depth": None if by_depth is None else asdict(by_depth),
        "cloud": None if by_cloud is None else [asdict(row) for row in by_cloud],
    }
    sys.stdout.write(json.dumps(scores, indent=2) + "\n")


def two_view(
    scenes: tyro.conf.Positional[tuple[Path, ...]],
    /,
    *,
    weights: str | None = None,
    max_angle: float = 35.0,
    held_out: int = HELD_OUT_SCENES,
    device: str | None = None,
    json: Path | None = None,
) -> None:
    """Score what the network alone knows of two photos, on real pairs and on rendered ones.

    Args:
        scenes: Folders with images/, cameras.json and, where known, depth/ (docs: benchmarks).
        weights: Checkpoint of the network; the bundled one by default.
        max_angle: Score pairs whose cameras are turned by less than this, in degrees.
        held_out: Rendered scenes of the fixed held-out set to score as well, 0 for none.
        device: cpu, cuda or mps; the best one at hand by default.
        json: File for all figures, down to every pair.
    """
    from pointmap.checkpoint import load_network
    from pointmap.inference import choose_device
    from recon.evaluation.tables import two_view_table
    from recon.evaluation.two_view import evaluate_pairs, summarise, summarise_by_overlap
    from recon.evaluation.two_view_data import held_out_scenes, read_posed_photos

    network, chosen = load_network(weights), choose_device(device)
    photographed, rendered, summaries = [], [], {}
    for folder in scenes:
        posed = read_posed_photos(folder, network.config, max_angle_deg=max_angle)
        outcomes = evaluate_pairs(network, posed, device=chosen)
        summaries[posed.name] = summarise(outcomes)
        photographed += outcomes
    if len(scenes) > 1:
        summaries["all real pairs"] = summarise(photographed)
    for posed in held_out_scenes(network.config, scenes=held_out):
        rendered += evaluate_pairs(network, posed, device=chosen)
        sys.stderr.write(f"\r{posed.name}: {len(rendered)} pairs")
    if rendered:
        sys.stderr.write("\n")
        summaries |= summarise_by_overlap(rendered)
    sys.stdout.write(two_view_table(summaries) + "\n")
    if json is not None:
        everything = [asdict(outcome) for outcome in photographed + rendered]
        _write_json(json, {"summary": summaries, "pairs": everything})


def depth(
    folders: tyro.conf.Positional[tuple[Path, ...]],
    /,
    *,
    predicted: Path | None = None,
    png_scale: float = 1000.0,
    weights: str | None = None,
    device: str | None = None,
    json: Path | None = None,
    plots: Path | None = None,
) -> None:
    """Score depth maps by every metric and alignment of the field.

    Args:
        folders: Folders with images/, cameras.json and depth/, or folders of true depth files.
        predicted: Depth to score, of one folder: what run_recon.py wrote, or depth files with the
            truth's names. Without it the photos' depth is computed: each alone, and all together.
        png_scale: 16-bit steps per metre of PNG files: 1000 NYU, 256 KITTI, 5000 TUM. Folders with
            a cameras.json say it themselves.
        weights: Checkpoint of the network; the bundled one by default.
        device: cpu, cuda or mps; the best one at hand by default.
        json: File for all figures.
        plots: Folder for curves and pictures.
    """
    from recon.evaluation.depth_folder import (
        given_depths,
        mean_boundary_f1,
        own_depths,
        score_all,
    )
    from recon.evaluation.depth_plots import write_plots
    from recon.evaluation.tables import depth_table, with_decimals

    if predicted is not None and len(folders) != 1:
        raise InputError(f"--predicted goes with one folder; got {len(folders)}")
    if not png_scale > 0:
        raise InputError("--png-scale must be above 0")
    results: dict[str, Any] = {}
    for folder in folders:
        name = folder.resolve().name
        sets = (
            list(own_depths(folder, weights=weights, device=device))
            if predicted is None
            else [given_depths(folder, predicted, unit=1 / png_scale)]
        )
        results[name] = {}
        for depths in sets:
            rows, f1 = score_all(depths), mean_boundary_f1(depths)
            coverage = rows[0].scores.coverage
            sys.stdout.write(
                f"{name}, {depths.method}: {len(depths.names)} photos, {100 * coverage:.1f} % of "
                f"the true pixels, boundary F1 {with_decimals(f1)}\n\n{depth_table(rows)}\n\n"
            )
            results[name][depths.method] = {"boundary_f1": f1, "photos": depths.names, "rows": rows}
        if plots is not None:
            write_plots(plots, name, sets)
    if json is not None:
        _write_json(json, results)


def _write_json(path: Path, data: dict[str, Any]) -> None:
    from recon.export.json_file import plain, write_json

    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, plain(data))


def main(arguments: list[str] | None = None, prog: str = "python -m recon.evaluation") -> int:
    """Run the command with ``arguments`` (``sys.argv`` by default) and return its exit code."""
    commands: dict[str, Callable[..., None]] = {
        "scene": scene,
        "mesh": mesh,
        "two-view": two_view,
        "depth": depth,
    }
    answer_version(arguments)

    def run() -> int:
        run_subcommand(commands, arguments, prog)
        return 0

    return run_command(run)
