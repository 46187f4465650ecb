"""The network. Needs torch alone, so that it can be trained on a bare machine."""

from pointmap.network.build import build_network
from pointmap.network.config import NetworkConfig
from pointmap.network.dust3r import PointmapNetwork
from pointmap.network.heads import Prediction
from pointmap.network.matched.network import MatchedNetwork

__all__ = ["MatchedNetwork", "NetworkConfig", "PointmapNetwork", "Prediction", "build_network"]
