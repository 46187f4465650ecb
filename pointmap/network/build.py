"""A configuration to its network."""

from __future__ import annotations

from pointmap.network.config import DUSt3RConfig, MatchedConfig, NetworkConfig
from pointmap.network.dust3r import DUSt3R
from pointmap.network.matched.network import MatchedNetwork
from pointmap.network.siamese import PointmapNetwork


def build_network(config: NetworkConfig) -> PointmapNetwork:
    """Return the network that ``config`` describes, with random weights from torch's generator.

    Raises ``TypeError`` for a configuration that is of neither architecture.
    """
    if isinstance(config, DUSt3RConfig):
        return DUSt3R(config)
    if isinstance(config, MatchedConfig):
        return MatchedNetwork(config)
    raise TypeError(f"{type(config).__name__} names no architecture")
