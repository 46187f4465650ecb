"""All options of a reconstruction. The command line is generated from these dataclasses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Literal

from pointmap.errors import InputError
from pointmap.outside.values import FOCAL_RANGE_PX
from recon.alignment import AlignOptions
from recon.alignment.lens_choice import LensKind
from recon.depth.anchored_prior import DepthOptions
from recon.fusion import FusionOptions
from recon.prediction.view_graph import ViewGraphOptions
from recon.stereo.view import StereoOptions
from recon.two_view.chosen_pose import PoseFrom
from recon.two_view.features import FEATURE_LONG_SIDE, FEATURES
from recon.two_view.focal_lengths import FocalOptions
from recon.world.metric_scale import parse_scale

Quality = Literal["draft", "standard", "high"]

_LARGEST = 1e9
# What numbers may be; of all others, that they are finite.
_RANGES = {
    "frames": (1, 100_000),
    "depth-size": (32, 16_384),
    "feature-size": (32, 16_384),
    "features": (100, 100_000),
    "partners": (1, 1000),
    "adapt": (1e-3, 1e6),
    "seed": (0, 2**32 - 1),
    "graph.neighbours": (1, 1e6),
    "graph.complete-up-to": (0, 1e6),
    "graph.centre": (0, 1e6),
    "focal.focal-px": FOCAL_RANGE_PX,
    "align.max-edge-error-deg": (1e-3, 180),
    "align.first-threshold-px": (1e-3, 1e4),
    "align.threshold-px": (1e-3, 1e4),
    "align.min-angle-deg": (0, 90),
    "align.min-observations": (1, 1e6),
    "depth.typical-error": (1e-6, 1e3),
    "stereo.sources": (1, 1000),
    "stereo.max-planes": (8, 4096),
    "stereo.tolerance": (1e-6, 1),
    "stereo.tolerance-px": (1e-3, 1e3),
    "stereo.prior-weight": (0, 1e3),
    "fusion.voxel-size": (1e-9, _LARGEST),
    "fusion.truncation": (1e-9, _LARGEST),
    "fusion.max-depth-jump": (1e-9, 1e3),
    "fusion.max-memory-gb": (1e-3, 1e5),
    "fusion.texture-size": (256, 32_768),
    "fusion.decimate": (1, _LARGEST),
    "fusion.max-points": (1, _LARGEST),
    "fusion.max-triangles": (1, _LARGEST),
    "fusion.min-component": (0, 1),
    "fusion.fill-holes": (0, 1e4),
    "fusion.smooth": (0, 1000),
}


@dataclass(frozen=True)
class Options:
    """How to reconstruct. The defaults were tried on 1 to 100 real photos of a scene."""

    weights: str | None = None
    """Checkpoint of the network: a .safetensors or .pth file, a folder, or a Hugging Face id, such
    as naver/DUSt3R_ViTLarge_BaseDecoder_512_dpt; the bundled one by default."""
    device: str | None = None
    """cpu, cuda or mps; the best one at hand by default."""
    recursive: bool = False
    """Also take the photos in subfolders of the folders given."""
    masks: str | None = None
    """Folder of masks, pictures that are 0 where a photo is to be ignored: NAME.EXT.png for the
    photo NAME.EXT (COLMAP's convention), or NAME.png. Transparent parts of photos are ignored in
    any case."""
    known_cameras: str | None = None
    """Cameras that are known and stay as they are: a cameras.json, nerfstudio's
    transforms.json or a COLMAP model folder."""
    frames: int | None = None
    """How many frames to take from all videos together. By default as many as it takes to follow
    the motion of the camera, at most 300."""
    extend: str | None = None
    """Folder of a scene that the photos are added to: its photos come along, cameras of placed ones
    and the unit of length stay as they are, and --out gets the larger scene."""
    world: Literal["upright", "first-camera"] = "upright"
    """Frame of all coordinates: upright, z up from the floor, as far as the photos tell; or the
    first placed photo's camera. Known cameras, and the scene that is extended, keep theirs."""
    depth_size: int = 512
    """Long side of the depth maps, in pixels. Photos that are smaller keep their size."""
    refine_depth: bool = True
    """Sharpen depth by comparing the photos (plane sweep); off keeps the network's depth."""
    prior_depth: str | None = None
    """Folder of depth or disparity maps of another model, known up to scale and shift: STEM.npy,
    .npz or .png (16 bit) per photo, 0 = unknown. They take the place of the network's depth."""
    depth_model: str | None = None
    """Pretrained model whose depth of single photos takes the place of the network's: a short name
    (depth-anything-v2-small, zoedepth, depth-pro, ...), a Hugging Face id or a folder. Needs pip
    install 'pointmap[models]'."""
    matcher: str = "auto"
    """What matches photos. sift: key points of SIFT. xfeat, disk, aliked, loftr, efficientloftr, a
    Hugging Face id or a folder: that learned matcher for all pairs. auto: SIFT, and for up to 6
    photos, or pairs that SIFT leaves open, the first of xfeat, disk, aliked and loftr whose weights
    are here. Needs pip install 'pointmap[models]'."""
    adapt: float | None = None
    """Seconds to adapt the network to these very photos (60 to 300); kept only if it helps."""
    lens: LensKind = "auto"
    """What lenses may be. auto: a pinhole with one radial coefficient and a principal point near
    the photo's middle; where the photos show it a second one, a principal point far off, or a
    fisheye. pinhole: nothing bends, the principal point in the middle. radial: as auto, but no
    fisheye. fisheye: all photos were taken with one."""
    pose_from: PoseFrom = "auto"
    """What tells how two photos stand to each other. auto: their feature matches, and pointmaps
    where those fail. matches: feature matches alone (essential matrix). procrustes, pnp: the
    network's pointmaps, registered with each other or solved by PnP in RANSAC."""
    seed: int = 0
    """Seed of every random choice."""
    depth_products: bool = False
    """Also write inverse depth, ray distance, normals and edges of each photo, with pictures."""
    scale_from: str | None = None
    """What tells metres: baseline:A.jpg,B.jpg,METRES between two cameras;
    points:A.jpg,X1,Y1,X2,Y2,METRES between two pixels; cameras:FILE, a cameras.json with positions
    in metres; network, for a checkpoint that predicts metres; or model, for a --depth-model that
    does."""
    all_scenes: bool = False
    """Where the photos show several places that nothing ties together, also reconstruct the
    smaller ones: scene-2, scene-3, ... in the output folder."""
    feature_size: int = FEATURE_LONG_SIDE
    """Long side, in pixels, at which key points are looked for. Photos that are smaller keep their
    size."""
    features: int = FEATURES
    """How many key points of each photo are matched, those of the highest contrast and the
    largest size."""
    partners: int | None = None
    """With how many photos that match it the network looks at each photo, for its depth and where
    features leave a question. None: three of up to 20 photos, one of more."""
    graph: ViewGraphOptions = field(default_factory=ViewGraphOptions)
    focal: FocalOptions = field(default_factory=FocalOptions)
    align: AlignOptions = field(default_factory=AlignOptions)
    depth: DepthOptions = field(default_factory=DepthOptions)
    stereo: StereoOptions = field(default_factory=StereoOptions)
    fusion: FusionOptions = field(default_factory=FusionOptions)

    def check(self) -> None:
        """Raise ``InputError`` for values that no scene can be made with."""
        for name, value in _numbers(asdict(self)):
            low, high = _RANGES.get(name, (-_LARGEST, _LARGEST))
            # Written so that NaN fails.
            if not low <= value <= high:
                raise InputError(
                    f"--{name} must be between {low:.10g} and {high:.10g}; got {value:.10g}"
                )
        if self.adapt is not None and not self.refine_depth:
            raise InputError("--adapt learns from refined depth: leave out --no-refine-depth")

        if self.depth_model is not None and self.prior_depth is not None:
            raise InputError(
                "--depth-model and --prior-depth both give the depth of single photos: leave out "
                "one of the two"
            )
        if self.extend is not None and self.known_cameras is not None:
            raise InputError(
                "--extend takes the cameras of the scene, --known-cameras those of a file: leave "
                "out one of the two"
            )
        if self.extend is not None and self.scale_from is not None:
            raise InputError("--extend keeps the scene's unit of length: leave out --scale-from")
        if self.scale_from is not None:
            parse_scale(self.scale_from)
        box = self.fusion.crop
        if box is not None and not all(
            low < high for low, high in zip(box[:3], box[3:], strict=True)
        ):
            raise InputError("--fusion.crop takes x y z of the low corner, then of the high corner")

    @staticmethod
    def of_quality(quality: Quality) -> Options:
        """Return the options of a quality, of which ``dataclasses.replace`` changes single ones.

        draft: a coarse coloured mesh, soon. standard: the defaults. high: depth at twice the size.
        """
        if quality == "draft":
            return Options(
                depth_size=256,
                feature_size=800,
                features=2048,
                partners=1,
                stereo=StereoOptions(sources=3, max_planes=96, planes=False),
                fusion=FusionOptions(max_triangles=300_000),
            )
        if quality == "high":
            return Options(depth_size=1024, fusion=FusionOptions(max_triangles=10_000_000))
        return Options()

    def to_dict(self) -> dict[str, object]:
        """Return the options as nested plain values, for run.json."""
        return asdict(self)


def _numbers(options: object, name: str = "") -> Iterator[tuple[str, float]]:
    """Yield every number among nested options, under its name on the command line."""
    if isinstance(options, dict):
        for key, value in options.items():
            yield from _numbers(value, f"{name}.{key}".strip(".").replace("_", "-"))
    elif isinstance(options, (tuple, list)):
        for value in options:
            yield from _numbers(value, name)
    elif isinstance(options, (int, float)) and not isinstance(options, bool):
        yield name, options
