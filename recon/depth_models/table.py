"""Pretrained models by short names: what they predict, how large they are, whose licence holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from recon.prediction.affine_fit import MapKind
from recon.pretrained.repository import KnownRepository

Library = Literal["transformers", "diffusers", "onnxruntime"]


@dataclass(frozen=True)
class KnownModel(KnownRepository):
    """A published depth model: the ``library`` that runs it, the ``kind`` of its maps, and its
    ``millions`` of parameters.
    """

    library: Library
    kind: MapKind
    millions: int


def _hf(name: str, id: str, kind: MapKind, millions: int, licence: str) -> KnownModel:
    return KnownModel(name, id, licence, "transformers", kind, millions)


# fmt: off
# Looked up on the models' pages on the hub, 28 November 2026. Where a page names none, the licence
# of the project that publishes the weights stands: Depth Anything V2's metric ones (its README:
# small ones Apache-2.0, larger ones CC-BY-NC-4.0), MoGe-2's small and base files (microsoft/MoGe).
# Intel/dpt-hybrid-midas is not here: it has pickled weights alone.
_V1, _V2 = "LiheYoung/depth-anything", "depth-anything/Depth-Anything-V2"
_APACHE, _NC = "Apache-2.0", "CC-BY-NC-4.0"
KNOWN_MODELS: tuple[KnownModel, ...] = (
    _hf("depth-anything-v2-small", f"{_V2}-Small-hf", "disparity", 25, _APACHE),
    _hf("depth-anything-v2-base", f"{_V2}-Base-hf", "disparity", 97, _NC),
    _hf("depth-anything-v2-large", f"{_V2}-Large-hf", "disparity", 335, _NC),
    _hf("depth-anything-v2-indoor", f"{_V2}-Metric-Indoor-Small-hf", "metres", 25, _APACHE),
    _hf("depth-anything-v2-outdoor", f"{_V2}-Metric-Outdoor-Small-hf", "metres", 25, _APACHE),
    _hf("depth-anything-small", f"{_V1}-small-hf", "disparity", 25, _APACHE),
    _hf("depth-anything-large", f"{_V1}-large-hf", "disparity", 335, _APACHE),
    _hf("midas", "Intel/dpt-large", "disparity", 342, _APACHE),
    _hf("midas-beit", "Intel/dpt-beit-large-512", "disparity", 345, "MIT"),
    _hf("zoedepth", "Intel/zoedepth-nyu-kitti", "metres", 346, "MIT"),
    _hf("glpn-indoor", "vinvino02/glpn-nyu", "metres", 61, _APACHE),
    _hf("glpn-outdoor", "vinvino02/glpn-kitti", "metres", 61, _APACHE),
    _hf("depth-pro", "apple/DepthPro-hf", "metres", 952, "Apple-AMLR (research alone)"),
    _hf("prompt-depth-anything", "depth-anything/prompt-depth-anything-vits-hf", "depth", 25,
        _APACHE),
    KnownModel("moge-2-small", "Ruicheng/moge-2-vits-normal-onnx", "MIT", "onnxruntime", "metres",
               35),
    KnownModel("moge-2-base", "Ruicheng/moge-2-vitb-normal-onnx", "MIT", "onnxruntime", "metres",
               104),
    KnownModel("moge-2-large", "Ruicheng/moge-2-vitl-normal-onnx", "MIT", "onnxruntime", "metres",
               331),
    KnownModel("marigold", "prs-eth/marigold-depth-v1-0", _APACHE, "diffusers", "depth", 949),
)
# fmt: on
