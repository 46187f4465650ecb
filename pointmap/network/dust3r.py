"""The pointmap network: DUSt3R's architecture (arXiv 2312.14132), official parameter names."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pointmap.network.config import NetworkConfig
from pointmap.network.heads import PhotoMaps, Prediction, build_head
from pointmap.network.layers import DecoderBlock, EncoderBlock, Grid, PatchEmbed

Size = tuple[int, int]
OneWay = tuple[Prediction, Prediction]
"""Of the two photos of pairs, both in the frame of the first one's camera."""


class PointmapNetwork(nn.Module):
    """Two photos in; for every pixel of both a 3D point in camera 1's frame and a confidence.

    A photo's tokens depend on that photo alone, so ``encode`` it once and ``decode`` it in every
    pair. The decoder is not symmetric: (1, 2) and (2, 1) are two passes.

    Photos are (B, 3, H, W) in [-1, 1], H and W multiples of the patch size; the two photos of a
    pair may differ in size. Runs under ``torch.autocast``; the heads stay in float32.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        enc, dec = config.enc_embed_dim, config.dec_embed_dim

        def decoder() -> nn.ModuleList:
            blocks = (
                DecoderBlock(dec, config.dec_num_heads, config.mlp_ratio)
                for _ in range(config.dec_depth)
            )
            return nn.ModuleList(blocks)

        # Only CroCo's pretext task uses the mask token; official files carry it.
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dec), requires_grad=False)
        self.patch_embed = PatchEmbed(config.patch_size, enc)
        self.enc_blocks = nn.ModuleList(
            EncoderBlock(enc, config.enc_num_heads, config.mlp_ratio)
            for _ in range(config.enc_depth)
        )
        self.enc_norm = nn.LayerNorm(enc, eps=1e-6)
        self.decoder_embed = nn.Linear(enc, dec)
        self.dec_blocks = decoder()
        self.dec_norm = nn.LayerNorm(dec, eps=1e-6)
        self.dec_blocks2 = decoder()
        self._initialise()
        self.downstream_head1 = build_head(config)
        self.downstream_head2 = build_head(config)

    def _initialise(self) -> None:
        """Xavier-uniform projections and zero biases, as ViT trainings from scratch use."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.patch_embed.proj.weight.view(self.config.enc_embed_dim, -1))

    def _grid(self, size: Size) -> Grid:
        patch = self.config.patch_size
        if size[0] % patch or size[1] % patch or not all(size):
            raise ValueError(f"photo of {size[0]}x{size[1]} pixels: need multiples of {patch}")
        return Grid(size[0] // patch, size[1] // patch, self.config.rope_base)

    def encode(self, images: Tensor) -> Tensor:
        """Return the tokens (B, N, C) of photos (B, 3, H, W), N patches row-major."""
        return self._encoded(self.patch_embed(images), (images.shape[2], images.shape[3]))

    def _encoded(self, patches: Tensor, size: Size) -> Tensor:
        """Embedded patches (B, N, C) through the encoder's blocks."""
        grid = self._grid(size)
        # Under autocast the convolution answers in bf16; the residual stream stays in float32.
        x = patches.to(self.enc_norm.weight.dtype)
        for block in self.enc_blocks:
            x = block(x, grid)
        return self.enc_norm(x)

    def decode_tokens(
        self, tokens1: Tensor, tokens2: Tensor, size1: Size, size2: Size
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return for both sides [encoder tokens, decoder block 1, ..., last block normalised].

        ``tokens1`` (B, N1, C) and ``tokens2`` (B, N2, C) come from ``encode``, sizes are (H, W) in
        pixels. The decoder's entries are (B, N, dec_embed_dim).
        """
        grid1, grid2 = self._grid(size1), self._grid(size2)
        dtype = self.dec_norm.weight.dtype
        x1, x2 = self.decoder_embed(tokens1).to(dtype), self.decoder_embed(tokens2).to(dtype)
        layers1, layers2 = [tokens1], [tokens2]
        for block1, block2 in zip(self.dec_blocks, self.dec_blocks2, strict=True):
            x1, x2 = block1(x1, x2, grid1, grid2), block2(x2, x1, grid2, grid1)
            layers1.append(x1)
            layers2.append(x2)
        layers1[-1], layers2[-1] = self.dec_norm(x1), self.dec_norm(x2)
        return layers1, layers2

    def photo_maps(self, tokens: Tensor, size: Size) -> tuple[Tensor | None, Tensor | None]:
        """Return what the two heads make of a photo's tokens alone, to be used in all its pairs.

        ``tokens`` (1, N, C) come from ``encode``. None for heads that have no such part.
        """
        with torch.autocast(tokens.device.type, enabled=False):
            return (
                self.downstream_head1.photo_map(tokens, size),
                self.downstream_head2.photo_map(tokens, size),
            )

    def decode(
        self,
        tokens1: Tensor,
        tokens2: Tensor,
        size1: Size,
        size2: Size,
        maps: tuple[PhotoMaps, PhotoMaps] = (None, None),
    ) -> tuple[Prediction, Prediction]:
        """Return the predictions of a batch of pairs from their tokens, both in camera 1's frame.

        ``tokens1`` (B, N1, C) and ``tokens2`` (B, N2, C) come from ``encode``, sizes are (H, W) in
        pixels. ``maps`` are the ``photo_maps`` of side 1's photos for head 1 and of side 2's for
        head 2, made here where they are None. Predictions are in float32 under autocast, too.
        """
        layers1, layers2 = self.decode_tokens(tokens1, tokens2, size1, size2)
        with torch.autocast(tokens1.device.type, enabled=False):
            return (
                self.downstream_head1(layers1, size1, maps[0]),
                self.downstream_head2(layers2, size2, maps[1]),
            )

    def decode_both(
        self,
        tokens1: Tensor,
        tokens2: Tensor,
        size1: Size,
        size2: Size,
        maps1: Sequence[PhotoMaps] = (None, None),
        maps2: Sequence[PhotoMaps] = (None, None),
    ) -> tuple[OneWay, OneWay]:
        """Return what ``decode`` says of pairs (1, 2), and of the same pairs as (2, 1).

        ``maps1`` are the ``photo_maps`` of photos 1 for both heads, ``maps2`` those of photos 2;
        the rest as for ``decode``.
        """
        if size1 != size2:
            return (
                self.decode(tokens1, tokens2, size1, size2, (maps1[0], maps2[1])),
                self.decode(tokens2, tokens1, size2, size1, (maps2[0], maps1[1])),
            )
        # One call takes both directions where the sizes let it.
        firsts, seconds = self.decode(
            torch.cat([tokens1, tokens2]),
            torch.cat([tokens2, tokens1]),
            size1,
            size2,
            (_in_a_row(maps1[0], maps2[0]), _in_a_row(maps2[1], maps1[1])),
        )
        (one1, two2), (two1, one2) = firsts.halves(), seconds.halves()
        return (one1, two1), (two2, one2)

    def forward(self, img1: Tensor, img2: Tensor) -> tuple[Prediction, Prediction]:
        """Return the predictions of pairs of photos (B, 3, H1, W1) and (B, 3, H2, W2)."""
        size1, size2 = (img1.shape[2], img1.shape[3]), (img2.shape[2], img2.shape[3])
        if size1 == size2:
            tokens1, tokens2 = self.encode(torch.cat([img1, img2])).chunk(2)
        else:
            tokens1, tokens2 = self.encode(img1), self.encode(img2)
        return self.decode(tokens1, tokens2, size1, size2)


def _in_a_row(maps1: PhotoMaps, maps2: PhotoMaps) -> PhotoMaps:
    return None if maps1 is None or maps2 is None else [*maps1, *maps2]
