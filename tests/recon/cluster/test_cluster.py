"""A run on a Ray cluster of two nodes, on loopback alone: the same bits, whatever dies on the way.

The tests go in their order: the last ones take a node away.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from loopback_ray import ray
from synthetic import save_photos, shoot
from tiny_network import write_tiny_network
from tiny_shards import few_textures, files_in, tiny_plan

import pointmap
import recon
from pointmap.errors import InputError
from pointmap.training.generate import write_shards
from recon.cluster.connect import pieces_on
from recon.cluster.generate import write_by_pieces
from recon.cluster.ray_pieces import TRIES, RayPieces
from recon.cluster.run_home import RunHome
from recon.cluster.worker import Source
from recon.fusion import FusionOptions
from recon.options import Options
from recon.reconstruction import Reconstruction
from recon.save import save_scene
from recon.scene import StageRecord
from recon.stereo.view import StereoOptions
from recon.work.folder import Work
from recon.work.pieces import Needs, PiecesFailed

NODE = {
    "num_cpus": 1,
    "node_ip_address": "127.0.0.1",
    "object_store_memory": 80 * 2**20,
    "include_dashboard": False,
}
NEEDS = Needs("a test", memory_mb=100, per_task=3)


@dataclass
class TwoNodes:
    cluster: Any
    second: Any
    pieces: RayPieces


@pytest.fixture(scope="module")
def nodes() -> Iterator[TwoNodes]:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    try:
        # (Ray believes what it is told; nothing here computes on a GPU.)
        second = cluster.add_node(**NODE, num_gpus=1)
        with pieces_on(cluster.address) as pieces:
            assert isinstance(pieces, RayPieces)
            yield TwoNodes(cluster, second, pieces)
    finally:
        cluster.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cluster")
    save_photos(shoot(3, width=256, height=192, span_deg=16), folder / "photos")
    write_tiny_network(folder)
    return folder


def scene_of(folder: Path, work: Work, listener: Any = None) -> Reconstruction:
    options = Options(
        weights=str(folder / "tiny.safetensors"),
        depth_size=64,
        stereo=StereoOptions(max_planes=24),
        fusion=FusionOptions(max_triangles=2000, texture=True),
    )
    return recon.reconstruct(folder / "photos", options, work=work, listener=listener)


def pieces_of(work: Work) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in work.folder.rglob("*.piece")}


def files_of(scene: Reconstruction, out: Path) -> dict[str, bytes]:
    """Save the scene; return its files but those that hold times."""
    save_scene(scene, out)
    files = (path for path in out.rglob("*") if path.is_file())
    timed = ("run.json", "report.html")
    return {path.name: path.read_bytes() for path in files if path.name not in timed}


@dataclass
class Local:
    files: dict[str, bytes]
    pieces: dict[str, bytes]


@pytest.fixture(scope="module")
def local(folder: Path) -> Local:
    """What a run without a cluster makes."""
    work = Work(folder / "local.work")
    return Local(files_of(scene_of(folder, work), folder / "local"), pieces_of(work))


def test_nothing_listens_but_on_loopback(nodes: TwoNodes) -> None:
    hosts = {
        connection.laddr.ip.removeprefix("::ffff:")
        for process in psutil.Process().children(recursive=True)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert hosts == {"127.0.0.1"}


def test_two_nodes_make_the_same_bits(
    nodes: TwoNodes, folder: Path, local: Local, tmp_path: Path
) -> None:
    work = Work(tmp_path / "work", nodes.pieces)
    files = files_of(scene_of(folder, work), folder / "cluster")
    assert files == local.files and pieces_of(work) == local.pieces
    stages = nodes.pieces.usage
    assert {"Finding features", "Matching", "Predicting pointmaps", "Depth: stereo"} <= set(stages)
    assert "Texture: parts of photos" in stages
    assert all(usage.pieces and usage.cpu_seconds >= 0 for usage in stages.values())


def test_nodes_without_the_drivers_files_are_sent_them(
    nodes: TwoNodes, folder: Path, local: Local, tmp_path: Path
) -> None:
    pieces, work = RayPieces(), Work(tmp_path / "work")
    work.mark_as("of another run")
    source = ray.remote(num_cpus=0)(Source).remote()
    home = RunHome("apart", pointmap.__version__, work.folder, "cluster", source)
    pieces._home, pieces._home_reference = home, ray.put(home)
    work.pieces = pieces
    scene_of(folder, work)
    assert pieces_of(work) == local.pieces
    assert home.cache.is_dir()
    assert sum(usage.bytes_back for usage in pieces.usage.values()) > 0
    pieces.close()
    assert not home.cache.exists()


@pytest.mark.parametrize("first_is_last", [False, True])
def test_what_fails_again_and_again_is_named_when_the_rest_is_done(
    nodes: TwoNodes, tmp_path: Path, first_is_last: bool
) -> None:
    tried = tmp_path / "tried"
    tried.touch()

    def made(item: int) -> int:
        if item in (4, 7):
            with tried.open("a") as file:
                file.write(str(item))
            raise ValueError(f"no {item}")
        patience = time.monotonic() + 60
        while first_is_last and item == 0 and time.monotonic() < patience:
            if tried.stat().st_size == 2 * TRIES:
                time.sleep(1)
                break
            time.sleep(0.1)
        return 10 * item

    work = Work()
    nodes.pieces._packer.work = work
    results = []
    with pytest.raises(PiecesFailed) as failed:
        for result in nodes.pieces.each(made, range(10), needs=NEEDS):
            results.append(result)
    assert failed.value.reasons == {4: "ValueError: no 4", 7: "ValueError: no 7"}
    assert results == [0, 10, 20, 30]


def test_input_errors_end_the_run_at_once(nodes: TwoNodes) -> None:
    def made(item: int) -> int:
        raise InputError("mend it")

    with pytest.raises(InputError, match="mend it"):
        list(nodes.pieces.each(made, range(3), needs=NEEDS))


def test_training_shards_are_the_same_bits(
    nodes: TwoNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_textures(monkeypatch)
    here, there = tiny_plan(tmp_path / "here"), tiny_plan(tmp_path / "there")
    write_shards(here)
    # One is there already.
    there.out.mkdir()
    there.path(0).write_bytes(here.path(0).read_bytes())
    write_by_pieces(there, nodes.pieces)
    assert files_in(there.out) == files_in(here.out)
    assert nodes.pieces.usage["Training scenes"].pieces == 1


def test_pieces_for_a_gpu_go_to_one_process_that_stays(nodes: TwoNodes, tmp_path: Path) -> None:
    needs = replace(NEEDS, gpu=True, per_task=2)
    dead = tmp_path / "dead"

    def process(item: int) -> tuple[int, int]:
        return item, os.getpid()

    def dying_once(item: int) -> tuple[int, int]:
        if item == 3 and not dead.exists():
            dead.touch()
            os._exit(1)
        return item, os.getpid()

    def of(make: Callable[[int], tuple[int, int]]) -> int:
        found = list(nodes.pieces.each(make, range(6), needs=needs))
        assert [item for item, _ in found] == list(range(6))
        return found[-1][1]

    nodes.pieces._packer.work = Work()
    first = of(process)
    assert of(process) == first
    assert of(dying_once) != first and dead.exists()


def test_a_cluster_without_a_gpu_says_so(nodes: TwoNodes, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = RayPieces()
    pieces._packer.work = Work()
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    with pytest.raises(InputError, match="--num-gpus"):
        list(pieces.each(str, [1], needs=replace(NEEDS, gpu=True)))
    pieces.close()


class Stopping:
    """Takes a node away when the first depth is there, and ends the run after that stage."""

    def __init__(self, nodes: TwoNodes) -> None:
        self.nodes, self.stage, self.killed = nodes, "", False

    def started(self, name: str) -> None:
        self.stage = name

    def advanced(self, done: int, total: int) -> None:
        if self.stage == "Depth" and not self.killed:
            self.nodes.cluster.remove_node(self.nodes.second, allow_graceful=False)
            self.killed = True

    def finished(self, record: StageRecord) -> None:
        if record.name == "Depth":
            raise KeyboardInterrupt


def test_a_node_dies_then_the_driver_and_the_scene_is_the_same(
    nodes: TwoNodes, folder: Path, local: Local, tmp_path: Path
) -> None:
    stopping = Stopping(nodes)
    with pytest.raises(KeyboardInterrupt):
        scene_of(folder, Work(tmp_path / "work", nodes.pieces), stopping)
    assert stopping.killed
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "work").rglob("*.piece")}
    work = Work(tmp_path / "work", nodes.pieces)
    scene_of(folder, work)
    assert pieces_of(work) == local.pieces
    after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "work").rglob("*.piece")}
    assert before.items() <= after.items()


def test_a_piece_whose_process_dies_each_time_is_given_up(nodes: TwoNodes, tmp_path: Path) -> None:
    def made(item: int) -> int:
        if item == 1:
            (tmp_path / str(time.monotonic_ns())).touch()
            os._exit(1)
        return item

    with pytest.raises(PiecesFailed) as failed:
        list(nodes.pieces.each(made, range(2), needs=replace(NEEDS, per_task=1)))
    assert list(failed.value.reasons) == [1]
    assert len(list(tmp_path.iterdir())) == TRIES
