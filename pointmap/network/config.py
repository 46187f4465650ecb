"""The networks' hyperparameters, under the names of the official constructor."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from pointmap.errors import InputError


class Mode(NamedTuple):
    """Activation of a head's raw values, in the official order."""

    kind: str
    """Only 'exp', the official files' one, is known."""
    low: float
    """Lower bound."""
    high: float
    """Upper bound."""


# Far beyond any network there is. A file of a kilobyte can say more, and building that takes hours.
_MOST = {
    **dict.fromkeys(("enc_depth", "dec_depth"), 128),
    **dict.fromkeys(("enc_embed_dim", "dec_embed_dim", "layer_dims", "img_size"), 16384),
    **dict.fromkeys(("feature_dim", "last_dim", "match_dim", "descriptor_dim"), 4096),
    "mlp_ratio": 16,
    "patch_size": 64,
}
_ABOVE_ONE, _UNBOUNDED = Mode("exp", 1.0, math.inf), Mode("exp", -math.inf, math.inf)


@dataclass(frozen=True)
class NetworkConfig:
    """What every pointmap network has: the sizes of a siamese encoder and of decoder blocks.

    The defaults are CroCo's, as in the official code. Raises ``InputError`` for sizes of which no
    network can be built.
    """

    enc_embed_dim: int = 768
    """Width of the encoder."""
    enc_depth: int = 12
    """Blocks of the encoder."""
    enc_num_heads: int = 12
    """Attention heads of the encoder; width / heads must be divisible by 4."""
    dec_embed_dim: int = 512
    """Width of a decoder."""
    dec_depth: int = 8
    """Blocks of a decoder."""
    dec_num_heads: int = 16
    """Attention heads of a decoder; width / heads must be divisible by 4."""
    mlp_ratio: float = 4.0
    """Hidden width of an MLP over the width of its block."""
    patch_size: int = 16
    """Side of a patch, pixels; photos have sides that are multiples of it."""
    img_size: tuple[int, int] = (224, 224)
    """Height and width of the training photos; information only, any size can be run."""
    pos_embed: str = "RoPE100"
    """Position embedding: RoPE and its base frequency."""
    conf_mode: Mode = _ABOVE_ONE
    """Activation of the confidence: lower bound + exp(x), up to the upper bound."""

    def __post_init__(self) -> None:
        for side, width, heads in (
            ("enc", self.enc_embed_dim, self.enc_num_heads),
            ("dec", self.dec_embed_dim, self.dec_num_heads),
        ):
            if min(width, heads) < 1 or width % heads or width // heads % 4:
                raise InputError(
                    f"{side}_embed_dim={width} with {side}_num_heads={heads}: the width of a head "
                    "must be a whole multiple of 4"
                )
        hidden = int(min(self.enc_embed_dim, self.dec_embed_dim) * self.mlp_ratio)
        if min(self.enc_depth, self.dec_depth, self.patch_size, *self.img_size, hidden) < 1:
            raise InputError("depths, patch_size, img_size and mlp_ratio must be > 0")
        for name, most in _MOST.items():
            value = getattr(self, name, None) or 0
            if max(value if isinstance(value, tuple) else (value,)) > most:
                raise InputError(f"{name}={value} is more than any network has ({most})")
        if not re.fullmatch(r"RoPE[1-9]\d{0,6}(\.\d{1,6})?", self.pos_embed):
            raise InputError(f"pos_embed={self.pos_embed!r} is not supported; use 'RoPE100'")
        if self.conf_mode.kind != "exp":
            raise InputError(f"conf_mode={self.conf_mode!r} is not supported; use 'exp'")

    @property
    def rope_base(self) -> float:
        """Base of the rotary frequencies."""
        return float(self.pos_embed.removeprefix("RoPE"))

    @property
    def descriptor_dim(self) -> int:
        """Channels of the local features; 0 where the head has none."""
        return 0

    def to_dict(self) -> dict[str, Any]:
        """Return the network's arguments in plain types, which JSON and ``torch.load`` take.

        :func:`pointmap.checkpoint.config_from_arguments` is the way back.
        """
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {k: tuple(v) if isinstance(v, tuple) else v for k, v in fields.items()}


@dataclass(frozen=True)
class DUSt3RConfig(NetworkConfig):
    """DUSt3R's architecture: the head, and what it answers with."""

    head_type: str = "linear"
    """'linear', 'dpt' or 'catmlp+dpt' (DPT and MASt3R's local features)."""
    output_mode: str = "pts3d"
    """'pts3d', or 'pts3d+descD' for local features of D channels."""
    depth_mode: Mode = _UNBOUNDED
    """Activation of the points; only the exponential one of the official files is known."""
    two_confs: bool = False
    """Whether the local features have a confidence of their own."""
    desc_mode: str = "norm"
    """Local features are divided by their norm."""
    desc_conf_mode: Mode | None = None
    """Activation of the local features' confidence; None means conf_mode."""
    feature_dim: int = 256
    """DPT: channels of the fusion maps."""
    last_dim: int | None = None
    """DPT: channels before the last convolution; None means half of feature_dim."""
    layer_dims: tuple[int, int, int, int] = (96, 192, 384, 768)
    """DPT: channels of the four re-assembled maps, fine to coarse."""
    hooks: tuple[int, int, int, int] | None = None
    """DPT: entries of the decoder's token list; None means (0, d/2, 3d/4, d) of depth d."""

    def __post_init__(self) -> None:
        super().__post_init__()
        last_dim = 1 if self.last_dim is None else self.last_dim
        if min(self.feature_dim, *self.layer_dims, last_dim) < 1:
            raise InputError("feature_dim, last_dim and layer_dims must be > 0")
        if len(self.layer_dims) != 4 or len(self.dpt_hooks) != 4:
            raise InputError("layer_dims and hooks must have four entries")
        if not all(0 <= hook <= self.dec_depth for hook in self.dpt_hooks):
            raise InputError(f"hooks={self.hooks} reach beyond dec_depth={self.dec_depth}")
        if self.depth_mode != _UNBOUNDED:
            raise InputError(
                f"depth_mode={self.depth_mode!r} is not supported; use 'exp' unbounded"
            )
        if self.local_conf_mode.kind != "exp":
            raise InputError(f"desc_conf_mode={self.desc_conf_mode!r} is not supported; use 'exp'")
        expected = r"pts3d\+desc[1-9]\d{0,4}" if self.head_type == "catmlp+dpt" else "pts3d"
        if self.head_type not in ("linear", "dpt", "catmlp+dpt"):
            raise InputError(f"head_type={self.head_type!r} is not one of linear, dpt, catmlp+dpt")
        if not re.fullmatch(expected, self.output_mode) or self.desc_mode != "norm":
            raise InputError(
                f"output_mode={self.output_mode!r}, desc_mode={self.desc_mode!r} do not go with "
                f"head_type={self.head_type!r}"
            )

    @property
    def descriptor_dim(self) -> int:
        """Channels of the local features; 0 where the head has none."""
        return int(self.output_mode.partition("desc")[2] or 0)

    @property
    def local_conf_mode(self) -> Mode:
        """Activation of the local features' confidence."""
        return self.desc_conf_mode or self.conf_mode

    @property
    def dpt_hooks(self) -> tuple[int, int, int, int]:
        """Entries of the decoder's token list that the DPT head reads, fine to coarse."""
        depth = self.dec_depth
        return self.hooks or (0, depth // 2, depth * 3 // 4, depth)


@dataclass(frozen=True)
class MatchedConfig(NetworkConfig):
    """The bundled network's architecture, :mod:`pointmap.network.matched`."""

    match_dim: int = 64
    """Channels of the descriptors of cells whose matches the decoder is told."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.match_dim < 1 or self.patch_size % 8:
            raise InputError(
                f"match_dim={self.match_dim} must be > 0 and patch_size={self.patch_size} a "
                "multiple of 8"
            )
