"""The network. Needs torch alone, so that it can be trained on a bare machine."""

from pointmap.network.config import NetworkConfig
from pointmap.network.heads import Prediction
from pointmap.network.matched import MatchedNetwork, build_network
from pointmap.network.model import PointmapNetwork

__all__ = ["MatchedNetwork", "NetworkConfig", "PointmapNetwork", "Prediction", "build_network"]
