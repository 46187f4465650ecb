"""A configuration to its network."""

from __future__ import annotations

from pointmap.network.config import NetworkConfig
from pointmap.network.dust3r import DUSt3R
from pointmap.network.matched.network import MatchedNetwork
from pointmap.network.siamese import PointmapNetwork


def build_network(config: NetworkConfig) -> PointmapNetwork:
    """Return the network that ``config`` describes, with random weights."""
    return MatchedNetwork(config) if config.match_dim else DUSt3R(config)
