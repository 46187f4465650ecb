"""Every reader of outside data, with small files that it reads: what is damaged from there on."""

from __future__ import annotations

import argparse
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageCms
from safetensors.torch import save_file
from scene_factory import make_scene
from tiny_network import tiny_config
from video_clips import numbered

from benchmarks.clips import write_clip
from pointmap.checkpoint import load_network
from pointmap.errors import InputError
from pointmap.images import Photo, ResizedPhoto, load_photo, open_photos
from pointmap.network import DUSt3R
from pointmap.video.candidates import candidates_of
from recon.depth_models import load_depth_model
from recon.depth_models.predict_maps import predict_map
from recon.evaluation.depth_files import read_depth_file
from recon.evaluation.scene import read_truth
from recon.export.colmap_cameras import read_colmap_cameras
from recon.export.command import Command, Format, export
from recon.export.depth_npz import read_depth_npz
from recon.export.load import load_scene
from recon.export.ownership import sort_files
from recon.export.ply import read_cloud_ply, read_mesh_ply
from recon.inputs.read_cameras import load_known_cameras
from recon.localise.extension import extended
from recon.localise.solved_scene import read_solved_scene
from recon.prediction.given_maps import read_prior_maps
from recon.save import save_scene
from recon.work.packing import Damaged, pack, unpack
from viz.pages.report import report_html
from viz.pages.scene_page import scene_page_html

PHOTO = Photo(Path("a.jpg"), "a.jpg", 640, 480, None, "one")
EXPORTED: tuple[Format, ...] = (
    "ply", "glb", "obj", "splat", "cameras", "colmap", "nerfstudio", "tum", "depth-png",
)  # fmt: skip
PHOTO_FORMATS: dict[str, tuple[str, dict[str, object]]] = {
    "jpg": ("JPEG", {}),
    "progressive.jpg": ("JPEG", {"progressive": True}),
    "png": ("PNG", {}),
    "webp": ("WEBP", {"method": 0}),
    "tif": ("TIFF", {"compression": "tiff_lzw"}),
    "float.tif": ("TIFF", {}),
    "heic": ("HEIF", {}),
    "bmp": ("BMP", {}),
    "gif": ("GIF", {}),
}


@dataclass(frozen=True)
class Reader:
    """``files``: those that are damaged in turn, in a folder that ``make`` fills; ``read`` it.

    ``read`` returns whether the damaged file was accepted; the only errors it may raise are
    ``InputError`` and ``allowed``.
    """

    name: str
    make: Callable[[Path], list[str]]
    read: Callable[[Path, str], object]
    allowed: type[Exception] = InputError


def photo_reader(ending: str) -> Reader:
    """Return the reader of one format of photos, with EXIF and an ICC profile."""
    kind, options = PHOTO_FORMATS[ending]

    def make(folder: Path) -> list[str]:
        y, x = np.mgrid[:48, :64]
        picture = Image.fromarray(np.stack([4 * x, 5 * y, x * y % 256], -1).astype(np.uint8))
        exif = Image.Exif()
        exif[0x010F], exif[0x0112] = "Maker", 6
        exif.get_ifd(0x8769).update({0x920A: 4.5, 0xA405: 28, 0xA434: "Lens"})
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        extra = {} if kind in ("BMP", "GIF") else {"exif": exif, "icc_profile": profile}
        if kind == "HEIF":
            import pillow_heif

            pillow_heif.register_heif_opener()
        if ending == "float.tif":
            picture = Image.fromarray(np.asarray(picture.convert("L"), np.float32) / 255)
        picture.save(folder / f"a.{ending}", kind, **extra, **options)
        if ending == "float.tif":
            return [f"a.{ending}"]
        picture.convert("P" if kind != "HEIF" else "L").convert(
            "L" if kind in ("JPEG", "WEBP", "HEIF") else "P"
        ).save(folder / f"b.{ending}", kind, **options)
        return [f"a.{ending}", f"b.{ending}"]

    def read(folder: Path, name: str) -> object:
        photos, _ = open_photos([folder / name])
        for photo in photos:
            load_photo(photo, long_side=64, multiple=16)
        return photos

    return Reader(f"photo {ending}", make, read)


def _network(folder: Path) -> DUSt3R:
    torch.manual_seed(0)
    return DUSt3R(tiny_config(32))


def _make_safetensors(folder: Path) -> list[str]:
    network = _network(folder)
    config = {"config": json.dumps(network.config.to_dict())}
    save_file(network.state_dict(), folder / "a.safetensors", config)
    return ["a.safetensors"]


def _make_pth(folder: Path) -> list[str]:
    network = _network(folder)
    arguments = ", ".join(
        f"{k}={v!r}" for k, v in network.config.to_dict().items() if v is not None
    )
    content = {
        "model": network.state_dict(),
        "args": argparse.Namespace(model=f"AsymmetricCroCo3DStereo({arguments})"),
    }
    torch.save(content, folder / "a.pth")
    return ["a.pth"]


def _make_config(folder: Path) -> list[str]:
    network = _network(folder)
    save_file(network.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(network.config.to_dict()))
    return ["config.json"]


def _make_scene(folder: Path) -> list[str]:
    save_scene(make_scene(folder, names=("a.jpg", "b.jpg"), write_photos=True), folder / "scene")
    # As large as a file has to be for the damage to be among what is read first.
    return [
        "scene/cameras.json",
        "scene/run.json",
        "scene/depth/a.npz",
        "scene/points.ply",
        "scene/mesh.ply",
        "scene/colmap/sparse/0/cameras.bin",
        "scene/colmap/sparse/0/images.bin",
        "scene/colmap/sparse/0/points3D.bin",
    ]


def _read_scene(folder: Path, name: str) -> object:
    solved = read_solved_scene(folder / "scene")
    for photo in solved.cameras:
        solved.photo(photo)
        solved.depth(photo)
    read_truth(folder / "scene/cameras.json")
    sort_files(folder / "scene")
    return load_scene(folder / "scene")


def _use_scene(folder: Path, name: str) -> object:
    """Do with a damaged scene what the commands do with one."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    box = (-1e6, -1e6, -1e6, 1e6, 1e6, 1e6)
    export(Command(folder / "scene", EXPORTED, out, crop=box, decimate=50, scale=2.0, up="y"))
    scene = load_scene(folder / "scene")
    report_html(scene)
    scene_page_html(scene)
    return extended(folder / "scene", open_photos([folder / "new.png"])[0])


def _make_used_scene(folder: Path) -> list[str]:
    files = _make_scene(folder)
    Image.new("RGB", (64, 48), "red").save(folder / "new.png")
    return files


def _make_depth_model(folder: Path) -> list[str]:
    from tiny_depth_models import write_model

    write_model("depth-anything", folder / "model")
    return [f"model/{name}" for name in ("config.json", "preprocessor_config.json")] * 2 + [
        "model/model.safetensors"
    ]


def _read_depth_model(folder: Path, name: str) -> object:
    model = load_depth_model(str(folder / "model"), device=torch.device("cpu"))
    return predict_map(model, ResizedPhoto(PHOTO, np.zeros((48, 64, 3), np.uint8)))


def _make_colmap(binary: bool) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        import pycolmap

        from recon.export.colmap import to_pycolmap

        model: pycolmap.Reconstruction = to_pycolmap(make_scene(folder, names=("a.jpg", "b.jpg")))
        (model.write_binary if binary else model.write_text)(str(folder))
        ending = "bin" if binary else "txt"
        return [f"cameras.{ending}", f"images.{ending}"]

    return make


def _make_arrays(ending: str) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        depth = np.linspace(1, 5, 48 * 64).reshape(48, 64).astype(np.float32)
        if ending == "npy":
            np.save(folder / "a.npy", depth)
        elif ending == "npz":
            np.savez_compressed(folder / "a.npz", depth=depth)
        else:
            Image.fromarray((1000 * depth).astype(np.uint16)).save(folder / "a.png")
        return [f"a.{ending}"]

    return make


def _read_arrays(folder: Path, name: str) -> object:
    try:
        return read_depth_file(folder / name, unit=0.001)
    except InputError:
        return read_prior_maps(folder, [PHOTO])


def _make_ply(folder: Path) -> list[str]:
    save_scene(make_scene(folder, names=("a.jpg", "b.jpg")), folder / "scene")
    import trimesh

    mesh = trimesh.creation.box()
    mesh.export(folder / "ascii.ply", encoding="ascii")
    mesh.export(folder / "binary.ply", encoding="binary")
    for name in ("points.ply", "mesh.ply"):
        shutil.move(folder / "scene" / name, folder / name)
    return ["points.ply", "mesh.ply", "ascii.ply", "binary.ply"]


def _read_ply(folder: Path, name: str) -> object:
    try:
        return read_cloud_ply(folder / name)
    except InputError:
        return read_mesh_ply(folder / name)


def _make_work(folder: Path) -> list[str]:
    scene = make_scene(folder, names=("a.jpg", "b.jpg"))
    cameras = tuple(view.camera for view in scene.views)
    (folder / "a.piece").write_bytes(pack((PHOTO.width, {"a": np.eye(3)}, [1.5, None], "text")))
    (folder / "b.piece").write_bytes(pack((cameras, scene.tracks, scene.surface)))
    return ["a.piece", "b.piece"]


def _make_cameras(folder: Path) -> list[str]:
    from recon.export.cameras_json import write_cameras

    write_cameras(folder / "cameras.json", make_scene(folder, names=("a.jpg", "b.jpg")))
    return ["cameras.json"]


def _make_transforms(folder: Path) -> list[str]:
    from recon.export.nerfstudio import write_transforms

    scene = make_scene(folder, names=("a.jpg", "b.jpg"), write_photos=True)
    write_transforms(folder / "transforms.json", scene, scene_folder=folder)
    return ["transforms.json"]


def _make_video(folder: Path) -> list[str]:
    clips = {"a.mp4": "libx264", "b.mkv": "libx265", "c.avi": "mjpeg", "d.webm": "libvpx-vp9"}
    for name, codec in clips.items():
        pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        write_clip(folder / name, map(numbered, range(12)), codec=codec, pixels=pixels)
    return list(clips)


def _read_video(folder: Path, name: str) -> object:
    # Here and not in a process of its own, as a run does, which takes a hundred times as long.
    pictures = folder / "pictures"
    pictures.mkdir(exist_ok=True)
    return candidates_of(folder / name, pictures, "a", on_read=lambda _: None)


def _make_depth(folder: Path) -> list[str]:
    from recon.export.depth_npz import write_depth_npz

    write_depth_npz(folder / "a.npz", make_scene(folder).views[0])
    return ["a.npz"]


READERS = [
    *map(photo_reader, PHOTO_FORMATS),
    Reader("safetensors", _make_safetensors, lambda f, n: load_network(f / n)),
    Reader("pth", _make_pth, lambda f, n: load_network(f / n)),
    Reader("config.json", _make_config, lambda f, n: load_network(f)),
    Reader("cameras.json", _make_cameras, lambda f, n: load_known_cameras(str(f / n), [PHOTO])),
    Reader(
        "transforms.json", _make_transforms, lambda f, n: load_known_cameras(str(f / n), [PHOTO])
    ),
    Reader("video", _make_video, _read_video),
    Reader("COLMAP bin", _make_colmap(True), lambda f, n: load_known_cameras(str(f), [PHOTO])),
    Reader("COLMAP txt", _make_colmap(False), lambda f, n: read_colmap_cameras(f)),
    Reader("depth npy", _make_arrays("npy"), _read_arrays),
    Reader("depth npz", _make_arrays("npz"), _read_arrays),
    Reader("depth png", _make_arrays("png"), _read_arrays),
    Reader("scene's depth", _make_depth, lambda f, n: read_depth_npz(f / n)),
    Reader("PLY", _make_ply, _read_ply),
    Reader("saved scene", _make_scene, _read_scene),
    Reader("scene used", _make_used_scene, _use_scene),
    Reader("depth model", _make_depth_model, _read_depth_model),
    Reader(
        "work", _make_work, lambda f, n: unpack(io.BytesIO((f / n).read_bytes()).read()), Damaged
    ),
]
