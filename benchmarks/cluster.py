"""A run on a Ray cluster against the same run here: python -m benchmarks.cluster PHOTOS --out DIR.

The photos (--photos of them, evenly chosen) are reconstructed three times, each in a process of its
own with one thread: here, on a cluster of one node with one core, and on one of two such nodes, all
on this machine and its loopback. Of every stage that runs as tasks: CPU seconds of the tasks and of
the driver, wall seconds, bytes. The speed-up by the clock says little beside other programs; that
by CPU seconds is what all processes computed by what the busiest one did, and leaves out waiting.

--pressure N sends N small pieces through two nodes, and says what lay in their object store.
--simulate N works out from measured costs what N photos would take, with more and more cores, and
with the cameras aligned by one process or in blocks: no photo is touched.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.handed_on import parse
from pointmap.photo_files import find_photos
from recon.evaluation.tables import markdown

NODE = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "include_dashboard": False}
_STORE_BYTES = 200 * 2**20
# Stages of which all or most is tasks, and what is said of each here.
TASK_STAGES = ("Finding features", "Matching", "Predicting pointmaps", "Relative poses", "Depth")
# Tasks that do nothing, to see what one costs the driver.
_EMPTY_TASKS = 400
# Of pieces that only pass through the object store; some are late.
_PIECE_BYTES, _LATE_SECONDS = 2**18, 1.0
# Photos that are aligned together where not all are.
_BLOCK_PHOTOS = 500


@dataclass
class Figures:
    """What one run took: per stage wall and CPU seconds of the driver; per stage of tasks, their
    usage; CPU seconds of Ray's own processes, of worker processes beside their tasks, and of a task
    that does nothing, for the driver.
    """

    nodes: int
    stages: dict[str, tuple[float, float]] = field(default_factory=dict)
    usage: dict[str, dict[str, Any]] = field(default_factory=dict)
    pairs: int = 0
    photos: int = 0
    ray_seconds: float = 0.0
    beside_seconds: float = 0.0
    task_seconds: float = 0.0
    work_bytes: int = 0

    @property
    def driver_seconds(self) -> float:
        """CPU seconds of the driver in the stages that run as tasks elsewhere."""
        return sum(self.stages[name][1] for name in TASK_STAGES if name in self.stages)

    @property
    def worker_seconds(self) -> float:
        """CPU seconds of all tasks but the texture's, whose stage is the driver's."""
        return sum(u["cpu_seconds"] for name, u in self.usage.items() if "Texture" not in name)

    @property
    def wall_seconds(self) -> float:
        """Wall seconds of the stages that run as tasks."""
        return sum(self.stages[name][0] for name in TASK_STAGES if name in self.stages)

    @property
    def out_seconds(self) -> float:
        """Wall seconds in which tasks of these stages were out."""
        return sum(u["seconds"] for name, u in self.usage.items() if "Texture" not in name)

    @property
    def busiest_seconds(self) -> float:
        """CPU seconds that the busiest process spent in tasks."""
        total = Counter[str]()
        for name, usage in self.usage.items():
            if "Texture" not in name:
                total.update(usage["by_process"])
        return max(total.values(), default=0.0)


def run_one(photos: Sequence[Path], out: Path, nodes: int, options: Sequence[str]) -> Figures:
    """Reconstruct the photos here (0 nodes) or on a cluster of some; one thread each."""
    import torch

    from recon.cli import read_command
    from recon.pipeline import reconstruct
    from recon.save import save_scene
    from recon.work.folder import Work
    from recon.work.pieces import PieceMap

    torch.set_num_threads(1)
    command = read_command([*map(str, photos), "--out", str(out), *options])
    figures = Figures(nodes)
    if nodes == 0:
        work = Work(Path(f"{out}.work"), PieceMap())
        scene = reconstruct(photos, command.options, work=work)
    else:
        from ray.cluster_utils import Cluster

        from recon.cluster.connect import pieces_on

        node = NODE | {"object_store_memory": _STORE_BYTES}
        cluster = Cluster(initialize_head=True, head_node_args=node)
        for _ in range(nodes - 1):
            cluster.add_node(**node)
        try:
            with pieces_on(cluster.address) as pieces:
                # Workers start before the clock does.
                _empty(pieces, 4 * nodes)
                pieces.usage.clear()  # type: ignore[attr-defined]
                ray_before, workers_before = _process_seconds()
                work = Work(Path(f"{out}.work"), pieces)
                scene = reconstruct(photos, command.options, work=work)
                ray_after, workers_after = _process_seconds()
                figures.usage = {k: asdict(u) for k, u in pieces.usage.items()}  # type: ignore[attr-defined]
                figures.ray_seconds = ray_after - ray_before
                in_tasks = sum(usage["cpu_seconds"] for usage in figures.usage.values())
                figures.beside_seconds = workers_after - workers_before - in_tasks
                start = time.process_time()
                _empty(pieces, _EMPTY_TASKS)
                figures.task_seconds = (time.process_time() - start) / _EMPTY_TASKS
        finally:
            cluster.shutdown()
    save_scene(scene, out, overwrite=True)
    figures.stages = {stage.name: (stage.seconds, stage.cpu_seconds) for stage in scene.stages}
    figures.pairs, figures.photos = len(scene.pairs), len(scene.views)
    figures.work_bytes = work.size_bytes()
    return figures


def _empty(pieces: Any, count: int) -> None:
    from recon.work.folder import Work
    from recon.work.pieces import Needs

    if pieces._packer.work is None:
        pieces._packer.work = _empty.work = Work()  # type: ignore[attr-defined]
    list(pieces.each(abs, range(count), needs=Needs("nothing", memory_mb=100)))


def under_pressure(count: int) -> str:
    """Return what lies in the object store of two nodes while ``count`` pieces pass through it, the
    first of every thousand late, so that the others' results have to wait.
    """
    import numpy as np
    import psutil
    import ray
    from ray.cluster_utils import Cluster

    from recon.cluster.connect import pieces_on
    from recon.work.pieces import Needs

    def made(number: int) -> Any:
        time.sleep(_LATE_SECONDS if number % 1000 == 0 else 0)
        return np.full(_PIECE_BYTES, number % 251, np.uint8)

    def in_store() -> float:
        left: float = ray.available_resources().get("object_store_memory", 0.0)
        return 2 * _STORE_BYTES - left

    node = NODE | {"object_store_memory": _STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    cluster.add_node(**node)
    try:
        with pieces_on(cluster.address) as pieces:
            _empty(pieces, 8)
            before, process = in_store(), psutil.Process()
            resident, start = process.memory_info().rss, time.process_time()
            store, memory = 0.0, 0
            needs = Needs("pressure", memory_mb=100, per_task=8)
            for number, result in enumerate(pieces.each(made, range(count), needs=needs)):
                assert result[0] == number % 251
                if number % 100 == 0:
                    store = max(store, in_store() - before)
                    memory = max(memory, process.memory_info().rss - resident)
            seconds = time.process_time() - start
    finally:
        cluster.shutdown()
    row = [str(count), f"{count * _PIECE_BYTES / 1e6:.0f}", f"{store / 1e6:.1f}"]
    row += [f"{memory / 1e6:.0f}", f"{1e3 * seconds / count:.2f}"]
    head = ["pieces", "MB in all", "in the object store, most", "driver grew by MB",
            "driver CPU ms a piece"]  # fmt: skip
    return markdown(head, [row])


def _process_seconds() -> tuple[float, float]:
    """Return what Ray's own processes have computed so far, and what the workers have.

    Workers are called ``ray::`` and what they do, or ``ray::IDLE``; a node's agents
    ``ray::DashboardAgent`` and the like. Of workers that have ended their raylet knows.
    """
    import psutil

    own, workers = 0.0, 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            times, title = process.cpu_times(), " ".join(process.cmdline())
        except psutil.Error:
            continue
        workers += times.children_user + times.children_system
        if title.startswith("ray::") and not title.strip().endswith("Agent"):
            workers += times.user + times.system
        else:
            own += times.user + times.system
    return own, workers


def differing(first: Path, second: Path) -> list[str]:
    """Return the files of two scenes that differ, but those that hold times."""
    names = {p.relative_to(f).as_posix() for f in (first, second) for p in f.rglob("*")}
    return sorted(
        name
        for name in names - {"run.json", "report.html"}
        if (first / name).is_file() is not (second / name).is_file()
        or (
            (first / name).is_file() and (first / name).read_bytes() != (second / name).read_bytes()
        )
    )


def compared(figures: Sequence[Figures]) -> str:
    """Return the tables of a run here and on one and two nodes."""
    here, one, two = figures
    tasks = one.worker_seconds
    rows = [
        ["wall s of the stages with tasks", *(f"{f.wall_seconds:.1f}" for f in figures)],
        ["of these, while tasks are out", "-", *(f"{f.out_seconds:.1f}" for f in (one, two))],
        ["CPU s of tasks", "-", f"{tasks:.1f}", f"{two.worker_seconds:.1f}"],
        ["CPU s of the driver in them", *(f"{f.driver_seconds:.1f}" for f in figures)],
        ["CPU s of Ray itself", "-", f"{one.ray_seconds:.1f}", f"{two.ray_seconds:.1f}"],
        [
            "CPU s of workers beside tasks",
            "-",
            f"{one.beside_seconds:.1f}",
            f"{two.beside_seconds:.1f}",
        ],
        ["speed-up by the clock", "", "1", f"{one.wall_seconds / two.wall_seconds:.2f}"],
        ["of the tasks alone", "", "1", f"{one.out_seconds / max(two.out_seconds, 1e-9):.2f}"],
        [
            "speed-up of tasks by CPU seconds",
            "",
            "1",
            f"{two.worker_seconds / max(two.busiest_seconds, 1e-9):.2f}",
        ],
        ["overhead, CPU, workers and driver %", "", *(_overhead(here, f, 0) for f in (one, two))],
        ["overhead with Ray's own %", "", *(_overhead(here, f, 1) for f in (one, two))],
        ["MB with tasks", "", *(f"{_sent(f, 'bytes_out') / 1e6:.1f}" for f in (one, two))],
        ["MB of files in the work folder", *(f"{f.work_bytes / 1e6:.0f}" for f in figures)],
    ]
    stages = [
        [
            name,
            str(usage["pieces"]),
            str(usage["tasks"]),
            f"{usage['cpu_seconds']:.1f}",
            f"{usage['cpu_seconds'] / max(usage['pieces'], 1):.3f}",
            f"{usage['peak_mb']:.0f}",
            f"{usage['bytes_out'] / max(usage['pieces'], 1) / 1e3:.1f}",
            f"{usage['bytes_back'] / max(usage['pieces'], 1) / 1e3:.1f}",
        ]
        for name, usage in two.usage.items()
    ]
    head = ["stage", "pieces", "tasks", "CPU s", "a piece", "peak MB", "kB out a piece", "kB back"]
    return "\n\n".join(
        [
            markdown(["", "here", "one node", "two nodes"], rows),
            markdown(head, stages),
            f"A task that does nothing costs the driver {1e3 * two.task_seconds:.2f} ms.",
        ]
    )


def _overhead(here: Figures, run: Figures, ray: int) -> str:
    spent = run.worker_seconds + run.driver_seconds
    spent += ray * (run.ray_seconds + run.beside_seconds)
    return f"{100 * (spent / here.driver_seconds - 1):.1f}"


def _sent(figures: Figures, name: str) -> int:
    return sum(usage[name] for usage in figures.usage.values())


@dataclass(frozen=True)
class Costs:
    """CPU seconds of one core, measured: docs/cluster.md says where.

    A photo's features, its encoding by the network, its depth by stereo (512x384, five sources);
    a pair's matching, its relative pose, and the network's prediction of one of ``network_pairs``
    a photo; the driver's for a task that it sends; the alignment of a thousand photos, which grows
    with ``exponent``; fusion, files and report for a photo.
    """

    features: float = 0.16
    encoding: float = 0.12
    stereo: float = 3.0
    matching: float = 0.033
    relative_pose: float = 0.038
    network_pair: float = 0.6
    pairs: float = 6.4
    network_pairs: float = 0.6
    task: float = 0.0025
    alignment_of_1000: float = 36.0
    exponent: float = 1.5
    fusion: float = 0.6

    def of_tasks(self, photos: int) -> float:
        """Return what all tasks take."""
        alone = self.features + self.encoding + self.stereo
        paired = self.pairs * (self.matching + self.relative_pose)
        return photos * (alone + paired + self.network_pairs * self.network_pair)

    def of_sending(self, photos: int) -> float:
        """Return what the driver takes to send the tasks and to take in what they bring."""
        # Features; tied depth and six passes of stereo by four; pairs by sixteen, twice; the
        # network by eight batches of four pairs.
        tasks = 1 + 7 / 4 + 2 * self.pairs / 16 + self.network_pairs / 32
        return photos * tasks * self.task

    def of_alignment(self, photos: float) -> float:
        """Return what one process takes to align so many photos at once."""
        return self.alignment_of_1000 * (photos / 1000) ** self.exponent


def simulated(photos: int, costs: Costs) -> str:
    """Return what ``photos`` would take with some numbers of cores.

    Tasks share the cores evenly, and end no sooner than the driver can send them. Cameras are
    aligned and depth is fused by one process, or in blocks that overlap by a tenth: each a task,
    whose frames the driver joins by similarity transforms. The second is not there yet.
    """
    tasks, sending = costs.of_tasks(photos), costs.of_sending(photos)
    whole, fusing = costs.of_alignment(photos), costs.fusion * photos
    blocks = max(1.0, photos / (0.9 * _BLOCK_PHOTOS))
    block = costs.of_alignment(min(photos, _BLOCK_PHOTOS))
    rows = []
    for cores in (1, 8, 32, 128, 512):
        shared = max(tasks / cores, sending)
        aligned = block * max(1.0, blocks / cores)
        fused = costs.fusion * min(photos, _BLOCK_PHOTOS) * max(1.0, blocks / cores)
        parts = shared, whole, aligned, fusing, fused
        sums = shared + whole + fusing, shared + aligned + fusing, shared + aligned + fused
        rows.append([str(cores), *(f"{seconds / 3600:.2f}" for seconds in (*parts, *sums))])
    head = ["cores", "tasks", "alignment", "in blocks", "fusion", "in blocks", "all", "cameras in "
            "blocks", "both in blocks"]  # fmt: skip
    return (
        f"{photos} photos, hours:\n\n{markdown(head, rows)}\n\nTasks: {tasks / 3600:.1f} CPU hours "
        f"in all. The driver: {sending / 3600:.2f} h to send them."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cluster",
        description="A run on a Ray cluster against the same run here.",
    )
    parser.add_argument("photos", nargs="*", help="photo files, folders, patterns")
    parser.add_argument("--out", type=Path, help="folder for scenes and work")
    parser.add_argument("--count", type=int, default=40, help="of the photos, evenly chosen")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--simulate", type=int, help="photos to work out, from measured costs")
    parser.add_argument("--pressure", type=int, help="pieces that pass through the object store")
    parser.add_argument("--one", type=int, help="nodes of a single run: what the command starts")
    given, options = parse(parser, sys.argv[1:] if arguments is None else arguments)
    if given.simulate is not None:
        print(simulated(given.simulate, Costs()))
        return 0
    if given.pressure is not None:
        print(under_pressure(given.pressure))
        return 0
    if given.out is None:
        parser.error("--out is needed")
    photos = find_photos(given.photos)
    photos = [photos[k * len(photos) // given.count] for k in range(min(given.count, len(photos)))]
    if given.one is not None:
        figures = run_one(photos, given.out / f"nodes-{given.one}", given.one, options)
        (given.out / f"nodes-{given.one}.json").write_text(json.dumps(asdict(figures)))
        return 0
    given.out.mkdir(parents=True, exist_ok=True)
    own = {"OMP_NUM_THREADS": "1", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    for nodes in (0, 1, 2):
        shutil.rmtree(given.out / f"nodes-{nodes}.work", ignore_errors=True)
        command = [sys.executable, "-m", "benchmarks.cluster", *map(str, photos)]
        command += ["--out", str(given.out), "--count", str(len(photos)), "--one", str(nodes)]
        subprocess.run([*command, "--", *options], check=True, env=os.environ | own)
    texts = [(given.out / f"nodes-{n}.json").read_text(encoding="utf-8") for n in (0, 1, 2)]
    print(compared([Figures(**json.loads(text)) for text in texts]))
    for nodes in (1, 2):
        different = differing(given.out / "nodes-0", given.out / f"nodes-{nodes}")
        print(f"files that differ on {nodes} nodes: {', '.join(different) or 'none'}")
    if given.json is not None:
        given.json.write_text(f"[{', '.join(texts)}]\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
