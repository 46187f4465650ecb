"""Heads: the decoder's tokens to points, confidences and local features, always in float32.

A head takes the list that the decoder hands over: entry 0 is the encoder's output, entry k the
output of decoder block k, the last one normalised. Module names follow the official state dict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointmap.network.config import DUSt3RConfig, Mode
from pointmap.network.cpu.doubled_convolution import conv_of_doubled, double
from pointmap.network.cpu.steady_layers import PointwiseConv
from pointmap.network.cpu.winograd import conv3x3
from pointmap.network.layers import Mlp
from pointmap.network.tokens import Size


@dataclass(frozen=True)
class Prediction:
    """What the network says of one side of a batch of pairs."""

    pts3d: Tensor
    """(B, H, W, 3) float32 points of this side's photo, in the frame of the pair's camera 1."""
    conf: Tensor
    """(B, H, W) float32 confidence, above 1."""
    desc: Tensor | None = None
    """(B, H, W, D) float32 unit local features, for heads that have them."""
    desc_conf: Tensor | None = None
    """(B, H, W) float32 confidence of the local features, above 0."""

    def halves(self) -> tuple[Prediction, Prediction]:
        """Return the predictions of the first and of the second half of the batch."""
        maps = (self.pts3d, self.conf, self.desc, self.desc_conf)
        first, second = (
            Prediction(*half)
            for half in zip(*((None, None) if x is None else x.chunk(2) for x in maps), strict=True)
        )
        return first, second


class DirectedPrediction(NamedTuple):
    """What the network says of pairs (1, 2): both photos' points in the frame of camera 1."""

    view1: Prediction
    view2: Prediction


def exp_points(raw: Tensor) -> Tensor:
    """Map raw vectors (..., 3) to points: the same direction, length expm1(|raw|) (DUSt3R)."""
    length = raw.norm(dim=-1, keepdim=True)
    return raw / length.clip(min=1e-8) * torch.expm1(length)


def exp_confidence(raw: Tensor, mode: Mode) -> Tensor:
    """Map raw values (...) to confidences: lower bound + exp(raw), at most the upper bound."""
    return mode.low + raw.exp().clip(max=mode.high - mode.low)


def _points_and_confidence(raw: Tensor, mode: Mode) -> Prediction:
    """Split raw maps (B, 4, H, W) into points and confidence."""
    raw = raw.permute(0, 2, 3, 1)
    return Prediction(exp_points(raw[..., :3]), exp_confidence(raw[..., 3], mode))


def to_map(tokens: Tensor, size: Size, patch: int) -> Tensor:
    """Tokens (B, N, C) of photos of ``size`` (H, W) to maps (B, C, H / patch, W / patch)."""
    return tokens.transpose(1, 2).unflatten(2, (size[0] // patch, size[1] // patch))


def _quick(x: Tensor) -> bool:
    """Whether the forms of a convolution apply that are quicker on CPUs but not differentiable."""
    return x.device.type == "cpu" and not torch.is_grad_enabled()


class LinearHead(nn.Module):
    """One linear map from a token to its patch of pixels."""

    def __init__(self, config: DUSt3RConfig) -> None:
        super().__init__()
        self.patch = config.patch_size
        self.conf_mode = config.conf_mode
        self.proj = nn.Linear(config.dec_embed_dim, 4 * self.patch**2)

    def photo_map(self, tokens: Tensor, size: Size) -> None:
        """Nothing here depends on one photo alone."""

    def forward(
        self,
        tokens: Sequence[Tensor],
        size: Size,
        photo_maps: Sequence[Tensor] | None = None,
    ) -> Prediction:
        """Token list of photos of ``size`` (H, W) to the prediction.

        ``photo_maps``: what ``photo_map`` gives for each photo, where it is known already.
        """
        maps = to_map(self.proj(tokens[-1].float()), size, self.patch)
        return _points_and_confidence(F.pixel_shuffle(maps, self.patch), self.conf_mode)


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions, each after a ReLU, around a skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, h, w) to the same shape."""
        return x + self._convolve(self.conv2, F.relu(self._convolve(self.conv1, F.relu(x))))

    def _convolve(self, layer: nn.Conv2d, x: Tensor) -> Tensor:
        if layer.bias is None or layer.in_channels < 128 or not _quick(x):
            out: Tensor = layer(x)
            return out
        return conv3x3(x, layer.weight, layer.bias)


class FusionBlock(nn.Module):
    """Add a finer map to a coarse one and refine (DPT, arXiv 2103.13413).

    The original doubles the size before ``out_conv``. A 1x1 convolution commutes with that, so the
    doubling is left to whoever reads the result.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        # The coarsest block has nothing to add: there this unit only holds its place in files.
        self.resConfUnit1 = ResidualUnit(channels)
        self.resConfUnit2 = ResidualUnit(channels)
        self.out_conv = PointwiseConv(channels, channels)

    def forward(self, coarse: Tensor, fine: Tensor | None = None) -> Tensor:
        """Maps (B, C, h, w), the fine one after ``resConfUnit1``, to (B, C, h, w)."""
        out: Tensor = self.out_conv(self.resConfUnit2(coarse if fine is None else coarse + fine))
        return out


class Scratch(nn.Module):
    """The fusion part of DPT, under the names of the official files."""

    def __init__(self, layer_dims: Sequence[int], channels: int) -> None:
        super().__init__()
        layers = [nn.Conv2d(dim, channels, 3, padding=1, bias=False) for dim in layer_dims]
        self.layer1_rn, self.layer2_rn, self.layer3_rn, self.layer4_rn = layers
        # The official state dict names these four tensors twice.
        self.layer_rn = nn.ModuleList(layers)
        self.refinenet1 = FusionBlock(channels)
        self.refinenet2 = FusionBlock(channels)
        self.refinenet3 = FusionBlock(channels)
        self.refinenet4 = FusionBlock(channels)

    def refine(self, level: int, x: Tensor) -> Tensor:
        """A re-assembled map of ``level`` (0 is the finest) to what is added at its fusion."""
        x = self.layer_rn[level](x)
        # The coarsest fusion has nothing to add to.
        blocks = (self.refinenet1, self.refinenet2, self.refinenet3)
        refined: Tensor = blocks[level].resConfUnit1(x) if level < len(blocks) else x
        return refined

    def forward(self, refined: Sequence[Tensor]) -> Tensor:
        """Four refined maps, fine to coarse, to one of the size of the finest."""
        first, second, third, fourth = refined
        # With an odd number of patches the coarsest map, halved rounding up, doubles to one more.
        out = double(self.refinenet4(fourth))[..., : third.shape[-2], : third.shape[-1]]
        out = double(self.refinenet3(out, third))
        out = double(self.refinenet2(out, second))
        fused: Tensor = self.refinenet1(out, first)
        return fused


class Dpt(nn.Module):
    """Dense prediction transformer head: tokens of four depths to raw points and confidence."""

    def __init__(self, config: DUSt3RConfig) -> None:
        super().__init__()
        self.hooks, self.patch = config.dpt_hooks, config.patch_size
        one, two, three, four = config.layer_dims
        enc, dec, feature = config.enc_embed_dim, config.dec_embed_dim, config.feature_dim
        last = config.last_dim or feature // 2
        widths = [dec if hook else enc for hook in self.hooks]
        self.scratch = Scratch(config.layer_dims, feature)
        self.head = nn.Sequential(
            nn.Conv2d(feature, feature // 2, 3, padding=1),
            nn.UpsamplingBilinear2d(scale_factor=2),
            nn.Conv2d(feature // 2, last, 3, padding=1),
            nn.ReLU(inplace=True),
            PointwiseConv(last, 4),
        )
        self.act_postprocess = nn.ModuleList(
            [
                nn.Sequential(PointwiseConv(widths[0], one), nn.ConvTranspose2d(one, one, 4, 4)),
                nn.Sequential(PointwiseConv(widths[1], two), nn.ConvTranspose2d(two, two, 2, 2)),
                nn.Sequential(PointwiseConv(widths[2], three)),
                nn.Sequential(
                    PointwiseConv(widths[3], four), nn.Conv2d(four, four, 3, stride=2, padding=1)
                ),
            ]
        )

    def refine(self, level: int, tokens: Tensor, size: Size) -> Tensor:
        """Tokens of one depth to what is added at its fusion; level 0 is the finest."""
        x = self.act_postprocess[level](to_map(tokens.float(), size, self.patch))
        if _quick(x):  # The quick forms want channels last; so do what adds up their results.
            x = x.contiguous(memory_format=torch.channels_last)
        return self.scratch.refine(level, x)

    def forward(
        self,
        tokens: Sequence[Tensor],
        size: Size,
        finest: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Token list of photos of ``size`` (H, W) to raw maps (B, 4, H, W).

        ``finest`` are the answers of ``refine`` at level 0 to each of the photos, where known.
        """
        batch = len(tokens[-1])
        if batch > 1 and _quick(tokens[-1]):
            # One by one: larger maps than these glibc asks the system for anew each time, and the
            # zeroing of their pages takes a tenth of a prediction's time.
            return torch.cat(
                [
                    self(
                        [layer[k : k + 1] for layer in tokens],
                        size,
                        None if finest is None else finest[k : k + 1],
                    )
                    for k in range(batch)
                ]
            )
        refined = [
            torch.cat(list(finest))
            if level == 0 and finest is not None
            else self.refine(level, tokens[hook], size)
            for level, hook in enumerate(self.hooks)
        ]
        fused = self.scratch(refined)
        if not _quick(fused):
            out: Tensor = self.head(double(fused))
            return out
        weights = self.head.state_dict()

        def finish(pixels: Tensor) -> Tensor:
            return F.linear(pixels.relu_(), weights["4.weight"].flatten(1), weights["4.bias"])

        half = conv_of_doubled(fused, weights["0.weight"], weights["0.bias"])
        return conv_of_doubled(half, weights["2.weight"], weights["2.bias"], then=finish)


class DptHead(nn.Module):
    """DPT to points and confidence."""

    def __init__(self, config: DUSt3RConfig) -> None:
        super().__init__()
        self.conf_mode = config.conf_mode
        self.dpt = Dpt(config)

    def photo_map(self, tokens: Tensor, size: Size) -> Tensor | None:
        """What the head makes of the encoder's tokens (B, N, C): the same in all pairs of a photo.

        Maps (B, C, 4 H / patch, 4 W / patch), a fifth of the head's work; None where the head looks
        at the decoder's tokens only.
        """
        return self.dpt.refine(0, tokens, size) if self.dpt.hooks[0] == 0 else None

    def forward(
        self,
        tokens: Sequence[Tensor],
        size: Size,
        photo_maps: Sequence[Tensor] | None = None,
    ) -> Prediction:
        """Token list of photos of ``size`` (H, W) to the prediction.

        ``photo_maps``: what ``photo_map`` gives for each photo, where it is known already.
        """
        return _points_and_confidence(self.dpt(tokens, size, photo_maps), self.conf_mode)


class DptAndFeaturesHead(DptHead):
    """DPT, and local features from an MLP on encoder and decoder tokens (MASt3R)."""

    def __init__(self, config: DUSt3RConfig) -> None:
        super().__init__(config)
        self.patch, self.dim = config.patch_size, config.descriptor_dim
        self.two_confs, self.desc_conf_mode = config.two_confs, config.local_conf_mode
        width = config.enc_embed_dim + config.dec_embed_dim
        channels = self.dim + self.two_confs
        self.head_local_features = Mlp(width, 4 * width, channels * self.patch**2)

    def forward(
        self,
        tokens: Sequence[Tensor],
        size: Size,
        photo_maps: Sequence[Tensor] | None = None,
    ) -> Prediction:
        """Token list of photos of ``size`` (H, W) to the prediction.

        ``photo_maps``: what ``photo_map`` gives for each photo, where it is known already.
        """
        points = super().forward(tokens, size, photo_maps)
        both = torch.cat([tokens[0].float(), tokens[-1].float()], dim=-1)
        maps = to_map(self.head_local_features(both), size, self.patch)
        raw = F.pixel_shuffle(maps, self.patch).permute(0, 2, 3, 1)
        desc = raw[..., : self.dim]
        desc_conf = points.conf
        if self.two_confs:
            desc_conf = exp_confidence(raw[..., self.dim], self.desc_conf_mode)
        return Prediction(
            points.pts3d, points.conf, desc / desc.norm(dim=-1, keepdim=True), desc_conf
        )


def build_head(config: DUSt3RConfig) -> LinearHead | DptHead:
    """Return the head that ``config.head_type`` names."""
    if config.head_type == "linear":
        return LinearHead(config)
    return DptHead(config) if config.head_type == "dpt" else DptAndFeaturesHead(config)
