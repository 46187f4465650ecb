"""Photos of several places in one folder: one scene each, and never one of both."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from synthetic import ROOM, Plane, Shot, render, save_photo, shoot
from tiny_network import write_tiny_network

from pointmap.camera import pinhole
from recon.cli import main
from recon.export import load_scene
from recon.options import Options
from recon.pipeline import reconstruct
from recon.reconstruction import Reconstruction


def other_room() -> tuple[Plane, ...]:
    return tuple(
        # The texture is solid: elsewhere in space it is another one.
        Plane(surface.normal, surface.offset + 0.37)
        for surface in ROOM
        if isinstance(surface, Plane)
    )


@pytest.fixture(scope="module")
def shots() -> dict[str, Shot]:
    first = shoot(4, width=240, height=180, span_deg=24)
    second = shoot(3, width=240, height=180, span_deg=20, surfaces=other_room(), wavelength=0.17)
    return {f"a{k}.png": s for k, s in enumerate(first)} | {
        f"b{k}.png": s for k, s in enumerate(second)
    }


@pytest.fixture(scope="module")
def folder(shots: dict[str, Shot], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("places")
    # Mixed: neither comes first.
    for number, name in enumerate(sorted(shots, key=lambda name: name[::-1])):
        save_photo(shots[name], folder / "photos" / f"{number}-{name}")
    write_tiny_network(folder)
    return folder


def place_of(name: str) -> str:
    return name.split("-")[1][0]


def test_each_place_becomes_a_scene_in_its_own_folder(
    folder: Path, shots: dict[str, Shot], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(folder / "photos"), "--weights", str(folder / "tiny.safetensors")]
    arguments += ["--depth-size", "96", "--no-refine-depth", "--all-scenes", "--keep-work"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    assert "2: this one, and scene-2" in capsys.readouterr().out
    for scene_folder, place, count in (("out", "a", 4), ("out/scene-2", "b", 3)):
        scene = load_scene(tmp_path / scene_folder)
        placed = [view for view in scene.views if view.registered]
        assert len(placed) == count and {place_of(view.name) for view in placed} == {place}
        assert len(scene.surface.faces) and (tmp_path / scene_folder / "report.html").is_file()
        true = [shots[view.name.split("-")[1]].cam_to_world for view in placed]
        for (a, b), (p, q) in zip(pairwise(placed), pairwise(true), strict=True):
            assert a.camera.cam_to_world is not None and b.camera.cam_to_world is not None
            found = a.camera.cam_to_world[:3, :3].T @ b.camera.cam_to_world[:3, :3]
            assert np.abs(found - p[:3, :3].T @ q[:3, :3]).max() < 0.02
    # The whole is one output: replaced as such.
    assert main([*arguments, "--out", str(tmp_path / "out"), "--overwrite"]) == 0


@pytest.fixture(scope="module")
def largest(folder: Path) -> Reconstruction:
    options = Options(weights=str(folder / "tiny.safetensors"), depth_size=64, refine_depth=False)
    return reconstruct(folder / "photos", options)


def test_without_the_option_the_other_places_are_told(largest: Reconstruction) -> None:
    scene = largest
    assert [len(names) for names in scene.other_places] == [3] and scene.further == ()
    assert {place_of(name) for name in scene.other_places[0]} == {"b"}
    assert any("3 more photos show another place" in text for text in scene.warnings)


def test_run_json_names_the_places(largest: Reconstruction, tmp_path: Path) -> None:
    out = largest.save(tmp_path / "out")
    run = json.loads((out / "run.json").read_text())
    assert [sorted(map(place_of, names)) for names in run["other_places"]] == [["b", "b", "b"]]
    assert load_scene(out).other_places == tuple(map(tuple, run["other_places"]))


def test_another_place_has_zooms_of_its_own(folder: Path, tmp_path: Path) -> None:
    size = {"width": 240, "height": 180}
    first = shoot(6, span_deg=30, **size)
    second = shoot(5, span_deg=26, surfaces=other_room(), wavelength=0.17, **size)
    for k in (1, 3):
        K = pinhole(1.5 * 0.95 * 240, 240, 180)
        pose = second[k].cam_to_world
        second[k] = render(K, pose, 240, 180, surfaces=other_room(), wavelength=0.17)
    for place, shots in (("a", first), ("b", second)):
        for k, shot in enumerate(shots):
            save_photo(shot, tmp_path / f"{place}{k}.png")
    weights = str(folder / "tiny.safetensors")
    options = Options(weights=weights, depth_size=64, refine_depth=False, all_scenes=True)
    (other,) = reconstruct(tmp_path, options).further
    focals = {v.name: v.camera.intrinsics[0, 0] for v in other.views if v.registered}
    assert sorted(focals) == [f"b{k}.png" for k in range(5)]
    for name, focal in focals.items():
        assert abs(focal / (342 if name in ("b1.png", "b3.png") else 228) - 1) < 0.03
