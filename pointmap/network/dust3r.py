"""DUSt3R (arXiv 2312.14132): a siamese encoder, two decoders that see each other, two heads.

With MASt3R's head (arXiv 2406.09756) it is that network, too. Parameter names are those of the
official files.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pointmap.network.config import DUSt3RConfig
from pointmap.network.heads import DirectedPrediction, build_head
from pointmap.network.siamese import PointmapNetwork, decoder_blocks, initialise_transformer
from pointmap.network.tokens import PhotoMaps, PhotoTokens


class DUSt3R(PointmapNetwork):
    """The architecture of the paper's figure 2; official checkpoints are weights of it.

    The decoders are not symmetric, the second answers in the frame of the first one's camera: (1,
    2) and (2, 1) are two passes.
    """

    def __init__(self, config: DUSt3RConfig) -> None:
        super().__init__(config)
        self.decoder_embed = nn.Linear(config.enc_embed_dim, config.dec_embed_dim)
        self.dec_blocks = decoder_blocks(config)
        self.dec_norm = nn.LayerNorm(config.dec_embed_dim, eps=1e-6)
        self.dec_blocks2 = decoder_blocks(config)
        initialise_transformer(self)
        self.downstream_head1 = build_head(config)
        self.downstream_head2 = build_head(config)

    def decode_tokens(
        self, photos1: PhotoTokens, photos2: PhotoTokens
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return for both sides [encoder tokens, decoder block 1, ..., last block normalised].

        The decoder's entries are (B, N, dec_embed_dim).
        """
        grid1, grid2 = self._grid(photos1.size), self._grid(photos2.size)
        dtype = self.dec_norm.weight.dtype
        x1, x2 = (self.decoder_embed(photos.values).to(dtype) for photos in (photos1, photos2))
        layers1, layers2 = [photos1.values], [photos2.values]
        for block1, block2 in zip(self.dec_blocks, self.dec_blocks2, strict=True):
            x1, x2 = block1(x1, x2, grid1, grid2), block2(x2, x1, grid2, grid1)
            layers1.append(x1)
            layers2.append(x2)
        layers1[-1], layers2[-1] = self.dec_norm(x1), self.dec_norm(x2)
        return layers1, layers2

    def photo_maps(self, photo: PhotoTokens) -> PhotoMaps:
        """Return what the DPT heads make of a photo's encoder tokens, see the base class."""
        with torch.autocast(photo.values.device.type, enabled=False):
            map1 = self.downstream_head1.photo_map(photo.values, photo.size)
            map2 = self.downstream_head2.photo_map(photo.values, photo.size)
        return PhotoMaps(None if map1 is None else [map1], None if map2 is None else [map2])

    def decode(self, photos1: PhotoTokens, photos2: PhotoTokens) -> DirectedPrediction:
        """Return the predictions of a batch of pairs, see the base class."""
        layers1, layers2 = self.decode_tokens(photos1, photos2)
        with torch.autocast(photos1.values.device.type, enabled=False):
            return DirectedPrediction(
                self.downstream_head1(layers1, photos1.size, photos1.maps.head1),
                self.downstream_head2(layers2, photos2.size, photos2.maps.head2),
            )

    def decode_both(
        self, photos1: PhotoTokens, photos2: PhotoTokens
    ) -> tuple[DirectedPrediction, DirectedPrediction]:
        """Return what ``decode`` says of pairs (1, 2) and of (2, 1), see the base class."""
        if photos1.size != photos2.size:
            return self.decode(photos1, photos2), self.decode(photos2, photos1)
        # One call takes both directions where the sizes let it.
        firsts, seconds = self.decode(photos1.followed_by(photos2), photos2.followed_by(photos1))
        (one1, two2), (two1, one2) = firsts.halves(), seconds.halves()
        return DirectedPrediction(one1, two1), DirectedPrediction(two2, one2)
