"""Matchers of the kornia library: key points of XFeat, DISK or ALIKED under LightGlue, and LoFTR.

Weights are downloaded by kornia, once, into torch's cache (``$TORCH_HOME/hub/checkpoints``).
"""

from __future__ import annotations

import hashlib
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array
from pointmap.errors import InputError, first_line
from pointmap.file_digest import file_sha256
from recon.matchers.protocol import FoundMatches, Matcher
from recon.work.content_key import content_key

if TYPE_CHECKING:
    import torch

_LEAST_VERSION = (0, 9)
_KEY_POINTS = 2048
# Photos whose key points are remembered: each is matched with several others.
_REMEMBERED = 32


@dataclass(frozen=True)
class KnownMatcher:
    """One of the library's matchers: its weights' ``files`` in torch's cache, their licence, the
    size of pictures that it is given, and the accuracy of its matches there if it was measured
    (benchmarks.matchers).
    """

    name: str
    files: tuple[str, ...]
    licence: str
    long_side: int
    sigma_px: float | None


# fmt: off
KORNIA_MATCHERS = (
    KnownMatcher("xfeat", ("xfeat.pt", "xfeat-lighterglue.pt"), "Apache-2.0", 1024, 0.6),
    KnownMatcher("disk", ("depth-save.pth", "disk_lightglue_v0-1_arxiv-pth"), "Apache-2.0",
                 1024, None),
    KnownMatcher("aliked", ("aliked-n16.pth", "aliked_lightglue_v0-1_arxiv-pth"), "BSD-3-Clause",
                 1024, None),
    KnownMatcher("loftr", ("loftr_outdoor.ckpt",), "Apache-2.0", 640, None),
)
# fmt: on


def kornia_is_installed() -> bool:
    """Return whether a version that fits is installed, without importing it."""
    try:
        return tuple(int(part) for part in version("kornia").split(".")[:2]) >= _LEAST_VERSION
    except PackageNotFoundError:
        return False


def weights_are_here(known: KnownMatcher) -> bool:
    """Return whether all of a matcher's weights are in torch's cache."""
    return all((_cache() / name).is_file() for name in known.files)


def load_kornia_matcher(known: KnownMatcher, *, device: torch.device) -> Matcher:
    """Return a matcher, its weights downloaded unless they are in torch's cache.

    Raises ``InputError`` where they cannot be had, and without a fitting version of kornia.
    """
    if not kornia_is_installed():
        raise InputError(
            f"--matcher {known.name} needs the package kornia, 0.9 or newer: "
            "pip install -U 'pointmap[models]'"
        )
    try:
        # Of each try to download, on the way to the error that is told below.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if known.name == "loftr":
                return _Loftr.load(known, device)
            return _KeyPointMatcher.load(known, device)
    except Exception as error:  # unpickling raises anything on a damaged file
        raise InputError(
            f"--matcher {known.name}: its weights cannot be had ({first_line(error)}); go online "
            f"once, or put {' and '.join(known.files)} into {_cache()}"
        ) from error


def _cache() -> Path:
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


@dataclass(frozen=True)
class _KorniaMatcher:
    """What all of them have in common."""

    known: KnownMatcher
    device: torch.device

    @property
    def name(self) -> str:
        """Its short name."""
        return self.known.name

    @property
    def licence(self) -> str:
        """Of its weights."""
        return self.known.licence

    @property
    def long_side(self) -> int:
        return self.known.long_side

    @property
    def sigma_px(self) -> float | None:
        return self.known.sigma_px

    @property
    def content_key(self) -> str:
        """Equal for equal weights."""
        digests = [file_sha256(_cache() / name) for name in self.known.files]
        return content_key("kornia matcher", 1, self.known, version("kornia"), digests)

    def tensor(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        """Return a picture (1, 3, h, w) in [0, 1] on the device."""
        import torch

        planes = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]
        return planes.to(self.device).float() / 255


@dataclass(frozen=True)
class _KeyPointMatcher(_KorniaMatcher):
    """Key points of single photos, matched by LightGlue (LighterGlue for XFeat)."""

    detect: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    light_glue: Any
    remembered: OrderedDict[bytes, tuple[torch.Tensor, torch.Tensor]] = field(
        default_factory=OrderedDict, compare=False
    )

    @staticmethod
    def load(known: KnownMatcher, device: torch.device) -> _KeyPointMatcher:
        from kornia import feature

        if known.name == "xfeat":
            xfeat = feature.XFeat.from_pretrained(top_k=_KEY_POINTS)
            xfeat.to(device)

            def detect(picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
                (found,) = xfeat.detectAndCompute(picture)
                return found["keypoints"], found["descriptors"]

        else:
            if known.name == "disk":
                network: Any = feature.DISK.from_pretrained("depth", device=device)
                options: dict[str, Any] = {"n": _KEY_POINTS, "pad_if_not_divisible": True}
            else:
                network = feature.ALIKED.from_pretrained(
                    "aliked-n16", max_num_keypoints=_KEY_POINTS, device=device
                )
                options = {}

            def detect(picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
                (found,) = network(picture, **options)
                return found.keypoints, found.descriptors

        light_glue = feature.LightGlue(features=known.name).eval().to(device)
        return _KeyPointMatcher(known, device, detect, light_glue)

    def match(self, pixels_i: NDArray[np.uint8], pixels_j: NDArray[np.uint8]) -> FoundMatches:
        """Return the matches of two pictures (h, w, 3)."""
        import torch

        with torch.inference_mode():
            sides = []
            for pixels in (pixels_i, pixels_j):
                xy, descriptors = self._key_points(pixels)
                size = torch.tensor([pixels.shape[1::-1]], device=self.device)
                sides.append((xy, descriptors, size))
            if min(len(xy) for xy, _, _ in sides) < 2:
                none = np.zeros(0, np.int64)
                return FoundMatches(np.zeros((0, 2)), np.zeros((0, 2)), none, none)
            given = {
                f"image{n}": {"keypoints": xy[None], "descriptors": d[None], "image_size": size}
                for n, (xy, d, size) in enumerate(sides)
            }
            index = self.light_glue(given)["matches"][0].cpu().numpy().astype(np.int64)
        xy_i, xy_j = (_centred(xy) for xy, _, _ in sides)
        return FoundMatches(xy_i[index[:, 0]], xy_j[index[:, 1]], index[:, 0], index[:, 1])

    def _key_points(self, pixels: NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return key points (K, 2), pixel centres at integers, and descriptors (K, C)."""
        name = hashlib.sha256(pixels.tobytes()).digest()
        if name not in self.remembered:
            self.remembered[name] = self.detect(self.tensor(pixels))
            if len(self.remembered) > _REMEMBERED:
                self.remembered.popitem(last=False)
        self.remembered.move_to_end(name)
        return self.remembered[name]


def _centred(xy: torch.Tensor) -> Array:
    """Return positions with pixel centres at +0.5; kornia has them at integers."""
    return np.asarray(xy.double().cpu().numpy() + 0.5, np.float64)


@dataclass(frozen=True)
class _Loftr(_KorniaMatcher):
    """LoFTR: matches without key points, on grids of both pictures."""

    network: Any

    @staticmethod
    def load(known: KnownMatcher, device: torch.device) -> _Loftr:
        from kornia import feature

        return _Loftr(known, device, feature.LoFTR(pretrained="outdoor").eval().to(device))

    def match(self, pixels_i: NDArray[np.uint8], pixels_j: NDArray[np.uint8]) -> FoundMatches:
        """Return the matches of two pictures (h, w, 3)."""
        import torch

        with torch.inference_mode():
            greys = [self._grey(pixels) for pixels in (pixels_i, pixels_j)]
            found = self.network({"image0": greys[0], "image1": greys[1]})
        # Its pixel centres are at +0.5, unlike the rest of the library's.
        xy_i, xy_j = (
            np.asarray(found[key].double().cpu().numpy(), np.float64)
            for key in ("keypoints0", "keypoints1")
        )
        return FoundMatches(xy_i, xy_j)

    def _grey(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        import torch

        # Luma of ITU-R BT.601, as JPEG has it.
        luma = torch.tensor([0.299, 0.587, 0.114], device=self.device)
        return (self.tensor(pixels) * luma[None, :, None, None]).sum(1, keepdim=True)
