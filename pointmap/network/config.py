"""The network's hyperparameters, under the names of the official constructor."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pointmap.errors import InputError

# Constructor arguments of official files that say how the network was trained. At inference the
# tensor's shape is the photo's shape, so none of them changes a result.
_TRAINING_ONLY = frozenset({"freeze", "landscape_only", "patch_embed_cls", "mask_ratio"})

Mode = tuple[str, float, float]


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes and head of a pointmap network. The defaults are CroCo's, as in the official code."""

    enc_embed_dim: int = 768
    """Width of the encoder."""
    enc_depth: int = 12
    """Blocks of the encoder."""
    enc_num_heads: int = 12
    """Attention heads of the encoder; width / heads must be divisible by 4."""
    dec_embed_dim: int = 512
    """Width of the two decoders."""
    dec_depth: int = 8
    """Blocks of each decoder."""
    dec_num_heads: int = 16
    """Attention heads of the decoders; width / heads must be divisible by 4."""
    mlp_ratio: float = 4.0
    """Hidden width of an MLP over the width of its block."""
    patch_size: int = 16
    """Side of a patch, pixels; photos have sides that are multiples of it."""
    img_size: tuple[int, int] = (224, 224)
    """Height and width of the training photos; information only, any size can be run."""
    pos_embed: str = "RoPE100"
    """Position embedding: RoPE and its base frequency."""
    head_type: str = "linear"
    """'linear', 'dpt' or 'catmlp+dpt' (DPT and MASt3R's local features)."""
    output_mode: str = "pts3d"
    """'pts3d', or 'pts3d+descD' for local features of D channels."""
    depth_mode: Mode = ("exp", -math.inf, math.inf)
    """Activation of the points; only the exponential one of the official files is known."""
    conf_mode: Mode = ("exp", 1.0, math.inf)
    """Activation of the confidence: lower bound + exp(x), up to the upper bound."""
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
    match_dim: int = 0
    """Channels of descriptors whose matches the decoder is told; 0 (official files) for none. The
    head is then one of its own, whatever ``head_type`` says."""
    hooks: tuple[int, int, int, int] | None = None
    """DPT: entries of the decoder's token list; None means (0, d/2, 3d/4, d) of depth d."""

    def __post_init__(self) -> None:
        for side, width, heads in (
            ("enc", self.enc_embed_dim, self.enc_num_heads),
            ("dec", self.dec_embed_dim, self.dec_num_heads),
        ):
            if width < 1 or width % heads or width // heads % 4:
                raise InputError(
                    f"{side}_embed_dim={width} with {side}_num_heads={heads}: the width of a head "
                    "must be a whole multiple of 4"
                )
        counts = (self.enc_depth, self.dec_depth, self.patch_size, self.feature_dim)
        if min(*counts, *self.layer_dims, int(self.enc_embed_dim * self.mlp_ratio)) < 1:
            raise InputError("depths, patch_size, mlp_ratio, feature_dim, layer_dims must be > 0")
        if self.match_dim < 0 or (self.match_dim and self.patch_size % 8):
            raise InputError(
                f"match_dim={self.match_dim} must be 0 or more, and patch_size={self.patch_size} "
                "a multiple of 8 for it"
            )
        if len(self.layer_dims) != 4 or len(self.dpt_hooks) != 4:
            raise InputError("layer_dims and hooks must have four entries")
        if not all(0 <= hook <= self.dec_depth for hook in self.dpt_hooks):
            raise InputError(f"hooks={self.hooks} reach beyond dec_depth={self.dec_depth}")
        if not re.fullmatch(r"RoPE\d+(\.\d+)?", self.pos_embed):
            raise InputError(f"pos_embed={self.pos_embed!r} is not supported; use 'RoPE100'")
        if self.depth_mode != ("exp", -math.inf, math.inf):
            raise InputError(
                f"depth_mode={self.depth_mode!r} is not supported; use 'exp' unbounded"
            )
        if any(mode[0] != "exp" for mode in (self.conf_mode, self.local_conf_mode)):
            raise InputError(f"conf_mode={self.conf_mode!r} is not supported; use 'exp'")
        expected = r"pts3d\+desc\d+" if self.head_type == "catmlp+dpt" else "pts3d"
        if self.head_type not in ("linear", "dpt", "catmlp+dpt"):
            raise InputError(f"head_type={self.head_type!r} is not one of linear, dpt, catmlp+dpt")
        if not re.fullmatch(expected, self.output_mode) or self.desc_mode != "norm":
            raise InputError(
                f"output_mode={self.output_mode!r}, desc_mode={self.desc_mode!r} do not go with "
                f"head_type={self.head_type!r}"
            )

    @property
    def rope_base(self) -> float:
        """Base of the rotary frequencies."""
        return float(self.pos_embed.removeprefix("RoPE"))

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

    def to_dict(self) -> dict[str, Any]:
        """Return the constructor's keyword arguments; ``json.dumps`` takes them as they are."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NetworkConfig:
        """Build from keyword arguments, JSON lists and the words 'inf' / '-inf' included.

        Arguments that only concern training are dropped; unknown ones raise ``InputError``, since
        a network built without them would be another network.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - names - _TRAINING_ONLY)
        if unknown:
            raise InputError(f"network argument(s) not known here: {', '.join(unknown[:5])}")
        known = {name: _plain(value) for name, value in values.items() if name in names}
        if isinstance(known.get("img_size"), int):
            known["img_size"] = (known["img_size"],) * 2
        try:
            return cls(**known)
        except (TypeError, ValueError, LookupError, ArithmeticError) as error:
            raise InputError(f"network arguments of the wrong kind: {error}") from error


def _plain(value: Any) -> Any:
    """Lists to tuples and 'inf' to infinity, as the dataclass holds them."""
    if isinstance(value, list | tuple):
        return tuple(_plain(item) for item in value)
    return float(value) if value in ("inf", "-inf") else value
