"""A pointmap network that is told where two photos match; the bundled one's architecture.

DUSt3R's decoder has to find matches, turn them into a pose and turn points by it, and learns all of
that from the error of points alone. With the compute of a laptop it doesn't. Here convolutions find
the matches (:mod:`pointmap.network.matched.matcher`), a robust solver makes the pose of them
(:mod:`pointmap.network.matched.pose_solver`), and the decoder is told both, as Rockwell et al.
(arXiv 2208.08988) give a transformer the eight-point algorithm. It answers with each photo's points
in its own camera's frame, and the pose puts them together, as VGGT (arXiv 2503.11651) composes
points of depth and cameras. So both sides do the same, with one decoder and one head.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pointmap.network.config import MatchedConfig
from pointmap.network.heads import DirectedPrediction, Prediction
from pointmap.network.matched.cell_matches import Comparison, pinhole_rays, pixel_centres_torch
from pointmap.network.matched.depth_bending import bent
from pointmap.network.matched.depth_head import DepthHead
from pointmap.network.matched.matcher import DETAIL, Matcher, Placement, Side, usual_focal
from pointmap.network.siamese import PointmapNetwork, decoder_blocks, initialise_transformer
from pointmap.network.tokens import NO_MAPS, PhotoMaps, PhotoTokens, Size


class OwnFrames(NamedTuple):
    """What the network says of pairs before the pose puts their photos together."""

    view1: Prediction
    """Photo 1 in camera 1's frame, in a scale of its own."""
    view2: Prediction
    """Photo 2 in camera 2's frame, in a scale of its own."""
    placement: Placement


class MatchedNetwork(PointmapNetwork):
    """Matches, their pose, and one decoder that is told both.

    Tokens of ``encode`` are the encoder's channels, then descriptors of the photo's cells.
    """

    def __init__(self, config: MatchedConfig) -> None:
        super().__init__(config)
        self.decoder_embed = nn.Linear(config.enc_embed_dim, config.dec_embed_dim)
        self.dec_blocks = decoder_blocks(config)
        self.dec_norm = nn.LayerNorm(config.dec_embed_dim, eps=1e-6)
        initialise_transformer(self)
        self.matcher = Matcher(
            config.enc_embed_dim, config.dec_embed_dim, config.match_dim, config.patch_size
        )
        self.head = DepthHead(config, DETAIL)
        # At first patches weigh by their matches alone and add nothing.
        nn.init.zeros_(self.matcher.baseline.weight)
        nn.init.zeros_(self.matcher.baseline.bias)

    def encode(self, images: Tensor) -> PhotoTokens:
        """Return the tokens of photos (B, 3, H, W)."""
        size = (images.shape[2], images.shape[3])
        features = self.matcher.features(images)
        patches = self.patch_embed(images) + self.matcher.to_tokens(features.coarse.flatten(2))
        tokens = self._encoded(patches, size)
        descriptors = self.matcher.descriptors(features, tokens)
        return PhotoTokens(torch.cat([tokens, descriptors], dim=-1), size)

    def compare(self, photos1: PhotoTokens, photos2: PhotoTokens) -> Comparison:
        """Return how the cells of a batch of pairs of photos compare."""
        cells1, cells2 = (
            photos.values[..., self.config.enc_embed_dim :] for photos in (photos1, photos2)
        )
        return self.matcher.compare(cells1, cells2, photos1.size, photos2.size)

    def photo_maps(self, photo: PhotoTokens) -> PhotoMaps:
        """Return no maps: nothing here depends on one photo alone."""
        return NO_MAPS

    def decode(self, photos1: PhotoTokens, photos2: PhotoTokens) -> DirectedPrediction:
        """Return the predictions of a batch of pairs, see the base class."""
        forth, _ = self.decode_both(photos1, photos2)
        return forth

    def decode_both(
        self, photos1: PhotoTokens, photos2: PhotoTokens
    ) -> tuple[DirectedPrediction, DirectedPrediction]:
        """Return what ``decode`` says of pairs (1, 2) and of (2, 1), see the base class."""
        return self.decode_compared(photos1, photos2, self.compare(photos1, photos2))

    def decode_compared(
        self, photos1: PhotoTokens, photos2: PhotoTokens, compared: Comparison
    ) -> tuple[DirectedPrediction, DirectedPrediction]:
        """Return the same where ``compared``, what :meth:`compare` says of them, is known."""
        one, two, placement = self.decode_own(photos1, photos2, compared)
        # One pass knows both photos in their own frames: that is all there is to decode.
        back = placement.inverse()
        two_there = replace(two, pts3d=placement.second_in_first(two.pts3d))
        one_there = replace(one, pts3d=back.second_in_first(one.pts3d))
        return DirectedPrediction(one, two_there), DirectedPrediction(two, one_there)

    def decode_own(
        self, photos1: PhotoTokens, photos2: PhotoTokens, compared: Comparison
    ) -> OwnFrames:
        """Return both photos' predictions in their own frames, and how they come together.

        ``compared`` is what :meth:`compare` says of the same photos.
        """
        size1, size2 = photos1.size, photos2.size
        width, dtype = self.config.enc_embed_dim, self.dec_norm.weight.dtype
        told = self.matcher.tell(compared, size1, size2)
        (own1, descriptors1), (own2, descriptors2) = (
            photos.values.tensor_split([width], dim=-1) for photos in (photos1, photos2)
        )
        grid1, grid2 = self._grid(size1), self._grid(size2)
        x1, x2 = self.decoder_embed(own1).to(dtype), self.decoder_embed(own2).to(dtype)
        with torch.autocast(x1.device.type, enabled=False):
            # bfloat16 would round positions to half a pixel.
            x1 = x1 + self.matcher.embed(told.side1.numbers)
            x2 = x2 + self.matcher.embed(told.side2.numbers)
        for block in self.dec_blocks:
            x1, x2 = block(x1, x2, grid1, grid2), block(x2, x1, grid2, grid1)
        x1, x2 = self.dec_norm(x1), self.dec_norm(x2)
        first = self._predict(x1, descriptors1, told.side1, told.focal, size1)
        second = self._predict(x2, descriptors2, told.side2, told.focal, size2)
        with torch.autocast(x1.device.type, enabled=False):
            placement = self.matcher.placement((first.pts3d, second.pts3d), (x1, x2), told)
        return OwnFrames(first, second, placement)

    def _predict(
        self, last: Tensor, descriptors: Tensor, side: Side, focal: Tensor, size: Size
    ) -> Prediction:
        """Return the prediction of the decoder's last tokens, in the photo's own frame.

        Depth along the rays of a pinhole: DUSt3R's free points give every pixel a lens of its own.
        The focal length is the one that the matches tell; what a decoder made of the looks of
        rendered scenes was worse on real ones.
        """
        log_z, confidence = self.head(last, self.matcher.detail(descriptors, side, size), size)
        with torch.autocast(last.device.type, enabled=False):
            depth = bent(log_z, side.log_depth, side.trust).exp()
            rays = pinhole_rays(
                pixel_centres_torch(size, depth.device),
                size,
                usual_focal(size) * focal[:, None, None, None],
            )
            return Prediction(depth[..., None] * rays, confidence)
