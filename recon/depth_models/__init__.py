"""Pretrained models that see depth in one photo, of any library, behind one protocol."""

from recon.depth_models.load import load_depth_model
from recon.depth_models.protocol import DepthModel, DepthPrediction, PromptedDepthModel
from recon.depth_models.table import KNOWN_MODELS, KnownModel

__all__ = [
    "KNOWN_MODELS",
    "DepthModel",
    "DepthPrediction",
    "KnownModel",
    "PromptedDepthModel",
    "load_depth_model",
]
