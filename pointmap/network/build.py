"""A configuration to its network."""

from __future__ import annotations

from pointmap.network.config import NetworkConfig
from pointmap.network.dust3r import PointmapNetwork
from pointmap.network.matched.network import MatchedNetwork


def build_network(config: NetworkConfig) -> PointmapNetwork:
    """Return the network that ``config`` describes, with random weights."""
    return MatchedNetwork(config) if config.match_dim else PointmapNetwork(config)
