"""The head of a network that matches: depth and confidence."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointmap.network.config import MatchedConfig
from pointmap.network.cpu.steady_layers import PointwiseConv
from pointmap.network.heads import exp_confidence, to_map
from pointmap.network.matched.cell_matches import CELL, FINE_CELL

_FROM_TOKEN, _WIDTH = 24, 64


class DepthHead(nn.Module):
    """Tokens to the logarithm of z-depth, and confidence.

    A linear map gives cells of 8x8 pixels, smooth between them: of every pixel by itself, depth
    would come in steps from patch to patch. Where in a cell an edge runs, and what is thin,
    convolutions over cells of 4x4 pixels see.
    """

    def __init__(self, config: MatchedConfig, channels: int) -> None:
        """``channels``: those of the fine maps."""
        super().__init__()
        self.patch, self.side = config.patch_size, config.patch_size // FINE_CELL
        self.cells = config.patch_size // CELL
        self.conf_mode = config.conf_mode
        width = config.dec_embed_dim
        self.proj = nn.Linear(width, 2 * self.cells**2)
        self.from_tokens = nn.Linear(width, self.side**2 * _FROM_TOKEN)
        self.conv1 = nn.Conv2d(_FROM_TOKEN + channels, _WIDTH, 3, padding=1)
        self.conv2 = nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1)
        self.detail = PointwiseConv(_WIDTH, 2 * FINE_CELL**2)
        # At first a wall in front of the camera, without a grain.
        for last in (self.proj, self.detail):
            nn.init.zeros_(last.weight)
            assert last.bias is not None
            nn.init.zeros_(last.bias)

    def forward(self, tokens: Tensor, fine: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return log depth and confidence, (B, H, W) both, of photos of ``size`` (H, W).

        ``tokens`` (B, N, C) are the decoder's last ones, ``fine`` maps (B, C', H/4, W/4).
        """
        spread = F.pixel_shuffle(to_map(self.from_tokens(tokens), size, self.patch), self.side)
        x = torch.cat([spread, fine], dim=1).contiguous(memory_format=torch.channels_last)
        x = F.relu(self.conv2(F.relu(self.conv1(x))))
        with torch.autocast(x.device.type, enabled=False):
            maps = F.pixel_shuffle(to_map(self.proj(tokens.float()), size, self.patch), self.cells)
            smooth = F.interpolate(maps, size, mode="bilinear", align_corners=False)
            raw = smooth + F.pixel_shuffle(self.detail(x.float()), FINE_CELL)
            return raw[:, 0], exp_confidence(raw[:, 1], self.conf_mode)
