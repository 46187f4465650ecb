"""A view on the device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from recon.stereo.cross_check import Estimate
from recon.stereo.photo import Photo2D
from recon.stereo.plain_regions import BLUR
from recon.stereo.view import StereoView


@dataclass(frozen=True)
class Frame:
    """A view on the device: its photo, ``pixels`` (h, w, 3) in [0, 1], its prior, and where there
    may be depth (h, w), None for everywhere.
    """

    photo: Photo2D
    pixels: Tensor
    prior: Estimate
    usable: Tensor | None = None

    @staticmethod
    def of(view: StereoView, device: torch.device) -> Frame:
        """Return a view's."""
        pixels = torch.from_numpy(view.pixels).to(device).float() / 255
        photo = Photo2D(
            # Luma of ITU-R BT.601, as JPEG has it.
            pixels @ torch.tensor([0.299, 0.587, 0.114], device=device),
            torch.from_numpy(np.asarray(view.intrinsics, np.float64)).to(device),
            torch.from_numpy(np.asarray(view.cam_to_world, np.float64)).to(device),
        )
        usable = None if view.usable is None else torch.from_numpy(view.usable).to(device)
        return Frame(photo, pixels, Estimate.of(view.prior, device), usable)

    def halved(self) -> Frame:
        """Return the frame averaged down to half its size."""
        photo = self.photo.halved()
        height, width = photo.grey.shape
        pixels = F.interpolate(self.pixels.permute(2, 0, 1)[None], (height, width), mode="area")[0]
        usable = self.usable
        if usable is not None:
            whole = usable[None, None].float()
            usable = F.interpolate(whole, (height, width), mode="area")[0, 0] > 0.999
        return Frame(photo, pixels.permute(1, 2, 0), self.prior.resized(height, width), usable)

    def counted(self, found: Estimate) -> Estimate:
        """Return what was found, without depth where there may be none."""
        if self.usable is None:
            return found
        return Estimate(found.depth * self.usable, found.confidence * self.usable)

    def colours(self) -> NDArray[np.float32]:
        """Return the photo's grey levels (h, w, 3), 0 to 255, as plain regions are looked for."""
        import cv2

        levels = 255 * self.pixels.cpu().numpy()
        return np.asarray(cv2.GaussianBlur(levels, (0, 0), BLUR), np.float32)
