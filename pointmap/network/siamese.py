"""What every pointmap network is: a siamese encoder, and something that decodes pairs of tokens.

The encoder is CroCo's ViT, as DUSt3R (arXiv 2312.14132, section 3.1) uses it: both photos of a pair
go through the same weights. Parameter names are those of the official files.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from pointmap.network.config import NetworkConfig
from pointmap.network.heads import DirectedPrediction
from pointmap.network.layers import DecoderBlock, EncoderBlock, Grid, PatchEmbed
from pointmap.network.tokens import PhotoMaps, PhotoTokens, Size


class PointmapNetwork(nn.Module, ABC):
    """Two photos in; for every pixel of both a 3D point in camera 1's frame and a confidence.

    A photo's tokens depend on that photo alone, so ``encode`` it once and ``decode`` it in every
    pair. (1, 2) and (2, 1) are two predictions; ``decode_both`` gives both.

    Photos are (B, 3, H, W) in [-1, 1], H and W multiples of the patch size; the two photos of a
    pair may differ in size. Runs under ``torch.autocast``; predictions are in float32.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        width = config.enc_embed_dim
        # Only CroCo's pretext task uses the mask token; official files carry it.
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.dec_embed_dim), requires_grad=False)
        self.patch_embed = PatchEmbed(config.patch_size, width)
        self.enc_blocks = nn.ModuleList(
            EncoderBlock(width, config.enc_num_heads, config.mlp_ratio)
            for _ in range(config.enc_depth)
        )
        self.enc_norm = nn.LayerNorm(width, eps=1e-6)

    def encode(self, images: Tensor) -> PhotoTokens:
        """Return the tokens of photos (B, 3, H, W).

        Raises ``ValueError`` for sides that are no multiples of the patch size.
        """
        size = (images.shape[2], images.shape[3])
        return PhotoTokens(self._encoded(self.patch_embed(images), size), size)

    def _encoded(self, patches: Tensor, size: Size) -> Tensor:
        """Embedded patches (B, N, C) through the encoder's blocks."""
        grid = self._grid(size)
        # Under autocast the convolution answers in bf16; the residual stream stays in float32.
        x = patches.to(self.enc_norm.weight.dtype)
        for block in self.enc_blocks:
            x = block(x, grid)
        return self.enc_norm(x)

    def _grid(self, size: Size) -> Grid:
        patch = self.config.patch_size
        if size[0] % patch or size[1] % patch or not all(size):
            raise ValueError(f"photo of {size[0]}x{size[1]} pixels: need multiples of {patch}")
        return Grid(size[0] // patch, size[1] // patch, self.config.rope_base)

    @abstractmethod
    def photo_maps(self, photo: PhotoTokens) -> PhotoMaps:
        """Return what the two heads make of one photo's tokens alone, for use in all its pairs."""

    @abstractmethod
    def decode(self, photos1: PhotoTokens, photos2: PhotoTokens) -> DirectedPrediction:
        """Return the predictions of a batch of B pairs, both sides in camera 1's frame.

        Predictions are in float32 under autocast, too.
        """

    @abstractmethod
    def decode_both(
        self, photos1: PhotoTokens, photos2: PhotoTokens
    ) -> tuple[DirectedPrediction, DirectedPrediction]:
        """Return what ``decode`` says of pairs (1, 2), and of the same pairs as (2, 1)."""

    def forward(self, img1: Tensor, img2: Tensor) -> DirectedPrediction:
        """Return the predictions of pairs of photos (B, 3, H1, W1) and (B, 3, H2, W2)."""
        if img1.shape == img2.shape:
            return self.decode(*self.encode(torch.cat([img1, img2])).halves())
        return self.decode(self.encode(img1), self.encode(img2))


def decoder_blocks(config: NetworkConfig) -> nn.ModuleList:
    """Return the blocks of one decoder, each a :class:`DecoderBlock`."""
    return nn.ModuleList(
        DecoderBlock(config.dec_embed_dim, config.dec_num_heads, config.mlp_ratio)
        for _ in range(config.dec_depth)
    )


def initialise_transformer(network: PointmapNetwork) -> None:
    """Xavier-uniform projections and zero biases, as ViT trainings from scratch use.

    To be called when the decoders are there and before the heads, which start in their own ways.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    nn.init.xavier_uniform_(network.patch_embed.proj.weight.flatten(1))
