"""The network. Needs torch alone, so that it can be trained on a bare machine."""

from pointmap.network.build import build_network
from pointmap.network.config import DUSt3RConfig, MatchedConfig, NetworkConfig
from pointmap.network.dust3r import DUSt3R
from pointmap.network.heads import Prediction
from pointmap.network.matched.network import MatchedNetwork
from pointmap.network.siamese import PointmapNetwork
from pointmap.network.tokens import PhotoTokens

__all__ = [
    "DUSt3R",
    "DUSt3RConfig",
    "MatchedConfig",
    "MatchedNetwork",
    "NetworkConfig",
    "PhotoTokens",
    "PointmapNetwork",
    "Prediction",
    "build_network",
]
