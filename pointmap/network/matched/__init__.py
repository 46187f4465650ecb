"""The bundled network: DUSt3R's encoder and blocks, conditioned on matches and a pose."""

from pointmap.network.matched.network import MatchedNetwork

__all__ = ["MatchedNetwork"]
